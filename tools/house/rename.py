"""Renames by types: `python rename.py ROOT [names.yaml]`, after moves.py, on a clean checkout. Nothing is committed.

basedpyright's language server says where each name is used (in tests and benchmarks too); all edits are collected on
the unchanged tree and then applied at once. Strings follow: dotted names, `setattr`/`getattr` with a module or a class.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import time
import tokenize
from pathlib import Path
from urllib.parse import unquote, urlparse

import engine
from lsp import Server

SERVER = Path(".venv/bin/basedpyright-langserver").absolute()
RUFF = Path(".venv/bin/ruff").absolute()
CODE = ("harness", "eager", "baselines")
Place = tuple[Path, int, int]


def read_names(path: Path) -> list[tuple[list[str], str, str]]:
    entries = []
    for line in path.read_text("utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line:
            modules, qualname, new = re.fullmatch(r"([\w.|]+):([\w.]+): (\w+)", line).groups()
            entries.append((modules.split("|"), qualname, new))
    return entries


def definitions(root: Path) -> tuple[dict[str, list[tuple[str, Place]]], dict[str, list[str]]]:
    """Qualified name → (module, place) of each definition; class name → names of its bases."""
    found: dict[str, list[tuple[str, Place]]] = {}
    bases: dict[str, list[str]] = {}
    for path in engine.sources(root):
        module = engine.dotted(path.relative_to(root))
        text = path.read_text("utf-8")
        lines = text.splitlines()
        tree = ast.parse(text)

        def add(qualname: str, node: ast.AST, word: str, module=module, path=path, lines=lines) -> None:
            line = node.lineno - 1
            while (match := re.search(rf"\b{word}\b", lines[line][(node.col_offset if line == node.lineno - 1 else 0) :])) is None:
                line += 1
            offset = node.col_offset if line == node.lineno - 1 else 0
            found.setdefault(qualname, []).append((module, (path, line, offset + match.start())))

        def function(node: ast.FunctionDef, prefix: str) -> None:
            add(prefix + node.name, node, node.name)
            a = node.args
            for arg in [*a.posonlyargs, *a.args, *a.kwonlyargs]:
                add(f"{prefix}{node.name}.{arg.arg}", arg, arg.arg)
            if prefix:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        if isinstance(inner.value, ast.Name) and inner.value.id == "self":
                            key = f"{prefix}self.{inner.attr}"
                            if not any(m == module for m, _ in found.get(key, [])):
                                line, column = inner.end_lineno - 1, inner.end_col_offset - len(inner.attr)
                                found.setdefault(key, []).append((module, (path, line, column)))

        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                function(node, "")
            elif isinstance(node, ast.ClassDef):
                add(node.name, node, node.name)
                bases.setdefault(node.name, []).extend(
                    b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in map(_plain, node.bases)
                )
                for member in node.body:
                    if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        function(member, f"{node.name}.")
                    elif isinstance(member, (ast.Assign, ast.AnnAssign)):
                        targets = member.targets if isinstance(member, ast.Assign) else [member.target]
                        for target in targets:
                            for name in ast.walk(target):
                                if isinstance(name, ast.Name):
                                    add(f"{node.name}.{name.id}", name, name.id)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            add(name.id, name, name.id)
    return found, bases


def _plain(base: ast.expr) -> ast.expr:
    return base.value if isinstance(base, ast.Subscript) else base


def family(name: str, bases: dict[str, list[str]]) -> set[str]:
    """A class, those that it inherits from (ours), and all that inherit from it."""
    known = {name}
    while True:
        more = {c for c, above in bases.items() if known & set(above)}
        if more <= known:
            return known
        known |= more


def resolve(root: Path, entries: list[tuple[list[str], str, str]]) -> list[tuple[str, str, str, Place]]:
    """(module, qualname, new, place) of everything to rename, overriding methods and test doubles included."""
    found, bases = definitions(root)
    wanted: dict[Place, tuple[str, str, str, Place]] = {}
    for modules, qualname, new in entries:
        if qualname.startswith("any."):  # a member of protocols and of all that fit them
            for name, places in found.items():
                if name.count(".") == 1 and name.endswith(qualname[3:]) and name[:1].strip("_").isupper():
                    for module, place in places:
                        wanted[place] = (module, name, new, place)
            continue
        candidates = found.get(qualname, [])
        ours = [c for c in candidates if c[0].split(".")[0] in CODE]
        fitting = [c for c in ours if any(c[0] == m or c[0].endswith("." + m) for m in modules)]
        chosen = fitting[:1] or (ours if len(ours) == 1 else [])
        if not chosen:
            print(f"  not found: {'|'.join(modules)}:{qualname}" + (f" ({len(ours)} elsewhere)" if ours else ""))
            continue
        module, place = chosen[0]
        wanted[place] = (module, qualname, new, place)
        parts = qualname.split(".")
        if len(parts) == 2 and parts[0][:1].isupper() or parts[0].startswith("_") and len(parts) == 2:
            for other in family(parts[0], bases) - {parts[0]}:
                for module, place in found.get(f"{other}.{parts[1]}", []):
                    wanted.setdefault(place, (module, f"{other}.{parts[1]}", new, place))
    return list(wanted.values())


def offset(lines: list[str], line: int, column: int) -> int:
    """Characters from the start of the text, of an LSP position (UTF-16)."""
    base = sum(len(one) for one in lines[:line])
    text, units, count = lines[line] if line < len(lines) else "", 0, 0
    for character in text:
        if units >= column:
            break
        units += 2 if ord(character) > 0xFFFF else 1
        count += 1
    return base + count


def strings(root: Path, renamed: list[tuple[str, str, str, Place]], edits: dict[Path, set[tuple[int, int, str]]]) -> None:
    """Names in strings: dotted, and as the second argument of setattr and its kind."""
    tops = {(m, q): n for m, q, n, _ in renamed if "." not in q}
    members = {tuple(q.replace(".self.", ".").split(".")): n for _, q, n, _ in renamed if q.replace(".self.", ".").count(".") == 1}
    known = engine.module_names(root)
    for path in engine.sources(root):
        text = path.read_text("utf-8")
        source = engine.Source(text)
        imported: dict[str, str] = {}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    imported[alias.asname or alias.name] = full
        for node in ast.walk(source.tree):
            if not (isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[1], ast.Constant)):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            value, what = node.args[1].value, node.args[0]
            if name not in ("setattr", "getattr", "delattr", "hasattr", "object") or not isinstance(value, str):
                continue
            if not isinstance(what, ast.Name):
                continue
            full = imported.get(what.id, "")
            new = tops.get((full, value)) if full in known else members.get((full.rpartition(".")[2] or what.id, value))
            if new is None and full in known:  # a name that the module has imported itself
                top = engine.top_names(ast.parse((root / known[full]).read_text("utf-8"))).get(value, "")
                if match := re.fullmatch(r"import ([\w.]+):(\w+)", top):
                    new = tops.get((match[1], match[2]))
            if new:
                start, end = source.span(node.args[1])
                a = len(source.data[:start].decode())
                edits.setdefault(path, set()).add((a + 1, a + 1 + len(value), new))
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.STRING:
                continue
            begin = len(source.data[: source.at(token.start[0], 0)].decode()) + token.start[1]
            for match in engine.FROM.finditer(token.string):  # programs in strings keep their own words
                for item in re.finditer(r"(\w+)( as \w+)?", match[2]):
                    new = tops.get((match[1], item[1]))
                    if new and item[1] != "as":
                        a = begin + match.start(2) + item.start(1)
                        alias = "" if item[2] else f" as {item[1]}"
                        edits.setdefault(path, set()).add((a, a + len(item[1]), new + alias))
        for match in re.finditer(r"(?<![\w./-])((?:harness|eager|baselines)(?:\.\w+)+)([.:])(\w+)(?=[\"'.])", text):
            module, _, name = match.groups()
            new = tops.get((module, name))
            if new is None and module in known:
                top = engine.top_names(ast.parse((root / known[module]).read_text("utf-8"))).get(name, "")
                if origin := re.fullmatch(r"import ([\w.]+):(\w+)", top):
                    new = tops.get((origin[1], origin[2]))
            if new:
                edits.setdefault(path, set()).add((*match.span(3), new))


def documents(root: Path, renamed: list[tuple[str, str, str, Place]]) -> None:
    """Backticked names in docstrings and documents, of those that cannot be meant otherwise."""
    plain = {}
    for _, qualname, new, _ in renamed:
        old = qualname.split(".")[-1]
        if (old[:1].isupper() and not old.isupper() and len(old) > 5) or "_" in old.strip("_"):
            plain[old] = new
    pattern = re.compile(r"`(" + "|".join(map(re.escape, sorted(plain, key=len, reverse=True))) + r")(?=[`(.])")
    out = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True, check=True).stdout
    for name in out.splitlines():
        path = root / name
        if path.suffix not in (".py", ".md") or name.startswith(("CHANGELOG", "docs/log", "results/")) or not path.exists():
            continue
        text = path.read_text("utf-8")
        new = pattern.sub(lambda m: f"`{plain[m[1]]}", text)
        if new != text:
            path.write_text(new, "utf-8")


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    names = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("names.yaml")
    renamed = resolve(root, read_names(names))
    print(f"{len(renamed)} definitions to rename")
    edits: dict[Path, set[tuple[int, int, str]]] = {}
    texts = {p: p.read_text("utf-8") for p in engine.sources(root)}
    config = root / "pyrightconfig.json"
    include = [*CODE, "tests", "benchmarks"]
    config.write_text(json.dumps({"include": include, "pythonVersion": "3.11", "typeCheckingMode": "off"}))
    try:
        with Server(root, SERVER, root / ".venv/bin/python") as server:
            warm_up(server, root)
            for number, (module, qualname, new, (path, line, column)) in enumerate(renamed):
                server.open(path)
                start = time.time()
                answer = server.rename(path, line, column, new)
                count = 0
                old = qualname.split(".")[-1]
                for uri, changes in answer.items():
                    target = Path(unquote(urlparse(uri).path))
                    lines = texts[target].splitlines(keepends=True)
                    for change in changes:
                        a = offset(lines, change["range"]["start"]["line"], change["range"]["start"]["character"])
                        b = offset(lines, change["range"]["end"]["line"], change["range"]["end"]["character"])
                        if texts[target][a:b] != old:
                            print(f"    {target.relative_to(root)}: {texts[target][a:b]!r} is not {old!r}: left")
                            continue
                        edits.setdefault(target, set()).add((a, b, change["newText"]))
                        count += 1
                if not count:
                    print(f"    no edits for {module}:{qualname}")
                print(f"{number + 1}/{len(renamed)} {module}:{qualname} -> {new}: {count} in {len(answer)} files, {time.time() - start:.1f} s", flush=True)
                shadows(root, texts, answer, old, new)
            replaced(server, root, renamed, edits)
    finally:
        config.unlink()
    strings(root, renamed, edits)
    for path, some in edits.items():
        text, last = texts[path], None
        by_place: dict[tuple[int, int], str] = {}
        for a, b, new in sorted(some):
            if (a, b) in by_place and by_place[a, b] != new:
                print(f"    {path.relative_to(root)}: two names for {text[a:b]}: {by_place[a, b]}, {new}")
                continue
            by_place[a, b] = new
        for (a, b), new in sorted(by_place.items(), reverse=True):
            if last is not None and b > last:
                print(f"    {path.relative_to(root)}: overlapping edits at {text[a:b]}")
                continue
            text, last = text[:a] + new + text[b:], a
        path.write_text(text, "utf-8")
    documents(root, renamed)
    subprocess.run([RUFF, "check", "-q", "--fix", "--select", "I", *include], cwd=root, check=False)
    subprocess.run([RUFF, "format", "-q", *include], cwd=root, check=False)
    import moves

    moves.rewrap(root)


def replaced(server: Server, root: Path, renamed: list, edits: dict[Path, set[tuple[int, int, str]]]) -> None:
    """Keywords of `dataclasses.replace`, which no type checker follows: by the type of what is replaced in."""
    fields = {tuple(q.split(".")): n for _, q, n, _ in renamed if q.count(".") == 1}
    words = {member for _, member in fields}
    for path in engine.sources(root):
        source = engine.Source(path.read_text("utf-8"))
        for node in ast.walk(source.tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "replace"):
                continue
            for keyword in node.keywords:
                if keyword.arg not in words or not node.args:
                    continue
                what = node.args[0].func if isinstance(node.args[0], ast.Call) else node.args[0]
                line, column = what.end_lineno - 1, what.end_col_offset - 1
                server.open(path)
                text = source.data[source.starts[line] :][:column].decode()
                hover = server.hover(path, line, len(text))
                kinds = re.findall(r"(?:->|:) *(?:type\[)?(\w+)", hover)
                new = next((fields[kind, keyword.arg] for kind in kinds if (kind, keyword.arg) in fields), None)
                if new is None:
                    print(f"    look: {path.relative_to(root)}:{keyword.lineno}: replace(…, {keyword.arg}=…) of {kinds[-1:]}: left")
                    continue
                a = len(source.data[: source.at(keyword.lineno, keyword.col_offset)].decode())
                edits.setdefault(path, set()).add((a, a + len(keyword.arg), new))


def shadows(root: Path, texts: dict[Path, str], answer: dict, old: str, new: str) -> None:
    """Says where the new name is bound already."""
    for uri in answer:
        path = Path(unquote(urlparse(uri).path))
        tree = ast.parse(texts[path])
        if new in engine.bindings(tree) or new in engine.import_bindings(tree):
            used = any(isinstance(n, ast.Name) and n.id == old for n in ast.walk(tree))
            if used:
                print(f"    look: {path.relative_to(root)} binds {new} already")


def warm_up(server: Server, root: Path) -> None:
    """Waits until the server knows all files; a file that is opened before that stays alone for ever."""
    for _ in range(100):
        if server.ask("workspace/symbol", {"query": "InputError"}, 300):
            break
        time.sleep(2)
    time.sleep(5)
    path = root / "harness/errors.py"
    lines = path.read_text("utf-8").splitlines()
    line = next(i for i, text in enumerate(lines) if text.startswith("class InputError"))
    server.open(path)
    expected = sum("InputError" in p.read_text("utf-8") for p in engine.sources(root))
    count = len(server.rename(path, line, lines[line].index("InputError"), "InputError_"))
    print(f"the server finds InputError in {count} of {expected} files that mention it", flush=True)
    if count < 0.5 * expected:
        raise SystemExit("the language server does not know the files; try again")


if __name__ == "__main__":
    main()
