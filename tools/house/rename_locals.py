"""Renames parameters and local variables of the old private vocabulary by what they hold:
`python rename_locals.py ROOT [plan|apply]`. `plan` writes ROOT/../locals.tsv to look at; `apply` also edits. Nothing is committed.

The new name comes from the type that basedpyright infers (a class of ours gives its own name, a list its plural, a
match `match`, text by the old word: `said` is a message, `where` a location), or from OVERRIDES in locals.yaml
(`MODULE:FUNCTION.WORD: NEW`). It is never one that the function, or the module's top level, already has. Each edited
file is proven: its syntax tree equals the old one with just these names exchanged.
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import count
import engine
from lsp import Server
from rename import CODE, RUFF, SERVER, offset, warm_up

BY_WORD = {  # for text, and where the type says nothing
    "found": "result", "what": "label", "made": "result", "where": "location", "kept": "saved", "said": "message",
    "told": "message", "known": "names", "mend": "hint", "shown": "text", "asked": "requested", "drawn": "sample",
    "named": "name", "whole": "total", "wanted": "expected", "begun": "start_time", "ours": "own_value",
    "about": "description", "given": "value", "mine": "own", "most": "limit", "held": "lock", "how": "config",
    "looks": "evaluations", "here": "current", "usual": "reference", "seen": "history", "apart": "separate",
    "lost": "dropped", "taken": "selected", "moved": "changed", "why": "reason", "who": "owner", "again": "repeated",
    "within": "inside", "some": "part", "when": "time_text", "tied": "ties", "written": "output", "alone": "single",
    "alike": "equal", "together": "combined", "there": "present", "broken": "invalid", "twice": "duplicates",
    "nearest": "closest", "heard": "received", "gone": "removed", "came": "arrived", "parted": "pieces",
    "bought": "purchases", "reached": "progress", "meant": "target", "beside": "neighbours", "many": "number",
    "raised": "error", "fits": "is_valid", "has": "has_value", "which": "index", "elsewhere": "others",
    "less": "fewer", "least": "minimum", "nothing": "empty", "dealt": "share", "whose": "owner", "hidden": "width",
    "manner": "options", "ruled": "rules", "nobody": "missing", "aside": "temporary", "_guarded": "_wrapped",
    "its": "own", "look": "view", "spent": "seconds", "read": "content",
}  # fmt: skip
FLAGS = {
    "found": "is_found", "known": "is_known", "kept": "is_kept", "shown": "is_shown", "whole": "is_whole", "held": "is_locked",
    "said": "has_message", "told": "is_reported", "wanted": "is_requested", "named": "is_named", "made": "is_new",
    "again": "repeat", "has": "has_value", "fits": "is_valid", "seen": "is_seen", "lost": "is_lost",
}  # fmt: skip
MASKS = {"kept": "mask", "known": "known_mask", "shown": "mask", "seen": "seen_mask", "taken": "mask", "wanted": "mask"}
TYPES = {
    "Match": "match", "Path": "path", "Namespace": "arguments", "ndarray": "array", "Tensor": "tensor", "Series": "series",
    "DataFrame": "frame", "float": "value", "int": "number", "Text": "text", "bytes": "content", "bytearray": "content",
    "stat_result": "status", "Generator": "generator", "Random": "random", "Popen": "process", "Future": "future",
    "Exception": "error", "BaseException": "error", "csr_matrix": "matrix", "Figure": "figure", "Any": "", "object": "",
    "Module": "module", "ModuleSpec": "spec", "device": "device", "dtype": "dtype", "Counter": "counts",
}  # fmt: skip
PLURALS = {"list", "tuple", "set", "frozenset", "Sequence", "Iterable", "Iterator", "Generator", "Collection", "deque"}


def snake(name: str) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", name)
    words = [w.lower() for w in words][-2:]
    return "_".join(words)


def plural(word: str) -> str:
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word + "s"


def split_type(text: str) -> tuple[str, str]:
    """`list[str]` → (`list`, `str`), None left out of unions."""
    parts, depth, part = [], 0, ""
    for character in text:
        depth += character in "[(" 
        depth -= character in "])"
        if character == "|" and not depth:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    parts = [p for p in [*parts, part.strip()] if p not in ("None", "")]
    first = parts[0] if parts else ""
    outer, _, inner = first.partition("[")
    return outer.rpartition(".")[2], inner.removesuffix("]")


def candidates(word: str, kind: str) -> list[str]:
    """Names for a binding, best first."""
    outer, inner = split_type(kind)
    default = BY_WORD.get(word.strip("_"), "value")
    found: list[str] = []
    if outer == "bool":
        found.append(FLAGS.get(word, f"is_{word}"))
    elif outer in ("str", "LiteralString", "Literal"):
        found += {"what": ["message", "label"], "made": ["text"], "kept": ["text"], "found": ["text", "name"],
                  "known": ["name"], "drawn": ["text"], "whole": ["text"]}.get(word, [default])  # fmt: skip
    elif outer in ("ndarray", "NDArray", "Tensor") and word in MASKS:
        found.append(MASKS[word])
    elif outer in ("ndarray", "NDArray", "Tensor"):
        found += {"found": ["positions"], "made": ["values"], "drawn": ["samples"], "told": ["gathered"],
                  "where": ["positions"], "named": ["values"], "whole": ["combined"], "mine": ["own_rows"],
                  "asked": ["requested"], "said": ["payload"]}.get(word, [default, TYPES.get(outer, "array")])  # fmt: skip
    elif outer in ("dict", "Mapping", "defaultdict", "MutableMapping", "OrderedDict"):
        found += {"found": ["entries"], "made": ["entries"], "where": ["index_of"], "said": ["fields"],
                  "told": ["fields"], "known": ["known_by_name", "table"], "named": ["by_name"], "kept": ["entries"],
                  "asked": ["requested"], "whole": ["merged"], "about": ["metadata"], "facts": ["facts"]}.get(word, [default, "mapping"])  # fmt: skip
    elif outer in PLURALS:
        element = split_type(re.split(r",(?![^\[]*\])", inner)[0])[0] if inner else ""
        if element in ("str", "LiteralString"):
            found += {"found": ["problems", "lines"], "said": ["messages"], "told": ["lines"], "known": ["names"],
                      "shown": ["labels"], "named": ["names"], "mend": ["hints"]}.get(word, ["names"])  # fmt: skip
        elif element[:1].isupper() and element not in TYPES:
            found += [plural(snake(element)), f"selected_{plural(snake(element))}"]
        elif element == "Path":
            found.append("paths")
        elif outer == "tuple" and "," in inner and "..." not in inner:
            found += ["pair", "parts"]
        else:
            found += {"found": ["results"], "made": ["results"], "told": ["payload", "values"]}.get(word, ["values", "items"])  # fmt: skip
    elif outer in TYPES and TYPES[outer]:
        if outer in ("int", "float"):
            found += {"found": ["count", "number"], "begun": ["start_time"], "most": ["limit"], "known": ["count"]}.get(word, [default, TYPES[outer]])  # fmt: skip
        else:
            found.append(TYPES[outer])
    elif outer[:1].isupper() and re.fullmatch(r"[A-Za-z0-9]+", outer) and outer not in ("Any", "Callable", "T", "Self"):
        found += [snake(outer), f"current_{snake(outer)}"]
    found += [default, f"{default}_value", f"current_{default}", f"{default}_2"]
    return [name for name in found if name and not count.odd(name) and not keyword.iskeyword(name)]


class Function:
    """A function, its odd names, and where they stand."""

    def __init__(self, node: ast.AST, path: Path, source: engine.Source, owner: str) -> None:
        self.node, self.path, self.source, self.owner = node, path, source, owner
        a = node.args
        self.args = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
        self.name = getattr(node, "name", "lambda")

    def names_of(self, word: str) -> list[ast.Name]:
        """`Name` nodes that mean this function's `word`."""
        found: list[ast.Name] = []

        def visit(node: ast.AST, top: bool = False) -> None:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not top:
                inner = Function(node, self.path, self.source, "")
                for part in [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]:
                    visit(part)
                if word in inner.bound():
                    return
                for part in node.body if isinstance(node.body, list) else [node.body]:
                    visit(part)
                return
            if isinstance(node, ast.Name) and node.id == word:
                found.append(node)
            for child in ast.iter_child_nodes(node):
                visit(child)

        for part in self.node.body if isinstance(self.node.body, list) else [self.node.body]:
            visit(part)
        return found

    def bound(self) -> set[str]:
        """Names that the function binds itself."""
        names = {a.arg for a in self.args}
        stack = list(self.node.body) if isinstance(self.node.body, list) else [self.node.body]
        free: set[str] = set()
        while stack:
            n = stack.pop()
            if isinstance(n, (ast.Nonlocal, ast.Global)):
                free |= set(n.names)
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(n.name)
                continue
            if isinstance(n, ast.Lambda):
                continue
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                names.add(n.id)
            elif isinstance(n, ast.ExceptHandler) and n.name:
                names.add(n.name)
            stack += list(ast.iter_child_nodes(n))
        return names - free

    def all_names(self) -> set[str]:
        """Every identifier in the function, in functions inside it too."""
        found = {a.arg for a in self.args}
        for n in ast.walk(self.node):
            if isinstance(n, ast.Name):
                found.add(n.id)
            elif isinstance(n, ast.arg):
                found.add(n.arg)
            elif isinstance(n, (ast.FunctionDef, ast.ClassDef)):
                found.add(n.name)
        return found


