"""Source rewriting for moves of modules and names: edits of minimal spans, found by `ast` and `tokenize`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOTS = ("harness", "eager", "baselines", "tests", "benchmarks")
# Whole strings "eager.index" are settings as well as modules: left alone unless a module is meant beyond doubt.
SETTINGS_LIKE = {"eager.index", "eager.behavior", "eager.contrast", "eager.annealing", "eager.tree", "eager.config"}


def sources(root: Path) -> list[Path]:
    return sorted(p for name in ROOTS for p in (root / name).rglob("*.py") if "__pycache__" not in p.parts)


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_names(root: Path) -> dict[str, Path]:
    return {dotted(p.relative_to(root)): p.relative_to(root) for p in sources(root)}


class Source:
    """A file's text with byte offsets for the positions that `ast` gives."""

    def __init__(self, text: str) -> None:
        self.text, self.data = text, text.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tree = ast.parse(text)

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def get(self, start: int, end: int) -> str:
        return self.data[start:end].decode()


def apply(data: bytes, edits: Iterable[tuple[int, int, str]]) -> str:
    last = len(data) + 1
    for start, end, new in sorted(set(edits), reverse=True):
        assert end <= last, f"overlapping edits at {start}: {data[start:end]!r}"
        data = data[:start] + new.encode() + data[end:]
        last = start
    return data.decode()


