"""No file can run code, and a damaged one is one clear line."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cover.errors import CheckpointError
from cover.models.checkpoints.tensor_files import open_tensors


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
    file = open_tensors(path)[""]
    assert file.shapes == {"weight": (1000,)}
    assert torch.equal(file.read("weight"), torch.arange(1000.0))
    for num_bytes in (len(data) - 10, len(data) // 2, 200):
        path.write_bytes(data[:num_bytes])
        assert "is damaged or cut short (" in refusal(path)


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.pth", b"", "empty; copy or download it again"),
        (
            "a.pth",
            b"\0" * 10,
            "not a file of weights: neither safetensors, nor PyTorch, nor .npz, nor Flax; copy",
        ),
        ("a.pth", b"0123456789", "not a file of weights: neither"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the file itself; run `git"),
        ("a.pth", b"\n<!DOCTYPE html><html>", "a page (HTML or XML), not a file of weights; the download failed"),
        ("a.pth", b'{"error": 404}', "a JSON file, not a file of weights"),
        ("a.pth", b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, TensorFlow), which cover does not read"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX graph, which cover does not read"),
        ("a.pth", b"GGUF\3\0\0\0", "a GGUF file, whose weights are quantised"),
        ("a.pth", b"\x1f\x8b\x08", "a gzip archive; unpack it"),
        ("a.pth.tar", b"\0" * 257 + b"ustar\0", "a tar archive; unpack it"),
    ],
)
def test_what_is_no_file_of_weights_is_told_so(name: str, data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path} ({len(data)} bytes) is {what}")


@pytest.mark.parametrize(
    ("member", "what"),
    [
        ("bare.pth", "a zip archive (bare.pth); unpack it and give the file inside"),
        ("script/code/__torch__.py", "a TorchScript program; load it with torch.jit.load and save its state_dict()"),
        ("model/archive_format", "a program of torch.export; use the weights it was exported from"),
        ("model.weights.h5", "a Keras model, which cover does not read"),
    ],
)
def test_archives_of_other_kinds_are_told_apart(member: str, what: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr(member, b"anything")
    assert refusal(tmp_path / "a.pt").startswith(f"{tmp_path / 'a.pt'} is {what}")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("adapter_config.json", "a LoRA adapter, not a model; merge it into its base model"),
        (".metadata", "a distributed checkpoint of torch; convert it"),
        ("model.fp16.safetensors", "no model.safetensors or pytorch_model.bin, but model.fp16.safetensors; name the"),
        ("model-00002-of-00003.safetensors", "model-00002-of-00003.safetensors, but not the index of the shards"),
        ("notes.txt", "no weights (model.safetensors or pytorch_model.bin); give a run, or name the file itself"),
    ],
)
def test_folders_without_the_usual_file_are_told_apart(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert refusal(tmp_path).startswith(f"{tmp_path} contains {what}")


def test_the_state_dicts_of_a_checkpoint_are_found_by_their_keys(tmp_path: Path) -> None:
    weight = {"weight": torch.ones(2)}
    loop: dict[str, object] = {"model": weight}
    loop["again"] = loop
    arguments = argparse.Namespace(lr=0.1)
    torch.save(
        {"teacher": weight, "state": {"model": weight | {"b": torch.zeros(3)}}, "args": arguments}, tmp_path / "a"
    )
    torch.save(loop, tmp_path / "loop")
    assert {key: dict(file.shapes) for key, file in open_tensors(tmp_path / "a").items()} == {
        "teacher": {"weight": (2,)},
        "state.model": {"weight": (2,), "b": (3,)},
    }
    assert [*open_tensors(tmp_path / "loop")] == ["model"]


def test_types_of_numbers_are_known_without_reading_them(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2).to(torch.float8_e4m3fn), "b": torch.zeros(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors | {"c": torch.eye(2).to_sparse()}, tmp_path / "a.pth")
    np.savez(tmp_path / "a.npz", a=np.zeros(2, np.int8), b=np.zeros(2, ">f4"))
    assert open_tensors(tmp_path / "a.safetensors")[""].types == {"a": "F8_E4M3", "b": "bfloat16"}
    assert open_tensors(tmp_path / "a.pth")[""].types == {
        "a": "float8_e4m3fn",
        "b": "bfloat16",
        "c": "float32 as a sparse tensor",
    }
    arrays = open_tensors(tmp_path / "a.npz")[""]
    assert arrays.types == {"a": "int8", "b": "float32"}
    assert arrays.read("b").tolist() == [0, 0]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_is_never_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "model.safetensors")
    assert "is a pipe, a device or a folder, not a file" in refusal(tmp_path)
    assert "/dev/zero is a pipe, a device or a folder" in refusal(Path("/dev/zero"))


def test_archives_that_unpack_to_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    assert "it is compressed, which torch.save never does" in refusal(tmp_path / "a.pth")
    header = b"\x93NUMPY\2\0" + (10**7).to_bytes(4, "little") + b" " * 10**7
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header)
    assert "a.npz is damaged or cut short" in refusal(tmp_path / "a.npz")


def test_a_bytearray_is_refused_before_it_is_made(tmp_path: Path) -> None:
    """A pickle of some bytes can name one of any length."""
    torch.save({"state_dict": {"a": torch.zeros(1)}, "fill": bytearray(b"x")}, tmp_path / "a.pth")
    assert "it contains a bytearray, which no state dict does" in refusal(tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "it is compressed, which torch.save never does" in refusal(tmp_path / "b.pth")


def test_a_missing_or_lying_shard_is_named(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    save_file({"a": torch.zeros(1)}, tmp_path / "1.safetensors")
    assert "2.safetensors is missing, but model.safetensors.index.json lists it" in refusal(tmp_path)
    save_file({"c": torch.zeros(1)}, tmp_path / "2.safetensors")
    assert "2.safetensors lacks b; copy or download it again" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{}", "it has no weight_map"),
        ("[]", "it has no weight_map"),
        ('{"weight_map": null}', "it has no weight_map"),
        ('{"weight_map": {"a": 3}}', "'3' is not the name of a file in this folder"),
        ('{"weight_map": {"a": null}}', "'None' is not the name of a file in this folder"),
        (
            '{"weight_map": {"a": "../other.safetensors"}}',
            "'../other.safetensors' is not the name of a file in this folder",
        ),
        ('{"weight_map": {"a": "/dev/zero"}}', "'/dev/zero' is not the name of a file in this folder"),
        ('{"weight_map": {"a": ".."}}', "'..' is not the name of a file in this folder"),
        ("[" * 10**5, "it is nested too deeply"),
    ],
)
def test_an_index_names_files_beside_it_only(index: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    assert refusal(tmp_path) == f"{path} is damaged ({reason}); copy or download it again"
