"""`freedoom_scenes`: clips of one thing while the camera moves freely. The motion says nothing about the class."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cover.world.game import Game, Pose
from cover.world.staging import Stage, distance_for_size, find_stage, relight, staged, visible
from cover.world.things import THINGS
from cover.world.world_dataset import ClipFormat, WorldDataset

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
    """How a camera moves.

    Attributes:
        forward, right: Its path, as shares of its distance to the thing.
        swing_degrees: The swing of its heading.
        is_steady: Whether it moves in one direction, not back and forth.
    """

    forward: float
    right: float
    swing_degrees: float
    is_steady: bool


_MOTIONS = (
    Motion(forward=0, right=0, swing_degrees=32, is_steady=True),  # turn
    Motion(forward=0, right=0.9, swing_degrees=5, is_steady=True),  # strafe
    Motion(forward=0.5, right=0, swing_degrees=6, is_steady=True),  # approach and retreat
    Motion(forward=0.6, right=0.9, swing_degrees=15, is_steady=False),  # wander
)


@dataclass(frozen=True)
class Shot:
    """One frame, the camera's pose, and the areas of the thing and of the largest other thing in the frame."""

    frame: np.ndarray
    pose: Pose
    area_fraction: float
    other_area_fraction: float


def draw_scene(game: Game, class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    """Draw a clip in which the thing is in view most of the time.

    Returns:
        uint8 frames [T, Y, X, 3], or None if the thing is not in view or the camera is stuck.
    """
    kind = THINGS[class_name]
    stage = find_stage(game.map_name, kind, rng, distance_for_size(kind, rng.uniform(*_SIZES)))
    if stage is None:
        return None
    with staged(game, stage, rng):
        shots = _film(game, stage, rng, clip_format)
    frames = np.stack([shot.frame for shot in shots])
    is_good = _is_seen(shots) and _has_moved(shots, stage.distance) and frames.mean() >= _MIN_MEAN_BRIGHTNESS
    return relight(frames, rng) if is_good else None


def _film(game: Game, stage: Stage, rng: np.random.Generator, clip_format: ClipFormat) -> list[Shot]:
    forward, right, swing_degrees = _curves(_MOTIONS[rng.integers(len(_MOTIONS))], rng, clip_format.num_frames)
    thrust = stage.distance / clip_format.num_tics / _SPEED_PER_THRUST
    tracking = rng.uniform(0, 1)  # 0 keeps the heading, 1 keeps the thing where it is in the picture
    start_degrees = stage.heading_degrees(stage.camera_x, stage.camera_y)
    shots = []
    for index in range(clip_format.num_frames):
        tics = clip_format.tics_per_frame if index else 1
        pose = game.pose()
        moved_degrees = _wrapped(stage.heading_degrees(pose.x, pose.y) - start_degrees)
        wanted_degrees = start_degrees + tracking * moved_degrees + swing_degrees[index]
        turn_degrees = _wrapped(wanted_degrees - pose.heading_degrees) / tics
        game.advance(tics, turn_degrees=turn_degrees, forward=thrust * forward[index], right=thrust * right[index])
        thing, other_area_fraction = visible(game, stage.kind)
        shots.append(Shot(game.frame(), game.pose(), thing.area_fraction if thing else 0.0, other_area_fraction))
    return shots


def _curves(motion: Motion, rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Thrusts forward and to the right, as shares of the distance a clip, and the swing in degrees: [3, T]."""
    times = np.linspace(0, 1, num_frames)
    amplitudes = np.array([motion.forward, motion.right, motion.swing_degrees])
    amplitudes = amplitudes * rng.uniform(0.6, 1, 3) * rng.choice([-1, 1], 3)
    if motion.is_steady:
        curves = np.stack([np.ones(num_frames), np.ones(num_frames), 2 * times - 1])
    else:
        cycles, phases = rng.uniform(0.4, 1.2, (3, 1)), rng.uniform(0, 1, (3, 1))
        curves = np.sin(2 * np.pi * (cycles * times + phases))
    return np.asarray(amplitudes[:, None] * curves)


def _is_seen(shots: list[Shot]) -> bool:
    areas = np.array([shot.area_fraction for shot in shots])
    seen = areas >= _MIN_AREA_FRACTION
    other_area = sum(shot.other_area_fraction for shot in shots)
    return bool(seen.mean() >= _MIN_SHARE_SEEN and seen[len(seen) // 2] and other_area <= _MAX_OTHER * areas.sum())


def _has_moved(shots: list[Shot], distance: float) -> bool:
    poses = [(before.pose, after.pose) for before, after in pairwise(shots)]
    steps = [float(np.hypot(after.x - before.x, after.y - before.y)) for before, after in poses]
    turns = [abs(_wrapped(after.heading_degrees - before.heading_degrees)) for before, after in poses]
    return max(steps) <= _MAX_JUMP and (sum(steps) >= _MIN_WAY * distance or sum(turns) >= _MIN_TURN_DEGREES)


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