def top_names(tree: ast.Module) -> dict[str, str]:
    """Names bound at the top of a module → `def` or `import MODULE`."""
    found: dict[str, str] = {}

    def visit(statements: list[ast.stmt]) -> None:
        for s in statements:
            if isinstance(s, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                found[s.name] = "def"
            elif isinstance(s, ast.ImportFrom):
                for a in s.names:
                    found[a.asname or a.name] = f"import {s.module}:{a.name}"
            elif isinstance(s, ast.Import):
                for a in s.names:
                    found[a.asname or a.name.split(".")[0]] = f"import {a.name}"
            elif isinstance(s, (ast.If, ast.Try, ast.With, ast.For)):
                visit(s.body)
                visit(getattr(s, "orelse", []))
                for handler in getattr(s, "handlers", []):
                    visit(handler.body)
            else:
                for node in ast.walk(s):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        found[node.id] = "def"
    visit(tree.body)
    return found


def bindings(tree: ast.Module) -> dict[str, int]:
    """How often each name is bound in the file, imports left out."""
    counts: dict[str, int] = {}
    def add(name: str | None) -> None:
        if name:
            counts[name] = counts.get(name, 0) + 1
    for n in ast.walk(tree):
        if isinstance(n, ast.Name) and isinstance(n.ctx, (ast.Store, ast.Del)):
            add(n.id)
        elif isinstance(n, ast.arg):
            add(n.arg)
        elif isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            add(n.name)
        elif isinstance(n, ast.ExceptHandler):
            add(n.name)
        elif isinstance(n, (ast.MatchAs, ast.MatchStar)):
            add(n.name)
    return counts


def global_nodes(source: Source, old: str) -> set[int]:
    """ids of the `Name` nodes that mean the module's own name `old`: not those in functions that bind it themselves."""
    found: set[int] = set()
    collect_global(source, old, lambda node: found.add(id(node)))
    return found


def import_bindings(tree: ast.Module) -> dict[str, set[str]]:
    """Bound name → what it is imported from, over all imports of the file, inner ones too."""
    found: dict[str, set[str]] = {}
    for n in ast.walk(tree):
        if isinstance(n, ast.ImportFrom):
            for a in n.names:
                found.setdefault(a.asname or a.name, set()).add(f"{n.module}.{a.name}")
        elif isinstance(n, ast.Import):
            for a in n.names:
                found.setdefault(a.asname or a.name.split(".")[0], set()).add(a.name)
    return found


@dataclass
class Plan:
    """Where modules and names go. `modules`: old → new (moved, or folded into). `symbols`: exceptions by name."""

    known: set[str]
    modules: dict[str, str] = field(default_factory=dict)
    symbols: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    tops: dict[str, dict[str, str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # modules that end with this step
    report: list[str] = field(default_factory=list)
    reexports: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def imported(self, module: str, name: str) -> tuple[str, str]:
        """Where an import of the name goes: to its definition, if the module had only imported it."""
        seen = set()
        while (module, name) in self.reexports and (module, name) not in seen:
            seen.add((module, name))
            module, name = self.reexports[module, name]
        return self.symbol(module, name)

    def symbol(self, module: str, name: str) -> tuple[str, str]:
        return self.symbols.get((module, name)) or (self.modules.get(module, module), name)

    def text(self, dots: str, *, sep: str = ".") -> str:
        """A dotted name in a string: `harness.jobs.cells.BOOT`, or `module:name`."""
        head, colon, tail = dots.partition(":")
        parts = head.split(".")
        for n in range(len(parts), 0, -1):
            module = ".".join(parts[:n])
            if module not in self.known:
                continue
            rest = parts[n:]
            if rest:
                if rest[0] not in self.tops.get(module, {}):
                    return dots
                new, name = self.symbol(module, rest[0])
                return ".".join([new, name, *rest[1:]]) + colon + tail
            if colon:
                first, *more = tail.split(".")
                new, name = self.symbol(module, first)
                return f"{new}:{'.'.join([name, *more])}"
            if module in SETTINGS_LIKE:
                return dots
            return self.modules.get(module, module)
        return dots


DOTS = re.compile(r"(?<![\w./-])(?:harness|eager|baselines|tests|benchmarks)(?:\.\w+)+(?::\w+(?:\.\w+)*)?(?!\.\w)(?![\w/])")
FROM = re.compile(r"\bfrom ((?:harness|eager|baselines|tests)(?:\.\w+)*) import (\w+(?: as \w+)?(?:, *\w+(?: as \w+)?)*)")


def rewrite(text: str, plan: Plan, me: str, name: str = "") -> str:
    """The text of module `me` (its new name) under the plan."""
    source = Source(text)
    edits: list[tuple[int, int, str]] = []
    bound, imported = bindings(source.tree), import_bindings(source.tree)
    names_used = {n.id for n in ast.walk(source.tree) if isinstance(n, ast.Name)}
    renames: dict[str, str] = {}  # local name → new name
    module_names: dict[str, str] = {}  # local name → old module it stands for
    extra_imports: set[tuple[str, str]] = set()
    inner: dict[ast.AST, list[ast.stmt]] = {}
    for node in ast.walk(source.tree):
        for block in ("body", "orelse", "finalbody"):
            children = getattr(node, block, None)
            for child in children if isinstance(children, list) else []:
                if isinstance(child, ast.stmt):
                    inner[child] = getattr(node, block)

    def free(old: str, new: str, origin: str) -> bool:
        """Whether the import binding `old` can become `new` everywhere in this file."""
        if old == new:
            return True
        if bound.get(old) or len(imported.get(old, ())) > 1:
            return False
        if new in bound or (new in imported and imported[new] != {origin}):
            return False
        taken = [k for k, v in renames.items() if v == new and k != old]
        return not taken

    dropped_of_block: dict[int, int] = {}
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.ImportFrom) and node.module and not node.level):
            continue
        if node.module.split(".")[0] not in ROOTS:
            continue
        groups: dict[str, list[str]] = {}
        changed = False
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            local = alias.asname or alias.name
            if full in plan.known:  # a module
                new = plan.modules.get(full, full)
                base, _, leaf = new.rpartition(".")
                module_names[local] = full
                if new == me:
                    renames[local] = ""
                    changed = True
                    continue
                if alias.asname:
                    wanted = alias.asname
                else:
                    wanted = leaf if free(local, leaf, new) else local
                if wanted == local and not alias.asname and leaf != local and not (wanted == leaf):
                    plan.report.append(f"{name}: {leaf} stays `as {local}`")
                renames[local] = wanted
                groups.setdefault(base, []).append(leaf if wanted == leaf else f"{leaf} as {wanted}")
                changed |= new != full or wanted != local
            else:
                new, symbol = plan.imported(node.module, alias.name)
                if new == me:
                    changed = True
                    if local != symbol:
                        if free(local, symbol, "") or (bound.get(symbol, 0) == 1 and not bound.get(local)):
                            renames[local] = symbol
                        else:
                            plan.report.append(f"{name}: {local} is {symbol} of this module: not renamed, by hand")
                    continue
                wanted = local
                if not alias.asname and symbol != alias.name and free(local, symbol, f"{new}.{symbol}"):
                    wanted = symbol
                    renames[local] = symbol
                groups.setdefault(new, []).append(symbol if wanted == symbol else f"{symbol} as {wanted}")
                changed |= (new, symbol) != (node.module, alias.name)
        if not changed:
            continue
        start, end = source.span(node)
        indent = " " * node.col_offset
        new_text = f"\n{indent}".join(f"from {base} import {', '.join(parts)}" for base, parts in groups.items())
        if not new_text:
            block = inner.get(node, source.tree.body)
            dropped_of_block[id(block)] = dropped_of_block.get(id(block), 0) + 1
            if dropped_of_block[id(block)] == len(block):
                new_text = "pass"
            else:
                start = source.at(node.lineno, 0)
                newline = source.data.find(b"\n", end)
                end = len(source.data) if newline < 0 else newline + 1
        edits.append((start, end, new_text))

    scoped: dict[str, set[int]] = {}
    attribute_of: dict[int, ast.Attribute] = {}
    call_of: dict[int, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attribute_of[id(node.value)] = node
        elif isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[0], ast.Name):
            if isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str):
                call_of[id(node.args[0])] = node.args[1].value
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Name) and node.id in renames):
            continue
        if bound.get(node.id):
            if node.id not in scoped:
                scoped[node.id] = global_nodes(source, node.id)
            if id(node) not in scoped[node.id]:
                continue
        start, end = source.span(node)
        if source.get(start, end) != node.id:
            match = re.compile(rf"(?<![\w.]){node.id}\b".encode()).search(source.data, source.starts[node.lineno - 1])
            assert match, f"{name}: cannot place {node.id}"
            start, end = match.span()
            plan.report.append(f"{name}:{node.lineno}: {node.id} in an f-string was placed by search")
        new = renames[node.id]
        if node.id in module_names:
            old = module_names[node.id]
            used = attribute_of[id(node)].attr if id(node) in attribute_of else call_of.get(id(node))
            if used is not None and (old, used) in plan.symbols:
                target, symbol = plan.symbols[old, used]
                if target == me and id(node) in attribute_of:
                    edits.append((start, source.span(attribute_of[id(node)])[1], symbol))
                    continue
                base, _, leaf = target.rpartition(".")
                if target != plan.modules.get(old, old):
                    extra_imports.add((base, leaf))
                    new = leaf
                if symbol != used and id(node) in attribute_of:
                    edits.append((source.span(attribute_of[id(node)])[1] - len(used.encode()), source.span(attribute_of[id(node)])[1], symbol))
                elif symbol != used:
                    plan.report.append(f"{name}:{node.lineno}: setattr of {used} is now {symbol}: by hand")
            elif new == "":
                if id(node) in attribute_of:
                    edits.append((start, source.span(attribute_of[id(node)])[1], attribute_of[id(node)].attr))
                else:
                    plan.report.append(f"{name}:{node.lineno}: own module {node.id} used as a value: by hand")
                continue
        if new != node.id:
            edits.append((start, end, new))
    # import a.b.c and chains
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in plan.modules:
                    start, end = source.span(alias)
                    piece = source.get(start, end)
                    edits.append((start, start + len(alias.name), plan.modules[alias.name]))
                    assert piece.startswith(alias.name)
        elif isinstance(node, ast.Attribute):
            chain = _chain(node)
            if chain and chain in plan.modules and chain.split(".")[0] in imported:
                start, end = source.span(node)
                edits.append((start, end, plan.modules[chain]))
    # strings and comments
    skip = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.STRING, tokenize.COMMENT):
            continue
        line = text.splitlines(keepends=True)[token.start[0] - 1] if False else None
        start = source.starts[token.start[0] - 1] + len(_line(source, token.start[0])[: token.start[1]].encode())
        raw = token.string
        taken: list[tuple[int, int]] = []
        for match in FROM.finditer(raw):
            new = _from_in_string(match, plan)
            if new != match.group():
                edits.append(_inside(start, raw, match.span(), new))
            taken.append(match.span())
        for match in DOTS.finditer(raw):
            if any(a <= match.start() < b for a, b in taken):
                continue
            new = plan.text(match.group())
            if new != match.group():
                edits.append(_inside(start, raw, match.span(), new))
    result = apply(source.data, edits)
    if extra_imports:
        lines = "".join(f"from {base} import {leaf}\n" for base, leaf in sorted(extra_imports))
        result = insert_imports(result, lines)
    return result


