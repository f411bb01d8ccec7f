"""Puppets: the game's own sprites as actors that stand exactly where, and exactly as long as, a clip's plan says.

A puppet is summoned anew for every frame, with its place relative to the camera as arguments, and removes itself after
the frame. So a trajectory is plain arithmetic in Python, and playing its frames backwards loses nothing. Puppets are
defined in DECORATE, the game's text format for actors: https://zdoom.org/wiki/DECORATE.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sprite:
    """A thing's picture.

    Attributes:
        code: The game's four-letter code.
        frames: Letters of its animation frames.
        width, height: Its size in map units.
        top: Height of its top above the floor, in map units.
    """

    code: str
    frames: str
    width: int
    height: int
    top: int


CREATURES = (
    Sprite("POSS", "ABCD", 41, 57, 53),
    Sprite("SPOS", "ABCD", 35, 55, 50),
    Sprite("CPOS", "ABCD", 51, 56, 52),
    Sprite("SSWV", "ABCD", 36, 63, 61),
    Sprite("TROO", "ABCD", 48, 60, 56),
    Sprite("SARG", "ABCD", 38, 59, 55),
    Sprite("HEAD", "A", 63, 66, 61),
    Sprite("BOSS", "ABCD", 49, 69, 69),
    Sprite("BOS2", "ABCD", 49, 69, 69),
    Sprite("SKUL", "AB", 30, 39, 35),
    Sprite("PAIN", "ABCD", 74, 66, 62),
    Sprite("FATT", "ABCD", 63, 64, 60),
    Sprite("SKEL", "ABC", 43, 65, 61),
    Sprite("VILE", "ABC", 40, 73, 73),
    Sprite("CYBR", "ABCD", 89, 102, 102),
    Sprite("BSPI", "ABCD", 128, 54, 49),
)
ITEMS = (
    Sprite("MEDI", "A", 29, 20, 20),
    Sprite("STIM", "A", 19, 10, 10),
    Sprite("BPAK", "A", 26, 30, 30),
    Sprite("CELP", "A", 32, 20, 20),
    Sprite("CELL", "A", 19, 12, 12),
    Sprite("AMMO", "A", 17, 16, 16),
    Sprite("SHEL", "A", 14, 10, 9),
    Sprite("CSAW", "A", 47, 19, 20),
    Sprite("MGUN", "A", 50, 25, 25),
    Sprite("SOUL", "ABCD", 25, 25, 39),
    Sprite("MEGA", "ABCD", 25, 25, 32),
    Sprite("ARM1", "A", 37, 28, 28),
    Sprite("ARM2", "A", 37, 25, 24),
    Sprite("BKEY", "A", 14, 21, 19),
    Sprite("RKEY", "A", 14, 21, 19),
    Sprite("YKEY", "A", 14, 21, 19),
    Sprite("PINV", "ABCD", 25, 25, 25),
    Sprite("PINS", "ABCD", 30, 30, 39),
    Sprite("SUIT", "A", 23, 52, 52),
    Sprite("PMAP", "ABCD", 32, 28, 28),
    Sprite("BON2", "ABCD", 13, 19, 19),
)
DECORATIONS = (
    Sprite("BAR1", "AB", 23, 32, 30),
    Sprite("FCAN", "ABC", 25, 63, 62),
    Sprite("COL1", "A", 35, 56, 53),
    Sprite("COL2", "A", 34, 41, 40),
    Sprite("COL4", "A", 38, 43, 40),
    Sprite("COL5", "A", 36, 49, 48),
    Sprite("COL6", "A", 38, 55, 52),
    Sprite("TRE1", "A", 51, 70, 65),
    Sprite("TRE2", "A", 124, 124, 120),
    Sprite("SMIT", "A", 62, 69, 67),
    Sprite("CBRA", "A", 31, 61, 61),
    Sprite("CAND", "A", 16, 19, 17),
    Sprite("COLU", "A", 18, 48, 45),
    Sprite("POL1", "A", 40, 66, 62),
    Sprite("POL3", "A", 38, 48, 44),
    Sprite("CEYE", "ABC", 39, 43, 47),
    Sprite("FSKU", "ABC", 33, 39, 47),
)
SHOTS = (
    Sprite("BAL1", "AB", 15, 15, 11),
    Sprite("BAL2", "AB", 15, 15, 12),
    Sprite("BAL7", "AB", 20, 19, 18),
    Sprite("MANF", "AB", 34, 34, 19),
    Sprite("FATB", "AB", 23, 21, 16),
    Sprite("APLS", "AB", 20, 16, 12),
    Sprite("PLSS", "AB", 19, 16, 12),
    Sprite("BFS1", "AB", 58, 56, 36),
    Sprite("MISL", "A", 19, 15, 12),
)

_NAME_PREFIX = "Puppet"
_ACTOR = """
actor {name} {{
  +NOGRAVITY
  +NOINTERACTION
  States {{
  Spawn:
    TNT1 A 0
    TNT1 A 0 A_Warp(AAPTR_PLAYER1, args[0], args[1], args[2], 0, WARPF_NOCHECKPOSITION)
    TNT1 A 0 A_SetAngle(angle + args[3])
    TNT1 A 0 A_SetScale(args[4] / 100.0)
    {code} {frame} 1 A_SetTics(tid)
    Stop
  }}
}}
"""


def summon_puppet(
    sprite: Sprite,
    step: int,
    *,
    forward: float,
    right: float,
    center_up: float,
    height: float,
    facing_degrees: float,
    tics: int,
) -> str:
    """Make the console command that shows a sprite.

    Args:
        sprite: The sprite.
        step: The step of its animation.
        forward, right, center_up: Its centre, in map units from the camera's feet.
        height: Its height, in map units.
        facing_degrees: 0 is away from the camera, 180 towards it.
        tics: How long it is shown.
    """
    name = f"{_NAME_PREFIX}{sprite.code}{sprite.frames[step % len(sprite.frames)]}"
    scale = height / sprite.height
    up = center_up - scale * (sprite.top - sprite.height / 2)
    numbers = (forward, right, up, facing_degrees % 360, 100 * scale)
    return f"summon {name} 0 {tics} 0 " + " ".join(str(round(number)) for number in numbers)


def is_puppet(thing_name: str, sprite: Sprite) -> bool:
    """Whether a thing of the labels buffer is a puppet with this sprite."""
    return thing_name.startswith(_NAME_PREFIX + sprite.code)


def puppet_actors() -> str:
    """The DECORATE text that defines all puppets."""
    return "".join(
        _ACTOR.format(name=f"{_NAME_PREFIX}{sprite.code}{frame}", code=sprite.code, frame=frame)
        for sprite in CREATURES + ITEMS + DECORATIONS + SHOTS
        for frame in sprite.frames
    )
