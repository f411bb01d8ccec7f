"""`freedoom_scenes`: clips of one thing while the camera moves freely; what moves, and how, says nothing about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cover.world.dataset import ClipFormat, WorldDataset
from cover.world.game import Game, Pose
from cover.world.setting import relight
from cover.world.staging import Stage, distance_for_size, find_stage, staged, visible
from cover.world.things import THINGS

_SIZES = (0.3, 0.65)  # of the view, in the first frame
_SPEED_PER_THRUST = 0.33  # map units a tic, once friction balances the thrust
_MIN_AREA_FRACTION = 0.006
_MIN_SHARE_SEEN = 0.7  # of the frames
_MAX_OTHER = 0.5  # of the thing's area, over the clip
_MIN_WAY = 0.2  # of the distance to the thing
_MIN_TURN_DEGREES = 15
_MAX_JUMP = 60  # map units a frame; a teleporter or a fall does more
_MIN_MEAN_BRIGHTNESS = 18  # of 255


@dataclass(frozen=True)
class Motion:
    """How far a camera goes forward and sideways, as shares of its distance to the thing, and swings its heading."""

    forward: float
    right: float
    swing_degrees: float
    is_steady: bool  # in one direction, or back and forth


_MOTIONS = (
    Motion(forward=0, right=0, swing_degrees=32, is_steady=True),  # turn
    Motion(forward=0, right=0.9, swing_degrees=5, is_steady=True),  # strafe
    Motion(forward=0.5, right=0, swing_degrees=6, is_steady=True),  # approach and retreat
    Motion(forward=0.6, right=0.9, swing_degrees=15, is_steady=False),  # wander
)


def draw_scene(game: Game, class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    """One clip, uint8 [T, Y, X, 3], with the thing in view for most of it; None if it is not or the camera is stuck."""
    kind = THINGS[class_name]
    stage = find_stage(game.map_name, kind, rng, distance_for_size(kind, rng.uniform(*_SIZES)))
    if stage is None:
        return None
    with staged(game, stage, rng):
        return _film(game, stage, rng, clip_format)


def _film(game: Game, stage: Stage, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    motion = _MOTIONS[rng.integers(len(_MOTIONS))]
    forward, right, swing_degrees = _curves(motion, rng, clip_format.num_frames)
    thrust = stage.distance / clip_format.num_tics / _SPEED_PER_THRUST
    tracking = rng.uniform(0, 1)  # 1 keeps the thing where it is in the picture
    start_degrees = stage.heading_degrees(stage.camera_x, stage.camera_y)
    frames, poses, areas, other_areas = [], [], [], []
    for index in range(clip_format.num_frames):
        pose = game.pose()
        moved_degrees = _wrapped(stage.heading_degrees(pose.x, pose.y) - start_degrees)
        wanted_degrees = start_degrees + tracking * moved_degrees + swing_degrees[index]
        game.advance(
            clip_format.tics_per_frame if index else 1,
            turn_degrees=_wrapped(wanted_degrees - pose.heading_degrees) / (clip_format.tics_per_frame if index else 1),
            forward=thrust * forward[index],
            right=thrust * right[index],
        )
        thing, other_area = visible(game, stage.kind)
        frames.append(game.frame())
        poses.append(game.pose())
        areas.append(thing.area_fraction if thing else 0.0)
        other_areas.append(other_area)
        if index == 0 and frames[0].mean() < _MIN_MEAN_BRIGHTNESS:
            return None
    is_good = _is_seen(areas, other_areas) and _has_moved(poses, stage)
    return relight(np.stack(frames), rng) if is_good else None


def _curves(motion: Motion, rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thrusts forward and to the right, in shares of the distance a clip, and the swing of the heading in degrees."""
    times = np.linspace(0, 1, num_frames)
    strengths = rng.uniform(0.6, 1, 3) * rng.choice([-1, 1], 3)
    if motion.is_steady:
        return (
            motion.forward * strengths[0] * np.ones(num_frames),
            motion.right * strengths[1] * np.ones(num_frames),
            (motion.swing_degrees * strengths[2] * (2 * times - 1)),
        )
    waves = [np.sin(2 * np.pi * (rng.uniform(0.4, 1.2) * times + rng.uniform())) for _ in range(3)]
    forward, right, swing = strengths[:, None] * waves
    return motion.forward * forward, motion.right * right, motion.swing_degrees * swing


def _is_seen(areas: list[float], other_areas: list[float]) -> bool:
    seen = np.array(areas) >= _MIN_AREA_FRACTION
    return bool(seen.mean() >= _MIN_SHARE_SEEN and seen[len(seen) // 2] and sum(other_areas) <= _MAX_OTHER * sum(areas))


def _has_moved(poses: list[Pose], stage: Stage) -> bool:
    steps = np.array([np.hypot(b.x - a.x, b.y - a.y) for a, b in zip(poses, poses[1:], strict=False)])
    turns = np.array(
        [abs(_wrapped(b.heading_degrees - a.heading_degrees)) for a, b in zip(poses, poses[1:], strict=False)]
    )
    has_moved = steps.sum() >= _MIN_WAY * stage.distance or turns.sum() >= _MIN_TURN_DEGREES
    return bool(has_moved and steps.max() <= _MAX_JUMP)


def _wrapped(degrees: float) -> float:
    """The same angle from -180 up to 180."""
    return (degrees + 180) % 360 - 180


SCENES_QUICK = ("imp", "cacodemon", "revenant", "barrel", "green_pillar", "blue_torch", "green_tree", "skull_rock")
SCENES = WorldDataset(
    "freedoom_scenes",
    "video",
    (
        *SCENES_QUICK,
        *("zombie_man", "chaingun_guy", "demon", "hell_knight", "arachnotron", "mancubus", "archvile", "cyberdemon"),
        *("soulsphere", "green_armor", "radiation_suit", "burning_barrel", "tech_lamp", "red_pillar", "evil_eye"),
        *("red_torch", "candelabra", "bare_tree"),
    ),
    SCENES_QUICK,
    draw_scene,
)
