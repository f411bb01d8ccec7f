"""What the environment may say when training starts: nothing that overrules the recipe, and all of a launch or none."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cover.errors import CoverError, RecipeError
from cover.training.launch import check_float8, check_launch, overruling, prepare_environment, processes_connected

LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
LAUNCHER_SETS = {
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_USE_CPU": "False",
    "ACCELERATE_LOG_LEVEL": "info",
}
"""What `accelerate launch` sets by itself."""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        LAUNCHED,
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "", "RANK": "", "PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"},
        {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        LAUNCHED | {"OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_one_process_and_a_complete_launch_are_taken(variables: dict[str, str]) -> None:
    check_launch(variables, num_gpus=None)


@pytest.mark.parametrize(
    ("variables", "num_gpus", "message"),
    [
        (
            {"WORLD_SIZE": "2"},
            None,
            "WORLD_SIZE=2 in the environment, where RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        ),
        (
            {"LOCAL_RANK": "0"},
            None,
            "LOCAL_RANK=0 in the environment, where RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT",
        ),
        (
            {**LAUNCHED, "MASTER_ADDR": ""},
            None,
            "where MASTER_ADDR is missing: several processes take RANK, LOCAL_RANK,",
        ),
        (
            {"PMI_SIZE": "2"},
            None,
            "PMI_SIZE=2 says that this process is one of several, and each would train by itself",
        ),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, None, "start with torchrun, or unset OMPI_COMM_WORLD_SIZE"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, None, "set them as docs/training.md shows"),
        ({**LAUNCHED, "RANK": "one"}, None, "RANK=one is not a whole number; start the processes with torchrun"),
        ({**LAUNCHED, "RANK": "2"}, None, "RANK=2, LOCAL_RANK=1, WORLD_SIZE=2, MASTER_PORT=29500: ranks are from 0 to"),
        (
            {**LAUNCHED, "MASTER_PORT": "0"},
            None,
            "MASTER_PORT=0: ranks are from 0 to WORLD_SIZE - 1, and a port is from",
        ),
        (
            {**LAUNCHED, "OMP_NUM_THREADS": "4,2"},
            None,
            "OMP_NUM_THREADS=4,2 is not a whole number; set it to the threads",
        ),
        (
            LAUNCHED,
            1,
            "LOCAL_RANK=1, and this process sees 1 GPUs; start as many processes on a machine as it has GPUs",
        ),
    ],
)
def test_anything_else_is_one_line(variables: dict[str, str], num_gpus: int | None, message: str) -> None:
    with pytest.raises(CoverError) as caught:
        check_launch(variables, num_gpus)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_overrules_the_recipe_is_named_and_what_a_launcher_sets_by_itself_is_not() -> None:
    assert not overruling(LAUNCHER_SETS | {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, "bf16")
    assert not overruling({"ACCELERATE_MIXED_PRECISION": "bf16"}, "bf16")
    others = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_MIXED_PRECISON": "fp16"}
    assert overruling(LAUNCHER_SETS | others, "bf16") == others
    harmless = {"ACCELERATE_LOG_LEVEL": "info", "ACCELERATE_DEBUG_MODE": "True", "ACCELERATE_CPU_AFFINITY": "1"}
    assert not overruling(harmless, "bf16")
    for name in harmless:  # accelerate would raise on it
        assert overruling({name: "abc"}, "bf16") == {name: "abc"}


def test_the_environment_is_left_without_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    for name, value in (LAUNCHER_SETS | {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "1", "PMI_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING):
        prepare_environment("bf16")
    assert caplog.messages == [
        "ignored: ACCELERATE_USE_FSDP=true; the recipe's [training] says how to train",
    ]
    assert "PMI_SIZE" not in os.environ and "WORLD_SIZE" not in os.environ
    assert [name for name in os.environ if name.startswith("ACCELERATE_")] == ["ACCELERATE_LOG_LEVEL"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch looks at the variable once, and has found a GPU")
@pytest.mark.parametrize(("value", "lines"), [("", 0), ("-1", 0), ("GPU-none", 1)])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, lines: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    prepare_environment("bf16")
    assert caplog.messages == ["CUDA_VISIBLE_DEVICES=GPU-none shows torch no GPU; training on the CPU"] * lines


def test_an_address_that_leads_nowhere_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LAUNCHED | {"MASTER_ADDR": "host.invalid"}).items():
        monkeypatch.setenv(name, value)
    expected = r"^RANK=1 cannot reach the others of WORLD_SIZE=2 at host\.invalid:29500 \("
    with pytest.raises(CoverError, match=expected), processes_connected():
        pytest.fail("nobody needs to try that")


PROGRAM = """
from accelerate import Accelerator
from cover.training.launch import prepare_environment
prepare_environment("fp32")
accelerator = Accelerator(cpu=True)
print(accelerator.gradient_accumulation_steps, accelerator.mixed_precision, accelerator.num_processes)
"""


def test_a_gpu_without_products_of_float8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    check_float8(device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    with pytest.raises(RecipeError, match=r"capability 8\.9 or newer, and NVIDIA A100 has 8\.0; use \"bf16\""):
        check_float8(device)


def test_accelerate_reads_nothing_that_overrules_the_recipe(tmp_path: Path) -> None:
    stray = {
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "inductor",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_USE_MEGATRON_LM": "true",
        "ACCELERATE_TORCH_DEVICE": "meta",
        "OMPI_COMM_WORLD_SIZE": "1",
    }
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=os.environ | stray, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "1 no 1\n"
    assert done.stderr.count("\n") == 1 and "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4" in done.stderr
