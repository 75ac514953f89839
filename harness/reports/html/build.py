"""Builds the HTML page of a data set: a section for each board, with the figures that the store has data for.

Figures show for each model the configuration that was best on the validation cases, as a selection by test metrics
would be biased; rows without validation metrics come last.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import harness
from harness.errors import InputError
from harness.reports import extra_columns, formats
from harness.reports.comparison import METRICS_SHOWN
from harness.reports.html import ablations, code_tree, cost, learning_curves, user_groups
from harness.reports.html.document import Figure, Part, Section, Style, document, styles
from harness.reports.lead_tests import with_leads
from harness.reports.leaderboard import Board, Row, boards
from harness.reports.per_user import Measured, measured
from harness.reports.published import read_published, with_published
from harness.reports.selection import stored_name
from harness.reports.tables import ReportTable, TableRow, text_table
from harness.reports.values import grouped
from harness.store.record import Env
from harness.store.run_store import Store, StoredRun, warn

MOST = 14  # models in one figure
EXTERNAL, ENSEMBLE = "external", "ensemble"  # families of imported rankings, and of fused runs
COMMIT = 10  # characters of a git commit that are shown
COLUMNS = ("quality", "cost", "effort", "integrity", "comprehension")


def _valid(row: Row, metric: str) -> float:
    """The mean validation metric over seeds; -1 if a run has none."""
    values = [run.record.metrics.valid.get(metric, -1.0) for run in row.runs]
    return -1.0 if -1.0 in values else statistics.fmean(values)


def chosen(board: Board, metric: str) -> list[Row]:
    """One row a model, in the board's order; the first `MOST` of them."""
    models = grouped((row for row in board.rows if row.rank is not None), lambda row: row.model)
    best = [max(rows, key=lambda row: _valid(row, metric)) for rows in models.values()]
    return sorted(best, key=lambda row: row.rank or 0)[:MOST]


def left_out(board: Board, rows: list[Row]) -> str:
    """A note on the rows that figures leave out; empty if they show every row."""
    ranked = [row for row in board.rows if row.rank is not None]
    if len(ranked) == len(rows):
        return ""
    models = len({row.model for row in ranked})
    limit = f", and of {models} models the first {len(rows)}" if models > len(rows) else ""
    return f"Of each model the configuration that was best on validation cases is drawn{limit}."


