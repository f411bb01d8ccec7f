"""The documentation is short, generated where it can be, and uses names that exist. `make docs` checks its links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

import cover
from cover.cli.app import app
from cover.config.data_sections import dataset_class
from cover.config.families import BUILT_IN, DEFAULT, ModelSection, find_family
from cover.config.recipe_files import recipe_class

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in FILES}
RECIPE = recipe_class(find_family(DEFAULT).section)
MAX_WORDS = 22_000
"""As `wc -w` counts the README and all pages with their code and tables, except what is generated: the reference by the
mkdocs hook, and the tables of docs/study.md by `cover study`."""


def sections() -> dict[str, Any]:
    """{section of a recipe: its keys}."""
    fields = RECIPE.model_fields.items()
    below = {name: type(field.default).model_fields for name, field in fields if isinstance(field.default, BaseModel)}
    return below | {"datasets": dataset_class().model_fields}


def commands() -> dict[str, set[str]]:
    """{command: its options}, such as {"index csv": {"--kind", …}}."""
    found: dict[str, set[str]] = {}

    def visit(command: Any, name: str) -> None:
        if name:
            parameters = command.params
            found[name] = {"--help", *(option for each in parameters for option in each.opts + each.secondary_opts)}
        for child, below in getattr(command, "commands", {}).items():
            visit(below, f"{name} {child}".strip())

    visit(typer.main.get_command(app), "")
    return found


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """The mkdocs hook that fills in the reference pages."""
    spec = spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_pages_together_are_short() -> None:
    written = [re.sub(r"<!-- study .*?<!-- end -->", "", text, flags=re.DOTALL) for text in PAGES.values()]
    assert sum(len(text.split()) for text in written) <= MAX_WORDS


def test_every_recipe_key_is_generated_with_its_default_values_and_meaning(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown("<!-- generated: recipe_keys -->")
    for name, keys in sections().items():
        if name == "model":
            continue
        (table,) = re.findall(rf"^## `\[{name}(?:\.NAME)?\]`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE) == list(keys)
    assert set(re.findall(r"`(\w+)` \|", page)) >= RECIPE.model_fields.keys() - sections().keys()
    assert '| `schedule` | `"step"` | `"step"`, `"cosine"` |' in page
    assert "| `drop_path_rate` | `0.1` | number&nbsp;≥&nbsp;0, ≤&nbsp;1 |" in page
    assert "| `train` | required | path |" in page


def test_the_model_keys_of_every_family_are_generated_the_shared_ones_once(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown("<!-- generated: recipe_keys -->")
    (section,) = re.findall(r"^## `\[model\]`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    shared, *own = re.split(r"^### `\[model\]` with ", section, flags=re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|", shared, re.MULTILINE)
    assert rows == [key for key in ModelSection.model_fields if key != "variant"]
    tables = {table.split('"')[1]: table for table in own}
    assert list(tables) == list(BUILT_IN)
    for name, table in tables.items():
        keys = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)
        fields = find_family(name).section.model_fields
        assert "variant" in keys and {*keys, *rows} == fields.keys()
    assert "| `num_frames` | `8` |" in shared and "| `num_frames` | `16` |" in tables["videomae"]
    assert "num_frames" not in tables["timesformer"]
    assert "| `kv_stride` | `8` | integer&nbsp;>&nbsp;0 | By how much keys and values" in tables["mvit"]
    assert "| `window` | `[8, 7, 7]` | list |" in tables["video_swin"]


def test_every_command_is_generated(hooks: ModuleType) -> None:
    page = hooks.on_page_markdown("<!-- generated: commands -->")
    assert set(re.findall(r"^#+ `cover (.+)`$", page, re.MULTILINE)) == commands().keys()


def test_every_recipe_of_the_paper_is_generated(hooks: ModuleType) -> None:
    rows = hooks.on_page_markdown("<!-- generated: paper_recipes -->").splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == sorted(path.stem for path in hooks.PAPER.glob("*.toml"))
    assert all(len(cell) > 10 for row in rows for cell in row.split(" | ")[1:])


def test_the_api_page_has_every_public_name() -> None:
    names = re.findall(r"^::: cover\.(\w+)$", PAGES["docs/api.md"], re.MULTILINE)
    assert sorted(names) == sorted(set(cover.__all__) - {"__version__"})
    assert set(dir(cover)) == set(cover.__all__)  # what "cover.<TAB>" offers


@pytest.mark.parametrize("name", sorted(set(cover.__all__) - {"__version__"}))
def test_public_docstrings_describe_every_argument(name: str) -> None:
    public = getattr(cover, name)
    docstring = inspect.getdoc(public) or ""
    assert docstring.partition("\n")[0].endswith((".", ":"))
    if inspect.isfunction(public):
        assert "\nArgs:\n" in docstring
        for argument in inspect.signature(public).parameters:
            assert re.search(rf"^    \*{{0,2}}{argument}: ", docstring, re.MULTILINE), argument


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """(page, arguments) of each `cover` command in a block of code or between backticks."""
    for page, text in PAGES.items():
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines() + re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            if found := re.match(r"(?:\s*\$ |\s*exec |.*-m )?cover(?:\.cli)? ([a-z].*)", line):
                yield page, found[1].partition(" # ")[0].split()


def test_commands_and_options_that_pages_show_exist() -> None:
    options = commands()
    shown = list(shown_commands())
    assert len(shown) > 50
    for page, arguments in shown:
        layout = " ".join(arguments[:2])
        name = layout if layout in options else arguments[0]
        assert name in options, f"{page}: {arguments}"
        used = {argument.rstrip("'") for argument in arguments if argument.startswith("--")}
        assert used <= options[name], f"{page}: {arguments}"


def test_recipe_keys_that_pages_name_exist() -> None:
    keys = sections()
    pattern = rf"`({'|'.join(keys)})(?:(?<=datasets)\.\w+)?\.(?!json|onnx|pt2|safetensors)([a-z_]+)"
    named = [(page, *name) for page, text in PAGES.items() for name in re.findall(pattern, text)]
    assert len(named) > 20
    assert not [(page, section, key) for page, section, key in named if key not in keys[section]]


def test_python_files_that_pages_name_exist() -> None:
    folders = (ROOT / name for name in ("src/cover", "tests", "benchmarks", "examples"))
    files = [f"/{path.relative_to(ROOT)}" for folder in folders for path in folder.rglob("*.py")]
    named = {(page, name) for page, text in PAGES.items() for name in re.findall(r"[\w/]+\.py\b", text)}
    assert len(named) > 20
    assert not [(page, name) for page, name in named if not any(file.endswith(f"/{name}") for file in files)]


def test_pages_that_programs_recipes_and_the_readme_name_exist() -> None:
    folders = (ROOT / name for name in ("src", "tests", "benchmarks", "studies"))
    files = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", *(path for folder in folders for path in folder.rglob("*"))]
    texts = {path: path.read_text() for path in files if path.suffix in {".py", ".toml", ".md", ".html"}}
    named = [(path.name, name) for path, text in texts.items() for name in re.findall(r"\bdocs/[\w/-]+\.\w+", text)]
    linked = [("README.md", link) for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES["README.md"])]
    assert len(named) > 20 and len(linked) > 5
    assert not [(where, name) for where, name in named + linked if not (ROOT / name).exists()]
