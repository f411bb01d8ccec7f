"""`freedoom_events`: what happens in front of a standing camera.

All classes have the same extras: creatures and barrels that only stand there, and a weapon in hand in half of the
clips. So a creature, a barrel or a weapon in view does not reveal the class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from cover.world.game import Game, Thing
from cover.world.performers import BARREL, BYSTANDERS, FLASH, SHOOTERS, Role, performer_name, summon_performer
from cover.world.puppets import SHOTS, is_puppet
from cover.world.staging import relight, stand_in_the_open
from cover.world.tracks import VIEW_WIDTH, Track, film, follow
from cover.world.world_dataset import ClipFormat, WorldDataset

_FREE_DISTANCE = 240  # map units
_RAISE_TICS = 40  # until a weapon is in hand
_ENTER_TICS = 2
_MAX_EXTRAS = 2
_MAX_TURN_DEGREES = 0.1  # a tic
_MIN_AREA = 0.008  # of the view: what must be seen of a performer
_MIN_GROWTH = 1.8  # of the area of an approaching creature
_WEAPON_LABEL = "DoomPlayer"
_T = TypeVar("_T")
_PROJECTILES = {"DoomImpBall", "CacodemonBall", "BaronBall", "FatShot", "RevenantTracer", "ArachnotronPlasma"}


@dataclass(frozen=True)
class Take:
    """What was seen in each frame of a filmed clip, and the ammunition that the weapon in hand used."""

    seen: list[list[Thing]]
    ammo_used: float

    def area(self, name: str, index: int) -> float:
        """The area of the largest thing of that name in frame `index`, as a share of the view."""
        return max((thing.area_fraction for thing in self.seen[index] if thing.name == name), default=0.0)

    def largest_area(self, *names: str) -> float:
        """The largest area of things of these names in any frame, as a share of the view."""
        return max(self.area(name, index) for name in names for index in range(len(self.seen)))


@dataclass(frozen=True)
class Event:
    """A planned event: the commands, puppets or trigger that cause it, and a check whether it was seen."""

    happened: Callable[[Take], bool]
    commands: tuple[str, ...] = ()
    tracks: tuple[Track, ...] = ()
    weapon: str | None = None
    attack_from: int | None = None


Plan = Callable[[np.random.Generator, ClipFormat], Event]


def _creature_dies(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    actor = _choose(rng, SHOOTERS).actor
    alive, dead = performer_name(actor), performer_name(actor, dead=True)

    def happened(take: Take) -> bool:
        return take.area(alive, 0) > _MIN_AREA and take.area(dead, -1) > _MIN_AREA / 4

    return Event(happened, (_perform(rng, actor, (90, 180), Role.DIE, _cue_tics(rng, clip_format)),))


def _creature_attacks(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    actor = _choose(rng, SHOOTERS).actor

    def happened(take: Take) -> bool:
        return take.area(performer_name(actor), 0) > _MIN_AREA and take.largest_area(*_PROJECTILES) > _MIN_AREA

    return Event(happened, (_perform(rng, actor, (110, 200), Role.ATTACK, _cue_tics(rng, clip_format)),))


def _creature_approaches(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    actor = _choose(rng, SHOOTERS).actor

    def happened(take: Take) -> bool:
        boxes = [
            [thing.width_px * thing.height_px for thing in things if thing.name == performer_name(actor)]
            for things in (take.seen[0], take.seen[-1])
        ]
        return all(boxes) and max(boxes[1]) > _MIN_GROWTH * max(boxes[0])

    speed = rng.uniform(90, 140) / clip_format.num_tics
    return Event(happened, (_perform(rng, actor, (190, 240), Role.APPROACH, speed=speed),))


def _barrel_explodes(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    whole, burst = performer_name(BARREL), performer_name(BARREL, dead=True)

    def happened(take: Take) -> bool:
        return take.area(whole, 0) > _MIN_AREA / 2 and take.largest_area(burst) > _MIN_AREA

    return Event(happened, (_perform(rng, BARREL, (80, 140), Role.DIE, _cue_tics(rng, clip_format)),))


def _teleport_flash(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    name = performer_name(FLASH)

    def happened(take: Take) -> bool:
        return take.area(name, 0) == 0 and take.largest_area(name) > _MIN_AREA

    return Event(happened, (_perform(rng, FLASH, (70, 150), Role.STAND, _cue_tics(rng, clip_format)),))


def _projectile_flies(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    """A projectile flies across the view, towards the camera or away from it."""
    sprite = _choose(rng, SHOTS)
    first = round(clip_format.num_frames * rng.uniform(0.1, 0.3))
    last = first + round(clip_format.num_frames * rng.uniform(0.35, 0.6))
    progress = (np.arange(clip_format.num_frames) - first) / (last - first)
    shown = (progress >= 0) & (progress <= 1)
    way = (_sideways if rng.random() < 0.5 else _to_or_fro)(rng, progress.clip(0, 1))
    track = Track(sprite, shown=shown, **way)

    def happened(take: Take) -> bool:
        areas = [sum(t.area_fraction for t in take.seen[i] if is_puppet(t.name, sprite)) for i in shown.nonzero()[0]]
        return float(np.median(areas)) > _MIN_AREA / 2

    return Event(happened, tracks=(track,))


def _sideways(rng: np.random.Generator, progress: np.ndarray) -> dict[str, Any]:
    side = rng.choice([-1, 1])
    return {
        "across": side * (0.9 * progress - 0.45),
        "up": rng.uniform(-0.15, 0.2) + rng.uniform(-0.1, 0.1) * progress,
        "size": np.full_like(progress, rng.uniform(0.15, 0.28)),
        "distance": np.full_like(progress, rng.uniform(60, 100)),
        "facing_degrees": -90 * side,
    }


def _to_or_fro(rng: np.random.Generator, progress: np.ndarray) -> dict[str, Any]:
    is_leaving = rng.random() < 0.5
    distance = 60 + 120 * (progress if is_leaving else 1 - progress)
    closeness = 60 / distance
    return {
        "across": rng.uniform(-0.3, 0.3) * closeness,
        "up": rng.uniform(-0.2, 0.2) * closeness,
        "size": rng.uniform(0.35, 0.5) * closeness,
        "distance": distance,
        "facing_degrees": 0 if is_leaving else 180,
    }


def _weapon_fires(weapon: str, rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    attack_from = max(2, round(clip_format.num_frames * rng.uniform(0.08, 0.3)))

    def happened(take: Take) -> bool:
        boxes = [{_box(thing) for thing in things if thing.name == _WEAPON_LABEL} for things in take.seen]
        at_rest, firing = set().union(*boxes[:attack_from]), set().union(*boxes[attack_from:])
        return bool(at_rest) and bool(firing - at_rest) and (take.ammo_used > 0 or weapon in ("Fist", "Chainsaw"))

    return Event(happened, weapon=weapon, attack_from=attack_from)


def _nothing_happens(rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    return Event(lambda take: True)


_PLANS: dict[str, Plan] = {
    "nothing_happens": _nothing_happens,
    "creature_dies": _creature_dies,
    "creature_attacks": _creature_attacks,
    "creature_approaches": _creature_approaches,
    "barrel_explodes": _barrel_explodes,
    "projectile_flies": _projectile_flies,
    "teleport_flash": _teleport_flash,
    "fist_punches": partial(_weapon_fires, "Fist"),
    "chainsaw_saws": partial(_weapon_fires, "Chainsaw"),
    "pistol_fires": partial(_weapon_fires, "Pistol"),
    "shotgun_fires": partial(_weapon_fires, "Shotgun"),
    "super_shotgun_fires": partial(_weapon_fires, "SuperShotgun"),
    "chaingun_fires": partial(_weapon_fires, "Chaingun"),
    "rocket_launcher_fires": partial(_weapon_fires, "RocketLauncher"),
    "plasma_rifle_fires": partial(_weapon_fires, "PlasmaRifle"),
    "bfg_fires": partial(_weapon_fires, "BFG9000"),
}
_WEAPONS = tuple(plan.args[0] for plan in _PLANS.values() if isinstance(plan, partial))


def plan_event(class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> Event:
    """Plan a random event of a class."""
    return _PLANS[class_name](rng, clip_format)


def draw_event(game: Game, class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    """Draw a clip of a class, in its own episode.

    Returns:
        uint8 frames [T, Y, X, 3], or None if the event was not seen.
    """
    event = plan_event(class_name, rng, clip_format)
    weapon = event.weapon or rng.choice([None, *_WEAPONS], p=[0.5] + [0.5 / len(_WEAPONS)] * len(_WEAPONS))
    game.start(game.map_name, int(rng.integers(2**31)), show_weapon=weapon is not None)
    stand_in_the_open(game, rng, _FREE_DISTANCE)
    if weapon:
        _take_in_hand(game, weapon)
    for command in (*event.commands, *_extras(rng, with_creature=not event.commands)):
        game.command(command)
    game.advance(_ENTER_TICS)
    ammo = game.ammo()
    turn_degrees = rng.choice([0, rng.uniform(-_MAX_TURN_DEGREES, _MAX_TURN_DEGREES)])
    frames, seen = film(game, event.tracks, clip_format, turn_degrees=turn_degrees, attack_from=event.attack_from)
    as_planned = all(follow(track, seen, game) for track in event.tracks)
    return relight(frames, rng) if as_planned and event.happened(Take(seen, ammo - game.ammo())) else None


def _take_in_hand(game: Game, weapon: str) -> None:
    game.command("give weapons")
    game.command("give ammo")
    game.advance()
    game.command(f"use {weapon}")
    game.advance(_RAISE_TICS)


def _extras(rng: np.random.Generator, with_creature: bool) -> list[str]:
    """Performers that only stand there. A clip whose event has no creature gets one like those of other classes."""
    extras = [_perform(rng, _choose(rng, SHOOTERS).actor, (90, 230))] if with_creature and rng.random() < 0.7 else []
    others = [*(creature.actor for creature in SHOOTERS + BYSTANDERS), BARREL, BARREL, BARREL, BARREL]
    for _ in range(rng.integers(_MAX_EXTRAS + 1)):
        side = rng.choice([-1, 1])
        extras.append(_perform(rng, _choose(rng, others), (110, 230), across=side * rng.uniform(0.22, 0.42)))
    return extras


def _perform(
    rng: np.random.Generator,
    actor: str,
    distances: tuple[float, float],
    role: Role = Role.STAND,
    cue_tics: int = 1,
    speed: float = 0,
    across: float | None = None,
) -> str:
    """The command for a performer at a random distance, `across` from the view's centre, as a share of the view."""
    distance = rng.uniform(*distances)
    across = rng.uniform(-0.18, 0.18) if across is None else across
    return summon_performer(
        actor,
        forward=distance,
        right=across * VIEW_WIDTH * distance,
        facing_degrees=180 + rng.uniform(-60, 60),
        role=role,
        cue_tics=cue_tics,
        speed=speed,
    )


def _cue_tics(rng: np.random.Generator, clip_format: ClipFormat) -> int:
    """The time at which an event begins: in the first third of the clip, so that all of it is seen."""
    return _ENTER_TICS + round(clip_format.num_tics * rng.uniform(0.1, 0.35))


def _choose(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _box(thing: Thing) -> tuple[int, int, int, int]:
    return thing.left_px, thing.top_px, thing.width_px, thing.height_px


EVENTS = WorldDataset(
    name="freedoom_events",
    kind="video",
    classes=tuple(_PLANS),
    quick_classes=(
        "nothing_happens",
        "creature_dies",
        "creature_attacks",
        "barrel_explodes",
        "teleport_flash",
        "plasma_rifle_fires",
    ),
    draw=draw_event,
)
