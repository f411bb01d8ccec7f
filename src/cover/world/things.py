"""The things of the Freedoom world that the image and scene datasets name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThingKind:
    """A kind of thing: the game's name, the size of its picture, and the radius of its body in map units."""

    actor: str
    width: int
    height: int
    radius: int


THINGS = {
    # creatures
    "zombie_man": ThingKind("Zombieman", 41, 57, 20),
    "shotgun_guy": ThingKind("ShotgunGuy", 35, 55, 20),
    "chaingun_guy": ThingKind("ChaingunGuy", 51, 56, 20),
    "officer": ThingKind("WolfensteinSS", 36, 63, 20),
    "imp": ThingKind("DoomImp", 48, 60, 20),
    "demon": ThingKind("Demon", 38, 59, 30),
    "lost_soul": ThingKind("LostSoul", 30, 39, 16),
    "cacodemon": ThingKind("Cacodemon", 63, 66, 31),
    "hell_knight": ThingKind("HellKnight", 49, 69, 24),
    "arachnotron": ThingKind("Arachnotron", 71, 54, 64),
    "pain_elemental": ThingKind("PainElemental", 74, 66, 31),
    "revenant": ThingKind("Revenant", 43, 65, 20),
    "mancubus": ThingKind("Fatso", 63, 64, 48),
    "archvile": ThingKind("Archvile", 40, 73, 20),
    "spider_mastermind": ThingKind("SpiderMastermind", 148, 101, 128),
    "cyberdemon": ThingKind("Cyberdemon", 89, 102, 40),
    # weapons
    "chainsaw": ThingKind("Chainsaw", 47, 19, 20),
    "shotgun": ThingKind("Shotgun", 38, 13, 20),
    "super_shotgun": ThingKind("SuperShotgun", 43, 14, 20),
    "chaingun": ThingKind("Chaingun", 50, 25, 20),
    "rocket_launcher": ThingKind("RocketLauncher", 59, 20, 20),
    "plasma_rifle": ThingKind("PlasmaRifle", 51, 16, 20),
    "bfg9000": ThingKind("BFG9000", 56, 24, 20),
    # items
    "backpack": ThingKind("Backpack", 26, 30, 20),
    "medikit": ThingKind("Medikit", 29, 20, 20),
    "shell_box": ThingKind("ShellBox", 34, 13, 20),
    "rocket_box": ThingKind("RocketBox", 52, 20, 20),
    "cell_pack": ThingKind("CellPack", 32, 20, 20),
    "green_armor": ThingKind("GreenArmor", 37, 28, 20),
    "blue_armor": ThingKind("BlueArmor", 37, 25, 20),
    "soulsphere": ThingKind("Soulsphere", 25, 25, 20),
    "megasphere": ThingKind("Megasphere", 25, 25, 20),
    "invulnerability_sphere": ThingKind("InvulnerabilitySphere", 25, 25, 20),
    "blur_sphere": ThingKind("BlurSphere", 30, 30, 20),
    "berserk_pack": ThingKind("Berserk", 32, 19, 20),
    "radiation_suit": ThingKind("RadSuit", 23, 52, 20),
    "computer_map": ThingKind("Allmap", 30, 26, 20),
    "light_goggles": ThingKind("Infrared", 28, 13, 20),
    "blue_card": ThingKind("BlueCard", 14, 21, 20),
    "red_card": ThingKind("RedCard", 14, 21, 20),
    "yellow_card": ThingKind("YellowCard", 14, 21, 20),
    # furniture
    "barrel": ThingKind("ExplosiveBarrel", 23, 32, 10),
    "burning_barrel": ThingKind("BurningBarrel", 25, 63, 16),
    "tech_lamp": ThingKind("TechLamp", 18, 80, 16),
    "floor_lamp": ThingKind("Column", 18, 48, 16),
    "tech_pillar": ThingKind("TechPillar", 26, 95, 16),
    "green_pillar": ThingKind("TallGreenColumn", 35, 56, 16),
    "short_green_pillar": ThingKind("ShortGreenColumn", 34, 41, 16),
    "red_pillar": ThingKind("TallRedColumn", 39, 55, 16),
    "heart_pillar": ThingKind("HeartColumn", 36, 49, 16),
    "skull_pillar": ThingKind("SkullColumn", 38, 55, 16),
    "evil_eye": ThingKind("EvilEye", 39, 42, 16),
    "skull_rock": ThingKind("FloatingSkull", 33, 39, 16),
    "skull_pole": ThingKind("HeadsOnAStick", 33, 66, 16),
    "skull_candles": ThingKind("HeadCandles", 33, 43, 16),
    "blue_torch": ThingKind("BlueTorch", 24, 94, 16),
    "green_torch": ThingKind("GreenTorch", 20, 95, 16),
    "red_torch": ThingKind("RedTorch", 20, 90, 16),
    "short_blue_torch": ThingKind("ShortBlueTorch", 24, 70, 16),
    "short_green_torch": ThingKind("ShortGreenTorch", 20, 72, 16),
    "short_red_torch": ThingKind("ShortRedTorch", 20, 66, 16),
    "candelabra": ThingKind("Candelabra", 31, 61, 16),
    # nature and remains
    "tree_trunk": ThingKind("TorchTree", 47, 70, 16),
    "bare_tree": ThingKind("BigTree", 97, 120, 32),
    "green_tree": ThingKind("Stalagtite", 62, 69, 16),  # Freedoom draws a tree for this one
    "stalagmite": ThingKind("Stalagmite", 28, 43, 16),
    "dead_imp": ThingKind("DeadDoomImp", 57, 26, 20),
    "dead_demon": ThingKind("DeadDemon", 49, 29, 20),
    "dead_cacodemon": ThingKind("DeadCacodemon", 82, 29, 31),
}

# Small things that stand around in any view; no dataset has them as a class.
DISTRACTORS = (
    ThingKind("HealthBonus", 11, 15, 20),
    ThingKind("ArmorBonus", 13, 19, 20),
    ThingKind("Clip", 7, 12, 20),
    ThingKind("Shell", 14, 10, 20),
    ThingKind("RocketAmmo", 10, 24, 20),
    ThingKind("Cell", 19, 12, 20),
    ThingKind("Stimpack", 19, 10, 20),
    ThingKind("Candlestick", 16, 19, 20),
    ThingKind("BrainStem", 30, 10, 20),
)
