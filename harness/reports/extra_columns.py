"""Further columns of a board: language comprehension, memorisation of the catalogue, and the report card.

Comprehension: `comprehension[stage][figure]` of a record is a number or a mapping of numbers; stages are `before` (the
base model), `aligned` (after stage 1), `annealed` and `reinforced` (after GRPO). A record may lack any part.
Memorisation: whether a row's language model knew the catalogue, from stored results of `harness audit memory`.
Report card: metrics by groups of users, and properties of the lists. Values are means over seeds; intervals have users
as sampling unit. `harness.evaluation.card` defines the groups and measures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.evaluation import card
from harness.evaluation.card import HEAD, LONG, RARE, K
from harness.evaluation.significance import LEVEL
from harness.protocol.protocol import unit_of
from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import Measured, measured
from harness.reports.tables import ReportTable, text_table
from harness.reports.values import DIGITS, metric_text
from harness.store.record import memory_file, read_document

STAGES = ("reinforced", "annealed", "aligned", "before")  # the last one first: a run's last stage is shown
PROBES = {"ids": "memory: ids", "neighbours": "memory: neighbours"}
MEMORY_NOTE = (
    "memory: how much better (nats a token, ± standard error) the row's language model, as it came, predicts a title "
    "after its own id, or after the titles before it, than in the contexts of other items (harness audit memory); the "
    "neighbours' gain may be knowledge of the items."
)
MEASURES = {
    "coverage": f"coverage@{K}",
    "gini": f"Gini@{K}",
    "novelty": f"novelty@{K} (bits)",
    "popularity_share": f"head share@{K}",
}
ABOUT = (
    "memorised: the target followed the user's last item in training; one hop: not so, but a training sequence has it "
    f"with another item of the history. cold, rare, warm: 0, 1 to {RARE - 1}, {RARE} or more training interactions of "
    f"the target. head: the {HEAD:.0%} of items bought most in training. history: items before the target, at "
    f"most {LONG} or more than that."
)
LISTS = (
    f"In the first {K} items of each list: coverage, the share of the catalogue listed; Gini, inequality of how often "
    "items are listed; novelty, mean self-information; head share, listed items of the head."
)


def comprehension_texts(values: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """The formatted columns: figures of the last stage that has them, means over seeds; perplexities with the value of
    the base model. Empty if nothing was measured."""

    def last(figure: str, stages: Sequence[str] = STAGES) -> str:
        values_of_runs = next(filter(None, (values.get(f"{stage}.{figure}") for stage in stages)), None)
        return _short(math.fsum(values_of_runs) / len(values_of_runs)) if values_of_runs else ""

    def change(figure: str) -> str:
        return " → ".join(filter(None, (last(figure, STAGES[-1:]), last(figure, STAGES[:-1]))))

    return {
        "title→code": last("title_to_code.exact"),
        "title→code F1": last("title_to_code.token_f1"),
        "code→title": last("code_to_title.exact"),
        "code→title F1": last("code_to_title.token_f1"),
        "item text ppl": change("item_text_perplexity"),
        "plain text ppl": change("plain_text_perplexity"),
        "plain text drift": last("plain_text_drift"),
    }


def _short(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> _short(0.04567), _short(23.456), _short(123456.7)
    ('0.0457', '23.5', '123,457')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def with_memory(board: Board, root: Path) -> Board:
    """The board with the stored probe of the language model of each row that has one."""
    return replace(board, rows=tuple(replace(row, memory=_probe(board, row, root)) for row in board.rows))


def memory_texts(row: Row) -> dict[str, str]:
    """The formatted columns; empty for a row without a language model."""
    status = str(row.memory.get("status", ""))
    parts = {title: row.memory.get(name) for name, title in PROBES.items()}
    return {
        title: f"{part['gain']:+.{DIGITS}f} ± {part['standard_error']:.{DIGITS}f}" if part else status
        for title, part in parts.items()
    }


def memory_notes(board: Board) -> list[str]:
    """Explains the columns, if there are figures."""
    return [MEMORY_NOTE] if any(name in row.memory for row in board.rows for name in PROBES) else []


def memory_cells(row: Row) -> dict[str, Any]:
    """For CSV and JSON: gain and standard error of each probe; empty if nothing was measured."""
    entries = {}
    for name in PROBES:
        if part := row.memory.get(name):
            entries |= {f"memory.{name}": part["gain"], f"memory.{name}_se": part["standard_error"]}
    return entries


def _probe(board: Board, row: Row, root: Path) -> dict[str, Any]:
    sections = row.runs[0].settings.values() if row.runs else ()
    backbones = (section.get("backbone") for section in sections if isinstance(section, Mapping))
    backbone = next((one for one in backbones if isinstance(one, Mapping)), None)
    if backbone is None:
        return {}
    name = str(backbone["name"])
    if backbone.get("weights") == "random" or name in ("random-llama", "tiny-random"):
        return {"status": "random weights"}
    probe = read_document(memory_file(root, (board.dataset.name, board.dataset.fingerprint), name), "ids")
    return {"status": "not measured"} if probe is None else probe


def with_card(board: Board, metric: str, location: str | None = None) -> Board:
    """The board with the card of its data and of every row that was measured here. `location` is the data set's name or
    folder, if the runs' configuration does not have it. If data or lists are missing, the card says so."""
    runs = [run for row in board.rows for run in row.runs]
    if not runs:
        return board
    try:
        base = measured(runs, location)
    except InputError as error:
        return replace(board, card={"missing": [f"no report card: {error}"]})
    carded, missing = on_data(board, metric, base)
    return replace(carded, card={**carded.card, "missing": missing})


