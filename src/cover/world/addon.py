"""The add-on file with which the game knows our actors."""

from __future__ import annotations

import zipfile
from pathlib import Path

from cover.world.performers import performer_actors
from cover.world.puppets import puppet_actors


def write_addon(path: Path) -> None:
    """Write a .pk3 file (a zip with one text) that defines all puppets and performers, for the game's `-file`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("DECORATE", puppet_actors() + performer_actors())
