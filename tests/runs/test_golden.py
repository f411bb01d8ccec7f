"""The numbers of three tiny runs stay the same, to the last bit, whatever is moved or renamed in the code.

golden.json has them by processor and version of torch, since each rounds in its own way; elsewhere they agree to four
digits. Before you change the code, `COVER_GOLDEN=write pytest tests/runs/test_golden.py` adds those of your machine.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, WriteMedia, lines_of, quiet

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.datasets.layouts.class_folders import index_folder
from cover.models.classifier import read_model
from cover.runs.plan import plan
from cover.runs.train import train

FILE = Path(__file__).parent / "golden.json"
NUM_STEPS = 20
PLAIN = {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0}
SHARED: dict[str, Any] = {
    "max_steps": NUM_STEPS,
    "epochs": NUM_STEPS,
    "evaluate_every_epochs": NUM_STEPS,
    "log_every": 1,
}


def processor() -> str:
    """What decides how float32 operations round: the processor, and what torch makes of it."""
    model = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        lines = (line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        model = next((value.strip() for name, value in lines if name.strip() == "model name"), model)
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_image: WriteMedia) -> Path:
    """As in conftest.py, with folders of frames for videos: x264 does not write the same bytes each time."""
    root = tmp_path_factory.mktemp("golden")
    for name, num_samples in (("jumps", 12), ("turns", 8), ("pets", 10)):
        for index in range(num_samples + 4):
            split, label = "train" if index < num_samples else "val", ("right", "left")[index % 2]
            for frame in range(1 if name == "pets" else 6):
                file = root / name / split / label / (f"{index}.png" if name == "pets" else f"{index}/{frame}.png")
                write_image(file, 100 * index + frame, width_px=48, height_px=40)
        index_folder(root / name, kind="image" if name == "pets" else "video", out=root)
    return root


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads share sums in another way."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def recipes(recipe_of: MakeRecipe, pretrained: Path) -> dict[str, Recipe]:
    return {
        "standard": recipe_of("standard", VIDEOS[:1], augmentation=PLAIN, training=SHARED),
        "cotrain": recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, training=SHARED | {"ema_decay": 0.9}),
        "probe": recipe_of(
            "probe", IMAGES, init=pretrained, augmentation=PLAIN, training=SHARED | {"micro_batches": 1}
        ),
    }


@pytest.mark.parametrize("name", ["standard", "cotrain", "probe"])
def test_numbers_are_those_of_the_golden_runs(
    recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path, name: str
) -> None:
    """The loss of each step, and the sum of the absolute weights at the end, averaged ones under EMA."""
    assert not train(plan(recipes(recipe_of, pretrained)[name]), tmp_path / "run", quiet())
    numbers = [line["loss"] for line in lines_of(tmp_path / "run") if "loss" in line]
    assert len(numbers) == NUM_STEPS
    weights = read_model(find_checkpoint(tmp_path / "run", "latest")).state_dict()
    numbers.append(sum(float(tensor.double().abs().sum()) for tensor in weights.values()))
    golden = json.loads(FILE.read_text())
    if os.environ.get("COVER_GOLDEN") == "write":
        golden.setdefault(processor(), {})[name] = numbers
        FILE.write_text(json.dumps(golden, indent=1) + "\n")
    if own := golden.get(processor()):
        assert numbers == own[name]
    else:
        assert numbers == pytest.approx(next(iter(golden.values()))[name], rel=1e-4)
