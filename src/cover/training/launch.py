"""Devices, processes and precision of a training, and the environment that says so, checked before accelerate reads it.

torchrun and `accelerate launch` set five variables that tell each process which one it is. If one of them is left over
from something else, accelerate waits for processes that nobody started. Others, which accelerate's launcher and its
configuration file set, would override the recipe.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from cover.config.recipe import Recipe
from cover.core.run_files import RunFiles
from cover.errors import CoverError, RecipeError
from cover.models.kernels.float8 import is_supported

logger = logging.getLogger(__name__)

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
TORCH = (*RANKS, "MASTER_ADDR", "MASTER_PORT")
OTHER_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables of MPI and srun with the number of processes."""

_PATIENCE_SECONDS = 20
_ALL_TORCH = f"{', '.join(TORCH[:-1])} and {TORCH[-1]}"
_ACCELERATE = "ACCELERATE_"
_SWITCH = ("y", "yes", "t", "true", "on", "1", "n", "no", "f", "false", "off", "0")
_HARMLESS = {
    "ACCELERATE_LOG_LEVEL": ("debug", "info", "warning", "error", "critical"),
    "ACCELERATE_DEBUG_MODE": _SWITCH,
    "ACCELERATE_CPU_AFFINITY": _SWITCH,
}
"""Variables that do not change training, with the values that accelerate accepts without a traceback."""
_UNSET = ("", "no", "none", "false", "0", "default")


def start_accelerator(recipe: Recipe, run: RunFiles | None) -> Accelerator:
    """Set up devices, processes and precision. Without CUDA, all processes compute in fp32 on the CPU.

    For "fp8" the accelerator's precision is "bf16"; `parallel.to_device` sets up the rest.

    Args:
        recipe: Precision, parallelism and trackers.
        run: Where trackers write; None to log nothing.

    Raises:
        RecipeError: A tracker is not installed, the GPU cannot compute in the recipe's precision, or the recipe is for
            one process and there are several.
        CoverError: Variables of a launcher are incomplete, or the processes do not find each other.
    """
    prepare_environment(recipe.training.precision)
    cuda = torch.cuda.is_available()
    names = {"fp32": "no", "fp8": "bf16"}
    precision = names.get(recipe.training.precision, recipe.training.precision) if cuda else "no"
    trackers = ["tensorboard", *recipe.training.trackers]
    available = [str(name.value) for name in get_available_trackers()]
    if absent := [name for name in trackers if name not in available]:
        raise RecipeError(
            f"training.trackers names {absent[0]!r}, which is not installed; `pip install {absent[0]}`, or take one of "
            + ", ".join(available)
        )
    folders = ProjectConfiguration(str(run.path), logging_dir=str(run.events_folder)) if run else None
    with processes_connected():
        accelerator = Accelerator(
            cpu=not cuda, mixed_precision=precision, log_with=trackers if run else None, project_config=folders
        )
    if recipe.training.precision == "fp8" and cuda:
        check_float8(accelerator.device)
    if recipe.training.parallel == "none" and accelerator.num_processes > 1:
        raise RecipeError(
            f"training.parallel = 'none' is for one process, and {accelerator.num_processes} were started; "
            "start one, or set it to 'ddp' or 'fsdp'"
        )
    return accelerator


def start_processes(precision: str) -> PartialState:
    """Connect the processes that a launcher has started, and choose the GPU of each, if there are GPUs.

    Args:
        precision: As for `prepare_environment`.

    Raises:
        CoverError: As for `start_accelerator`.
    """
    prepare_environment(precision)
    with processes_connected():
        return PartialState(cpu=not torch.cuda.is_available())


def check_float8(device: torch.device) -> None:
    """Raise RecipeError if a GPU does not multiply in float8."""
    if not is_supported(device):
        major, minor = torch.cuda.get_device_capability(device)
        raise RecipeError(
            f"training.precision = 'fp8' takes a GPU of compute capability 8.9 or newer, and "
            f'{torch.cuda.get_device_name(device)} has {major}.{minor}; use "bf16"'
        )


def prepare_environment(precision: str) -> None:
    """Check the variables of launchers, and remove those that would override the recipe.

    Args:
        precision: "bf16", "fp16", "fp8" or "fp32", from the recipe. If accelerate's is the same, there is no warning.

    Raises:
        CoverError: The variables fit neither one process nor several that torch can connect.
    """
    check_launch(os.environ, torch.cuda.device_count() if torch.cuda.is_available() else None)
    _check_devices(os.environ)
    ignored = overruling(os.environ, precision)
    if ignored and os.environ.get("RANK", "0") == "0":
        listed = ", ".join(f"{name}={value}" for name, value in ignored.items())
        logger.warning("ignored: %s; the recipe's [training] says how to train", listed)
    several = os.environ.get("WORLD_SIZE", "1") not in ("", "1")
    for name in list(os.environ):
        is_accelerates = name.startswith(_ACCELERATE) and not _is_harmless(name, os.environ[name])
        if is_accelerates or name in OTHER_LAUNCHERS or (name in RANKS and not several):
            del os.environ[name]


