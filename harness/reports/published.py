"""Published rows on leaderboards: quoted and marked, never ranked or tested together with measured rows.

The project's tables are `results/published/*.csv`: one line for each method, data set and metric, with its source and
what is known of its protocol. `RESULTS/published/*.csv` adds to them; a file of the same name replaces the project's.

Consistency of the printed metrics of one published row.

With one relevant item a case, of rank r, recall@k is 1, ndcg@k 1 / log2(r + 1) and mrr@k 1 / r if r <= k. Averages are
linear, so that between two cut-offs a < b every rank in a + 1 ... b adds to the averages in a ratio between the ratios
of those two ranks: ndcg@b - ndcg@a is at least (recall@b - recall@a) / log2(b + 1) and at most (recall@b - recall@a) /
log2(a + 2), and likewise for mrr against either. A cut-off of 0, where every metric is 0, gives the bounds of a single
cut-off: recall@k / log2(k + 1) <= ndcg@k <= recall@k, ndcg@1 = recall@1. No metric decreases with the cut-off, which
gives bounds between cut-offs of one metric.

Each pair is tested separately, with every value within half a unit of its last printed digit. A row that fails is
inconsistent, possibly by a misprint.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from glob import escape
from importlib.metadata import PackageNotFoundError, files
from itertools import combinations, product
from pathlib import Path

from harness.errors import InputError, unknown_name
from harness.protocol.protocol import METRICS
from harness.reports.leaderboard import Board, Row, select
from harness.reports.values import grouped
from harness.store.record import DatasetInfo, ProtocolInfo
from harness.store.run_store import Store

FAMILY = "published"
NEEDED = ("dataset", "release", "method", "metric", "value", "hand", "source")
# Fields of the protocol; empty if the paper does not say. `run`: whose run it is, if not the authors'.
PROTOCOL = (
    "split",
    "hits",
    "ranking",
    "users",
    "items",
    "interactions",
    "history",
    "exclude_history",
    "repeats",
    "constraint",
    "beams",
    "prompts",
    "text_fields",
    "encoder",
    "backbone",
)
ABOUT = ("dataset", "release", "method", "hand", "source", "run", "note")
SAME = (*ABOUT, *PROTOCOL)  # columns that the lines of one row share
COLUMNS = (*SAME, "metric", "value")
UNSTATED = "not stated"  # as a release
HANDS = {"first": "first-hand", "second": "second-hand"}
METRIC = re.compile(r"(recall|ndcg|mrr)@[1-9]\d{0,3}")  # cut-offs that papers print
RULES = "leave-one-out/"  # the protocols whose boards show published rows
SPLIT = "leave-one-out"  # rows of other splits get boards of their own
PLACE = ("share", "eager-harness", "published")  # location of the project's tables in an installed package
INCONSISTENT = "inconsistent"  # never "false"
INCONSISTENT_NOTE = (
    f"{INCONSISTENT}: with one relevant item a case these printed numbers cannot all be right, as rounded as they are; "
    "it may be a misprint"
)
ZERO = ""  # the exact 0 of cut-off 0
SLACK = 1e-9  # tolerance for floating point


@dataclass(frozen=True)
class PublishedRow:
    """Figures of one method as one source prints them. `hand`: `first` if the source was read, `second` if the figures
    were seen in another work only. `known`: known fields of the protocol, by column. `printed`: each metric as in the
    file, whose last digit gives the rounding."""

    dataset: str
    release: str
    method: str
    hand: str
    source: str
    run: str = ""
    known: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    printed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, float]:
        return {name: float(text) for name, text in self.printed.items()}

    @property
    def beside(self) -> bool:
        """Whether it may be shown on a measured board: its split is that of `RULES`, or unknown."""
        return self.known.get("split", SPLIT) == SPLIT

    @cached_property
    def inconsistent(self) -> str:
        """Why its numbers are inconsistent (`harness.reports.published`); empty if they are consistent."""
        return "; ".join(inconsistencies(self.printed))

    @property
    def told(self) -> str:
        """Its source, and whose run it is."""
        return "; ".join(filter(None, [f"{HANDS[self.hand]}: {self.source}", self.run]))

    @property
    def doubt(self) -> str:
        """`inconsistent` as a note."""
        return f"{INCONSISTENT}: {self.inconsistent}" if self.inconsistent else ""

    def row(self) -> Row:
        """The row of a board, without a rank."""
        metadata = {"hand": self.hand, "source": self.source, "run": self.run, "release": self.release, **self.known}
        metadata |= {"note": self.note, INCONSISTENT: self.inconsistent}
        numbers = {name: [value] for name, value in self.metrics.items()}
        release = "release not stated" if self.release == UNSTATED else self.release
        note = "; ".join(filter(None, [self.told, release, self.doubt]))
        return Row(self.method, FAMILY, (), numbers, {}, {}, note=note, quoted=metadata)


def published_boards(store: Store, dataset: str | None, metric: str) -> list[Board]:
    """The stored boards, each with the published rows of its data set below its own; then, for data sets without such a
    board, boards of published rows alone. Raises `InputError` for an invalid file or an unknown data set.
    """
    quoted = read_published(store.root)
    names = {row.dataset for row in quoted}
    stored = dataset not in names or any(store.runs.glob(f"*/{escape(str(dataset))}"))
    boards = select(store, dataset, metric) if stored else []
    present = {board.dataset.name for board in boards if board.protocol.name.startswith(RULES)}
    expected = names if dataset is None else names & {dataset}
    alone = [board for name in sorted(expected) for board in _alone(quoted, name, present)]
    return [*with_published(boards, quoted), *alone]


def read_published(results: Path) -> list[PublishedRow]:
    """All published rows, by file and line. Raises `InputError` with file and line for invalid entries."""
    paths = {path.name: path for path in shipped()}
    paths |= {path.name: path for path in sorted((Path(results) / FAMILY).glob("*.csv"))}
    return [row for name in sorted(paths) for row in _read(paths[name])]


def shipped() -> list[Path]:
    """The project's tables: of a checkout, else of the installed package; empty if there are none."""
    base = Path(__file__).parents[2]
    for folder in (base / "results" / FAMILY, base.joinpath(*PLACE), *_installed()):  # the second: `pip --target`
        if folder.is_dir():
            return sorted(folder.glob("*.csv"))
    return []


