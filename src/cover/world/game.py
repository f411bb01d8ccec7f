"""One headless ViZDoom process as a camera in the Freedoom world."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from cover.errors import CoverError
from cover.world.performers import performer_actors
from cover.world.puppets import puppet_actors

try:
    import vizdoom
    from vizdoom import Button, GameVariable
except ModuleNotFoundError as error:
    raise CoverError('the built-in datasets need ViZDoom: pip install "cover-video[demo]"') from error

FREEDOOM1_WAD, FREEDOOM2_WAD = (Path(vizdoom.__path__[0]) / name for name in ("freedoom1.wad", "freedoom2.wad"))
TICS_PER_SECOND = 35
EYE_HEIGHT = 41  # map units above the floor; a map unit is about 3 cm, and an imp is 56 high
PLAYER_RADIUS = 16

_REACTION_TICS = 9  # a player cannot turn or walk in its first 8 tics
_BUTTONS = (
    Button.TURN_LEFT_RIGHT_DELTA,
    Button.LOOK_UP_DOWN_DELTA,
    Button.MOVE_FORWARD_BACKWARD_DELTA,
    Button.MOVE_LEFT_RIGHT_DELTA,
    Button.ATTACK,
)
_VARIABLES = (
    GameVariable.POSITION_X,
    GameVariable.POSITION_Y,
    GameVariable.POSITION_Z,
    GameVariable.ANGLE,
    GameVariable.PITCH,
    GameVariable.SELECTED_WEAPON_AMMO,
)


@dataclass(frozen=True)
class Thing:
    """One visible thing.

    Attributes:
        left_px, top_px, width_px, height_px: The box of its visible part.
        area_fraction: The share of the view that its visible pixels cover.
        x, y, z: Its position in map units.
    """

    name: str
    left_px: int
    top_px: int
    width_px: int
    height_px: int
    area_fraction: float
    x: float
    y: float
    z: float

    @property
    def center_x_px(self) -> float:
        """The middle of the box."""
        return self.left_px + self.width_px / 2


@dataclass(frozen=True)
class Pose:
    """Position of the camera in map units. The heading is 0 in the east and counter-clockwise; the pitch is upwards."""

    x: float
    y: float
    z: float
    heading_degrees: float
    pitch_degrees: float


class EpisodeOver(Exception):
    """The camera reached the exit of a map."""


class Game:
    """A headless game in its own temporary working directory. Use it as a context manager.

    The player is an invisible, invulnerable camera without HUD, weapon, crosshair or messages. The map's own monsters
    are left out. `width_px` and `height_px` are the size of the picture.

        with Game(320, 240) as game:
            game.start("MAP01", seed=0)
            game.command("summon DoomImp")
            game.advance(2)
            game.frame()   # uint8 [240, 320, 3]
            game.things()  # [Thing(name="DoomImp", ...)]
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self.map_name = ""

    def __enter__(self) -> Game:
        self._directory = tempfile.TemporaryDirectory(prefix="cover-world-")
        self._game = _configured(Path(self._directory.name), self.width_px, self.height_px)
        with _working_directory(self._directory.name):  # the game writes a folder where it starts
            self._game.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._game.close()
        self._directory.cleanup()

    def start(self, map_name: str, seed: int, *, show_weapon: bool = False) -> None:
        """Start a new episode of a map such as "MAP01". The same seed and calls give the same frames."""
        if map_name != self.map_name:  # setting it costs as much as a new episode
            self._game.set_doom_map(map_name)
            self.map_name = map_name
        self._game.set_render_weapon(show_weapon)
        self._game.set_seed(seed % 2**31)
        with _working_directory(self._directory.name):
            self._game.new_episode()
        self.command("god")
        self.command("notarget")
        self.advance(_REACTION_TICS)

    def command(self, text: str) -> None:
        """Queue a console command such as "summon DoomImp 90" or "warp 100 200"; it takes effect with the next tic."""
        self._game.send_game_command(text)

    def advance(
        self,
        tics: int = 1,
        *,
        turn_degrees: float = 0,
        look_degrees: float = 0,
        forward: float = 0,
        right: float = 0,
        attack: bool = False,
    ) -> None:
        """Let game time pass with the same input in each tic; only the last tic is rendered.

        Args:
            tics: Game time; a tic is 1/35 s.
            turn_degrees: To the left, a tic.
            look_degrees: Upwards, a tic.
            forward, right: Thrusts; 50 is a run.
            attack: Fire the weapon.

        Raises:
            EpisodeOver: The camera walked out of the map.
        """
        # The game turns right for positive deltas.
        self._game.set_action([-turn_degrees, look_degrees, forward, right, float(attack)])
        self._game.advance_action(tics, True)
        state = self._game.get_state()
        if state is None:
            raise EpisodeOver(self.map_name)
        self._state = state

    def place(self, x: float, y: float, heading_degrees: float) -> None:
        """Put the camera on the floor at (x, y), rounded to whole units, with a heading. Takes one tic."""
        self.command(f"warp {round(x)} {round(y)}")
        turn = (heading_degrees - self.pose().heading_degrees + 180) % 360 - 180
        self.advance(turn_degrees=turn)

    def frame(self) -> np.ndarray:
        """The picture after the last tic, uint8 [Y, X, 3] RGB."""
        return np.array(self._state.screen_buffer)

    def things(self) -> list[Thing]:
        """Everything visible after the last tic, largest first."""
        labels_buffer, labels = self._state.labels_buffer, self._state.labels
        assert labels_buffer is not None and labels is not None  # they are switched on below
        pixels = np.bincount(labels_buffer.ravel(), minlength=256) / labels_buffer.size
        things = [
            Thing(
                label.object_name,
                label.x,
                label.y,
                label.width,
                label.height,
                float(pixels[label.value]),
                label.object_position_x,
                label.object_position_y,
                label.object_position_z,
            )
            for label in labels
        ]
        return sorted(things, key=lambda thing: -thing.area_fraction)

    def pose(self) -> Pose:
        """The camera's pose after the last tic."""
        x, y, z, heading, pitch, _ = self._variables()
        return Pose(x, y, z, heading, -pitch)  # the game's pitch is positive downwards

    def ammo(self) -> float:
        """Ammunition left for the weapon in hand; -1 if it needs none."""
        return self._variables()[-1]

    def _variables(self) -> list[float]:
        """The values of _VARIABLES."""
        assert self._state.game_variables is not None  # they are switched on below
        return [float(value) for value in self._state.game_variables]


def _configured(directory: Path, width_px: int, height_px: int) -> vizdoom.DoomGame:
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(FREEDOOM2_WAD))
    game.set_doom_config_path(str(directory / "vizdoom.ini"))
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{width_px}X{height_px}"))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_available_buttons(list(_BUTTONS))
    game.set_available_game_variables(list(_VARIABLES))
    game.set_labels_buffer_enabled(True)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_render_hud(False)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    game.set_render_messages(False)
    game.set_render_screen_flashes(False)
    game.set_render_particles(False)  # rockets would leave square white clouds
    game.set_episode_timeout(0)
    _write_addon(directory / "actors.pk3")
    add_ons = f"{FREEDOOM1_WAD} {directory / 'actors.pk3'}"  # the first adds the maps E1M1 to E4M9
    game.add_game_args(f"+sv_cheats 1 -nomonsters +movebob 0 -file {add_ons}")
    return game


def _write_addon(path: Path) -> None:
    """Write the add-on that defines puppets and performers: a .pk3 file, which is a zip with one text."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("DECORATE", puppet_actors() + performer_actors())


@contextmanager
def _working_directory(directory: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
