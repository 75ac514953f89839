"""Output: results on stdout, everything else on stderr; with `--json`, stdout is exactly one document.

`print_summary` prints the metrics of runs and their place in the leaderboard. Exceptions become one line on stderr and
an exit code. Progress is a bar for every stage on a terminal, otherwise lines at intervals.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import files
from harness.core.environment import switch
from harness.core.files import NO_ROOM
from harness.errors import AbortedByMain, InputError, PeerLost, escape_control
from harness.runs.devices import first_here, place

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from harness.reports.tables import Report
    from harness.runs.run import Finished
    from harness.store.run_store import Store

WIDE = 240  # width of a table outside a terminal
DEBUG = "HARNESS_DEBUG"
INTERRUPTED = 130
QUIET = 1.0  # minimal seconds of a stage for a line at its end
EVERY = 20.0  # seconds between lines without a terminal
MAX_FINISHED = 12  # finished bars on the screen


def replace_unencodable() -> None:
    """Makes stdout and stderr print `?` for characters outside their encoding (ASCII, Windows code pages)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def log(line: str) -> None:
    """Prints one line on stderr, with control characters escaped."""
    print(escape_control(line), file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Prints the document; as ASCII if stdout cannot encode Unicode."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "").startswith("utf")
    print(json.dumps(document, indent=2, ensure_ascii=not is_unicode, allow_nan=False))


def console(*, as_json: bool = False) -> Console:
    """Console for tables: stdout, or stderr next to a JSON document."""
    from rich.console import Console

    terminal = (sys.stderr if as_json else sys.stdout).isatty()
    return Console(stderr=as_json, width=None if terminal else WIDE, highlight=False)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as a JSON document, or as a table of some columns."""
    if as_json:
        print_json(rows)
    else:
        print_table(rows, columns)


def print_result(result: dict[str, Any], show: Callable[[dict[str, Any]], None], *, as_json: bool) -> None:
    """A result as a JSON document, or by the function that prints its tables."""
    if as_json:
        print_json(result)
    else:
        show(result)


def print_facts(facts: Mapping[str, Any], title: str) -> None:
    """Names and values as a table under a title; numbers are left-aligned."""
    texts = [{"what": name, "value": _text(value)} for name, value in facts.items()]
    print_table(texts, {"what": title, "value": ""})


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | Sequence[str]) -> None:
    """Rows of plain values under `columns` (keys, or key to heading), on stdout."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = columns if isinstance(columns, Mapping) else {name: name for name in columns}
    for key, heading in headings.items():
        numeric = all(isinstance(row[key], (int, float)) and not isinstance(row[key], bool) for row in rows)
        table.add_column(heading, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(row[key])) for key in columns))
    print_plain(table)


def print_plain(sample: Any, *, as_json: bool = False) -> None:
    """Prints a renderable, outside a terminal without trailing blanks."""
    target = console(as_json=as_json)
    if target.is_terminal:
        target.print(sample)
        return
    with target.capture() as captured:
        target.print(sample)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    print("\n".join(lines), file=sys.stderr if as_json else sys.stdout)


def write_output(path: Path, text: str) -> None:
    """Writes the file of `-o`; creates its folders. Raises `InputError` if it cannot be written."""
    files.write_text(path, text, "choose another place with -o")
    log(f"written to {path}")


def print_report(report: Report, form: str, output: Path | None) -> None:
    """A report in a format, on stdout or in the file of `-o`; tables are fitted to the terminal."""
    from harness.reports.tables import sheets_drawn

    if output is not None:
        write_output(output, report.text(form))
    elif form == "json":
        print_json(report.document())
    elif form != "table":
        sys.stdout.write(report.text(form))
    elif sheets := report.sheets():
        print_plain(sheets_drawn(sheets, console().width))


@contextmanager
def stdout_kept() -> Iterator[None]:
    """For the block, output of libraries and child processes to stdout goes to stderr."""
    sys.stdout.flush()
    original, saved = sys.stdout, os.dup(1)
    try:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        yield
    finally:
        sys.stdout = original
        os.dup2(saved, 1)
        os.close(saved)


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else escape_control(str(value))


def print_summary(runs: Sequence[Finished], store: Store, *, as_json: bool) -> None:
    """Tables on stdout, or on stderr next to the JSON document (a list for several runs)."""
    from harness.protocol.protocol import MAIN_METRIC
    from harness.reports import formats
    from harness.reports.leaderboard import boards, standing
    from harness.reports.tables import sheets_drawn

    for finished in runs:
        if finished.reused:
            log(f"{finished.record.run_id} is complete already, from {finished.record.finished:%Y-%m-%d %H:%M} UTC")
        print_plain(formats.metrics_table(finished.record), as_json=as_json)
    record = runs[-1].record
    board, row = standing(boards(store.query(record.dataset.name), MAIN_METRIC), record.run_id)
    board_text = sheets_drawn([formats.sheet(board, MAIN_METRIC)], console(as_json=as_json).width)
    print_plain(board_text, as_json=as_json)
    print_plain(formats.place_text(board, row, MAIN_METRIC), as_json=as_json)
    for finished in runs:
        log(f"stored in {finished.path}")
    if as_json:
        documents = [finished.document() for finished in runs]
        print_json(documents if len(documents) > 1 else documents[0])


