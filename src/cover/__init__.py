"""CoVeR: co-train one video transformer on many video and image datasets.

The names of the public API are imported when they are first used, so that `import cover` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cover.core.batch import ClipBatch as ClipBatch
    from cover.core.batch import MixedBatch as MixedBatch
    from cover.datasets.manifest import Manifest as Manifest
    from cover.errors import CoverError as CoverError
    from cover.media.mixing import Mixing as Mixing
    from cover.media.randaugment import RandAugment as RandAugment
    from cover.mixture.mixture import Dataset as Dataset
    from cover.mixture.mixture import Mixture as Mixture
    from cover.models.classifier import VideoClassifier as VideoClassifier
    from cover.models.create import create_model as create_model
    from cover.models.loading import load_weights as load_weights
    from cover.models.opening import load_model as load_model
    from cover.runs.predict import predict as predict
    from cover.runs.predict import timeline as timeline
    from cover.runs.predict import watch as watch
    from cover.runs.trained import open_model as open_model
    from cover.training.loss import loss as loss

    TimeSformer = VideoClassifier

__version__ = "0.1.0"

_HOMES = {
    "ClipBatch": "cover.core.batch",
    "CoverError": "cover.errors",
    "Dataset": "cover.mixture.mixture",
    "Manifest": "cover.datasets.manifest",
    "MixedBatch": "cover.core.batch",
    "Mixing": "cover.media.mixing",
    "Mixture": "cover.mixture.mixture",
    "RandAugment": "cover.media.randaugment",
    "VideoClassifier": "cover.models.classifier",
    "create_model": "cover.models.create",
    "load_model": "cover.models.opening",
    "load_weights": "cover.models.loading",
    "loss": "cover.training.loss",
    "open_model": "cover.runs.trained",
    "predict": "cover.runs.predict",
    "timeline": "cover.runs.predict",
    "watch": "cover.runs.predict",
}
__all__ = ["__version__", *_HOMES]
_FORMER_NAMES = {"TimeSformer": "VideoClassifier"}


def __getattr__(name: str) -> object:
    name = _FORMER_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'cover' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
