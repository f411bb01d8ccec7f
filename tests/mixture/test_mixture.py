from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from cover.core.batch import UNREADABLE, MixedBatch
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.errors import DecodeError, ManifestError, RecipeError
from cover.media.sampling import Window
from cover.mixture.mixture import Dataset, Mixture
from cover.mixture.schedule import schedule

NumbersOf = Callable[[Any], list[int]]
Clips = dict[tuple[str, int], tuple[torch.Tensor, int]]


@pytest.fixture
def datasets(video_manifest: Manifest, image_manifest: Manifest) -> list[Dataset]:
    """Six videos and five images."""
    return [Dataset(video_manifest, name="videos", num_frames=4), Dataset(image_manifest, name="images")]


def mixture_of(datasets: Sequence[Dataset | str | Path], **options: Any) -> Mixture:
    return Mixture(datasets, **({"batch_size": 4, "image_size": 32, "num_steps": 3} | options))


def clips_by_step(batches: Sequence[MixedBatch]) -> dict[int, Clips]:
    """{step: {(sample id, seed): (frames [T,C,Y,X], label)}}, however the steps were sliced."""
    steps: dict[int, Clips] = {}
    for batch in batches:
        step = steps.setdefault(batch.step, {})
        for clips in batch.values():
            for place, key in enumerate(zip(clips.sample_ids, clips.seeds.tolist(), strict=True)):
                assert key not in step
                step[key] = (clips.frames[:, place], int(clips.labels[place]))
    return steps


def assert_same(left: Sequence[MixedBatch], right: Sequence[MixedBatch]) -> None:
    left_steps, right_steps = clips_by_step(left), clips_by_step(right)
    assert left_steps.keys() == right_steps.keys()
    for step, clips in left_steps.items():
        assert clips.keys() == right_steps[step].keys()
        for key, (frames, label) in clips.items():
            assert frames.equal(right_steps[step][key][0]) and label == right_steps[step][key][1]


def test_a_batch_holds_the_scheduled_clips(datasets: list[Dataset]) -> None:
    batch = next(iter(mixture_of(datasets, short_side_px=(32, 32), seed=5)))
    samples = schedule(0, seed=5, sizes={"videos": 6, "images": 5}, batch_size=4)
    assert batch["videos"].frames.shape == (4, 2, 3, 32, 32) and batch["videos"].frames.is_contiguous()
    assert batch["images"].frames.shape == (1, 2, 3, 32, 32)
    assert batch.counts == {"videos": 2, "images": 2}
    for name, dataset in (("videos", datasets[0]), ("images", datasets[1])):
        assert isinstance(dataset.manifest, Manifest)
        rows = [dataset.manifest[sample.index] for sample in samples if sample.dataset == name]
        assert batch[name].sample_ids == tuple(f"{name}/{row.sample_id}" for row in rows)
        assert batch[name].labels.tolist() == [row.label for row in rows]


@pytest.mark.parametrize("cache_frames", [False, True])
def test_a_clip_takes_one_row_of_its_manifest_and_a_cached_one_none(
    video_manifest: Manifest, cache_frames: bool
) -> None:
    batches = iter(mixture_of([Dataset(video_manifest, num_frames=2, cache_frames=cache_frames)]))
    with patch.object(ManifestRow, "__init__", autospec=True, side_effect=ManifestRow.__init__) as made:
        assert sum(batch[video_manifest.name].num_clips for batch in batches) == 12
    assert made.call_count == (0 if cache_frames else 12)


def test_clips_show_the_files_of_their_labels(image_manifest: Manifest, numbers_of: NumbersOf) -> None:
    dataset = Dataset(image_manifest, name="images", horizontal_flip=False)
    for batch in mixture_of([dataset], batch_size=2, short_side_px=(32, 32)):
        clips = batch["images"]
        stems = [int(Path(sample_id).stem) for sample_id in clips.sample_ids]
        assert numbers_of(clips.frames[0]) == stems
        names = [image_manifest.class_names[label] for label in clips.labels]
        assert names == ["cat" if stem % 2 else "dog" for stem in stems]