def _line(source: Source, number: int) -> str:
    return source.data[source.starts[number - 1] : source.starts[number]].decode()


def _inside(start: int, raw: str, span: tuple[int, int], new: str) -> tuple[int, int, str]:
    a = start + len(raw[: span[0]].encode())
    return a, a + len(raw[span[0] : span[1]].encode()), new


def _from_in_string(match: re.Match[str], plan: Plan) -> str:
    module, names = match.group(1), match.group(2)
    groups: dict[str, list[str]] = {}
    for item in re.split(r", *", names):
        name, _, alias = item.partition(" as ")
        full = f"{module}.{name}"
        if full in plan.known:
            new = plan.modules.get(full, full)
            base, _, leaf = new.rpartition(".")
            bound = alias or name
        else:
            base, leaf = plan.symbol(module, name)
            bound = alias or name
        groups.setdefault(base, []).append(leaf if bound == leaf else f"{leaf} as {bound}")
    return "; ".join(f"from {base} import {', '.join(parts)}" for base, parts in groups.items())


def _chain(node: ast.AST) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


# ---- segments of a module ----


@dataclass
class Segment:
    """A top-level statement with the comments and blank lines before it."""

    text: str
    node: ast.stmt
    names: set[str]

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @property
    def is_typing_block(self) -> bool:
        n = self.node
        return isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING"