def _installed() -> list[Path]:
    try:
        listed = files("eager-harness") or []
    except PackageNotFoundError:
        return []
    return [Path(str(file.locate())).parent for file in listed if file.parts[-4:-1] == PLACE]


def with_published(boards: Sequence[Board], quoted: Sequence[PublishedRow]) -> list[Board]:
    """Adds the published rows of a data set to its boards under the papers' kind of protocol; other boards are
    unchanged."""
    rows = grouped((row for row in quoted if row.beside), lambda row: row.dataset)
    return [
        replace(board, rows=(*board.rows, *(row.row() for row in rows.get(board.dataset.name, ()))))
        if board.protocol.name.startswith(RULES)
        else board
        for board in boards
    ]


def _alone(quoted: Sequence[PublishedRow], name: str, names: Collection[str]) -> Iterator[Board]:
    """Boards of published rows only, one for each split. `names`: data sets with a measured board, which shows the rows
    of our split."""
    dataset = DatasetInfo(name=name, fingerprint="", users=0, items=0, interactions=0)
    rows = (row for row in quoted if row.dataset == name and not (row.beside and name in names))
    for split, group in grouped(rows, lambda row: "" if row.beside else row.known["split"]).items():
        rules = ProtocolInfo(name=split, fingerprint="", max_history=0, exclude_history=False)
        yield Board(dataset, rules, tuple(row.row() for row in group))


