"""Images and scenes: the thing that a label names is the largest in view."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from cover.world.game import Game
from cover.world.images import OBJECTS, PRETRAIN
from cover.world.scenes import SCENES
from cover.world.staging import distance_for_size, find_stage, staged, visible
from cover.world.things import DISTRACTORS, THINGS
from cover.world.world_dataset import ClipFormat, WorldDataset

IMAGE = ClipFormat(width_px=160, height_px=120, num_frames=1, tics_per_frame=1)
CLIP = ClipFormat(width_px=160, height_px=120, num_frames=12, tics_per_frame=3)
MAP_NAME = "E1M5"


@pytest.fixture(scope="module")
def game() -> Iterator[Game]:
    with Game(160, 120) as game:
        yield game


def draw(game: Game, dataset: WorldDataset, class_name: str, seed: int) -> np.ndarray:
    """The first good clip after `seed`."""
    rng = np.random.default_rng(seed)
    game.start(MAP_NAME, seed=0)
    clip_format = IMAGE if dataset.kind == "image" else CLIP
    clips = (dataset.draw(game, class_name, rng, clip_format) for _ in range(100))
    return next(clip for clip in clips if clip is not None)


@pytest.mark.parametrize("dataset", [PRETRAIN, OBJECTS, SCENES], ids=lambda dataset: dataset.name)
def test_every_class_can_be_drawn(game: Game, dataset: WorldDataset) -> None:
    num_frames = 1 if dataset.kind == "image" else CLIP.num_frames
    for class_name in dataset.classes:
        clip = draw(game, dataset, class_name, seed=1)
        assert clip.shape == (num_frames, 120, 160, 3) and clip.dtype == np.uint8


@pytest.mark.parametrize("dataset", [OBJECTS, SCENES], ids=lambda dataset: dataset.name)
def test_one_seed_gives_one_clip_and_another_seed_another(game: Game, dataset: WorldDataset) -> None:
    clip = draw(game, dataset, "imp", seed=1)
    draw(game, dataset, "barrel", seed=2)
    np.testing.assert_array_equal(draw(game, dataset, "imp", seed=1), clip)
    assert (draw(game, dataset, "imp", seed=2) != clip).mean() > 0.5


def test_the_camera_of_a_scene_moves(game: Game) -> None:
    frames = draw(game, SCENES, "candelabra", seed=3).astype(float)
    assert (np.abs(frames[0] - frames[-1]) > 16).mean() > 0.2


def test_a_thing_is_as_large_as_asked_and_gone_afterwards(game: Game) -> None:
    kind, rng = THINGS["green_pillar"], np.random.default_rng(0)
    game.start(MAP_NAME, seed=0)
    stage = find_stage(MAP_NAME, kind, rng, distance_for_size(kind, 0.5))
    assert stage is not None
    with staged(game, stage, rng):
        thing, _ = visible(game, kind)
        assert thing is not None and thing.height_px == pytest.approx(60, rel=0.15)
    game.advance()
    assert visible(game, kind)[0] is None


def test_classes_are_many_and_no_distractor_is_one_of_them() -> None:
    assert len(PRETRAIN.classes) >= 40 and len(OBJECTS.classes) >= 48 and len(SCENES.classes) >= 20
    assert len(OBJECTS.quick_classes) >= 12 and len(SCENES.quick_classes) >= 8
    actors = [kind.actor for kind in (*THINGS.values(), *DISTRACTORS)]
    assert len(actors) == len(set(actors))
    assert {*PRETRAIN.classes, *OBJECTS.classes, *SCENES.classes} == set(THINGS)
