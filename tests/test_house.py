"""Keeps the house rules true: who may import whom, where heavy libraries live, sizes, docstrings, the map in
CONTRIBUTING.md, the README's links, and no trace of anybody's machine in what is committed."""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("harness", "baselines", "eager")
BASE = {"harness.errors", "harness.core"}
LOWER = BASE | {"harness.data", "harness.protocol"}

# Room → the rooms it may import, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "harness.errors": set(),
    "harness.core": {"harness.errors"},
    "harness.data": BASE,
    "harness.protocol": BASE | {"harness.data"},
    "harness.registry": LOWER,
    "harness.evaluation": LOWER,
    "harness.generative": LOWER | {"harness.registry"},  # the table of tokenizers
    "harness.store": LOWER,
    "eager": LOWER | {"harness.generative"},
    "baselines": LOWER | {"harness.generative"},
    "harness.reports": LOWER | {"harness.evaluation", "harness.store"},
    "harness.testing": LOWER | {"harness.evaluation"},
    "harness.bench": LOWER | {"harness.evaluation", "harness.generative", "harness.registry"},
    "harness.runs": LOWER | {"harness.evaluation", "harness.registry", "harness.store"},
    "harness.experiments": LOWER | {"harness.evaluation", "harness.registry", "harness.runs", "harness.store"},
}
TOP = {
    "harness",
    "harness.__main__",
    "harness.cli",
}  # the Python door and the command line may import all of the harness, but no model

# Inside harness/generative each layer may import itself and those above it in this list; what is not named is the last.
LAYERS = (
    {"code_styles", "item_codes", "scoring", "trie"},
    {"models"},
    {"config", "profiles", "task_config"},
    {"tasks"},
    {"training"},
    {"tokenizers"},
    {"decoding"},
)

# Heavy library → the rooms that may import it.
HOMES: dict[str, set[str]] = {
    "ranx": {"harness.evaluation", "harness.bench"},  # the bench has the usual way beside ours
    "typer": {"harness.cli"},
    "optuna": {"harness.experiments"},
    "distributed": {"harness.experiments"},
    "recbole": {"baselines.recbole"},
    "rectools": {"baselines.rectools"},
    "transformers": {"harness.generative", "eager", "baselines", "harness.bench"},
    "peft": {"harness.generative", "eager", "baselines"},
}
LONGEST, MEDIAN = 400, 150


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room that a module belongs to: `harness.data.loading` → `harness.data`, `eager.trees` → `eager`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "harness" else parts[0]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module named by an import, inside functions too, and by `import_module("…")`."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def test_rooms_import_only_what_they_may() -> None:
    expected = {name for name in MAY_IMPORT if name.startswith("harness.")} | {"harness.cli"}
    wrong = []
    for path in modules(*CODE):
        home = room(dotted(path))
        allowed = expected if home in TOP else MAY_IMPORT.get(home, set()) | {home}
        for name in imports(path):
            if name.split(".")[0] not in CODE or name in ("harness", "harness.__version__"):
                continue
            if room(name) not in allowed or (room(name) == "harness.cli" and home not in TOP - {"harness"}):
                wrong.append(f"{dotted(path)} imports {name}")
    assert not wrong


def test_each_room_has_rules() -> None:
    assert {room(dotted(path)) for path in modules(*CODE)} <= set(MAY_IMPORT) | TOP


def layer(module: str) -> int:
    """The layer of a module of harness/generative."""
    part = module.split(".")[2]
    return next((number for number, names in enumerate(LAYERS) if part in names), len(LAYERS))


def test_generative_imports_go_down() -> None:
    prefix = "harness.generative."
    wrong = []
    for path in modules("harness/generative"):
        home = dotted(path)
        for name in imports(path) if home.startswith(prefix) else ():
            if name.startswith(prefix) and layer(name) > layer(home):
                wrong.append(f"{home} imports {name}")
    assert not wrong


def test_no_import_circles() -> None:
    """Imports inside functions and for type checking count too, but not those of `harness` itself, the Python door."""
    expected = {dotted(path): path for path in modules(*CODE)}
    graph: dict[str, set[str]] = {}
    for module, path in expected.items():
        names = imports(path) if module != "harness" else ()
        targets = {name if name in expected else name.rpartition(".")[0] for name in names}
        graph[module] = (targets & set(expected)) - {module, "harness"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_heavy_libraries_stay_at_home() -> None:
    users: dict[str, set[str]] = {library: set() for library in HOMES}
    for path in modules(*CODE):
        for library in {name.split(".")[0] for name in imports(path)} & set(HOMES):
            users[library].add(dotted(path))
    for library, names in users.items():
        removed = {name for name in names if not any(f"{name}.".startswith(f"{home}.") for home in HOMES[library])}
        assert not removed, library
        assert names, f"nobody uses {library}: take its row out"


def test_the_command_line_loads_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "recbole", "rectools", "ranx", "peft"]
    code = f"import sys, harness.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sizes() -> None:
    lines = {dotted(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(*CODE, "tests")}
    assert not {name: count for name, count in lines.items() if count > LONGEST}
    assert statistics.median(lines.values()) < MEDIAN


def test_each_module_has_a_docstring() -> None:
    layout = {tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE}
    for path in modules(*CODE, "tests"):
        with path.open("rb") as file:
            first = next(token for token in tokenize.tokenize(file.readline) if token.type not in layout)
        assert first.type in (tokenize.STRING, tokenize.ENDMARKER), f"{dotted(path)} has no docstring"


def test_the_readme_is_short_and_links_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 700
    links = set(re.findall(r"\]\(([^)#:]+)\)", text))
    assert not {link for link in links if not (ROOT / link).exists()}, "links to files that do not exist"
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= links


def test_the_map_of_the_house() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Map of the house\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    named = {result.group(1) for row in rows if (result := re.search(r"`([^`]+)`", row))}
    packages = {path.parent.name for path in (ROOT / "harness").glob("*/__init__.py")}
    rooms = {f"harness/{name}/" for name in packages} | {"eager/", "baselines/", "tests/"}
    assert rooms <= named, "rooms that the map lacks"
    assert not {name for name in named if not (ROOT / name).exists()}, "rows of the map that do not exist"


def test_no_machine_and_no_registry_in_what_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    path = r"(?<![\w.~])/(?:root|work|(?:home|Users)/\w[\w.-]*)/"
    host = "|".join(("pypi[.]org", "python" + "hosted", "index-" + "url", "find-" + "links"))
    pattern = re.compile(f"{path}|{host}".encode())
    for name in filter(None, listed.stdout.split("\0")):
        file = ROOT / name
        if file.is_file() and file != Path(__file__):
            result = pattern.search(file.read_bytes())
            assert result is None, f"{name} holds {result.group().decode()!r}"