def on_data(board: Board, metric: str, base: Measured) -> tuple[Board, list[str]]:
    """Adds the cards, given the data; also returns a message for each row without a card."""
    groups = card.case_groups(base.split)
    rows, missing = [], []
    for row in board.rows:
        try:
            rows.append(replace(row, card=_card_of(row, metric, base, groups)) if row.runs else row)
        except InputError as error:
            rows.append(row)
            missing.append(f"{row.model} has no report card: {error}")
    return replace(board, rows=tuple(rows), card=card.data_card(base.split, groups)), missing


def card_texts(row: Row) -> dict[str, str]:
    """A row's card as columns; empty texts where it has none."""
    if not row.card:
        return dict.fromkeys([*(name for names in card.GROUPS.values() for name in names), *MEASURES.values()], "")
    entries = {part["name"]: metric_text(part["mean"]) for part in row.card["groups"]}
    return entries | _measures(row)


def card_notes(board: Board) -> list[str]:
    """Sizes and definitions of the groups, or why there is no card."""
    about, missing = board.card, board.card.get("missing", [])
    if "groups" not in about:
        return missing
    parts = ", ".join(f"{part['name']} {part['users']:,} ({part['share']:.1%})" for part in about["groups"])
    sizes = f"Test users by group, of {about['users']:,}"
    if "distinct_users" in about:
        sizes = f"Test cases by group, of {about['users']:,} of {about['distinct_users']:,} users"
    return [f"{sizes}: {parts}.", f"{ABOUT} {LISTS}", *missing]


def card_sheets(board: Board, metric: str) -> list[ReportTable]:
    """Tables of each row's metric and interval by group, and of the properties of the lists."""
    rows = [row for row in board.rows if row.card]
    total = board.card["users"]
    unit = unit_of(board.protocol.name)
    lines = [
        {
            f"test {unit}": part["name"],
            unit: f"{part['users']:,}",
            "share": f"{part['users'] / total:.1%}",
            **{row.model: _bounded(row, number) for row in rows},
        }
        for number, part in enumerate(board.card["groups"])
    ]
    notes = [f"{LEVEL:.0%} intervals by bootstrap over users, for looking: harness compare tests."]
    tables = [text_table(f"{metric} by groups of test {unit}", lines, left=(f"test {unit}",), notes=notes)]
    if rows:
        lines = [{"model": row.model, **_measures(row)} for row in rows]
        tables.append(text_table(f"What the lists hold, first {K} items", lines, left=("model",), notes=[LISTS]))
    return tables


def _card_of(row: Row, metric: str, base: Measured, groups: Sequence[card.Group]) -> dict[str, Any]:
    values = base.values(row.runs, (metric,))[metric].mean(axis=0)
    lists = [card.list_measures(base.lists(run), base.split.train) for run in row.runs]
    measures = {name: [value for one in lists if (value := one[name]) is not None] for name in MEASURES}
    return {
        "metric": metric,
        "groups": card.group_metrics(values, groups, base.clusters),
        "lists": {name: statistics.fmean(numbers) if numbers else None for name, numbers in measures.items()},
    }


def _measures(row: Row) -> dict[str, str]:
    return {text: metric_text(row.card["lists"][name]) for name, text in MEASURES.items()}


def _bounded(row: Row, number: int) -> str:
    part = row.card["groups"][number]
    if part["mean"] is None:
        return "-"
    return f"{part['mean']:.{DIGITS}f} ({part['low']:.{DIGITS}f} to {part['high']:.{DIGITS}f})"