def functions(path: Path, source: engine.Source) -> list[Function]:
    found: list[Function] = []

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                found.append(Function(child, path, source, owner))
                visit(child, owner)
            else:
                visit(child, child.name if isinstance(child, ast.ClassDef) else owner)

    visit(source.tree, "")
    return found


def overrides() -> dict[str, str]:
    path = Path(__file__).with_name("locals.yaml")
    if not path.exists():
        return {}
    rows = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return dict(row.rsplit(": ", 1) for row in rows if row)


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    act = "apply" in sys.argv[2:]
    fixed = overrides()
    texts = {p: p.read_text("utf-8") for p in engine.sources(root)}
    sources = {p: engine.Source(t) for p, t in texts.items() if p.relative_to(root).parts[0] in CODE}
    tops = {p: set(engine.top_names(s.tree)) for p, s in sources.items()}
    exchanged: dict[Path, dict[int, tuple[ast.AST, str]]] = {p: {} for p in texts}  # node id → node, new
    elsewhere: dict[Path, set[tuple[int, int, str]]] = {}
    rows: list[str] = []
    parameters: dict[tuple[str, str], str] = {}  # (method, word) → new: overriding methods agree
    config = root / "pyrightconfig.json"
    include = [*CODE, "tests", "benchmarks"]
    config.write_text(json.dumps({"include": include, "pythonVersion": "3.11", "typeCheckingMode": "off"}))
    try:
        with Server(root, SERVER, root / ".venv/bin/python") as server:
            warm_up(server, root)
            for path, source in sources.items():
                module = engine.dotted(path.relative_to(root))
                command = module.startswith("harness.cli.")
                opened = False
                taken: dict[int, set[str]] = {}
                for function in functions(path, source):
                    args = {a.arg: a for a in function.args}
                    words = sorted(w for w in function.bound() if count.odd(w))
                    for word in words:
                        is_parameter = word in args
                        if is_parameter and command and getattr(function.node, "decorator_list", []):
                            continue
                        if not opened:
                            server.open(path)
                            opened = True
                        names = function.names_of(word)
                        if any(isinstance(n, (ast.Nonlocal, ast.Global)) and word in n.names for n in ast.walk(function.node)):
                            rows.append(f"{module}\t{function.name}\t{word}\tnonlocal: by hand\t")
                            continue
                        first = args[word] if is_parameter else next((n for n in names if isinstance(n.ctx, ast.Store)), None)
                        if first is None:
                            continue
                        column = len(source.data[source.starts[first.lineno - 1] :][: first.col_offset].decode())
                        hover = server.hover(path, first.lineno - 1, column)
                        match = re.search(rf"\b{word}: (.*)", hover)
                        kind = match[1] if match else ""
                        key = f"{module}:{function.name}.{word}"
                        used = function.all_names() | tops[path] | taken.setdefault(id(function.node), set()) | set(dir(builtins))
                        for outer, more in taken.items():
                            _ = outer
                            used |= more if False else set()
                        agreed = parameters.get((function.name, word)) if is_parameter and function.owner else None
                        options = [fixed[key]] if key in fixed else [*filter(None, [agreed]), *candidates(word, kind)]
                        new = next((name for name in options if name not in used), None)
                        if new is None:
                            rows.append(f"{module}\t{function.name}\t{word}\tno free name\t{kind}")
                            continue
                        taken[id(function.node)].add(new)
                        for inner in functions_inside(function):
                            taken.setdefault(id(inner), set()).add(new)
                        if is_parameter and function.owner:
                            parameters.setdefault((function.name, word), new)
                        rows.append(f"{module}\t{function.name}\t{word}\t{new}\t{kind}")
                        for node in names:
                            exchanged[path][id(node)] = (node, new)
                        if is_parameter:
                            exchanged[path][id(args[word])] = (args[word], new)
                            if not isinstance(function.node, ast.Lambda):
                                callers(server, root, path, texts, sources, args[word], word, new, elsewhere)
                if opened:
                    print(module, flush=True)
    finally:
        config.unlink()
    (root.parent / "locals.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    print(f"{len(rows)} names, listed in {root.parent / 'locals.tsv'}")
    if not act:
        return
    for path, nodes in exchanged.items():
        more = elsewhere.get(path, set())
        if nodes or more:
            write(path, texts[path], nodes, more)
    subprocess.run([RUFF, "format", "-q", *include], cwd=root, check=False)
    import moves

    moves.rewrap(root)


def functions_inside(function: Function) -> list[ast.AST]:
    return [n for n in ast.walk(function.node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]


def callers(server, root, path, texts, sources, arg, word, new, elsewhere) -> None:
    """Keyword arguments in calls: what a rename changes besides the function itself."""
    source = sources[path]
    column = len(source.data[source.starts[arg.lineno - 1] :][: arg.col_offset].decode())
    answer = server.rename(path, arg.lineno - 1, column, new)
    for uri, changes in answer.items():
        target = Path(unquote(urlparse(uri).path))
        lines = texts[target].splitlines(keepends=True)
        for change in changes:
            a = offset(lines, change["range"]["start"]["line"], change["range"]["start"]["character"])
            if texts[target][a : a + len(word)] == word and re.match(r"\s*=(?!=)", texts[target][a + len(word) :]):
                elsewhere.setdefault(target, set()).add((a, a + len(word), new))


def write(path: Path, text: str, nodes: dict[int, tuple[ast.AST, str]], more: set[tuple[int, int, str]]) -> None:
    """Edits one file, and proves the result."""
    source = engine.Source(text)
    edits: set[tuple[int, int, str]] = {(len(text[:a].encode()), len(text[:b].encode()), new) for a, b, new in more}
    expected = ast.parse(text)
    originals = {(n.lineno, n.col_offset, type(n)): new for n, new in nodes.values()}
    keywords = {(a, new) for a, _, new in edits}
    starts = {a: new for a, new in keywords}
    for node in ast.walk(expected):
        place = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0), type(node))
        if isinstance(node, (ast.Name, ast.arg)) and place in originals:
            old, new = node.id if isinstance(node, ast.Name) else node.arg, originals[place]
            start = source.at(node.lineno, node.col_offset)
            if source.get(start, start + len(old.encode())) != old:
                pattern = re.compile(rf"(?<![\w.]){old}\b".encode())
                match = pattern.search(source.data, source.starts[node.lineno - 1])
                start = match.start() if match else start
            edits.add((start, start + len(old.encode()), new))
            if isinstance(node, ast.Name):
                node.id = new
            else:
                node.arg = new
        elif isinstance(node, ast.keyword) and node.arg and source.at(node.lineno, node.col_offset) in starts:
            node.arg = starts[source.at(node.lineno, node.col_offset)]
    try:
        result = engine.apply(source.data, edits)
        same = ast.dump(ast.parse(result)) == ast.dump(expected)
    except (AssertionError, SyntaxError) as error:
        print(f"  {path}: {error}: left as it was")
        return
    if not same:
        print(f"  {path}: not proven: left as it was (an assignment in a function call, or an f-string)")
        return
    path.write_text(result, "utf-8")


if __name__ == "__main__":
    main()