@dataclass
class Parts:
    """A module taken apart: docstring, imports, `if TYPE_CHECKING:` blocks, body."""

    doc: str
    imports: list[str]
    typing: list[str]
    body: list[Segment]

    def text(self) -> str:
        doc = f'"""{self.doc}"""\n\n' if self.doc else ""
        future = "from __future__ import annotations\n\n"
        imports = "".join(dict.fromkeys(line.strip("\n") + "\n" for line in self.imports))
        typing = ""
        if self.typing:
            lines = dict.fromkeys(line for block in self.typing for line in block.splitlines() if line.strip())
            typing = "\nif TYPE_CHECKING:\n" + "\n".join(lines) + "\n"
        body = "\n".join(s.text.strip("\n") + "\n\n" for s in self.body)
        return doc + future + imports + typing + "\n\n" + body


def take_apart(text: str) -> Parts:
    source = Source(text)
    doc, imports, typing, body = "", [], [], []
    previous = 0
    statements = source.tree.body
    for number, node in enumerate(statements):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        end_line = node.end_lineno
        end = source.starts[end_line]
        segment_text = source.get(previous, end)
        is_doc = number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        # a string under an assignment documents it
        if (
            body
            and isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            and isinstance(body[-1].node, (ast.Assign, ast.AnnAssign))
        ):
            body[-1].text += segment_text
            previous = end
            continue
        previous = end
        if is_doc:
            raw = source.get(*source.span(node))
            doc = raw[3:-3]
            assert raw.startswith('"""'), raw
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        segment = Segment(segment_text, node, set(top_names(ast.Module([node], []))))
        if segment.is_import:
            imports.append(segment_text)
        elif segment.is_typing_block:
            block_start = source.starts[node.body[0].lineno - 1]
            typing.append(source.get(block_start, source.starts[node.end_lineno]))
        else:
            body.append(segment)
        _ = first
    tail = source.get(previous, len(source.data))
    if tail.strip() and body:
        body[-1].text += tail
    return Parts(doc, imports, typing, body)


