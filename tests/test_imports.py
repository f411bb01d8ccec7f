"""Who may import whom: the stages of a clip's way, upwards only (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cover

SOURCE = Path(cover.__file__).parent
LEVELS = (
    "errors | core | config | datasets | catalog media | mixture models curation | training | evaluation | "
    "reports inference | runs | serving studies | demo | cli"
)
LEVEL_OF = {stage: level for level, stages in enumerate(LEVELS.split("|")) for stage in stages.split()}
WORLD = "world"
MAY_IMPORT_WORLD = {"demo", "cli"}
WORLD_MAY_IMPORT = {"errors", "core", "datasets", "media"}


def imports() -> Iterator[tuple[str, str, str]]:
    """(file, its stage, the stage it imports) of every import below src/cover, those inside functions included."""
    for file in SOURCE.rglob("*.py"):
        where = file.relative_to(SOURCE)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
                assert not node.level, f"{where} imports relative to itself"
            else:
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for parts in (module.split(".") for module in modules):
                if parts[0] == "cover" and where != Path("__init__.py"):
                    yield str(where), where.parts[0].removesuffix(".py"), parts[1]


def allowed(stage: str, imported: str) -> bool:
    if imported in (stage, "__version__"):
        return True
    if WORLD in (stage, imported):
        return imported in WORLD_MAY_IMPORT if stage == WORLD else stage in MAY_IMPORT_WORLD
    return LEVEL_OF.get(imported, len(LEVEL_OF)) < LEVEL_OF.get(stage, -1)


def test_imports_point_upwards_only() -> None:
    found = list(imports())
    assert {stage for _, stage, _ in found} >= LEVEL_OF.keys() - {"errors"}
    assert not [f"{file} imports {imported}" for file, stage, imported in found if not allowed(stage, imported)]


ROOT = {"__init__", "demo", "errors"}


def test_the_root_of_the_package_has_no_loose_modules() -> None:
    assert {file.stem for file in SOURCE.glob("*.py")} == ROOT


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for types alone included."""
    imported = {file: set(modules_of(file)) for file in SOURCE.rglob("*.py") if file != SOURCE / "__init__.py"}
    circles = set(imported)
    while leaves := {file for file in circles if not imported[file] & circles}:
        circles -= leaves
    while unused := {file for file in circles if not any(file in imported[other] for other in circles)}:
        circles -= unused
    assert not circles, sorted(file.relative_to(SOURCE).as_posix() for file in circles)


def modules_of(file: Path) -> Iterator[Path]:
    """The files of cover that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cover"):
            for alias in node.names:
                places = (
                    SOURCE.parent / name.replace(".", "/") for name in (f"{node.module}.{alias.name}", node.module)
                )
                yield from [place.with_suffix(".py") for place in places if place.with_suffix(".py").exists()][:1]


DATASETS = "; ".join(
    f"import cover.{'.'.join(file.relative_to(SOURCE).with_suffix('').parts)}"
    for file in (SOURCE / "datasets").rglob("[!_]*.py")
)
HELP = "import cover.cli; cover.cli.app(['--help'], standalone_mode=False)"
PREDICT = "import cover.cli, cover.inference.prediction, cover.runs.trained"
TRAINING_AND_REPORTS = {"accelerate", "jinja2", "matplotlib", "tensorboard", "transformers"}


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (HELP, {"torch", "pydantic", "av", "pyarrow"}),
        (DATASETS, {"torch", "av"}),
        ("import cover", {"torch"}),
        ("import cover.curation.check, cover.curation.pack, cover.curation.leaks", {"torch"}),
        (PREDICT, TRAINING_AND_REPORTS),
    ],
    ids=["help", "datasets", "package", "curation", "predict"],
)
def test_light_parts_load_nothing_heavy(program: str, absent: set[str]) -> None:
    code = f"import sys; {program}; print('loaded:', *sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cover" in (loaded := printed.rpartition("loaded:")[2].split())
    assert not absent & set(loaded)
