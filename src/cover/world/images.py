"""`freedoom_pretrain` and `freedoom_objects`: images of one thing, somewhere in the world."""

from __future__ import annotations

import numpy as np

from cover.world.game import Game, Thing
from cover.world.staging import distance_for_size, find_stage, relight, staged, visible
from cover.world.things import THINGS
from cover.world.world_dataset import ClipFormat, WorldDataset

_SIZES = (0.28, 0.8)  # of the view
_MAX_OFF_CENTER_DEGREES = (22, 8)  # to the side, up and down
_MIN_AREA_FRACTION = 0.01
_MAX_OTHER = 0.4  # of the thing's area
_MIN_MEAN_BRIGHTNESS = 18  # of 255
_EXTRA_TICS = 24  # at most, for another phase of the thing's animation


def draw_image(game: Game, class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    """Draw an image with one large thing in full view, and no other thing of its size.

    Returns:
        uint8 [1, Y, X, 3], or None if the thing is not seen like that.
    """
    kind = THINGS[class_name]
    stage = find_stage(game.map_name, kind, rng, distance_for_size(kind, rng.uniform(*_SIZES)))
    if stage is None:
        return None
    with staged(game, stage, rng):
        turn, look = rng.uniform(-1, 1, 2) * _MAX_OFF_CENTER_DEGREES
        game.advance(1 + int(rng.integers(_EXTRA_TICS)))
        game.advance(turn_degrees=turn, look_degrees=look)
        frame = game.frame()
        thing, other_area = visible(game, kind)
    if thing is None or thing.area_fraction < _MIN_AREA_FRACTION or other_area > _MAX_OTHER * thing.area_fraction:
        return None
    if not _is_whole(thing, clip_format) or frame.mean() < _MIN_MEAN_BRIGHTNESS:
        return None
    return relight(frame[None], rng)


def _is_whole(thing: Thing, clip_format: ClipFormat) -> bool:
    """Whether the thing's box stays clear of the picture's borders."""
    right_px, bottom_px = thing.left_px + thing.width_px, thing.top_px + thing.height_px
    return (
        thing.left_px > 0 and thing.top_px > 0 and right_px < clip_format.width_px and bottom_px < clip_format.height_px
    )


PRETRAIN_QUICK = (
    *("zombie_man", "demon", "cacodemon", "mancubus", "pain_elemental", "archvile"),
    *("chaingun", "backpack", "green_armor", "megasphere", "radiation_suit"),
    *("barrel", "skull_pillar", "skull_candles", "short_blue_torch", "green_tree"),
)
OBJECTS_QUICK = (
    *("imp", "demon", "cacodemon", "revenant", "hell_knight", "chaingun_guy"),
    *("soulsphere", "green_armor", "medikit", "barrel", "burning_barrel", "green_pillar"),
    *("red_pillar", "blue_torch", "green_tree", "skull_rock"),
)
PRETRAIN = WorldDataset(
    "freedoom_pretrain",
    "image",
    (
        *PRETRAIN_QUICK,
        *("shotgun_guy", "officer", "lost_soul", "arachnotron", "spider_mastermind"),
        *("chainsaw", "super_shotgun", "plasma_rifle", "rocket_launcher", "bfg9000"),
        *("shell_box", "cell_pack", "blue_armor", "blur_sphere", "berserk_pack", "light_goggles"),
        *("blue_card", "red_card", "yellow_card", "tech_lamp", "floor_lamp", "short_green_pillar", "evil_eye"),
        *("skull_pole", "short_green_torch", "short_red_torch", "candelabra", "bare_tree"),
        *("dead_imp", "dead_demon", "dead_cacodemon"),
    ),
    PRETRAIN_QUICK,
    draw_image,
)
OBJECTS = WorldDataset(
    "freedoom_objects",
    "image",
    (
        *OBJECTS_QUICK,
        *("zombie_man", "shotgun_guy", "officer", "lost_soul", "arachnotron", "pain_elemental", "mancubus", "archvile"),
        *("spider_mastermind", "cyberdemon", "chainsaw", "shotgun", "chaingun", "rocket_launcher", "bfg9000"),
        *("backpack", "rocket_box", "cell_pack", "blue_armor", "megasphere", "invulnerability_sphere", "berserk_pack"),
        *("radiation_suit", "computer_map", "tech_lamp", "floor_lamp", "tech_pillar", "heart_pillar", "evil_eye"),
        *("green_torch", "red_torch", "candelabra", "tree_trunk", "bare_tree", "stalagmite"),
    ),
    OBJECTS_QUICK,
    draw_image,
)
