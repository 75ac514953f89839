"""Writes the import rules of the new layout into ROOT's tests/test_house.py: `python house_rules.py ROOT`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

RULES = '''
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
    "harness.generative": LOWER,
    "harness.store": LOWER,
    "eager": LOWER | {"harness.generative"},
    "baselines": LOWER | {"harness.generative"},
    "harness.reports": LOWER | {"harness.evaluation", "harness.store"},
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
'''

TESTS = '''
def test_rooms_import_only_what_they_may() -> None:
    known = {name for name in MAY_IMPORT if name.startswith("harness.")} | {"harness.cli"}
    wrong = []
    for path in modules(*CODE):
        home = room(dotted(path))
        allowed = known if home in TOP else MAY_IMPORT.get(home, set()) | {home}
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
    known = {dotted(path): path for path in modules(*CODE)}
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        names = imports(path) if module != "harness" else ()
        targets = {name if name in known else name.rpartition(".")[0] for name in names}
        graph[module] = (targets & set(known)) - {module, "harness"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
'''


def main() -> None:
    path = Path(sys.argv[1]) / "tests/test_house.py"
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    first = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "BASE")
    top = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "TOP")
    homes = next(n for n in tree.body if isinstance(n, ast.AnnAssign) and n.target.id == "HOMES")
    tests = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    begin = tests["test_rooms_import_only_what_they_may"]
    end = tests["test_each_room_has_rules"]
    begin_line = min([begin.lineno, *(d.lineno for d in begin.decorator_list)]) - 1
    edits = [
        (begin_line, end.end_lineno, TESTS.lstrip("\n")),
        (first.lineno - 1, top.end_lineno + text.splitlines()[top.end_lineno].startswith("}"), RULES.lstrip("\n")),
    ]
    between = "".join(lines[homes.lineno - 1 : homes.end_lineno])
    for library in ("optuna", "distributed"):
        between = between.replace(f'"{library}": {{"harness.runs"}}', f'"{library}": {{"harness.experiments"}}')
    edits.append((homes.lineno - 1, homes.end_lineno, between))
    for a, b, new in sorted(edits, reverse=True):
        lines[a:b] = [new]
    text = "".join(lines).replace("import ast\nimport re", "import ast\nimport graphlib\nimport re", 1)
    path.write_text(text, "utf-8")
    readme(Path(sys.argv[1]) / "README.md")


ROWS = {
    "harness/core/": "files, locks, hashes, seeds, the environment, the artifact cache: what every room uses",
    "harness/runs/": "one run: read `harness/runs/run.py` first; configuration, record, several processes, trackers",
    "harness/experiments/": "many runs: grids, ablations, tuning, and where they are executed",
}


def readme(path: Path) -> None:
    """Rows of the map for rooms that it lacks."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    for room, purpose in ROWS.items():
        number = next((n for n, line in enumerate(lines) if line.startswith(f"| `{room}`")), None)
        row = f"| `{room}` | {purpose} |\n"
        if number is not None:
            lines[number] = row
        else:
            before = "harness/data/" if room == "harness/core/" else "harness/bench/"
            where = next(n for n, line in enumerate(lines) if line.startswith(f"| `{before}`"))
            lines.insert(where, row)
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