def report_error(error: Exception) -> int:
    """Prints the error in one line and returns the exit code. The traceback of an internal error is written to a file,
    or before the line with `HARNESS_DEBUG=1`. In a run with several processes, the first of each machine prints input
    errors.
    """
    if isinstance(error, AbortedByMain):
        return error.exit_code
    if isinstance(error, InputError):
        if first_here():
            log(f"{_speaker()}: {error}")
        return error.exit_code
    if isinstance(error, PeerLost):
        log(f"{_speaker()}: {error}")
        return error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of Typer's
        log(f"harness: {_usage(error)}")
        return InputError.exit_code
    if (refused := _disk_refused(error)) is not None:
        log(f"harness: cannot write: {_one_line(refused)}; free some space, and run the same command again")
        return InputError.exit_code
    if is_printed := switch(DEBUG):
        traceback.print_exception(error)
    location = "" if is_printed else f"; {_traceback_location(error)}"
    log(f"{_speaker()}: internal error: {type(error).__name__}: {_one_line(error)}{location}")
    return 1


def interrupted() -> int:
    """After Ctrl-C, which all processes of a run receive: the first of each machine prints it."""
    exec("")  # after Ctrl-C inside an exec, Python would exit by the signal instead of the exit code
    if first_here():
        log("harness: interrupted; the same command resumes the run")
    return INTERRUPTED


def _speaker() -> str:
    """Prefix of the message: the program, or one of its processes."""
    with suppress(InputError):
        rank, size = place()
        if rank:
            return f"harness, process {rank} of {size}"
    return "harness"


def _usage(error: Exception) -> str:
    message = _one_line(error.format_message()).rstrip(".")  # pyright: ignore[reportAttributeAccessIssue]
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path if context else 'harness'} --help"


def _disk_refused(error: BaseException) -> BaseException | None:
    """The error in the chain for a full or unwritable disk, also if a library wraps it."""
    for link in _chain(error):
        if (isinstance(link, OSError) and link.errno in NO_ROOM) or os.strerror(errno.ENOSPC) in str(link):
            return link
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _traceback_location(error: Exception) -> str:
    """Writes the traceback; its location in words."""
    from harness.core.environment import cache_dir

    try:
        folder = Path(cache_dir()) / "logs"
        folder.mkdir(exist_ok=True)
        path = folder / f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, InputError):
        return f"set {DEBUG}=1 to see the traceback"
    return f"the traceback is in {path}"


class PlainReporter:
    """A `Reporter` that writes complete lines: for files, pipes and continuous integration."""

    def open(self, name: str, total: int | None) -> PlainStage:
        return PlainStage(name, total)

    def close(self, stage: Any) -> None:
        stage.close()

    def event(self, **fields: Any) -> None:
        pass


class PlainStage:
    """Counts steps, and prints progress every `EVERY` seconds."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self.steps, self.shown = 0, ""
        self.began = self.told = time.monotonic()

    def advance(self, steps: int = 1, **text: float | str) -> None:
        self.steps += steps
        self.shown = values(text) or self.shown
        now = time.monotonic()
        if now - self.told >= EVERY:
            self.told = now
            removed = now - self.began
            remaining = f", {clock(removed * (self.total / self.steps - 1))} left" if self.total and self.steps else ""
            self._say(f"{clock(removed)} elapsed{remaining}")

    def close(self) -> None:
        removed = time.monotonic() - self.began
        if removed >= QUIET:
            self._say(f"done in {clock(removed)}")

    def _say(self, config: str) -> None:
        of = f"{self.steps}/{self.total}" if self.total else str(self.steps)
        log("  ".join(part for part in (f"{self.name} {of}", config, self.shown) if part))


class BarReporter:
    """A `Reporter` with rich bars: steps, elapsed and remaining time, values of the stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done: list[Any] = []

    def open(self, name: str, total: int | None) -> BarStage:
        return BarStage(self._progress, name, total)

    def close(self, stage: Any) -> None:
        if stage.close() < QUIET:
            self._progress.remove_task(stage.task)
            return
        self._done.append(stage.task)
        if len(self._done) > MAX_FINISHED:
            self._progress.remove_task(self._done.pop(0))

    def event(self, **fields: Any) -> None:
        pass


class BarStage:
    """One bar."""

    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._shown = ""
        self._began = time.monotonic()
        self.task = progress.add_task(name, total=total, shown="")

    def advance(self, steps: int = 1, **text: float | str) -> None:
        self._shown = values(text) or self._shown
        self._progress.update(self.task, advance=steps, shown=self._shown)

    def close(self) -> float:
        """Stops the clock; the seconds it lasted."""
        self._progress.stop_task(self.task)
        return time.monotonic() - self._began


@contextmanager
def reporter() -> Iterator[BarReporter | PlainReporter]:
    """The reporter for this terminal."""
    if not sys.stderr.isatty():
        yield PlainReporter()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    start, end = TextColumn("{task.description}"), TextColumn("{task.fields[shown]}", style="dim")
    columns = (start, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), Remaining(), end)
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=120) as progress:
        yield BarReporter(progress)


def values(text: dict[str, Any]) -> str:
    """Loss, metric etc. next to a bar.

    >>> values({"loss": 2.34567, "lr": 1e-05, "phase": "warm-up"})
    'loss 2.346 lr 1e-05 phase warm-up'
    """
    return " ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in text.items()
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(7), clock(201.4), clock(3661)
    ('0:07', '3:21', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
