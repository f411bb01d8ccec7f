"""Performers: the game's own creatures, barrels and teleport flashes as actors that act on cue.

A performer is summoned with its place relative to the camera, its facing, its role and the tics until its cue. What it
does then (its attack, its death, its way of walking) is the game's own. Where there is no room, it does not appear. One
that only stands there cannot be hurt, so a stray shot never causes a second event. Performers are defined in DECORATE,
the game's text format for actors: https://zdoom.org/wiki/DECORATE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a performer does on its cue."""

    STAND = 0
    ATTACK = 1
    APPROACH = 2
    DIE = 3


@dataclass(frozen=True)
class Creature:
    """An actor of the game, its four-letter sprite and its walking frames."""

    actor: str
    sprite: str
    walk: str = "ABCD"


SHOOTERS = (  # their attack is a visible projectile
    Creature("DoomImp", "TROO"),
    Creature("Cacodemon", "HEAD", "A"),
    Creature("BaronOfHell", "BOSS"),
    Creature("HellKnight", "BOS2"),
    Creature("Fatso", "FATT"),
    Creature("Revenant", "SKEL", "ABC"),
    Creature("Arachnotron", "BSPI"),
)
BYSTANDERS = (
    Creature("ZombieMan", "POSS"),
    Creature("ShotgunGuy", "SPOS"),
    Creature("ChaingunGuy", "CPOS"),
    Creature("WolfensteinSS", "SSWV"),
    Creature("Demon", "SARG"),
)
BARREL = "ExplosiveBarrel"
FLASH = "TeleportFog"

_NAME_PREFIX = "Performer"
_TICS_PER_STEP = 3
_ROLES = {"attack": int(Role.ATTACK), "approach": int(Role.APPROACH), "die_role": int(Role.DIE)}
_ENTER = """
  Spawn:
    TNT1 A 0
    TNT1 A 0 A_Warp(AAPTR_PLAYER1, args[0], args[1], 0, 0, WARPF_TOFLOOR, "Enter")
    Stop
  Enter:
    TNT1 A 0 A_SetAngle(angle + args[2])
"""
_DIE = """
  Cue:
    {sprite} A 1 A_SetTics(args[4])
    {sprite} A 0 A_Die
    Stop
"""
_CREATURE = """
actor Performer{actor} : {actor} {{
  States {{
  {enter}
    TNT1 A 0 A_TransferPointer(AAPTR_PLAYER1, AAPTR_DEFAULT, AAPTR_DEFAULT, AAPTR_TARGET)
    TNT1 A 0 A_JumpIf(args[3] == {attack}, "Attack")
    TNT1 A 0 A_JumpIf(args[3] == {approach}, "Approach")
    TNT1 A 0 A_JumpIf(args[3] == {die_role}, "Cue")
    TNT1 A 0 A_UnsetShootable
  Stand:
    {sprite} A 10
    {sprite} {second} 10
    Loop
  Attack:
    {sprite} A 1 A_SetTics(args[4])
    {sprite} A 0 A_SetSpeed(0)
    {sprite} A 0 A_JumpIf(true, "Missile")
  Approach:
    {sprite} A 1 A_SetTics(args[4])
    {sprite} A 0 A_SetSpeed(tid)
  Walk:
    {sprite} {steps} {step_tics} A_Chase("", "")
    Loop
  {die}
  }}
}}
"""
_BARREL = """
actor PerformerExplosiveBarrel : ExplosiveBarrel {{
  States {{
  {enter}
    BAR1 A 0 A_JumpIf(args[3] == {die_role}, "Cue")
    BAR1 A 0 A_UnsetShootable
  Stand:
    BAR1 AB 6
    Loop
  {die}
  }}
}}
"""
_FLASH = """
actor PerformerTeleportFog : TeleportFog {{
  States {{
  {enter}
    TNT1 A 1 A_SetTics(args[4])
    TFOG ABABCDEFGHIJ 6 Bright
    Stop
  }}
}}
"""


def summon_performer(
    actor: str,
    *,
    forward: float,
    right: float,
    facing_degrees: float = 180,
    role: Role = Role.STAND,
    cue_tics: int = 0,
    speed: float = 0,
) -> str:
    """Make the console command for a performer on the floor.

    Args:
        actor: The game's name of the actor.
        forward, right: Place relative to the camera, in map units.
        facing_degrees: 0 is away from the camera, 180 towards it.
        role: What it does on its cue.
        cue_tics: Tics until its cue.
        speed: Speed of an approach, in map units a tic.
    """
    numbers = (speed * _TICS_PER_STEP, 0, forward, right, facing_degrees, role, cue_tics)
    return f"summon {_NAME_PREFIX}{actor} 0 " + " ".join(str(round(number)) for number in numbers)


def performer_name(actor: str, *, dead: bool = False) -> str:
    """The name of a performer in the labels buffer."""
    return ("Dead" if dead else "") + _NAME_PREFIX + actor


def performer_actors() -> str:
    """The DECORATE text that defines all performers."""
    creatures = [
        _CREATURE.format(
            actor=creature.actor,
            sprite=creature.sprite,
            second=creature.walk[:2][-1],
            steps="".join(2 * frame for frame in creature.walk),
            enter=_ENTER,
            die=_DIE.format(sprite=creature.sprite),
            step_tics=_TICS_PER_STEP,
            **_ROLES,
        )
        for creature in SHOOTERS + BYSTANDERS
    ]
    barrel = _BARREL.format(enter=_ENTER, die=_DIE.format(sprite="BAR1"), **_ROLES)
    return "".join([*creatures, barrel, _FLASH.format(enter=_ENTER)])
