"""What this machine and installation offer, as one block of text for an issue."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from cover import __version__

PACKAGES = ("torch", "accelerate", "av", "numpy", "pillow", "pyarrow", "pydantic", "safetensors", "typer")
EXTRAS = {
    "demo": "vizdoom",
    "heif": "pillow_heif",
    "leaks": "imagehash",
    "onnx": "onnxruntime",
    "search": "faiss",
    "serve": "fastapi",
}
"""Extra → a module that it installs."""
DECODERS = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "prores", "mjpeg")


def report() -> str:
    """Describe versions, devices, kernels, decoders and extras, a line each.

    A part that is broken says why; the others are there all the same.
    """
    lines = {
        "cover": lambda: f"{__version__}, Python {platform.python_version()}, {platform.platform()}",
        "packages": lambda: ", ".join(map(_versioned, PACKAGES)),
        "CPU": _cpu,
        "GPU": _gpus,
        "kernels": _kernels,
        "decoders": _decoders,
        "extras": _extras,
        "environment": _environment,
    }
    return "\n".join(f"{name + ':':<13}{_attempt(describe)}" for name, describe in lines.items())


def _attempt(describe: Callable[[], str]) -> str:
    try:
        return describe()
    except Exception as error:  # whatever a broken installation raises is what the report is about
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is missing"


def _cpu() -> str:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (
        f"{platform.machine()}, {usable} of {os.cpu_count()} cores, {memory:.1f} GiB, {torch.get_num_threads()} threads"
    )


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        built = f"it is built for CUDA {torch.version.cuda}" if torch.version.cuda else "it is built without CUDA"
        return f"none that torch sees; {built}"
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    named = (f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, capability {gpu.major}.{gpu.minor}" for gpu in gpus)
    return f"{'; '.join(named)} (CUDA {torch.version.cuda})"


def _kernels() -> str:
    import torch

    from cover.models.kernels.backend import RUNS, supports_kernels

    triton = _versioned("triton")
    if not RUNS:
        return f"plain torch; Triton kernels need a GPU ({triton})"
    if torch.cuda.is_available() and not supports_kernels(0):
        return f"plain torch, because the GPU is too old for Triton kernels ({triton})"
    return triton


def _decoders() -> str:
    import av

    absent = [name for name in DECODERS if name not in av.codecs_available]
    found = f"FFmpeg {av.ffmpeg_version_info} with {', '.join(name for name in DECODERS if name not in absent)}"
    return found + (f", without {', '.join(absent)}" if absent else "")


def _extras() -> str:
    there = [name for name, module in EXTRAS.items() if find_spec(module)]
    absent = [name for name in EXTRAS if name not in there]
    hint = f"; pip install 'cover-video[{','.join(absent)}]' adds the others" if absent else ""
    return (", ".join(there) or "none") + hint


def _environment() -> str:
    names = sorted(
        name for name in os.environ if name.startswith(("CUDA_VISIBLE", "OMP_", "TRITON_", "PYTORCH_", "NCCL_"))
    )
    return ", ".join(f"{name}={os.environ[name]}" for name in names) or "nothing special"
