"""Miniature copies of datasets: real media under the datasets' file names, and what a row of a manifest shows."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from cover.datasets.manifest import Manifest, ManifestRow

CODECS = {".mp4": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}

Put = Callable[[Path, Mapping[str, int]], Path]
Shown = Callable[[Manifest], dict[str, int]]
WriteMedia = Callable[..., Path]


@pytest.fixture(scope="session")
def put(write_video: WriteMedia, write_image: WriteMedia) -> Put:
    """put(root, {"run/a.mp4": 7, "run/b/": 8, "c.jpg": 9, "note.txt": 0}) writes videos, folders of three frames, and
    images that show these numbers."""

    def put(root: Path, files: Mapping[str, int]) -> Path:
        for name, number in files.items():
            file = root / name
            if name.endswith("/"):
                for index in range(3):
                    write_image(file / f"img_{index + 1:05d}.jpg", number + index)
                write_image(file / "flow_x_00001.jpg", 0)
            elif file.suffix in CODECS:
                write_video(file, num_frames=2, first_number=number, codec=CODECS[file.suffix])
            else:
                write_image(file, number)
        return root

    return put


@pytest.fixture(scope="session")
def tar_of() -> Callable[[Path, Path], Path]:
    """tar_of(tar, folder) moves the content of the folder into a tar and returns the tar."""

    def tar_of(tar: Path, folder: Path) -> Path:
        with tarfile.open(tar, "w") as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    archive.add(file, file.relative_to(folder).as_posix())
                    file.unlink()
        return tar

    return tar_of


@pytest.fixture(scope="session")
def shown(numbers_of: Callable[..., list[int]]) -> Shown:
    """shown(manifest) → {sample id: the number that the first frame shows}, read from where the row says."""

    def number(row: ManifestRow) -> int:
        if row.file.is_dir():
            assert row.num_frames == len(list(row.file.glob("img_*")))
            content = min(row.file.glob("img_*")).read_bytes()
        elif row.offset is not None and row.length is None:
            content = pq.read_table(row.file)["image"][row.offset]["bytes"].as_py()
        else:
            start = row.offset or 0
            content = row.file.read_bytes()[start : start + row.length if row.length is not None else None]
        with av.open(io.BytesIO(content), "r") as container:
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
        return numbers_of(np.stack([frame]))[0]

    return lambda manifest: {row.sample_id: number(row) for row in manifest}
