"""Columns of memorisation: whether a row's language model knew the catalogue, from stored results of `harness audit
memory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.reports.leaderboard import Board, Row
from harness.reports.tables import DIGITS
from harness.store.record import read_memory_probe

PROBES = {"ids": "memory: ids", "neighbours": "memory: neighbours"}
RANDOM = "random weights"
NOT_MEASURED = "not measured"
ABOUT = (
    "memory: how much better (nats a token, ± standard error) the row's language model, as it came, predicts a title "
    "after its own id, or after the titles before it, than in the contexts of other items (harness audit memory); the "
    "neighbours' gain may be knowledge of the items."
)


def with_memory(board: Board, root: Path) -> Board:
    """The board with the stored probe of the language model of each row that has one."""
    return replace(board, rows=tuple(replace(row, memory=_probe(board, row, root)) for row in board.rows))


def texts(row: Row) -> dict[str, str]:
    """The formatted columns; empty for a row without a language model."""
    return {title: _text(row.memory, name) for name, title in PROBES.items()}


def notes(board: Board) -> list[str]:
    """Explains the columns, if there are figures."""
    return [ABOUT] if any(name in row.memory for row in board.rows for name in PROBES) else []


def cells(row: Row) -> dict[str, Any]:
    """For CSV and JSON: gain and standard error of each probe; empty if nothing was measured."""
    entries = {}
    for name in PROBES:
        if isinstance(part := row.memory.get(name), Mapping):
            entries |= {f"memory.{name}": part["gain"], f"memory.{name}_se": part["standard_error"]}
    return entries


def _probe(board: Board, row: Row, root: Path) -> dict[str, Any]:
    backbone = _backbone(row)
    if backbone is None:
        return {}
    name = str(backbone["name"])
    if backbone.get("weights") == "random" or name in ("random-llama", "tiny-random"):
        return {"status": RANDOM}
    probe = read_memory_probe(root, (board.dataset.name, board.dataset.fingerprint), name)
    return {"status": NOT_MEASURED} if probe is None else probe


def _backbone(row: Row) -> Mapping[str, Any] | None:
    """The section `backbone` of the row's settings."""
    for section in row.runs[0].settings.values() if row.runs else ():
        if isinstance(section, Mapping) and isinstance(section.get("backbone"), Mapping):
            return section["backbone"]
    return None


def _text(memory: Mapping[str, Any], name: str) -> str:
    part = memory.get(name)
    if not isinstance(part, Mapping):
        return str(memory.get("status", ""))
    return f"{part['gain']:+.{DIGITS}f} ± {part['standard_error']:.{DIGITS}f}"
