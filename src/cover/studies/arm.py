"""A way to train, and how one is told by another."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from cover.config.layers import Section, Share, flattened, overlaid
from cover.errors import RecipeError

Values = TypeVar("Values", bound=tuple[Any, ...])


def each_once(values: Values) -> Values:
    """The values. Raises ValueError when one is there twice."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{twice[0]!r} is there twice; name it once")
    return values


Settings = dict[str, float]
"""Keys of a recipe, such as "optimizer.learning_rate", and their values."""
Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(each_once)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(each_once)]
Tune = dict[str, Annotated[tuple[int | float, ...], Field(min_length=1), AfterValidator(each_once)]]
"""The values to choose each setting from."""


class Arm(Section):
    """One way to train.

    like: an arm whose keys this one has, but for those that it states itself; their recipes are laid over each other.
    datasets: by name, of the study's. policy: by default "standard" for one dataset, "cotrain" for several.
    init: the arm whose weights training starts from, of the same seed where it has that, else of its first; or weights
    as a recipe's init names them, by a path with a "/" or "hf://"; "" for none. share: of each class's training
    samples. recipe: what differs from the study's. tune: values to choose from by validation top-1, with the first
    seed. tuned_as: an arm whose choice is taken instead.
    seeds, init, share, tune: the study's by default.
    """

    like: str | None = None
    datasets: Names
    policy: Literal["pretrain", "standard", "cotrain", "probe"] | None = None
    init: str | None = None
    share: Annotated[Share, Field(gt=0)] | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    tune: Tune | None = None
    tuned_as: str | None = None
    seeds: Seeds | None = None


def dotted_tune(values: dict[str, Any]) -> dict[str, Any]:
    """A study or an arm as TOML has it, with the dots in the keys of `tune` where they were not quoted."""
    return values | {"tune": flattened(values["tune"])} if isinstance(values.get("tune"), dict) else values


def whole_arms(arms: dict[str, Any], source: str) -> dict[str, Any]:
    """Arms as TOML has them, each laid over the one that it is like.

    source: their file's name. Raises RecipeError where that is not there, or arms are like each other in a ring.
    """
    return {name: _whole_arm(name, arms, source) for name in arms}


def _whole_arm(name: str, arms: dict[str, Any], source: str, path: tuple[str, ...] = ()) -> Any:
    arm = arms[name]
    if not isinstance(arm, dict) or "like" not in arm:
        return arm
    other = arm["like"]
    if name in path:
        raise RecipeError(f"{source}: arms {' → '.join([*path, name])} are like each other in a ring; cut it")
    if not isinstance(other, str) or not isinstance(arms.get(other), dict):
        raise RecipeError(f"{source}: arms.{name} is like {other!r}, which is no arm; known are {', '.join(arms)}")
    whole = _whole_arm(other, arms, source, (*path, name))
    recipes = {"recipe": overlaid(whole["recipe"], arm["recipe"])} if "recipe" in whole and "recipe" in arm else {}
    return whole | arm | recipes
