"""Moves the house: `python moves.py ROOT [moves|parts|folds|all]` (default all). See README.md beside this file.

Run it on a clean checkout, with the interpreter of its .venv; nothing is committed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import engine
import tables
from engine import Plan, dotted, module_names, rewrite, sources, take_apart, top_names

LIMIT = 300
TEXT = {".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".json", ".cff"}
HISTORY = ("CHANGELOG.md", "docs/log.md", "results/")  # say what was true at their time


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout


def ruff(root: Path, *files: str, unused: bool = False) -> None:
    binary = root / ".venv/bin/ruff"
    select = "I,F401" if unused else "I"
    known = [f for f in files if (root / f).exists()]
    if not known:
        return
    subprocess.run([binary, "check", "-q", "--fix", "--select", select, *known], cwd=root, capture_output=True)
    subprocess.run([binary, "format", "-q", *known], cwd=root, check=False)


def new_path(old: str, root: Path) -> str:
    if old in tables.MOVES:
        return tables.MOVES[old]
    for folder, target in tables.DEFAULTS:
        if old.startswith(folder):
            rest = old[len(folder) :]
            if folder.endswith("jobs/") and any(word in rest for word in tables.EXPERIMENT_WORDS):
                target = target.replace("runs/", "experiments/")
            return target + rest
    path = Path(old)
    if path.parent.as_posix() == "harness" and path.suffix == ".py" and path.stem not in tables.ROOT_FILES:
        return f"harness/core/{path.name}"
    if path.parent.as_posix() in ("harness/generative", "tests/generative") and path.suffix == ".py":
        stem = path.stem.removeprefix("test_")
        stays = stem in tables.GENERATIVE_ROOT or path.parent.as_posix() == "tests/generative" and "test_" not in old
        if not stays and f"{path.parent}/{stem}.py" not in tables.MOVES.values():
            room = next(room for words, room in tables.GENERATIVE_WORDS if any(word in stem for word in words))
            return f"{path.parent}/{room}/{path.name}"
    return old


def reexports(root: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Names imported from a module that has imported them itself → where they are defined."""
    known = module_names(root)
    tops = {m: top_names(engine.ast.parse((root / p).read_text("utf-8"))) for m, p in known.items()}
    found = {}
    for module, names in tops.items():
        for name, kind in names.items():
            match = re.fullmatch(r"import ([\w.]+):(\w+)", kind)
            if match and match[1] in known and f"{match[1]}.{match[2]}" not in known:
                found[module, name] = (match[1], match[2])
    return found


