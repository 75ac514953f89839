"""Figures of a checkout: `python count.py ROOT [--words]`: files, lines, circles of imports, lengths of files and
functions, and the share of non-vocabulary names among variables and parameters (with --words: which, how often)."""

from __future__ import annotations

import ast
import collections
import statistics
import sys
from pathlib import Path

CODE = ("harness", "eager", "baselines")
# Participles and function words of the old private vocabulary, as HOUSE.md's section 2 describes it. Words that the
# field uses as names (`left`/`right`, `lost` as a metric …) count too: the list is one measure for before and after.
WORDS = set(
    "found kept told what made where said known asked mend given wanted meant seen held taken left weary look "
    "about above again alike all alone also among anew anybody apart aside away before behind below beside between "
    "both bought beyond came cut dealt done drawn due each either else elsewhere enough every everybody fits further "
    "gave gone got had has here hers his how it its itself kind least less lone lost manner many meanwhile mine more "
    "most much named nearest never new nobody none nothing now often once one only other others ours own owed put "
    "rather read rest same say shown since some somebody something soon spoken stands still such than that then there "
    "therefore these they thing this those though thought through thus till together too twice under until upon us "
    "used usual very way well went were when whence which while who whole whom whose why with within without word "
    "worth written yet yielded begun broken built called chosen counted credited far few fitted forbidden full "
    "guarded heard hidden hurt joined listed looks lent let live long meets missed moved offered opened parted past "
    "played pushed raised ranked reached rewound ruled sealed sent settled shared skipped sought spent spread started "
    "stopped stored stuck suited swept thrown tied tried turned unfit unheard warned weighed".split()
)
# Plain adjectives and nouns that peers use as names as well are no sign of a private vocabulary.
USUAL = set(
    "all before below above between full kind left long live new none other own past read rest same shared start "
    "started stored used word with name listed ranked under built called counted chosen fitted joined now few far "
    "skipped opened sent spread such that this one others one's stopped tried cut both first due each every done".split()
)


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def load(root: Path) -> dict[str, tuple[Path, str, ast.Module]]:
    found = {}
    for name in CODE:
        for path in sorted((root / name).rglob("*.py")):
            text = path.read_text("utf-8")
            found[module_of(path.relative_to(root))] = (path, text, ast.parse(text))
    return found


def edges(modules: dict[str, tuple[Path, str, ast.Module]]) -> dict[str, set[str]]:
    """Imports between modules, inside functions and for typing too."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, (_, _, tree) in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    target = full if full in modules else node.module
                    if target in modules and target != name:
                        graph[name].add(target)
            elif isinstance(node, ast.Import):
                graph[name] |= {a.name for a in node.names if a.name in modules and a.name != name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    sys.setrecursionlimit(10_000)

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def names(tree: ast.Module) -> list[str]:
    """Parameters and local variables, once a function or class (as HOUSE.md counts bindings)."""
    found: list[str] = []

    def scope(node: ast.AST) -> None:
        bound: set[str] = set()
        args = node.args
        for a in [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]:
            bound.add(a.arg)
        stack = list(node.body) if isinstance(node.body, list) else [node.body]
        while stack:
            n = stack.pop()
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                bound.add(n.id)
            if isinstance(n, ast.ExceptHandler) and n.name:
                bound.add(n.name)
            stack += list(ast.iter_child_nodes(n))
        found.extend(bound)

    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            scope(node)
    return [name for name in found if name not in ("self", "cls", "_")]


def odd(name: str) -> bool:
    return name.strip("_") in WORDS - USUAL


def percentile(values: list[int], share: float) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    root = Path(sys.argv[1])
    modules = load(root)
    lengths = [len(text.splitlines()) for _, text, _ in modules.values()]
    substantial = [n for n in lengths if n > 2]
    print(f"files {len(lengths)} ({len(substantial)} of more than two lines), lines {sum(lengths)}")
    longest = max(modules, key=lambda m: len(modules[m][1].splitlines()))
    print(f"file median {statistics.median(substantial):g}, p90 {percentile(substantial, 0.9)}, longest {max(lengths)} ({longest})")
    graph = edges(modules)
    found = circles(graph)
    print(f"import circles {len(found)}", *("  " + " <-> ".join(group) for group in found), sep="\n")
    functions = [
        n.end_lineno - n.lineno + 1
        for _, _, tree in modules.values()
        for n in ast.walk(tree)
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    print(f"functions {len(functions)}, median {statistics.median(functions):g}, p90 {percentile(functions, 0.9)}, longest {max(functions)}")
    bindings = [name for _, _, tree in modules.values() for name in names(tree)]
    bad = collections.Counter(name for name in bindings if odd(name))
    share = 100 * sum(bad.values()) / len(bindings)
    print(f"names of variables and parameters {len(bindings)}, non-vocabulary {sum(bad.values())} = {share:.2f}%")
    if "--words" in sys.argv:
        print(" ".join(f"{word}:{n}" for word, n in bad.most_common()))


if __name__ == "__main__":
    main()
