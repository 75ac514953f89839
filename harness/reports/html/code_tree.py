"""Code-tree view: the first two levels of a run's item codes, with titles as examples.

Only the tokens with most items are shown; the others are counted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from harness.core.json_files import read_json_object
from harness.data.dataset import Dataset
from harness.data.readers.lcrec import INDEX as ENDING
from harness.errors import InputError
from harness.reports.html.document import Figure, View, broken, shown
from harness.reports.leaderboard import Row
from harness.reports.tables import text_table
from harness.reports.values import grouped

FIRST, SECOND = 16, 15  # number of tokens that are shown: of the first level, and below each of them
EXAMPLES, TITLE, WIDE = 3, 52, 20  # titles in a box, characters of a title, and characters of a line
HEIGHT = 680
ROOT = "first tokens"


@dataclass(frozen=True)
class Node:
    """A token of the tree, or all other tokens below a token. `items` are positions in the catalogue."""

    key: str
    label: str
    parent: str
    items: tuple[int, ...]


def figures(
    rows: Sequence[Row], dataset: Dataset | None = None, counts: np.ndarray | None = None
) -> tuple[list[Figure], list[str]]:
    """One figure, if any codes are stored, with one view for each model, of its first seed that has them. `counts`:
    training interactions an item, int64 (items,); with `dataset` None there are no titles and no counts. Also returns
    messages about unreadable codes."""
    views, notes = [], []
    for row in rows:
        path = next((path for run in row.runs for path in sorted(run.folder.path.glob(f"*{ENDING}"))), None)
        if path is None:
            continue
        try:
            codes = _codes(path, None if dataset is None else dataset.items)
        except InputError as error:
            notes.append(f"The codes of {row.model} are not shown: {error}")
            continue
        views.append(_view(row.model, codes, dataset, counts))
    if not views:
        return [], notes
    description = (
        f"Tokens of the first level of the item codes, the {FIRST} biggest: area is the number of items, colour their "
        "mean training interactions, and the titles are those bought most. Items of one token should be alike. A click "
        f"on a token shows the second level below it, its {SECOND} biggest tokens apart."
    )
    return [Figure("tree", "Code tree", description, "of", tuple(views))], notes


def nodes(codes: Sequence[tuple[str, ...]]) -> list[Node]:
    """The biggest tokens of the first level, ties by name, under a root that has their items; below each its biggest
    tokens of the second level, and the others of them together.

    >>> [(node.label, len(node.items)) for node in nodes([("a1", "b1"), ("a1", "b2"), ("a2", "b1")])]
    [('first tokens', 3), ('a1', 2), ('b1', 1), ('b2', 1), ('a2', 1), ('b1', 1)]
    """
    firsts, _ = _grouped(codes, range(len(codes)), 0, FIRST, ROOT)
    result = [Node(ROOT, ROOT, "", tuple(item for node in firsts for item in node.items))]
    for first in firsts:
        result.append(first)
        if len(codes[0]) > 1:
            seconds, rest = _grouped(codes, first.items, 1, SECOND, first.key)
            result += seconds
            result += [Node(f"{first.key}/…", "other tokens", first.key, tuple(rest))] if rest else []
    return result


def _grouped(
    codes: Sequence[tuple[str, ...]], items: Sequence[int], level: int, limit: int, parent: str
) -> tuple[list[Node], list[int]]:
    """The biggest tokens of a level among items, and the items of all others."""
    below = grouped(items, lambda item: codes[item][level])
    order = sorted(below, key=lambda token: (-len(below[token]), len(token), token))
    names, rest = order[:limit], order[limit:]
    selected_nodes = [Node(f"{parent}/{token}", token, parent, tuple(below[token])) for token in names]
    return selected_nodes, [item for token in rest for item in below[token]]


def _codes(path: Path, items: Sequence[str] | None) -> list[tuple[str, ...]]:
    """Tokens an item, in the catalogue's order. Raises `InputError` for a file that is no index of it."""
    index = read_json_object(path)
    if items is not None and index.keys() != set(items):
        raise InputError("these are not the items of the data set", where=str(path), code="incompatible")
    codes = []
    for item in index if items is None else items:
        tokens = index[item]
        if not (isinstance(tokens, list) and tokens and all(isinstance(token, str) for token in tokens)):
            raise InputError(f"the code of item {item!r} is no list of tokens", where=str(path), code="bad-line")
        codes.append(tuple(tokens))
    if len({len(code) for code in codes}) > 1 or not codes:
        raise InputError("codes of unequal length" if codes else "no codes", where=str(path), code="bad-line")
    return codes