def _read(path: Path) -> Iterator[PublishedRow]:
    """Rows of one file; lines that agree in all but metric and value are one row."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for location, cells in _lines(path):
        printed = rows.setdefault(tuple(cells[name] for name in SAME), {})
        if cells["metric"] in printed:
            message = f"{cells['method']} has {cells['metric']} twice"
            raise InputError(message, where=location, hint="leave one of them", code="duplicate")
        printed[cells["metric"]] = cells["value"]
    for key, printed in rows.items():
        cells = dict(zip(SAME, key, strict=True))
        conditions = {name: cells[name] for name in PROTOCOL if cells[name]}
        yield PublishedRow(**{name: cells[name] for name in ABOUT}, known=conditions, printed=printed)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each checked line with its location; missing columns are empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), f"{path} line 1")
            for line in reader:
                location = f"{path} line {reader.line_num}"
                if None in line or None in line.values():
                    message = f"it has not as many cells as the {len(reader.fieldnames or ())} columns"
                    hint = "put a text with commas between double quotes"
                    raise InputError(message, where=location, hint=hint, code="bad-line")
                cells = dict.fromkeys(COLUMNS, "") | {name: " ".join(text.split()) for name, text in line.items()}
                _check_cells(cells, location)
                yield location, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message, hint = f"not a readable CSV file ({error})", "save it as UTF-8 CSV"
        raise InputError(message, where=str(path), hint=hint, code="bad-file") from error


def _check_columns(names: Sequence[str], location: str) -> None:
    if missing := [name for name in NEEDED if name not in names]:
        message, hint = f"no column {missing[0]!r}", f"needs {', '.join(NEEDED)}"
        raise InputError(message, where=location, hint=hint, code="missing-column")
    for name in names:
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS, where=location)


def _check_cells(cells: Mapping[str, str], location: str) -> None:
    for name in NEEDED:
        if not cells[name]:
            hint = f"write {UNSTATED!r} where the source does not say" if name == "release" else f"fill in the {name}"
            raise InputError(f"{name} is empty", where=location, hint=hint, code="empty-data")
    if not METRIC.fullmatch(cells["metric"]):
        raise unknown_name("metric", cells["metric"], METRICS, where=location)
    if cells["hand"] not in HANDS:
        raise unknown_name("hand", cells["hand"], HANDS, where=location)
    try:
        value = float(cells["value"])
    except ValueError as error:
        message, hint = f"{cells['value']!r} is not a number", "write a share such as 0.0459"
        raise InputError(message, where=location, hint=hint, code="bad-line") from error
    if not 0 <= value <= 1:
        message, hint = f"{cells['value']} is not between 0 and 1", "write a share, not a percentage"
        raise InputError(message, where=location, hint=hint, code="bad-line")


GAINS: dict[str, Callable[[int], float]] = {  # contribution of a hit at rank r, the slowest decay first
    "recall": lambda rank: 1.0,
    "ndcg": lambda rank: 1 / math.log2(rank + 1),
    "mrr": lambda rank: 1 / rank,
}


def inconsistencies(printed: Mapping[str, str]) -> list[str]:
    """The inconsistencies, one sentence for each pair of cut-offs; empty for a consistent row. `printed` maps a metric
    such as `ndcg@10` to its value as it is printed, a share."""
    families: dict[str, dict[int, str]] = {}
    for metric, text in printed.items():
        family, _, cut = metric.partition("@")
        families.setdefault(family, {0: ZERO})[int(cut)] = text
    first: dict[tuple[int, int], str] = {}
    for cuts, text in _failures(families):
        first.setdefault(cuts, text)
    narrow = [(a, b) for a, b in first if not any((c, d) != (a, b) and a <= c and d <= b for c, d in first)]
    return [first[cuts] for cuts in sorted(narrow)]


def _failures(families: Mapping[str, Mapping[int, str]]) -> Iterator[tuple[tuple[int, int], str]]:
    """Each failed check with its two cut-offs: between metrics, then within each."""
    for slow, fast in combinations([name for name in GAINS if name in families], 2):
        for a, b in combinations(sorted(families[slow].keys() & families[fast].keys()), 2):
            if text := _ratio(slow, fast, a, b, families):
                yield (a, b), text
        for a, b in product(families[slow], families[fast]):
            if _across(slow, fast, a, b, families):
                text = f"{fast}@{b} = {families[fast][b]} beside {slow}@{a} = {families[slow][a]}"
                yield (min(a, b), max(a, b)), text
    for family, values in families.items():
        for a, b in combinations(sorted(values), 2):
            if _rise(values[a], values[b])[1] < -SLACK:
                yield (a, b), f"{family}@{b} is below {family}@{a}"


def _ratio(slow: str, fast: str, a: int, b: int, families: Mapping[str, Mapping[int, str]]) -> str:
    """Checks the rise of `fast` from cut-off `a` to `b` against the rise of `slow`; empty if it is possible."""
    (fewer, value), (low, high) = (_rise(families[name][a], families[name][b]) for name in (slow, fast))
    minimum, limit = (GAINS[fast](rank) / GAINS[slow](rank) for rank in (b, a + 1))
    floor, ceiling = max(fewer, 0.0) * minimum, max(value, 0.0) * limit
    if floor <= high + SLACK and low <= ceiling + SLACK:
        return ""
    digits = max(_digits(families[name][cut]) for name in (slow, fast) for cut in (a, b))
    rise = f"{fast}@{b} - {fast}@{a}" if a else f"{fast}@{b}"
    message = f"{rise} = {(low + high) / 2:.{digits}f}"
    allowed = f"at least {floor:.{digits}f}" if floor > high else f"at most {ceiling:.{digits}f}"
    return f"{message}, {slow} allows {allowed}"


def _across(slow: str, fast: str, a: int, b: int, families: Mapping[str, Mapping[int, str]]) -> bool:
    """Whether `fast` at cut-off `b` contradicts `slow` at `a`: values at the smaller cut-off are lower bounds, values
    at the larger one upper bounds."""
    (fewer, value), (low, high) = _rise(ZERO, families[slow][a]), _rise(ZERO, families[fast][b])
    floor = fewer * GAINS[fast](a) / GAINS[slow](a) if 0 < a < b else 0.0
    return floor > high + SLACK or (0 < b < a and low > value + SLACK)


def _rise(first: str, second: str) -> tuple[float, float]:
    """The least and the largest difference of two rounded numbers."""
    room = sum(Decimal((0, (5,), -_digits(text) - 1)) for text in (first, second) if text != ZERO)
    rise = Decimal(second or 0) - Decimal(first or 0)
    return float(rise - room), float(rise + room)


def _digits(text: str) -> int:
    """Digits behind the point."""
    exponent = Decimal(text or 0).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