def report(
    store: Store,
    dataset: str,
    metric: str,
    *,
    published: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> str:
    """The page as one HTML text; `dataset` is a name or a folder. The same store gives the same bytes. Raises
    `InputError` for an unknown metric or data set, and if no run on it is stored. `message` is called with each stage
    of work."""
    name = stored_name(store, dataset)
    skipped: list[str] = []

    def skip(line: str) -> None:
        warn(line)
        skipped.append(line)

    stored_runs = store.query(name, skip)
    selected_boards = boards(stored_runs, metric)
    if not selected_boards:
        what, hint = f"no runs on {name!r} are stored here", "harness run makes some, or say --results"
        raise InputError(what, where=str(store.root), hint=hint, code="no-runs")
    model_styles = styles(run.record.model for run in stored_runs)
    location = dataset if Path(dataset).is_dir() else None
    sections = []
    for board in selected_boards:
        message(f"{board.dataset.name}, {board.protocol.name}: {sum(len(row.runs) for row in board.rows)} runs")
        shown = with_leads(board, formats.shown_metrics(metric), location)
        shown = with_published([shown], read_published(store.root))[0] if published else shown
        sections.append(_section(store, board, metric, _leaderboard(shown, metric), location, model_styles))
    last = max(run.record.finished for run in stored_runs)
    description = (
        f"All {len(stored_runs):,} stored runs on {name}, the latest of {last:%Y-%m-%d %H:%M} UTC, by harness "
        f"{harness.__version__}."
    )
    if len(selected_boards) > 1:
        description += f" They fall into {len(selected_boards)} sections that may not be compared with each other."
    return document(f"{name}: report", description, sections, skipped)


def _section(
    store: Store,
    board: Board,
    metric: str,
    leaderboard: Part,
    location: str | None,
    model_styles: Mapping[str, Style],
) -> Section:
    metrics = list(dict.fromkeys((metric, *METRICS_SHOWN)))[:2]
    rows = chosen(board, metric)
    omitted = left_out(board, rows)
    curves = learning_curves.curve_figures(rows, model_styles)
    grids, grid_notes = ablations.grids(store, board.dataset.name, board.protocol.fingerprint)
    try:
        base = measured([run for row in rows for run in row.runs], location)
    except InputError as error:
        missing = f"The data set is not at hand, so nothing is shown user by user: {error}"
        groups, bars = ([], [missing]), ([], [missing] if grids else [])
        card, tree = Part("card", "Report card"), code_tree.figures(rows)
    else:
        groups = user_groups.group_figures(base, rows, metrics, model_styles)
        card = _card(replace(board, rows=tuple(rows)), base, metric, omitted)
        bars = ablations.grid_figures(grids, metrics, base)
        tree = code_tree.figures(rows, base.dataset, base.split.train.counts())
    parts = [
        leaderboard,
        _drawn("cost", "Quality against cost", (cost.cost_figures(board, metric, rows, model_styles), [])),
        _drawn("curves", "Learning curves", curves, omitted),
        _drawn("groups", "By history length and item popularity", groups, omitted),
        card,
        _drawn("ablations", "Ablations", (bars[0], [*grid_notes, *bars[1]])),
        _drawn("tree", "Code tree", tree, omitted),
        Part("runs", "Runs and their provenance", sheets=run_sheets(board), sorts=True),
        Part(
            "commands",
            "Commands to repeat the runs",
            "Each returns the stored run where it is complete; --fresh makes it again.",
            commands=[command(run, store.root) for row in board.rows for run in row.runs],
        ),
    ]
    notes = [board.incomparable_because] if board.incomparable_because else []
    return Section(formats.title(board, metric), facts(board), [part for part in parts if not part.empty], notes)


def _drawn(name: str, title: str, found: tuple[list[Figure], list[str]], about: str = "") -> Part:
    """A part of figures and notes; `about` is shown above figures."""
    figures, notes = found
    return Part(name, title, about if figures else "", figures=figures, notes=notes)


def _leaderboard(board: Board, metric: str) -> Part:
    """The board's table without its empty columns, under another title, since the section has the board's title."""
    sheet = formats.sheet(board, metric, COLUMNS)
    places = [place for place in range(len(sheet.columns)) if any(line.texts[place] for line in sheet.lines)]
    lines = [
        TableRow(tuple(line.texts[place] for place in places), tuple(line.mark(place) for place in places), line.apart)
        for line in sheet.lines
    ]
    columns = tuple(sheet.columns[place] for place in places)
    description = (
        "Mean ± standard deviation over n seeds; best bold, second underlined. A click on a column's head sorts by it."
    )
    table = ReportTable(f"Rows by {metric}", columns, tuple(lines), sheet.notes)
    return Part("leaderboard", "Leaderboard", description, [table], sorts=True)


def _card(board: Board, base: Measured, metric: str, omitted: str) -> Part:
    carded, notes = extra_columns.on_data(board, metric, base)
    about = " ".join(filter(None, [extra_columns.ABOUT, omitted]))
    return Part("card", "Report card", about, extra_columns.card_sheets(carded, metric), notes=notes)


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


def run_sheets(board: Board) -> list[ReportTable]:
    """Tables of the runs and of their environments."""
    environments: dict[str, tuple[int, Env]] = {}
    lines = []
    every = [(row, run) for row in board.rows for run in row.runs]
    for row, run in every:
        record, revision = run.record, run.record.env.revision or ""
        key = record.env.model_dump_json(include={"python", "platform", "packages"})
        number, _ = environments.setdefault(key, (len(environments) + 1, record.env))
        lines.append(
            {
                "#": str(row.rank or ""),
                "model": record.model,
                "seed": "" if record.seed is None else str(record.seed),
                "run id": record.run_id,
                "settings": row.note,
                "profile": record.profile,
                "started": f"{record.started:%Y-%m-%d %H:%M}",
                "finished": f"{record.finished:%Y-%m-%d %H:%M}",
                "device": record.cost.device or "",
                "environment": str(number),
                "method's version": record.env.code_version,
                "commit": revision[:COMMIT] + ("+" if revision.endswith("+") else ""),
                "sessions": str(record.details.get("sessions", "")),
            }
        )
    left = ("model", "run id", "profile", "started", "finished", "device", "method's version", "commit")
    note = "Times are UTC. A + behind a commit: files differed from it."
    places = [
        {
            "environment": str(number),
            "python": env.python,
            "platform": env.platform,
            "packages": ", ".join(f"{name} {version}" for name, version in env.packages.items()),
        }
        for number, env in environments.values()
    ]
    return [
        text_table("Runs", lines, left=left, wraps=("settings",), notes=[note]),
        text_table("Environments", places, left=("python", "platform"), wraps=("packages",)),
    ]


def command(run: StoredRun, results: Path) -> str:
    """The shell command that repeats a run. Imported rankings are measured again from their file."""
    record, fields = run.record, run.settings
    data = str(fields.get("dataset") or record.dataset.name)
    names = [] if results == Path("results") else ["--results", str(results)]
    if record.family == ENSEMBLE:
        return shlex.join([*(record.command or ()), *names])
    seed = [] if record.seed is None else ["--seed", str(record.seed)]
    if record.family == EXTERNAL:
        file, rules = str(record.details.get("file", "FILE")), record.protocol
        changed = ["--set", "protocol.exclude_history=true"] if rules.exclude_history else []
        sets = ["--protocol", rules.name.partition("/")[0], *changed]
        return shlex.join(["harness", "evaluate", file, "-d", data, "--name", record.model, *seed, *sets, *names])
    words = ["harness", "run", record.model, "-d", data, "--config", str(run.folder.config)]
    return shlex.join([*words, *seed, *names])