def insert_imports(text: str, lines: str) -> str:
    """Puts import lines behind the first top-level import."""
    source = Source(text)
    imports = [n for n in source.tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    if imports:
        where = source.starts[imports[-1].end_lineno]
    else:
        first = source.tree.body[0]
        where = source.starts[first.end_lineno]
        lines = "\n" + lines
    return source.get(0, where) + lines + source.get(where, len(source.data))


class Immediate(ast.NodeVisitor):
    """Names that running a statement at import time needs: all but what stands in bodies of functions. Annotations in
    class bodies count, because dataclasses and pydantic look at them."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.in_class = 0

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.id)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]:
            self.visit(part)
        for statement in node.body:
            self.visit(statement)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(part)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass


def ordered(body: list[Segment]) -> list[Segment]:
    """The segments, each behind those that it needs at import time; otherwise in their order."""
    home: dict[str, int] = {}
    for number, segment in enumerate(body):
        for name in segment.names:
            home.setdefault(name, number)
    needs: list[set[int]] = []
    for number, segment in enumerate(body):
        visitor = Immediate()
        visitor.visit(segment.node)
        needs.append({home[n] for n in visitor.names if n in home} - {number})
    done: list[int] = []
    state: dict[int, int] = {}

    def place(number: int) -> None:
        if state.get(number):
            return
        state[number] = 1
        for need in sorted(needs[number]):
            place(need)
        done.append(number)

    for number in range(len(body)):
        place(number)
    return [body[number] for number in done]


def collect_global(source: Source, old: str, act: Callable[[ast.Name], object]) -> None:
    """Calls `act` with each `Name` node that means the module's top-level `old`."""

    def binds(node: ast.AST) -> bool:
        """Whether a function binds `old` itself."""
        args = node.args
        if any(a.arg == old for a in [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]):
            return True
        body = node.body if isinstance(node.body, list) else [node.body]
        stack, declared = list(body), False
        while stack:
            n = stack.pop()
            if isinstance(n, ast.Global) and old in n.names:
                declared = True
            if isinstance(n, ast.Name) and n.id == old and isinstance(n.ctx, ast.Store):
                return not declared
            if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                if n.name == old:
                    return True
                continue
            if isinstance(n, (ast.Import, ast.ImportFrom)) and any((a.asname or a.name) == old for a in n.names):
                return True
            if isinstance(n, ast.Lambda):
                continue
            if isinstance(n, ast.ExceptHandler) and n.name == old:
                return True
            stack += list(ast.iter_child_nodes(n))
        return False

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for part in [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]:
                visit(part)
            if not isinstance(node, ast.Lambda):
                for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *filter(None, [node.args.vararg, node.args.kwarg])]:
                    if a.annotation:
                        visit(a.annotation)
                if node.returns:
                    visit(node.returns)
            if not binds(node):
                for child in node.body if isinstance(node.body, list) else [node.body]:
                    visit(child)
            return
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            if any(isinstance(n, ast.Name) and n.id == old and isinstance(n.ctx, ast.Store) for g in node.generators for n in ast.walk(g.target)):
                visit(node.generators[0].iter)
                return
        if isinstance(node, ast.ClassDef) and any(
            isinstance(n, ast.Name) and n.id == old and isinstance(n.ctx, ast.Store)
            for statement in node.body
            if isinstance(statement, (ast.Assign, ast.AnnAssign))
            for n in ast.walk(statement)
        ):
            for part in [*node.decorator_list, *node.bases]:
                visit(part)
            for statement in node.body:  # the class's own name hides ours there, not in its methods
                if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    visit(statement)
            return
        if isinstance(node, ast.Name) and node.id == old:
            act(node)
        for child in ast.iter_child_nodes(node):
            visit(child)

    for statement in source.tree.body:
        if not isinstance(statement, ast.ImportFrom):
            visit(statement)


def rename_top(text: str, old: str, new: str) -> str:
    """Renames a module's own top-level name in its text (scopes that bind the name themselves are left alone)."""
    source = Source(text)
    edits: list[tuple[int, int, str]] = []

    def act(node: ast.Name) -> None:
        start, end = source.span(node)
        if source.get(start, end) != old:
            match = re.compile(rf"(?<![\w.]){old}\b".encode()).search(source.data, source.starts[node.lineno - 1])
            assert match, f"cannot place {old}"
            start, end = match.span()
        edits.append((start, end, new))

    collect_global(source, old, act)
    for statement in source.tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and statement.name == old:
            start = source.at(statement.lineno, statement.col_offset)
            match = re.compile(rf"\b{old}\b".encode()).search(source.data, start)
            edits.append((*match.span(), new))
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == old:
                    edits.append((*source.span(alias), f"{alias.name} as {new}"))
    return apply(source.data, edits)
