"""Builds the HTML page of a data set: a section for each board, with the figures that the store has data for.

Figures show for each model the configuration that was best on the validation cases, as a selection by test metrics
would be biased; rows without validation metrics come last.
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import harness
from harness.errors import InputError
from harness.reports import extra_columns, formats
from harness.reports.comparison import METRICS_SHOWN
from harness.reports.html import ablations, code_tree, cost, learning_curves, user_groups
from harness.reports.html.document import Part, Section, Style, document, styles
from harness.reports.lead_tests import with_leads
from harness.reports.leaderboard import Board, Row, boards
from harness.reports.per_user import Measured, measured
from harness.reports.published import with_published
from harness.reports.selection import stored_name
from harness.reports.tables import ReportTable, text_table
from harness.store.record import Env
from harness.store.run_store import Store, StoredRun, warn

MOST = 14  # models in one figure
EXTERNAL, ENSEMBLE = "external", "ensemble"  # families of imported rankings, and of fused runs
COMMIT = 10  # characters of a git commit that are shown
COLUMNS = ("quality", "cost", "effort", "integrity", "comprehension")


def valid(row: Row, metric: str) -> float | None:
    """The mean validation metric over seeds; None if a run has none."""
    results = [run.record.metrics.valid.get(metric) for run in row.runs]
    values = [value for value in results if value is not None]
    return statistics.fmean(values) if values and len(values) == len(results) else None


def chosen(board: Board, metric: str) -> list[Row]:
    """One row a model, in the board's order; the first `MOST` of them."""
    best: dict[str, Row] = {}
    for row in board.rows:
        if row.rank is None:
            continue
        current_row = best.get(row.model)
        if current_row is None or _weight(row, metric) > _weight(current_row, metric):
            best[row.model] = row
    return sorted(best.values(), key=lambda row: row.rank or 0)[:MOST]


def left_out(board: Board, rows: list[Row]) -> str:
    """A note on the rows that figures leave out; empty if they show every row."""
    ranked = [row for row in board.rows if row.rank is not None]
    if len(ranked) == len(rows):
        return ""
    models = len({row.model for row in ranked})
    limit = f", and of {models} models the first {len(rows)}" if models > len(rows) else ""
    return f"Of each model the configuration that was best on validation cases is drawn{limit}."


def _weight(row: Row, metric: str) -> float:
    count = valid(row, metric)
    return -1.0 if count is None else count


@dataclass(frozen=True)
class ReportOptions:
    """Options of the command. `dataset` is a name or a folder."""

    dataset: str
    metric: str
    published: bool = False


def report(store: Store, options: ReportOptions, message: Callable[[str], None] = lambda _: None) -> str:
    """The page as one HTML text. The same store gives the same bytes. Raises `InputError` for an unknown metric or data
    set, and if no run on it is stored. `message` is called with each stage of work."""
    name = stored_name(store, options.dataset)
    skipped: list[str] = []

    def skip(line: str) -> None:
        warn(line)
        skipped.append(line)

    stored_runs = store.query(name, skip)
    selected_boards = boards(stored_runs, options.metric)
    if not selected_boards:
        raise InputError(
            f"no runs on {name!r} are stored here",
            where=str(store.root),
            hint="harness run makes some, or say --results",
            code="no-runs",
        )
    model_styles = styles(run.record.model for run in stored_runs)
    location = options.dataset if Path(options.dataset).is_dir() else None
    sections = []
    for board in selected_boards:
        message(f"{board.dataset.name}, {board.protocol.name}: {sum(len(row.runs) for row in board.rows)} runs")
        sections.append(_section(store, board, options, location, model_styles))
    last = max(run.record.finished for run in stored_runs)
    several = (
        f" They fall into {len(selected_boards)} sections that may not be compared with each other."
        if len(selected_boards) > 1
        else ""
    )
    description = (
        f"All {len(stored_runs):,} stored runs on {name}, the latest of {last:%Y-%m-%d %H:%M} UTC, by harness "
        f"{harness.__version__}.{several}"
    )
    return document(f"{name}: report", description, sections, skipped)