def _view(model: str, codes: list[tuple[str, ...]], dataset: Dataset | None, counts: np.ndarray | None) -> View:
    tree = nodes(codes)
    examples = [_examples(node, dataset, counts) for node in tree]
    means = [None if counts is None else float(counts[list(node.items)].mean()) for node in tree]
    lines = [
        {
            "first token": node.label,
            "items": f"{len(node.items):,}",
            "mean training interactions": "" if mean is None else f"{mean:.1f}",
            "for example": "; ".join(titles),
        }
        for node, titles, mean in zip(tree, examples, means, strict=True)
        if node.parent == ROOT
    ]
    sheet = text_table(f"Codes of {model}", lines, left=("first token",), wraps=("for example",))
    tokens = len({code[0] for code in codes})
    message = (
        f"Treemap of the item codes of {model}: {len(codes):,} items under {tokens:,} first tokens, the biggest with "
        f"{len(tree[1].items):,} items. First tokens with example titles are in the table below."
    )
    return View(model, _plot(tree, examples, means), message, sheet)


def _plot(tree: Sequence[Node], examples: Sequence[Sequence[str]], means: Sequence[float | None]) -> go.Figure:
    values = [None if mean is None else round(float(np.log10(mean + 1)), 4) for mean in means]
    marks = sorted({0, 1, 3, 10, 30, 100, 300, 1000, 10000} & set(range(int(max((m or 0) for m in means)) + 2)))
    marker = {}
    if any(value is not None for value in values):
        bar = {
            "title": {"text": "mean training interactions", "side": "bottom"},
            "tickvals": [float(np.log10(mark + 1)) for mark in marks],
            "ticktext": [f"{mark:,}" for mark in marks],
            "thickness": 12,
            "orientation": "h",
            "y": -0.02,
            "yanchor": "top",
        }
        marker = {"colors": values, "colorscale": "Cividis", "showscale": True, "colorbar": bar}
    trace = go.Treemap(
        ids=[node.key for node in tree],
        labels=[shown(node.label) for node in tree],
        parents=[node.parent for node in tree],
        values=[len(node.items) for node in tree],
        branchvalues="total",
        text=[
            "<br>".join(f"• {broken(title, WIDE)}" for title in titles) if node.parent else ""
            for node, titles in zip(tree, examples, strict=True)
        ],
        customdata=[None if mean is None else round(mean, 2) for mean in means],
        hovertemplate="%{label}: %{value:,} items<br>%{text}<extra></extra>",
        texttemplate="<b>%{label}</b> %{value:,}<br>%{text}",
        marker={**marker, "line": {"width": 1}},
        tiling={"pad": 1, "packing": "binary"},
        maxdepth=2,
        sort=True,
    )
    return go.Figure(
        data=[trace],
        layout=go.Layout(
            template="none",
            height=HEIGHT,
            autosize=True,
            margin={"l": 8, "r": 8, "t": 8, "b": 80},
            uniformtext={"minsize": 9, "mode": "hide"},
        ),
    )


def _examples(node: Node, dataset: Dataset | None, counts: np.ndarray | None) -> list[str]:
    """The titles of the node's most frequent items; empty without titles."""
    if dataset is None or dataset.text is None:
        return []
    order = sorted(node.items, key=lambda item: (0 if counts is None else -int(counts[item]), item))
    titles = [" ".join(dataset.text[item].title.split()) for item in order[: 4 * EXAMPLES]]
    names = list(dict.fromkeys(title for title in titles if title))[:EXAMPLES]
    return [title if len(title) <= TITLE else f"{title[: TITLE - 1].rstrip()}…" for title in names]
