"""Models as one file that runs without cover: an ONNX graph, or a program of torch.export."""

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
from cover.models.export.folder import new_folder, write_json
from cover.models.export.graph import INPUT, Answer, check_graph, describe_graph, trace

ONNX_FILE, TORCH_FILE, DESCRIPTION_FILE = "model.onnx", "model.pt2", "model.json"
METADATA_KEY = "cover"
"""Of the ONNX file's metadata: what DESCRIPTION_FILE says, as JSON."""


def export_onnx(fitted: VideoClassifier, folder: Path) -> None:
    """Write model.onnx, and model.json, which says what goes in and comes out. fitted: by `graph.fit`.

    Raises CoverError where `folder` holds files, a package is missing, or onnxruntime's logits are not the model's.
    """
    if INPUT in fitted.config.heads:
        raise CoverError(f"the head {INPUT!r} is called as the input is; export another with --head")
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
    """Write model.pt2, which torch.export.load reads, and model.json, which is in it as well. fitted: by `graph.fit`.

    Raises CoverError where `folder` holds files, or the program's logits are not the model's.
    """
    with new_folder(folder) as aside, _silent():
        write_json(aside / DESCRIPTION_FILE, describe_graph(fitted.config))
        description = {DESCRIPTION_FILE: (aside / DESCRIPTION_FILE).read_text()}
        program = BytesIO()  # given a path, torch ends the whole process where the disk is full
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
    """repeat_interleave along the first dimension in ONNX operations. onnxscript 0.7 has it wrong where the number of
    repeats is not known beforehand."""
    from onnxscript import opset20

    op: Any = opset20
    assert dim == 0
    ones = [1] * (len(values.shape) - 1)
    sizes = op.Concat(op.Constant(value_ints=[1]), op.Reshape(repeats, [-1]), op.Constant(value_ints=ones), axis=0)
    repeated = op.Expand(op.Unsqueeze(values, [1]), sizes)
    return op.Reshape(repeated, op.Concat(op.Constant(value_ints=[-1]), op.Shape(values, start=1), axis=0))


@contextmanager
def _silent() -> Iterator[None]:
    """What the exporters say of their own insides (deprecations, torchvision missing) tells a user nothing."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
