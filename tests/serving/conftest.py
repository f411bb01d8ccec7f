"""A server in front of an untrained model, with low limits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from cover.datasets.layouts.class_folders import index_folder
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.runs.trained import TrainedRun
from cover.serving.admission import AdmissionPolicy, AllowedHosts, Metrics
from cover.serving.api import create_app
from cover.serving.limits import UploadLimits
from cover.serving.samples import samples_of
from cover.serving.service import Service

LIMITS = UploadLimits(max_bytes=200_000, upload_seconds=10, max_seconds=5, max_pixels=100_000, decode_seconds=10)
SIZES: dict[str, Any] = {"depth": 2, "width": 48, "num_heads": 3, "num_frames": 4, "image_size": 32}
HEADS = {"moves": ["left", "right"], "pets": ["cat", "dog", "emu"]}
RECIPE = """
policy = "cotrain"

[model]
variant = "timesformer_tiny"
depth = 2
width = 48
num_heads = 3
num_frames = 4
image_size = 32

[datasets.moves]
train = "{root}/moves-val.arrow"
val = "{root}/moves-val.arrow"
sampling = {{ window_seconds = 0.4 }}

[datasets.pets]
train = "{root}/pets-test.arrow"
test = "{root}/pets-test.arrow"
"""

MakeApp = Callable[..., FastAPI]


@pytest.fixture(scope="package")
def run(
    tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path], write_image: Callable[..., Path]
) -> Path:
    """A run with a video and an image dataset, three samples each."""
    root = tmp_path_factory.mktemp("served")
    for index in range(3):
        write_video(root / "moves" / "val" / HEADS["moves"][index % 2] / f"{index}.mp4", first_number=100 * index)
        write_image(root / "pets" / "test" / HEADS["pets"][index] / f"{index}.png", index)
    index_folder(root / "moves", kind="video", out=root)
    index_folder(root / "pets", kind="image", out=root)
    torch.manual_seed(0)
    run = root / "run"
    save_model(create_model("timesformer_tiny", **SIZES, heads=HEADS), run / "checkpoints" / "step-1")
    (run / "latest").write_text("step-1\n")
    (run / "recipe.toml").write_text(RECIPE.format(root=root))
    return run


@pytest.fixture(scope="package")
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the server puts uploads; nothing of it is left when it has ended."""
    folder, before = tmp_path_factory.mktemp("temporary"), tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before
    assert not list(folder.glob("cover-serve-*"))


@pytest.fixture(scope="package")
def make_app(run: Path, temporary_folder: Path) -> Iterator[MakeApp]:
    """make_app(token=…, max_uploads=…, max_waiting=…) → the application, on one service."""
    metrics = Metrics()
    trained = TrainedRun.open(run)
    with Service(trained, LIMITS, num_processes=1, metrics=metrics) as service:
        samples = samples_of(trained, pytest.fail)

        def make_app(token: str | None = None, max_uploads: int = 8, max_waiting: int = 0) -> FastAPI:
            hosts = AllowedHosts("127.0.0.1", ["proxy.example"])
            policy = AdmissionPolicy(hosts, token, max_uploads, max_waiting)
            return create_app(service, samples, metrics, policy)

        yield make_app


@pytest.fixture(scope="package")
def client(make_app: MakeApp) -> TestClient:
    return TestClient(make_app(), base_url="http://localhost", raise_server_exceptions=False)
