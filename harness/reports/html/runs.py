"""Protocol and provenance of a board: its rules, when and where each run was executed, and the command to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.reports.leaderboard import Board, Row
from harness.reports.per_user import configuration
from harness.reports.tables import Column, ReportTable, TableRow
from harness.store.record import Env, Record
from harness.store.run_store import StoredRun

EXTERNAL = "external"  # the family of imported rankings
COMMIT = 10  # characters of a git commit that are shown


def facts(board: Board) -> dict[str, str]:
    """Facts that all runs of a board share, as name and text."""
    data, rules = board.dataset, board.protocol
    fields = {
        "data set": f"{data.name}: {data.users:,} users, {data.items:,} items, {data.interactions:,} interactions",
        "data fingerprint": data.fingerprint,
        "protocol": f"{rules.name}, history of at most {rules.max_history} items, "
        f"items of the history {'taken out of' if rules.exclude_history else 'left in'} the lists",
        "split fingerprint": rules.fingerprint,
    }
    if rules.cut is not None:
        fields["cut"] = " and ".join(map(str, rules.cut))
    count = sum(len(row.runs) for row in board.rows)
    return fields | {"runs": f"{count:,} of {len({row.model for row in board.rows if row.runs}):,} models"}


def sheets(board: Board) -> list[ReportTable]:
    """Tables of the runs and of their environments."""
    environments: dict[str, tuple[int, Env]] = {}
    lines = []
    for row, run in _runs(board):
        record = run.record
        key = record.env.model_dump_json(include={"python", "platform", "packages"})
        number, _ = environments.setdefault(key, (len(environments) + 1, record.env))
        lines.append(_line(row, record, number))
    heads = (
        Column("#"),
        Column("model", left=True),
        Column("seed"),
        Column("run id", left=True),
        Column("settings", left=True, wraps=True),
        Column("profile", left=True),
        Column("started", left=True),
        Column("finished", left=True),
        Column("device", left=True),
        Column("environment"),
        Column("method's version", left=True),
        Column("commit", left=True),
        Column("sessions"),
    )
    notes = ("Times are UTC. A + behind a commit: files differed from it.",)
    places = [
        TableRow((str(number), env.python, env.platform, ", ".join(f"{k} {v}" for k, v in env.packages.items())))
        for number, env in environments.values()
    ]
    names = (Column("environment"), Column("python", left=True), Column("platform", left=True))
    packages = Column("packages", left=True, wraps=True)
    return [
        ReportTable("Runs", heads, tuple(lines), notes),
        ReportTable("Environments", (*names, packages), tuple(places)),
    ]


def commands(board: Board, results: Path) -> list[str]:
    """One command for each run, in the board's order."""
    return [command(run, results) for _, run in _runs(board)]


def command(run: StoredRun, results: Path) -> str:
    """The shell command that repeats a run. Imported rankings are measured again from their file."""
    record, fields = run.record, configuration(run)
    data = str(fields.get("dataset") or record.dataset.name)
    names = [] if results == Path("results") else ["--results", str(results)]
    seed = [] if record.seed is None else ["--seed", str(record.seed)]
    if record.family == EXTERNAL:
        file, rules = str(record.details.get("file", "FILE")), record.protocol
        changed = ["--set", "protocol.exclude_history=true"] if rules.exclude_history else []
        sets = ["--protocol", rules.name.partition("/")[0], *changed]
        return shlex.join(["harness", "evaluate", file, "-d", data, "--name", record.model, *seed, *sets, *names])
    words = ["harness", "run", record.model, "-d", data, "--config", str(run.folder.config)]
    return shlex.join([*words, *seed, *names])


def _runs(board: Board) -> list[tuple[Row, StoredRun]]:
    return [(row, run) for row in board.rows for run in row.runs]


def _line(row: Row, record: Record, environment: int) -> TableRow:
    texts: Sequence[Any] = (
        row.rank or "",
        record.model,
        "" if record.seed is None else record.seed,
        record.run_id,
        row.note,
        record.profile,
        f"{record.started:%Y-%m-%d %H:%M}",
        f"{record.finished:%Y-%m-%d %H:%M}",
        record.cost.device or "",
        environment,
        record.env.code_version,
        _commit(record.env.revision),
        record.details.get("sessions", ""),
    )
    return TableRow(tuple(map(str, texts)))


def _commit(revision: str | None) -> str:
    if revision is None:
        return ""
    return revision[:COMMIT] + ("+" if revision.endswith("+") else "")
