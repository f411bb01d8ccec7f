"""Films planned trajectories: tracks of puppets in front of a camera, and the boxes in which they were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cover.world.game import EYE_HEIGHT, Game, Thing
from cover.world.puppets import Sprite, is_puppet, summon_puppet
from cover.world.world_dataset import ClipFormat

# The view at distance 1: the horizontal field of view is 90 degrees, and heights appear 1.2 times as large in 4:3.
VIEW_WIDTH = 2.0
VIEW_HEIGHT = 1.25

_TICS_PER_STEP = 5  # of an animation
_MAX_MISPLACED = 0.1  # of the view
_MIN_SEEN_HEIGHT = 0.6  # of the planned height; a sprite's pictures differ in height


@dataclass(frozen=True)
class Track:
    """One sprite's path through a clip; arrays are [T].

    Attributes:
        across, up: Its centre, as shares of the view, from the view's centre to the right and upwards.
        size: Its height, as a share of the view's.
        distance: Its distance from the camera, in map units.
        shown: Whether it is shown.
    """

    sprite: Sprite
    facing_degrees: float
    across: np.ndarray
    up: np.ndarray
    size: np.ndarray
    distance: np.ndarray
    shown: np.ndarray

    def summon(self, index: int, tics: int) -> str:
        """Make the command that shows frame `index` of this track."""
        distance = self.distance[index]
        return summon_puppet(
            self.sprite,
            index * tics // _TICS_PER_STEP,
            forward=distance,
            right=self.across[index] * VIEW_WIDTH * distance,
            center_up=EYE_HEIGHT + self.up[index] * VIEW_HEIGHT * distance,
            height=self.size[index] * VIEW_HEIGHT * distance,
            facing_degrees=self.facing_degrees,
            tics=tics,
        )


@dataclass(frozen=True)
class Box:
    """What was seen of a track in one frame, as shares of the view; x points right, y points down."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """As a share of the view."""
        return self.width * self.height


Boxes = list[Box | None]  # one a frame; None if the track was not seen


def film(
    game: Game,
    tracks: Sequence[Track],
    clip_format: ClipFormat,
    *,
    turn_degrees: float = 0,
    attack_from: int | None = None,
) -> tuple[np.ndarray, list[list[Thing]]]:
    """Play tracks in front of a camera.

    Args:
        game: A game in an episode.
        tracks: The tracks.
        clip_format: Size and length of the clip.
        turn_degrees: Turn of the camera a tic.
        attack_from: The frame from which on the camera fires its weapon.

    Returns:
        uint8 frames [T, Y, X, 3], and the things seen in each of them.
    """
    frames, seen = [], []
    for index in range(clip_format.num_frames):
        for track in tracks:
            if track.shown[index]:
                game.command(track.summon(index, clip_format.tics_per_frame))
        attack = attack_from is not None and index >= attack_from
        game.advance(clip_format.tics_per_frame, turn_degrees=turn_degrees, attack=attack)
        frames.append(game.frame())
        seen.append(game.things())
    return np.stack(frames), seen


def follow(track: Track, seen: list[list[Thing]], game: Game) -> Boxes | None:
    """Find the boxes in which a filmed track was seen; None if it was not seen where and when the plan says."""
    boxes = [_box_of(track.sprite, things, game) for things in seen]
    return boxes if all(_as_planned(box, track, index) for index, box in enumerate(boxes)) else None


def _box_of(sprite: Sprite, things: list[Thing], game: Game) -> Box | None:
    thing = next((thing for thing in things if is_puppet(thing.name, sprite)), None)
    if thing is None:
        return None
    width, height = thing.width_px / game.width_px, thing.height_px / game.height_px
    return Box(thing.center_x_px / game.width_px, thing.top_px / game.height_px + height / 2, width, height)


def _as_planned(box: Box | None, track: Track, index: int) -> bool:
    if box is None or not track.shown[index]:
        return (box is None) == (not track.shown[index])
    return bool(
        abs(box.x - 0.5 - track.across[index]) < _MAX_MISPLACED
        and abs(0.5 - box.y - track.up[index]) < _MAX_MISPLACED
        and box.height > _MIN_SEEN_HEIGHT * track.size[index]
    )