@pytest.mark.parametrize("split", [{"num_micro_batches": 2}, {"num_workers": 1}, {"num_workers": 2}])
def test_a_step_is_the_same_however_it_is_decoded(datasets: list[Dataset], split: dict[str, int]) -> None:
    assert_same(list(mixture_of(datasets, **split)), list(mixture_of(datasets)))


@pytest.mark.parametrize(("num_workers", "folder"), [(0, None), (2, None), (2, "frames")])
def test_cached_frames_are_decoded_before_the_first_batch(
    datasets: list[Dataset], num_workers: int, folder: str | None, tmp_path: Path
) -> None:
    fresh = list(mixture_of(datasets, short_side_px=(40, 64)))
    cache_folder = tmp_path / folder if folder else None
    caching = [replace(dataset, cache_frames=True, cache_folder=cache_folder) for dataset in datasets]
    batches = iter(mixture_of(caching, short_side_px=(40, 64), num_workers=num_workers))
    for dataset in datasets:
        assert isinstance(dataset.manifest, Manifest)
        for row in dataset.manifest:
            row.file.unlink()
    assert_same(list(batches), fresh)


def test_ranks_and_micro_batches_share_a_step_evenly(datasets: list[Dataset]) -> None:
    whole = list(mixture_of(datasets, batch_size=8))
    ranks = [list(mixture_of(datasets, batch_size=8, rank=r, world_size=2, num_micro_batches=2)) for r in range(2)]
    assert_same([batch for rank in ranks for batch in rank], whole)
    for rank in ranks:
        assert [batch.step for batch in rank] == [0, 0, 1, 1, 2, 2]
        assert all(batch.counts == whole[batch.step].counts for batch in rank)
    for parts in zip(*ranks, strict=True):
        frames = [sum(clips.frames.shape[0] * clips.num_clips for clips in part.values()) for part in parts]
        assert max(frames) - min(frames) <= 4


@pytest.mark.parametrize("stop", [1, 2])
def test_going_on_from_a_step_gives_the_batches_of_not_stopping(datasets: list[Dataset], stop: int) -> None:
    whole = list(mixture_of(datasets, num_steps=4))
    assert_same(list(mixture_of(datasets, start_step=stop, num_steps=4 - stop)), whole[stop:])
    mixture = mixture_of(datasets, num_steps=stop)
    first = list(mixture)
    assert mixture.step == stop
    mixture.num_steps = 4 - stop
    assert_same(first + list(mixture), whole)


def test_breaking_off_inside_a_step_repeats_that_step(datasets: list[Dataset]) -> None:
    mixture = mixture_of(datasets, num_micro_batches=2, num_workers=1)
    for number, _ in enumerate(mixture):
        assert mixture.step == (number + 1) // 2
        if number == 2:
            break
    assert next(iter(mixture)).step == 1


def test_iterating_again_is_the_next_epoch(datasets: list[Dataset]) -> None:
    mixture = mixture_of(datasets, batch_size=11, num_steps=None)
    first, second = (next(iter(clips_by_step(list(mixture)).values())) for _ in range(2))
    assert mixture.num_steps == 1 and mixture.step == 2
    assert {sample_id for sample_id, _ in first} == {sample_id for sample_id, _ in second}
    assert first.keys().isdisjoint(second)


