"""Export of a model as one file that runs without cover: an ONNX graph, or a program of torch.export."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier
from cover.models.export.formats import new_folder, write_json
from cover.models.export.graph import INPUT, Answer, check_graph, describe_graph, trace

ONNX_FILE, TORCH_FILE, DESCRIPTION_FILE = "model.onnx", "model.pt2", "model.json"
METADATA_KEY = "cover"
"""The key of the ONNX file's metadata that has the JSON of DESCRIPTION_FILE."""


def export_onnx(fitted: VideoClassifier, folder: Path) -> None:
    """Write model.onnx, and model.json, which describes its input and outputs.

    Args:
        fitted: A model from `graph.fit`.
        folder: A new or empty folder.

    Raises:
        CoverError: `folder` is not empty, a package is missing, or onnxruntime computes other logits than the model.
    """
    if INPUT in fitted.config.heads:
        raise CoverError(f"the head {INPUT!r} has the name of the input; export another with --head")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise CoverError(f"{package} is not installed; pip install 'cover-video[onnx]'")
    described = describe_graph(fitted.config)
    with new_folder(folder) as aside, _silent():
        program = torch.onnx.export(
            trace(fitted),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(fitted.config.heads),
            custom_translation_table={torch.ops.aten.repeat_interleave.self_int: _repeat_interleave},
        )
        assert program is not None
        program.rename_axes({program.model.graph.inputs[0].shape[0]: "batch"})  # type: ignore[index, dict-item]
        program.model.metadata_props[METADATA_KEY] = json.dumps(described, ensure_ascii=False)
        program.save(aside / ONNX_FILE)
        check_graph(fitted, _onnxruntime(aside / ONNX_FILE))
        write_json(aside / DESCRIPTION_FILE, described)


def export_torch(fitted: VideoClassifier, folder: Path) -> None:
    """Write model.pt2 for torch.export.load, and model.json, which model.pt2 contains too.

    Args:
        fitted: A model from `graph.fit`.
        folder: A new or empty folder.

    Raises:
        CoverError: `folder` is not empty, or the program computes other logits than the model.
    """
    with new_folder(folder) as aside, _silent():
        write_json(aside / DESCRIPTION_FILE, describe_graph(fitted.config))
        description = {DESCRIPTION_FILE: (aside / DESCRIPTION_FILE).read_text()}
        program = BytesIO()  # with a path instead, a full disk makes torch end the whole process
        torch.export.save(trace(fitted), program, extra_files=description)
        (aside / TORCH_FILE).write_bytes(program.getbuffer())
        check_graph(fitted, torch.export.load(aside / TORCH_FILE).module())


def _onnxruntime(file: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def answer(frames: Tensor) -> dict[str, Tensor]:
        logits = session.run(names, {INPUT: frames.numpy()})
        return {name: torch.from_numpy(values) for name, values in zip(names, logits, strict=True)}

    return answer


def _repeat_interleave(values: Any, repeats: Any, dim: int = 0, output_size: int | None = None) -> Any:
    """repeat_interleave along the first dimension, in ONNX operations.

    The translation of onnxscript 0.7 is wrong if the number of repeats is not known in advance.
    """
    from onnxscript import opset20

    op: Any = opset20
    assert dim == 0
    ones = [1] * (len(values.shape) - 1)
    sizes = op.Concat(op.Constant(value_ints=[1]), op.Reshape(repeats, [-1]), op.Constant(value_ints=ones), axis=0)
    repeated = op.Expand(op.Unsqueeze(values, [1]), sizes)
    return op.Reshape(repeated, op.Concat(op.Constant(value_ints=[-1]), op.Shape(values, start=1), axis=0))


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what exporters log about their internals (deprecations, missing torchvision), which does not help users."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
