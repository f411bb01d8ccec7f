"""Rendering writes whole, ordinary media files, the same ones however often it is interrupted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import av
import pytest
from PIL import Image

pytest.importorskip("vizdoom")

from cover.errors import CoverError
from cover.world.contact_sheet import write_contact_sheets
from cover.world.images import OBJECTS
from cover.world.presets import DATASETS, MAP_GROUPS, PRESETS, Preset
from cover.world.render import group_by_map, plan_blocks, render_world
from cover.world.scenes import SCENES

TINY = Preset(
    formats=PRESETS["quick"].formats,
    num_clips={OBJECTS.name: {"train": 20, "test": 4}, SCENES.name: {"val": 9}},
    all_classes=False,
)


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def render(out: Path, num_processes: int = 1) -> dict[str, str]:
    """Render the tiny preset; path → digest of every file."""
    report = render_world(out, "tiny", num_processes=num_processes, datasets=[OBJECTS.name, SCENES.name])
    assert not any(dataset.given_up for dataset in report.datasets.values())
    files = [path for path in sorted(out.rglob("*.*")) if path.suffix in {".jpg", ".mp4"}]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_rendering_resumes_to_the_same_files(tmp_path: Path) -> None:
    whole = render(tmp_path / "world", num_processes=2)
    assert len(whole) == 33
    for name in list(whole)[::4]:
        (tmp_path / "world" / name).unlink()
    assert render(tmp_path / "world") == whole

    clips = sorted((tmp_path / "world" / SCENES.name / "val").glob("*/*.mp4"))
    with av.open(str(clips[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 160, 120)
        assert len(list(container.decode(stream))) == 16
        assert stream.average_rate == pytest.approx(35 / 3, rel=0.01)
    images = sorted((tmp_path / "world" / OBJECTS.name / "train").glob("*/*.jpg"))
    with Image.open(images[0]) as image:
        assert image.size == (160, 120)

    sheets = write_contact_sheets(tmp_path / "world")
    assert [sheet.name for sheet in sheets] == ["freedoom_objects-train.png"]


def test_another_seed_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / OBJECTS.name).mkdir()
    (tmp_path / OBJECTS.name / ".world.json").write_text('{"preset": "tiny", "seed": 0}')
    with pytest.raises(CoverError, match="delete it or render to another folder"):
        render_world(tmp_path, "tiny", seed=1, datasets=[OBJECTS.name])


@pytest.mark.parametrize(("preset", "dataset"), [("huge", OBJECTS.name), ("tiny", "imagenet")])
def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path, preset: str, dataset: str) -> None:
    with pytest.raises(CoverError, match="choose from"):
        render_world(tmp_path, preset, datasets=[dataset])
    assert list(tmp_path.iterdir()) == []


def test_the_small_study_renders_the_first_files_of_the_study() -> None:
    for dataset in DATASETS.values():
        small, whole = (list(plan_blocks(Path("out"), dataset, PRESETS[name], 0)) for name in ("small_study", "study"))
        for split in PRESETS["study"].num_clips[dataset.name]:
            first, blocks = ([block for block in plan if block.split == split] for plan in (small, whole))
            for few, many in zip(first, blocks, strict=False):
                assert replace(few, files=many.files) == many and few.files == many.files[: len(few.files)]


@pytest.mark.parametrize("preset", ["smoke", "quick", "full"])
def test_splits_share_no_map_and_every_class_comes_equally_often(preset: str) -> None:
    for dataset in DATASETS.values():
        blocks = list(plan_blocks(Path("out"), dataset, PRESETS[preset], seed=0))
        splits = PRESETS[preset].num_clips[dataset.name]
        maps = {split: {block.map_name for block in blocks if block.split == split} for split in splits}
        assert sum(map(len, maps.values())) == len(set.union(*maps.values()))
        for split, num_clips in splits.items():
            names = [name for block in blocks if block.split == split for name, _ in block.files]
            counts = {name: names.count(name) for name in PRESETS[preset].classes(dataset)}
            assert sum(counts.values()) == num_clips and max(counts.values()) - min(counts.values()) <= 1
        if dataset.name != "freedoom_pretrain":
            assert all(maps[split] <= set(MAP_GROUPS[split]) for split in splits)
        assert sorted(map(str, blocks)) == sorted(str(block) for task in group_by_map(blocks) for block in task)