def test_the_global_random_state_is_left_alone(datasets: list[Dataset]) -> None:
    before = torch.get_rng_state()
    list(mixture_of(datasets, num_workers=1, num_steps=1))
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_file_is_named_once_and_keeps_its_slots(
    datasets: list[Dataset], num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = datasets[0].manifest
    assert isinstance(manifest, Manifest)
    broken = manifest[2]
    broken.file.write_bytes(b"not a video")
    mixture = mixture_of(datasets, batch_size=11, num_workers=num_workers)
    with caplog.at_level(logging.WARNING):
        batches = list(mixture)
    sample_id = f"videos/{broken.sample_id}"
    for batch in batches:
        place = batch["videos"].sample_ids.index(sample_id)
        assert batch["videos"].num_clips == 6 and batch.counts["videos"] == 6
        assert (batch["videos"].labels == UNREADABLE).nonzero().tolist() == [[place]]
        assert not batch["videos"].frames[:, place].any() and batch["videos"].frames.any()
    assert mixture.unreadable.reasons == {
        "videos": {broken.sample_id: "it is a text, such as a playlist, and not a media file"},
        "images": {},
    }
    assert [broken.file.name in record.getMessage() for record in caplog.records] == [True]


def test_rows_found_unreadable_before_are_not_tried(image_manifest: Manifest, tmp_path: Path) -> None:
    rows = [dict(vars(row)) | {"readable": row.label != 0, "reason": "truncated"} for row in image_manifest]
    for row in rows:
        del row["root"]
    checked = write_manifest(
        tmp_path / "checked.arrow",
        rows,
        name="checked",
        kind="image",
        split="train",
        class_names=image_manifest.class_names,
        root=image_manifest.root,
    )
    batch = next(iter(mixture_of([checked.path], batch_size=5, max_unreadable_share=0.5)))
    assert sorted(batch["checked"].labels.tolist()) == sorted(-1 if row["label"] == 0 else 1 for row in rows)


@pytest.mark.parametrize("max_share", [0.0, 0.01])
def test_too_many_unreadable_samples_stop_the_training(datasets: list[Dataset], max_share: float) -> None:
    manifest = datasets[1].manifest
    assert isinstance(manifest, Manifest)
    for row in (manifest[0], manifest[1]):
        row.file.write_bytes(b"not an image")
    mixture = mixture_of(datasets, batch_size=11, num_steps=20, max_unreadable_share=max_share)
    with pytest.raises(DecodeError, match=r"2 of the 5 samples of 'images' are unreadable so far.*\.png"):
        list(mixture)


def test_one_unreadable_sample_of_a_small_dataset_does_not_stop_the_training(datasets: list[Dataset]) -> None:
    manifest = datasets[1].manifest
    assert isinstance(manifest, Manifest)
    manifest[0].file.write_bytes(b"not an image")
    mixture = mixture_of(datasets, batch_size=11, num_steps=20, max_unreadable_share=0.01)
    assert len(list(mixture)) == 20
    assert len(mixture.unreadable.reasons["images"]) == 1


def test_it_tells_what_it_mixes(datasets: list[Dataset], video_manifest: Manifest) -> None:
    mixture = mixture_of(datasets, num_steps=None)
    assert mixture.shares == {"videos": 6 / 11, "images": 5 / 11}
    assert mixture.num_steps == 3
    assert mixture.digests["videos"] == video_manifest.digest
    assert mixture.class_names == {"videos": ("jump", "run"), "images": ("cat", "dog")}


def test_a_decoder_travels_to_a_spawned_worker(datasets: list[Dataset]) -> None:
    mixture = mixture_of(datasets)
    decoder = pickle.loads(pickle.dumps(mixture._decoder))
    key = next(mixture._micro_batches(range(1)))
    assert_same([decoder(key).batch], [mixture._decoder(key).batch])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "images"}, "2 datasets are named 'images'; .* rename one"),
        ({"rate": 0.5}, "'videos' has a rate and others have none"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"temporal_jitter": True, "cache_frames": True}, "temporal_jitter with cache_frames"),
        ({"window": Window(4.0), "cache_frames": True}, "sampling by windows with cache_frames"),
        ({"cache_folder": Path("frames")}, "cache_folder frames without cache_frames"),
    ],
)
def test_what_cannot_be_mixed_is_refused(datasets: list[Dataset], change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        mixture_of([Dataset(**({"manifest": datasets[0].manifest, "name": "videos"} | change)), datasets[1]])


def test_impossible_batches_and_missing_manifests_are_refused(datasets: list[Dataset], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="batch_size 4 is split over 3 processes x 2 micro-batches"):
        mixture_of(datasets, world_size=3, num_micro_batches=2)
    with pytest.raises(RecipeError, match="no datasets"):
        mixture_of([])
    with pytest.raises(ManifestError, match=r"missing\.arrow does not exist"):
        mixture_of([tmp_path / "missing.arrow"])