@contextmanager
def processes_connected() -> Iterator[None]:
    """Raise CoverError if processes cannot find each other inside the block; warn if it takes long."""
    rank, host, port = (os.environ.get(name, "") for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    if not rank:
        yield
        return
    others = f"others of WORLD_SIZE={os.environ['WORLD_SIZE']} at {host}:{port}"
    remedy = f"start them all with the first one's address and a free port, or unset {', '.join(RANKS)}"
    line = f"RANK={rank} still waits for the {others}; {remedy}"
    waiting = threading.Timer(_PATIENCE_SECONDS, logger.warning, ["%s", line])
    waiting.daemon = True
    waiting.start()
    try:
        socket.getaddrinfo(host, port)  # torch would try for half an hour
        yield
    except (torch.distributed.DistError, socket.gaierror) as error:
        reason = str(error).partition("\n")[0]
        raise CoverError(f"RANK={rank} cannot reach the {others} ({reason}); {remedy}") from error
    finally:
        waiting.cancel()


def check_launch(variables: Mapping[str, str], num_gpus: int | None) -> None:
    """Raise CoverError if launchers' variables fit neither one process nor several.

    Args:
        variables: The environment.
        num_gpus: GPUs that this process sees; None if it computes on the CPU.
    """
    given = {name: value for name in TORCH if (value := variables.get(name))}
    ranks = {name: value for name, value in given.items() if name in RANKS}
    if not ranks or {name: value for name, value in ranks.items() if value != "0"} == {"WORLD_SIZE": "1"}:
        _check_other_launchers(variables)
        return
    if missing := [name for name in TORCH if name not in given]:
        shown = ", ".join(f"{name}={value}" for name, value in ranks.items())
        verb = "are" if len(missing) > 1 else "is"
        raise CoverError(
            f"{shown} in the environment, where {', '.join(missing)} {verb} missing: several processes take "
            f"{_ALL_TORCH}; start them with torchrun, or unset {', '.join(ranks)}"
        )
    rank, local_rank, world_size, port = (_whole_number(name, given[name]) for name in (*RANKS, "MASTER_PORT"))
    if not (0 <= rank < world_size and 0 <= local_rank < world_size and 0 < port < 2**16):
        raise CoverError(
            f"RANK={rank}, LOCAL_RANK={local_rank}, WORLD_SIZE={world_size}, MASTER_PORT={port}: ranks are from 0 to "
            "WORLD_SIZE - 1, and a port is from 1 to 65535; start the processes with torchrun"
        )
    if num_gpus is not None and local_rank >= num_gpus:
        raise CoverError(
            f"LOCAL_RANK={local_rank}, and this process sees {num_gpus} GPUs; start as many processes on a machine as "
            "it has GPUs, and let each see them all"
        )
    if num_gpus is None and not variables.get("OMP_NUM_THREADS", "1").isdecimal():
        raise CoverError(
            f"OMP_NUM_THREADS={variables['OMP_NUM_THREADS']} is not a whole number; set it to the threads of a process"
        )


def overruling(variables: Mapping[str, str], precision: str) -> dict[str, str]:
    """The variables of accelerate that contradict the recipe, misspelt ones included."""
    neutral = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_MIXED_PRECISION": precision,
        "ACCELERATE_USE_CPU": "false" if torch.cuda.is_available() else "true",
    }
    return {
        name: value
        for name, value in sorted(variables.items())
        if name.startswith(_ACCELERATE)
        and not _is_harmless(name, value)
        and value.lower() not in (*_UNSET, neutral.get(name))
    }


def _is_harmless(name: str, value: str) -> bool:
    return value.lower() in _HARMLESS.get(name, ())


def _check_other_launchers(variables: Mapping[str, str]) -> None:
    for name in OTHER_LAUNCHERS:
        if (value := variables.get(name, "1")) not in ("", "1"):
            raise CoverError(
                f"{name}={value} says that this process is one of several, and each would train by itself: torch "
                f"takes {_ALL_TORCH}; set them as docs/training.md shows, start with torchrun, or unset {name}"
            )


def _check_devices(variables: Mapping[str, str]) -> None:
    visible = variables.get("CUDA_VISIBLE_DEVICES", "")
    if visible.strip() not in ("", "-1", "NoDevFiles") and not torch.cuda.is_available():
        logger.warning("CUDA_VISIBLE_DEVICES=%s shows torch no GPU; training on the CPU", visible)


def _whole_number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise CoverError(f"{name}={value} is not a whole number; start the processes with torchrun") from None