def _section(
    store: Store, board: Board, options: ReportOptions, location: str | None, model_styles: Mapping[str, Style]
) -> Section:
    metric = options.metric
    metrics = (metric, *(name for name in METRICS_SHOWN if name != metric))[:2]
    rows = chosen(board, metric)
    base, missing = _measured(rows, location)
    omitted = left_out(board, rows)
    parts = [
        _leaderboard(store, board, options, location),
        Part(
            "cost",
            "Quality against cost",
            figures=[one for one in [cost.cost_figure(board, metric, rows, model_styles)] if one],
        ),
        _curves(rows, model_styles, omitted),
        _groups(base, rows, metrics, model_styles, [omitted, missing]),
        _card(board, base, rows, metric, omitted),
        _ablations(store, board, metrics, base, missing),
        _tree(rows, base, omitted),
        Part("runs", "Runs and their provenance", sheets=run_sheets(board), sorts=True),
        Part(
            "commands",
            "Commands to repeat the runs",
            "Each returns the stored run where it is complete; --fresh makes it again.",
            commands=commands(board, store.root),
        ),
    ]
    title = formats.title(board, metric)
    return Section(
        title,
        facts(board),
        [part for part in parts if not part.empty],
        [board.incomparable_because] if board.incomparable_because else [],
    )


def _measured(rows: Sequence[Row], location: str | None) -> tuple[Measured | None, str]:
    """The data of a board, or None and the reason why they are missing."""
    try:
        return measured([run for row in rows for run in row.runs], location), ""
    except InputError as error:
        return None, f"The data set is not at hand, so nothing is shown user by user: {error}"


def _leaderboard(store: Store, board: Board, options: ReportOptions, location: str | None) -> Part:
    tested = with_leads(board, formats.shown_metrics(options.metric), location)
    current_board = with_published([tested], store.root)[0] if options.published else tested
    report_table = _without_empty(formats.sheet(current_board, options.metric, COLUMNS), f"Rows by {options.metric}")
    description = (
        "Mean ± standard deviation over n seeds; best bold, second underlined. A click on a column's head sorts by it."
    )
    return Part("leaderboard", "Leaderboard", description, [report_table], sorts=True)


def _without_empty(sheet: ReportTable, title: str) -> ReportTable:
    """The sheet without its empty columns and with another title, since the section has the board's title."""
    values = [place for place, column in enumerate(sheet.columns) if any(line.texts[place] for line in sheet.lines)]
    lines = [
        type(line)(
            tuple(line.texts[place] for place in values), tuple(line.mark(place) for place in values), apart=line.apart
        )
        for line in sheet.lines
    ]
    return ReportTable(title, tuple(sheet.columns[place] for place in values), tuple(lines), sheet.notes)


def _curves(rows: Sequence[Row], model_styles: Mapping[str, Style], omitted: str) -> Part:
    figures, notes = learning_curves.curve_figures(rows, model_styles)
    return Part("curves", "Learning curves", omitted if figures else "", figures=figures, notes=notes)


def _groups(
    base: Measured | None,
    rows: Sequence[Row],
    metrics: Sequence[str],
    model_styles: Mapping[str, Style],
    messages: list[str],
) -> Part:
    omitted, missing = messages
    part = Part("groups", "By history length and item popularity", notes=[missing] if missing else [])
    if base is not None:
        values, part.notes = user_groups.group_values(base, rows, metrics)
        part.figures = user_groups.group_figures(base, rows, values, model_styles)
        part.about = omitted if part.figures else ""
    return part


def _card(board: Board, base: Measured | None, rows: Sequence[Row], metric: str, omitted: str) -> Part:
    part = Part("card", "Report card")
    if base is not None:
        carded, part.notes = extra_columns.on_data(replace(board, rows=tuple(rows)), metric, base)
        part.sheets = extra_columns.card_sheets(carded, metric)
        part.about = " ".join(filter(None, [extra_columns.ABOUT, omitted]))
    return part


def _ablations(store: Store, board: Board, metrics: Sequence[str], base: Measured | None, missing: str) -> Part:
    grids, notes = ablations.grids(store, board.dataset.name, board.protocol.fingerprint)
    part = Part("ablations", "Ablations", notes=notes)
    if grids and base is None:
        part.notes.append(missing)
    elif base is not None:
        part.figures, messages = ablations.grid_figures(grids, metrics, base)
        part.notes += messages
    return part


def _tree(rows: Sequence[Row], base: Measured | None, omitted: str) -> Part:
    pair = (None, None) if base is None else (base.dataset, base.split.train.counts())
    figure, notes = code_tree.figure(rows, *pair)
    figures = [] if figure is None else [figure]
    return Part("tree", "Code tree", omitted if figures else "", figures=figures, notes=notes)


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
    for row, run in _runs(board):
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


def commands(board: Board, results: Path) -> list[str]:
    """One command for each run, in the board's order."""
    return [command(run, results) for _, run in _runs(board)]


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


def _runs(board: Board) -> list[tuple[Row, StoredRun]]:
    return [(row, run) for row in board.rows for run in row.runs]
