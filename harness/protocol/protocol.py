"""`Protocol`: the rules under which every model is measured, as one frozen value with a version.

A change that can move a metric bumps the version, with a dated line here.
leave-one-out/1 (2026-11-23): first version.
global-time/1 (2026-11-23): first version.
rolling-time/1 (2026-11-28): first version.

`SplitPoint` has the split points of each user under a protocol; `harness.protocol.split` makes the parts of them, in
the same way for every protocol.

leave-one-out/1: the last interaction is the test target, the one before it the validation target, the rest training.

global-time/1: two times, the same for all users. Interactions before the first one are training. A user's validation
target is the first interaction from the first time on and before the second, the test target the first interaction from
the second time on; the history of each is all of the user's earlier interactions. The target is the next interaction,
not the last one, because a model that was trained up to a date has to predict what follows that date, and because then
no history and no training row of any user is later than the target (Ji et al., "A Critical Study on Data Leakage in
Recommender System Offline Evaluation", 2020, arXiv 2010.11060). By default the times split the interactions 80/10/10:
the first time is the timestamp of the interaction at position floor(0.8 n) in time order, and interactions with the
same timestamp are all after it.

rolling-time/1: two times as above, but every interaction from the first time on and before the second is a validation
case, and every one from the second time on a test case, except a user's first interaction, which has no history. The
history of a case is all of the user's earlier interactions, earlier targets among them, and the target may be in it. A
user has as many cases as interactions, so statistics take the user as the sampling unit. This is how MiniOneRec
evaluates (arXiv 2510.24431). Shares are of the cases, counted in the order of time, equal times in the order of raw
user ids: of n cases, training ends before the case at position floor(0.8 n). Interactions of one time may thus lie on
both sides of it, as in MiniOneRec's files; with two times given instead of shares they do not.

Cold users and items: a user without any interaction before the target has no history and is not evaluated. A user whose
history lies entirely between the two times has no training part, and is evaluated. An item without training
interactions stays in the catalogue and can be a target: a model that cannot rank it misses it. The audit counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.data.readers.times import seconds_of
from harness.errors import InputError, unknown_name

METRICS = (*(f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (1, 5, 10, 20)), "mrr@10")
MAIN_METRIC = "ndcg@10"
DEPTH = 20  # items per user that are measured, and stored unless `protocol.depth` says more
DEEPEST = 100  # what `protocol.depth` may say at most
LEAVE_ONE_OUT, GLOBAL_TIME, ROLLING_TIME = "leave-one-out/1", "global-time/1", "rolling-time/1"
NAMES = (LEAVE_ONE_OUT, GLOBAL_TIME, ROLLING_TIME)
TIMED = (GLOBAL_TIME, ROLLING_TIME)
SHARES = (0.8, 0.9)
Mark = float | str
UNUSUAL = 19_700_101  # smaller numbers are shares or seconds, not dates as integers or milliseconds
FEWEST = 3  # interactions of a user for leave-one-out: one to train, one to validate, one to test


class Protocol(BaseModel):
    """Leave-one-out: the last item of a user is the test target, the one before it the validation target, the rest
    training. Global time: training ends at one date for all users; the target is the next item after it.

    The module's docstring defines each name. A name may be given without its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default=LEAVE_ONE_OUT, description=" or ".join(NAMES))
    max_history: int = Field(default=20, ge=1, description="a history keeps its latest items")
    exclude_history: bool = Field(default=False, description="take items of the history out of every model's list")
    depth: int = Field(
        default=DEPTH,
        ge=DEPTH,
        le=DEEPEST,
        description="items of a list that are stored: leaderboard --metrics and --k reach so far",
    )
    cut: tuple[Mark, Mark] | None = Field(
        default=None,
        description="where validation and test begin in global and rolling time: two shares of the interactions (of "
        "the cases in rolling time; 0.8 and 0.9 where nothing is said), or two times, as ISO 8601 in UTC or in "
        "seconds since 1970 (milliseconds and dates such as 20180630 are known by their size)",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        for names in NAMES:
            if name in (names, names.partition("/")[0]):
                return names
        raise ValueError(str(unknown_name("protocol", name, NAMES)))

    @model_validator(mode="before")
    @classmethod
    def _with_cut(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        cut, timed = value.get("cut"), [name.partition("/")[0] for name in TIMED]
        if cut is None and str(value.get("name", "")).partition("/")[0] in timed:
            return {**value, "cut": SHARES}
        return {**value, "cut": tuple(map(_in_seconds, cut))} if isinstance(cut, (list, tuple)) else value

    @model_validator(mode="after")
    def _cut_fits(self) -> Self:
        if self.cut is None:
            return self
        if self.name not in TIMED:
            raise ValueError(f"cut is of {' and '.join(TIMED)}; {self.name} has none")
        first, second = (seconds(mark) for mark in self.cut)
        if is_share(first) != is_share(second) or not 0 < first < second:
            raise ValueError("cut must be two shares between 0 and 1 or two times, the first one smaller")
        return self

    @property
    def rolling(self) -> bool:
        """Whether a user may have several cases in a fold."""
        return self.name == ROLLING_TIME

    @property
    def depth_asked(self) -> int:
        """The length of a model's lists: enough that `depth` items are left when the history is excluded."""
        return self.depth + (self.max_history if self.exclude_history else 0)

    def rules(self) -> dict[str, Any]:
        """The settings of this protocol, for its fingerprint; how many items are stored moves no target."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"depth"})


def unit_of(name: str) -> str:
    """What the rows of an evaluation under that protocol are: users, or cases where a user may have several."""
    return "cases" if name == ROLLING_TIME else "users"


def _in_seconds(mark: Any) -> Any:
    """A time in another unit than seconds as seconds; anything else as it is."""
    if isinstance(mark, bool) or not isinstance(mark, (int, float)) or mark < UNUSUAL:
        return mark
    return seconds_of(mark)


def is_share(mark: float) -> bool:
    """Whether a cut is a share of the interactions; later than the first second of 1970 it is a time."""
    return mark < 1


def seconds(mark: Mark) -> float:
    """A cut as a number: a date becomes seconds since 1970 (UTC where it names no zone).

    >>> seconds("1970-01-02"), seconds(0.8)
    (86400.0, 0.8)
    """
    if not isinstance(mark, str):
        return float(mark)
    try:
        moment = datetime.fromisoformat(mark)
    except ValueError as error:
        raise ValueError(f"cut {mark!r} is no date such as 2018-06-30 or 2018-06-30T12:00:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, eq=False)
class CasePoints:
    """The cases of a fold, int64, shape (cases,) each: the target of case `n` is at position `places[n]` of the
    sequence of user `users[n]`. Sorted by user, then by place."""

    users: np.ndarray
    places: np.ndarray

    @classmethod
    def single(cls, places: np.ndarray) -> CasePoints:
        """At most one case a user, at `places`, shape (n_users,); 0 or less for a user without one."""
        users = np.flatnonzero(places > 0)
        return cls(users, places[users])

    @classmethod
    def ranges(cls, begins: np.ndarray, ends: np.ndarray) -> CasePoints:
        """A case at each place from a user's `begins` on and before its `ends`, shape (n_users,) each, except place 0,
        which has no history."""
        begins = np.maximum(begins, 1)
        lengths = np.maximum(ends - begins, 0)
        users = np.repeat(np.arange(len(lengths)), lengths)
        return cls(users, RaggedArray.of_lengths(users, lengths).places() + begins[users])

    def firsts(self, n_users: int) -> np.ndarray:
        """The place of each user's first case, int64, shape (n_users,); -1 for a user without one."""
        places = np.full(n_users, -1, dtype=np.int64)
        places[self.users[::-1]] = self.places[::-1]
        return places


@dataclass(frozen=True, eq=False)
class SplitPoint:
    """`train`: how many of a user's first interactions are training, int64, shape (n_users,). `valid`, `test`: the
    cases of each fold. `times`: seconds since 1970 at which validation and test begin, None for a protocol without
    them."""

    train: np.ndarray
    valid: CasePoints
    test: CasePoints
    times: tuple[float, float] | None = None


def cut(dataset: Dataset, protocol: Protocol) -> SplitPoint:
    """The cut of every user. Raises `InputError` where the protocol cannot be applied to the data."""
    return _RULES[protocol.name](dataset, protocol)


def _leave_one_out(dataset: Dataset, protocol: Protocol) -> SplitPoint:
    lengths = dataset.sequences.lengths
    short = np.flatnonzero(lengths < FEWEST)
    if len(short):
        user = dataset.users[int(short[0])]
        raise InputError(
            f"user {user!r} has {lengths[short[0]]} interactions, {protocol.name} needs {FEWEST} "
            f"({len(short)} such users)",
            where=dataset.name,
            hint=f"leave them out with --min-user {FEWEST} (or --core 5), or give them more interactions",
        )
    return SplitPoint(lengths - 2, CasePoints.single(lengths - 2), CasePoints.single(lengths - 1))


def _global_time(dataset: Dataset, protocol: Protocol) -> SplitPoint:
    timestamps = _timestamps(dataset, protocol)
    first, second = (seconds(mark) for mark in protocol.cut or SHARES)
    if is_share(first):
        ordered = np.sort(timestamps)
        first, second = (float(ordered[int(share * len(ordered))]) for share in (first, second))
    times = first, second
    rows, lengths = dataset.sequences.rows(), dataset.sequences.lengths
    n_train, n_before_test = (np.bincount(rows[timestamps < time], minlength=len(lengths)) for time in times)
    split_point = SplitPoint(
        train=n_train,
        valid=CasePoints.single(np.where(n_before_test > n_train, n_train, 0)),
        test=CasePoints.single(np.where(lengths > n_before_test, n_before_test, 0)),
        times=times,
    )
    return _with_all_parts(split_point, timestamps, dataset.name)


def _rolling_time(dataset: Dataset, protocol: Protocol) -> SplitPoint:
    timestamps = _timestamps(dataset, protocol)
    rows, lengths = dataset.sequences.rows(), dataset.sequences.lengths
    ranks = np.empty(len(lengths), np.int64)
    ranks[dataset.canonical.users] = np.arange(len(lengths))
    order = np.lexsort((np.arange(len(rows)), ranks[rows], timestamps))
    marks = [seconds(mark) for mark in protocol.cut or SHARES]
    if is_share(marks[0]):
        firsts = dataset.sequences.offsets[:-1][lengths > 0]
        cases = np.flatnonzero(~np.isin(order, firsts))
        begins = [int(cases[int(share * len(cases))]) if len(cases) else 0 for share in marks]
    else:
        begins = np.searchsorted(timestamps[order], marks).tolist()
    n_train, n_before_test = (np.bincount(rows[order[:begin]], minlength=len(lengths)) for begin in begins)
    valid, test = CasePoints.ranges(n_train, n_before_test), CasePoints.ranges(n_before_test, lengths)
    first, second = (float(timestamps[order[min(begin, len(order) - 1)]]) for begin in begins)
    times = (first, second) if is_share(marks[0]) else (marks[0], marks[1])
    return _with_all_parts(SplitPoint(n_train, valid, test, times), timestamps, dataset.name)


def _timestamps(dataset: Dataset, protocol: Protocol) -> np.ndarray:
    if dataset.timestamps is None:
        message = f"{protocol.name} needs timestamps, and this data set has an order only"
        hint = "give data with timestamps, or measure under leave-one-out/1"
        raise InputError(message, where=dataset.name, hint=hint)
    return dataset.timestamps


def _with_all_parts(split_point: SplitPoint, timestamps: np.ndarray, name: str) -> SplitPoint:
    """The split points; raises `InputError` where a part is empty."""
    assert split_point.times is not None
    begin_valid, begin_test = split_point.times
    for part, empty in (
        ("training", not split_point.train.any()),
        ("validation", not len(split_point.valid.users)),
        ("test", not len(split_point.test.users)),
    ):
        if empty:
            message = f"the cut at {_shown(begin_valid)} and {_shown(begin_test)} leaves nothing for {part}"
            span = f"{_shown(timestamps.min())} to {_shown(timestamps.max())}"
            message += f": the data reach from {span} (UTC)"
            hint = "choose times inside of that with --set protocol.cut=[DATE,DATE] (ISO dates, or seconds since 1970)"
            raise InputError(message, where=name, hint=hint)
    return split_point


def _shown(time: float) -> str:
    return str(np.datetime64(int(time), "s")) if abs(time) < 1e11 else str(time)


_RULES: dict[str, Callable[[Dataset, Protocol], SplitPoint]] = {
    LEAVE_ONE_OUT: _leave_one_out,
    GLOBAL_TIME: _global_time,
    ROLLING_TIME: _rolling_time,
}
