"""The settings that transformers saves beside weights. Here are those that every family reads in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from cover.config.layers import AnySection, Section, checked
from cover.core.run_files import CONFIG_FILE
from cover.core.text_files import read_json
from cover.errors import CheckpointError, RecipeError
from cover.models.config import Activation


def _check_square(sizes: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(sizes, tuple) and len({*sizes[-2:]}) > 1:
        raise ValueError("frames and patches must be square")
    return sizes


Size = Annotated[int, Field(ge=1, le=2**16)]
Square = Annotated[int | tuple[int, ...], AfterValidator(_check_square)]
"""The side in pixels, (rows, columns), or (channels, rows, columns)."""
Colours = tuple[float, float, float]
"""Red, green, blue."""
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
"""{transformers' name: ours}."""
HiddenAct = Literal["gelu", "gelu_pytorch_tanh", "gelu_new", "gelu_fast", "quick_gelu"]
PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE = "preprocessor_config.json", "video_preprocessor_config.json"


class _Preprocessor(Section, extra="ignore"):
    """preprocessor_config.json of transformers."""

    image_mean: Colours | None = None
    image_std: Colours | None = None
    do_normalize: bool | None = None
    do_rescale: Literal[True] | None = None
    rescale_factor: Annotated[float, Field(ge=0.9999 / 255, le=1.0001 / 255)] | None = None


def side_of(size: int | tuple[int, ...]) -> int:
    """Return the side of a `Square` in pixels."""
    return size if isinstance(size, int) else size[-1]


def read_model_type(folder: Path) -> str | None:
    """Return the kind of model that a folder's config.json states, as cover, transformers or timm call it, if any."""
    values = read_object(folder / CONFIG_FILE)
    kind = values.get("model_type") or values.get("architecture")
    return str(kind)[:100] if kind else None


def read_colours(folder: Path, remedy: str) -> tuple[Colours | None, Colours | None]:
    """Read the normalisation of transformers' image processor.

    Args:
        folder: May have a preprocessor_config.json, or a video_preprocessor_config.json.
        remedy: What the user can do, for the message.

    Returns:
        Mean and standard deviation, each None if it is not stated.

    Raises:
        CheckpointError: The file is damaged, or has a setting that we do not support.
    """
    path = folder / PREPROCESSOR_FILE
    if not path.exists():
        path = folder / VIDEO_PREPROCESSOR_FILE
    stated = check_settings(_Preprocessor, read_object(path), path, remedy)
    if stated.do_normalize is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return stated.image_mean, stated.image_std


def label_names(numbered: Mapping[str, str | int]) -> tuple[str, ...] | None:
    """Return class names in the order of their numbers.

    Args:
        numbered: {number: name}, with the numbers as text.

    Returns:
        The names, or None if some are missing or all are placeholders of transformers.
    """
    names = [numbered.get(str(index)) for index in range(len(numbered))]
    if not names or None in names or names == [f"LABEL_{index}" for index in range(len(names))]:
        return None
    return tuple(map(str, names))


def check_settings(kind: type[AnySection], values: dict[str, Any], path: Path, remedy: str) -> AnySection:
    """Check the settings in a file.

    Args:
        kind: The class to make of them.
        values: The settings.
        path: The file, for the message.
        remedy: What the user can do, such as "use other weights", for the message.

    Raises:
        CheckpointError: A setting is impossible. The message has its key and value.
    """
    try:
        return checked(kind, values, str(path))
    except RecipeError as error:
        raise CheckpointError(f"{str(error)[:400]}; {remedy}") from None
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply; copy or download it again") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Returns:
        The object; empty if there is no such file.

    Raises:
        CheckpointError: The file is damaged.
    """
    try:
        values = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy or download it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} contains {type(values).__name__}, not an object; copy or download it again")
    return values