def moves(root: Path) -> None:
    # untracked, too
    files = git(root, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    files = [f for f in dict.fromkeys(files) if (root / f).exists()]
    if (root / "baselines/classic").is_dir():  # became a folder in the meantime
        tables.MOVES["baselines/sanity.py"] = "baselines/classic/simple.py"
        tables.MOVES["baselines/ranking.py"] = "baselines/classic/ranking.py"
        for name in [f for f in files if f.startswith("baselines/spaces/")]:
            tables.MOVES[name] = name.replace("baselines/spaces/", "baselines/classic/spaces/")
        tables.FOLDS.remove(("baselines/ranking.py", "baselines/classic.py"))
    where = {f: new_path(f, root) for f in files}
    clashes = [n for n in set(where.values()) if list(where.values()).count(n) > 1]
    for new in clashes:
        for old in [o for o, n in where.items() if n == new]:
            if old.endswith("__init__.py") and old != new:
                where[old] = ""  # one __init__ is enough
        olds = [o for o, n in where.items() if n == new and n]
        for old in olds if len(olds) > 1 else []:
            if old in tables.MOVES:  # a new file has the name that this one should get
                where[old] = str(Path(new).with_name(Path(old).name))
                print(f"  {new} is taken: {old} goes to {where[old]}")
    clashes = [n for n in set(where.values()) - {""} if list(where.values()).count(n) > 1]
    assert not clashes, clashes
    missing = [old for old in tables.MOVES if old not in where]
    print("in the table, not in the tree:", *missing)
    known = module_names(root)
    modules = {}
    for old, new in where.items():
        if old.endswith(".py") and old.split("/")[0] in engine.ROOTS and new and old != new:
            modules[dotted(Path(old))] = dotted(Path(new))
    tops = {m: top_names(engine.ast.parse((root / p).read_text("utf-8"))) for m, p in known.items()}
    plan = Plan(set(known), modules, tops=tops)
    plan.reexports = reexports(root)
    texts = {}
    for path in sources(root):
        old = path.relative_to(root).as_posix()
        new = where[old]
        if new == "":
            continue
        text = rewrite(path.read_text("utf-8"), plan, dotted(Path(new)), old)
        depth = new.count("/") - old.count("/")
        if depth:
            text = re.sub(
                r"(__file__\)(?:\.resolve\(\))?\.parents\[)(\d+)\]", lambda m: f"{m[1]}{int(m[2]) + depth}]", text
            )
        texts[new] = text
    paths = {old: new for old, new in where.items() if new and old != new}
    # two rounds, so that a new name may be another file's old one
    for old, new in where.items():
        if new == "":
            git(root, "rm", "-q", "--cached", "--ignore-unmatch", old)
            (root / old).unlink()
    tracked = set(git(root, "ls-files").splitlines())
    for old in paths:
        move(root, old, f"{old}.moving", old in tracked)
    for old, new in paths.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        move(root, f"{old}.moving", new, old in tracked)
    for new, text in texts.items():
        (root / new).write_text(text, "utf-8")
    packages(root)
    documents(root, paths, plan)
    clean_folders(root)
    ruff(root, *engine.ROOTS)
    show(plan)


def move(root: Path, old: str, new: str, tracked: bool) -> None:
    if tracked:
        git(root, "mv", old, new)
    else:
        (root / old).rename(root / new)


def packages(root: Path) -> None:
    """Each folder with modules is a package with a docstring."""
    for path in sources(root):
        folder = path.parent
        while folder != root and folder.name != "benchmarks":
            init = folder / "__init__.py"
            name = init.relative_to(root).as_posix()
            if name in tables.DOCSTRINGS or not init.exists():
                text = tables.DOCSTRINGS.get(name)
                if text or not init.exists():
                    init.write_text(f'"""{text}"""\n' if text else "", "utf-8")
            folder = folder.parent
    for name in ("tests/runs/conftest.py",):
        if (root / name).exists() and (root / "tests/experiments").is_dir():
            (root / "tests/experiments/conftest.py").write_text(
                '"""The fixtures of tests of single runs."""\n\nfrom tests.runs.conftest import store, toy\n\n'
                '__all__ = ["store", "toy"]\n'
            )


def documents(root: Path, paths: dict[str, str], plan: Plan) -> None:
    """Paths and dotted names in documents, and paths in comments."""
    names = sorted(paths, key=len, reverse=True)
    pattern = re.compile(r"(?<![\w./-])(?:" + "|".join(map(re.escape, names)) + r")(?![\w-])")
    folders = {"harness/generative/instruct/": "harness/generative/", "harness/jobs/": "harness/runs/",
               "harness/reports/report/": "harness/reports/html/"}  # fmt: skip
    dots = re.compile(r"(?<![\w./-])(?:harness|baselines|tests)(?:\.\w+)+(?::\w+)?(?![\w/])")
    for name in git(root, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        path = root / name
        if not path.is_file() or name.startswith(HISTORY):
            continue
        if path.suffix not in TEXT | {".py"} and path.name not in ("Makefile", "run"):
            continue
        old = path.read_text("utf-8")
        text = pattern.sub(lambda m: paths[m.group()], old)
        for folder, target in folders.items():
            text = text.replace(f"`{folder}`", f"`{target}`")
        if path.suffix in (".md", ".toml", ".yaml", ".cfg") or path.name == "Makefile":
            text = dots.sub(lambda m: plan.text(m.group()), text)
        if text != old:
            path.write_text(text, "utf-8")


def clean_folders(root: Path) -> None:
    for name in ("harness", "eager", "baselines", "tests"):
        for folder in sorted((p for p in (root / name).rglob("*") if p.is_dir()), reverse=True):
            if folder.name == "__pycache__":
                continue
            rest = [p for p in folder.iterdir() if p.name != "__pycache__"]
            if not rest or [p.name for p in rest] == ["__init__.py"] and folder.name in ("jobs", "instruct", "report"):
                subprocess.run(["rm", "-rf", str(folder)], check=True)


def show(plan: Plan) -> None:
    for line in dict.fromkeys(plan.report):
        print("  note:", line)


def patch(root: Path) -> None:
    for name, old, new in tables.PATCHES:
        path = root / name
        text = path.read_text("utf-8") if path.exists() else ""
        if old in text:
            path.write_text(text.replace(old, new), "utf-8")
        elif new not in text:
            print("  patch does not fit:", name, repr(old))


def rewrite_all(root: Path, plan: Plan, leaves: set[str]) -> dict[str, str]:
    """Rewrites each file that mentions one of the leaves; the files that changed, with what was in them."""
    changed = {}
    for path in sources(root):
        text = path.read_text("utf-8")
        if not any(leaf in text for leaf in leaves):
            continue
        name = path.relative_to(root).as_posix()
        new = rewrite(text, plan, dotted(Path(name)), name)
        if new != text:
            path.write_text(new, "utf-8")
            changed[name] = text
    return changed


def plan_for(root: Path) -> Plan:
    known = module_names(root)
    plan = Plan(set(known))
    plan.tops = {m: top_names(engine.ast.parse((root / p).read_text("utf-8"))) for m, p in known.items()}
    return plan


def all_but(body: list[engine.Segment], names: set[str]) -> set[str]:
    """Names of the segments that go where those called `names` stay, with what only they use."""
    stays = [s for s in body if s.names & names]
    goes = [s for s in body if not s.names & names]
    uses = lambda segments: {n.id for s in segments for n in engine.ast.walk(s.node) if isinstance(n, engine.ast.Name)}
    while helpers := [
        s for s in goes if s.names & uses(stays) and not s.names & uses([other for other in goes if other is not s])
        and all(name.startswith("_") for name in s.names)
    ]:  # fmt: skip
        stays += helpers
        goes = [s for s in goes if s not in helpers]
    return set().union(*(s.names for s in goes)) if goes else set()


def part(root: Path, old: str, new: str, names: set[str]) -> None:
    if not (root / old).exists():
        print("  no such file:", old)
        return
    taken = take_apart((root / old).read_text("utf-8"))
    if "!" in names:
        names = all_but(taken.body, names)
    moved = [s for s in taken.body if s.names & names]
    if not moved:
        print(f"  nothing of {old} goes to {new}")
        return
    lacking = names - set().union(*(s.names for s in moved))
    if lacking:
        print(f"  {old} has no", *lacking)
    plan = plan_for(root)
    a, b = dotted(Path(old)), dotted(Path(new))
    going = set().union(*(s.names for s in moved))
    rest = [s for s in taken.body if not s.names & names]
    staying = set().union(*(s.names for s in rest)) if rest else set()
    used = lambda segments: {n.id for s in segments for n in engine.ast.walk(s.node) if isinstance(n, engine.ast.Name)}
    exists = (root / new).exists()
    target = take_apart((root / new).read_text("utf-8")) if exists else engine.Parts(tables.DOCSTRINGS[new], [], [], [])
    needs = sorted(used(moved) & staying)
    target.imports += taken.imports + ([f"from {a} import {', '.join(needs)}\n"] if needs else [])
    target.typing += taken.typing
    target.body = engine.ordered(target.body + moved)
    back = sorted(used(rest) & going)
    taken.imports += [f"from {b} import {', '.join(back)}\n"] if back else []
    taken.body = rest
    plan.known.add(b)
    plan.symbols = {(a, name): (b, name) for name in going}
    (root / new).write_text(target.text(), "utf-8")
    plan_b = Plan(plan.known, symbols=plan.symbols, tops=plan.tops)
    text = (root / new).read_text("utf-8")
    (root / new).write_text(rewrite(text, plan_b, b, new), "utf-8")
    if rest:
        (root / old).write_text(taken.text(), "utf-8")
    changed = rewrite_all(root, plan, {a.rpartition(".")[2]} | going)
    if not rest:
        git(root, "rm", "-q", "-f", "--ignore-unmatch", old)
        (root / old).unlink(missing_ok=True)
    ruff(root, *changed)
    ruff(root, old, new, unused=True)
    show(plan)


def parts(root: Path) -> None:
    for old, new, names in tables.PARTS:
        try:
            part(root, old, new, set(names.split()))
        except Exception as error:
            print(f"  FAILED part {old} to {new}: {type(error).__name__}: {error}")
    patch_api(root)


def patch_api(root: Path) -> None:
    path = root / "harness/__init__.py"
    if (root / "harness/reports/api.py").exists():
        text = path.read_text("utf-8")
        path.write_text(
            text.replace('"leaderboard": "harness.reports.leaderboard"', '"leaderboard": "harness.reports.api"'), "utf-8"
        )


def collision_name(leaf: str, name: str) -> str:
    if name.strip("_").isupper():
        return f"_{leaf.upper()}{name}" if name.startswith("_") else f"{leaf.upper()}_{name}"
    if name[:1].isupper():
        return "".join(w.title() for w in leaf.split("_")) + name
    return f"_{leaf}{name}" if name.startswith("_") else f"{leaf}_{name}"


def fold(root: Path, old: str, new: str) -> None:
    if not (root / old).exists() or not (root / new).exists():
        print(f"  no fold of {old} into {new}: a file is missing")
        return
    plan = plan_for(root)
    x, y = dotted(Path(old)), dotted(Path(new))
    x_text, y_text = (root / old).read_text("utf-8"), (root / new).read_text("utf-8")
    x_tops, y_tops = plan.tops[x], plan.tops[y]
    size = len(x_text.splitlines()) + len(y_text.splitlines())
    if size > LIMIT + 8:
        print(f"  no fold of {old} into {new}: about {size} lines")
        return
    for name in sorted(set(x_tops) & set(y_tops)):
        one, other = x_tops[name], y_tops[name]
        if one == other != "def" or one == f"import {y}:{name}" or other == f"import {x}:{name}":
            continue
        if one.startswith("import") and one.partition(":")[0] == other.partition(":")[0] and ":" not in one:
            continue
        renamed = tables.COLLISIONS.get((x, name)) or collision_name(x.rpartition(".")[2], name)
        print(f"  {x}.{name} becomes {renamed} in {y}")
        x_text = engine.rename_top(x_text, name, renamed)
        if one == "def":
            plan.symbols[x, name] = (y, renamed)
    px, py = take_apart(x_text), take_apart(y_text)
    y_needs_x = any(f"{x} import" in line or f"import {x}" in line for line in py.imports) or any(
        re.search(rf"from {re.escape(x.rpartition('.')[0])} import .*\b{x.rpartition('.')[2]}\b", line, re.S)
        for line in py.imports
    )
    body = px.body + py.body if y_needs_x else py.body + px.body
    both = engine.Parts(
        f"{py.doc.rstrip()}\n\n{px.doc.strip()}\n" if px.doc else py.doc,
        py.imports + px.imports,
        py.typing + px.typing,
        engine.ordered(body),
    )
    plan.modules = {x: y}
    before = {new: y_text, old: x_text}
    (root / new).write_text(both.text(), "utf-8")
    (root / old).unlink()
    try:
        changed = rewrite_all(root, plan, {x.rpartition(".")[2]})
        before = changed | before
        text = (root / new).read_text("utf-8")
        (root / new).write_text(rewrite(text, plan, y, new), "utf-8")
        compile((root / new).read_text("utf-8"), new, "exec")
        ruff(root, new, unused=True)
        if (lines := len((root / new).read_text("utf-8").splitlines())) > LIMIT:
            raise ValueError(f"it would have {lines} lines")
    except Exception:
        for name, text in before.items():
            (root / name).write_text(text, "utf-8")
        raise
    git(root, "rm", "-q", "--cached", "--ignore-unmatch", old)
    ruff(root, *changed)
    documents(root, {old: new}, plan)
    show(plan)


def rewrap(root: Path) -> None:
    """Docstrings and comments whose lines became too long: words flow on into the next line."""
    binary = Path(".venv/bin/ruff").absolute()
    words = [binary, "check", "--select", "E501", "--output-format", "concise", "."]
    for _ in range(12):
        out = subprocess.run(words, cwd=root, capture_output=True, text=True).stdout
        places = [m for line in out.splitlines() if (m := re.match(r"(\S+?):(\d+):", line))]
        done = False
        for match in reversed(places):
            path, number = root / match[1], int(match[2]) - 1
            lines = path.read_text("utf-8").splitlines(keepends=True)
            line = lines[number].rstrip("\n")
            indent = re.match(r"\s*(?:# )?", line)[0]
            kind = docstring_lines(path.read_text("utf-8"))
            if "#" not in indent and number + 1 not in kind:
                if (broken := break_code(line)) is not None:
                    lines[number : number + 1] = broken
                    path.write_text("".join(lines), "utf-8")
                    done = True
                continue
            head, _, tail = line[:121].rpartition(" ")
            rest = tail + line[121:]
            if not head.strip():
                continue
            following = lines[number + 1] if number + 1 < len(lines) else ""
            continues = following.strip() and following.startswith(indent.rstrip(" ") if "#" in indent else indent)
            inside = "#" in indent or (number + 2 in kind and not following[len(indent) :].startswith((" ", "-", "*")))
            if continues and inside and not line.rstrip().endswith('"""'):
                text = following[len(indent) :] if following.startswith(indent) else following.lstrip()
                glue = "" if text.startswith('"""') else " "
                lines[number : number + 2] = [head + "\n", f"{indent}{rest}{glue}{text}"]
            else:
                lines[number : number + 1] = [head + "\n", f"{indent}{rest}\n"]
            path.write_text("".join(lines), "utf-8")
            done = True
        if not done:
            break


def break_code(line: str) -> list[str] | None:
    """A long assignment of one string, or a long line of a list of strings, on two lines."""
    if match := re.fullmatch(r"(\s*)(\w+) = (f?)\"([^\"]*)\"", line):
        indent, name, prefix, text = match.groups()
        cut = text.rfind(" ", 0, 100) + 1
        if cut:
            inner = f"{indent}    "
            pieces = [f"{indent}{name} = (\n", f'{inner}{prefix}"{text[:cut]}"\n', f'{inner}{prefix}"{text[cut:]}"\n']
            return [*pieces, f"{indent})\n"]
    if re.fullmatch(r"\s+(\"[^\"]*\",? ?)+", line):
        cut = line.rfind(" ", 0, 118)
        indent = re.match(r"\s*", line)[0]
        return [line[:cut] + "\n", indent + line[cut + 1 :] + "\n"]
    return None


def docstring_lines(text: str) -> set[int]:
    found: set[int] = set()
    for node in engine.ast.walk(engine.ast.parse(text)):
        if isinstance(node, engine.ast.Expr) and isinstance(node.value, engine.ast.Constant):
            if isinstance(node.value.value, str):
                found |= set(range(node.lineno, node.end_lineno + 1))
    return found


def late(root: Path) -> None:
    """Patches that cut the last circle and the last upward import."""
    path = root / "harness/generative/models/readers.py"
    text = path.read_text("utf-8")
    block = "if TYPE_CHECKING:\n    from harness.generative.models.decoder_lm import CodeLM\n"
    if block in text:
        text = re.sub(r"\bCodeLM\b", "CausalModel", text.replace(block, ""))
        text = text.replace("import TYPE_CHECKING, Literal, Protocol", "import Any, Literal, Protocol")
        protocol = (
            "class CausalModel(Protocol):\n"
            '    """What readers need of a model: its transformer, its code embeddings, the states of token ids."""\n\n'
            "    body: Any\n    code_in: Any\n    vocabulary: int\n\n"
            "    def states(self, ids: torch.Tensor, **where: Any) -> torch.Tensor: ...\n\n\n"
        )
        text = text.replace("class Reader(Protocol):", protocol + "class Reader(Protocol):", 1)
        path.write_text(text, "utf-8")
        ruff(root, "harness/generative/models/readers.py", unused=True)
    else:
        print("  readers.py has changed: cut its import of decoder_lm by hand")


def folds(root: Path) -> None:
    for old, new in tables.FOLDS:
        try:
            fold(root, old, new)
        except Exception as error:
            print(f"  no fold of {old} into {new}: {type(error).__name__}: {error}")


def verify(root: Path) -> None:
    """Every `from M import n` of ours names something."""
    plan = plan_for(root)
    for path in sources(root):
        tree = engine.ast.parse(path.read_text("utf-8"))
        for node in engine.ast.walk(tree):
            if isinstance(node, engine.ast.ImportFrom) and node.module and node.module.split(".")[0] in engine.ROOTS:
                for alias in node.names:
                    if node.module not in plan.known:
                        print(f"  {path.relative_to(root)}:{node.lineno}: no module {node.module}")
                    elif alias.name not in plan.tops[node.module] and f"{node.module}.{alias.name}" not in plan.known:
                        print(f"  {path.relative_to(root)}:{node.lineno}: no {alias.name} in {node.module}")


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    steps = sys.argv[2:] or ["all"]
    for name, step in (
        ("moves", moves), ("patch", patch), ("parts", parts), ("folds", folds), ("late", late), ("rewrap", rewrap),
        ("verify", verify),
    ):
        if "all" in steps or name in steps or name == "verify" or (name == "patch" and "moves" in steps):
            print(f"== {name}")
            step(root)


if __name__ == "__main__":
    main()
