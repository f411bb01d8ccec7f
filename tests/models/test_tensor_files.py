"""No file can run code, and a damaged one is one clear line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cover.errors import CheckpointError
from cover.models.tensor_files import open_tensors


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_tensors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["new.pyth", "old.pyth", "plain.bin", "named.safetensors", "arrays.npz"])
def test_a_malicious_pickle_is_refused_and_never_executed(name: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / name
    payload = {"model_state": {"weight": torch.zeros(2), "extra": Malicious(trace)}}
    if name == "new.pyth":
        torch.save(payload, path)
    elif name == "old.pyth":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    elif name == "arrays.npz":
        np.savez(path, weight=np.array([Malicious(trace)], dtype=object))
    else:
        path.write_bytes(pickle.dumps(payload["model_state"]["extra"]))
    message = refusal(path)
    assert "could run code, so it is not read; " in message
    assert not trace.exists()
    run_it = {
        ".npz": lambda: np.load(path, allow_pickle=True)["weight"],
        ".pyth": lambda: torch.load(path, weights_only=False),
    }
    run_it.get(path.suffix, lambda: pickle.loads(path.read_bytes()))()  # the bait itself works
    assert trace.exists()


def write(kind: str, path: Path) -> None:
    tensor = torch.arange(1000.0)
    if kind == "safetensors":
        save_file({"weight": tensor}, path)
    elif kind == "npz":
        np.savez(path, weight=tensor.numpy())
    else:
        torch.save({"weight": tensor}, path, _use_new_zipfile_serialization=kind == "zip pickle")


@pytest.mark.parametrize("kind", ["safetensors", "npz", "zip pickle", "old pickle"])
def test_files_are_recognised_by_content_and_truncated_ones_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.xyz"
    path.parent.mkdir(exist_ok=True)
    write(kind, whole := tmp_path / ("whole.npz" if kind == "npz" else "whole"))
    path.write_bytes(data := whole.read_bytes())
    file = open_tensors(path)
    assert file.shapes == {"weight": (1000,)}
    assert torch.equal(file.read("weight"), torch.arange(1000.0))
    for num_bytes in (len(data) - 10, len(data) // 2, 200):
        path.write_bytes(data[:num_bytes])
        assert "is damaged or cut short (" in refusal(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 10, b"0123456789", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_file_of_weights_is_told_so(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert refusal(path) == (
        f"{path} ({len(data)} bytes) is no file of weights: neither safetensors, nor PyTorch, nor .npz; "
        "copy or download it again"
    )


def test_a_missing_or_lying_shard_is_named(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    save_file({"a": torch.zeros(1)}, tmp_path / "1.safetensors")
    assert "2.safetensors is missing, model.safetensors.index.json lists it" in refusal(tmp_path)
    save_file({"c": torch.zeros(1)}, tmp_path / "2.safetensors")
    assert "2.safetensors lacks b; copy or download it again" in refusal(tmp_path)
    index.write_text("{}")
    assert "index.json is damaged (KeyError('weight_map'))" in refusal(tmp_path)
