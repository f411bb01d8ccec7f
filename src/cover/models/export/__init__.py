"""Exports of a model: for this library, for other libraries, and as files that run without cover."""

from enum import StrEnum


class ExportFormat(StrEnum):
    """The reader of an export."""

    transformers = "transformers"
    torchvision = "torchvision"
    safetensors = "safetensors"
    onnx = "onnx"
    torch_export = "torch-export"


LIBRARIES = (ExportFormat.transformers, ExportFormat.torchvision)
"""The formats that can express only some models."""
*_others, _last = (name for name in ExportFormat if name not in LIBRARIES)
INSTEAD = f"export with --to {', '.join(_others)} or {_last}"
"""What to do with a model that a library cannot express."""
