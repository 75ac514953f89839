"""Where each protocol cuts a user's interactions: the only place that says what a protocol's name means.

A cut is three numbers a user; `harness.protocol.split` makes the parts of them, in the same way for every protocol.

leave-one-out/1: the last interaction is the test answer, the one before it the validation answer, the rest training.

global-time/1: two times, the same for everybody. What happened before the first one is training. A user's validation
answer is the first interaction from the first time on and before the second, the test answer the first interaction
from the second time on; the history of each is everything that the user did before it. The next interaction is the
answer, not the last one, because a model that was trained up to a date is asked what follows that date, and because
then no history and no training row of anybody is later than the answer (Ji et al., "A Critical Study on Data Leakage in
Recommender System Offline Evaluation", 2020, arXiv 2010.11060). By default the times part the interactions 80/10/10:
the first time is the timestamp of the interaction at place floor(0.8 n) in time order, and interactions with that very
timestamp all lie behind it.

Cold users and items: a user without any interaction before the answer has no history to go by and is not asked. A user
whose history lies wholly between the two times has no training part, and is asked. An item that no training part has
stays in the catalogue and stays an answer: a model that cannot reach it misses it. All are counted by the audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.protocol.protocol import GLOBAL_TIME, LEAVE_ONE_OUT, Protocol, is_share, seconds

FEWEST = 3  # interactions that leave-one-out needs of a user: one to train on, one to validate, one to test
NOT_ASKED = -1


@dataclass(frozen=True, eq=False)
class Cut:
    """int64, shape (n_users,) each. `train`: how many of a user's first interactions are training. `valid`, `test`: the
    place of the answer in the user's sequence, `NOT_ASKED` for a user who has none. `times`: seconds since 1970 at
    which validation and test begin, None for a protocol without them."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    times: tuple[float, float] | None = None


def cut(dataset: Dataset, protocol: Protocol) -> Cut:
    """The cut of every user. Raises `InputError` where the protocol cannot be applied to the data."""
    return _RULES[protocol.name](dataset, protocol)


def _leave_one_out(dataset: Dataset, protocol: Protocol) -> Cut:
    lengths = dataset.sequences.lengths
    short = np.flatnonzero(lengths < FEWEST)
    if len(short):
        user = dataset.users[int(short[0])]
        raise InputError(
            f"user {user!r} has {lengths[short[0]]} interactions, {protocol.name} needs {FEWEST} "
            f"({len(short)} such users)",
            where=dataset.name,
            mend=f"leave them out with --min-user {FEWEST} (or --core 5), or give them more interactions",
        )
    return Cut(lengths - 2, lengths - 2, lengths - 1)


def _global_time(dataset: Dataset, protocol: Protocol) -> Cut:
    if dataset.timestamps is None:
        what = f"{protocol.name} needs timestamps, and this data set has an order only"
        mend = "give data with timestamps, or measure under leave-one-out/1"
        raise InputError(what, where=dataset.name, mend=mend)
    begin_valid, begin_test = times = cut_times(dataset.timestamps, protocol)
    rows, lengths = dataset.sequences.rows(), dataset.sequences.lengths
    trained, known = (
        np.bincount(rows[dataset.timestamps < time], minlength=len(lengths)) for time in (begin_valid, begin_test)
    )
    made = Cut(
        train=trained,
        valid=np.where((trained > 0) & (known > trained), trained, NOT_ASKED),
        test=np.where((known > 0) & (lengths > known), known, NOT_ASKED),
        times=times,
    )
    for part, empty in (
        ("training", not trained.any()),
        ("validation", not (made.valid >= 0).any()),
        ("test", not (made.test >= 0).any()),
    ):
        if empty:
            what = f"the cut at {_shown(begin_valid)} and {_shown(begin_test)} leaves nothing for {part}"
            span = f"{_shown(dataset.timestamps.min())} to {_shown(dataset.timestamps.max())}"
            what += f": the data reach from {span} (UTC)"
            mend = "choose times inside of that with --set protocol.cut=[DATE,DATE] (ISO dates, or seconds since 1970)"
            raise InputError(what, where=dataset.name, mend=mend)
    return made


def cut_times(timestamps: np.ndarray, protocol: Protocol) -> tuple[float, float]:
    """Seconds since 1970 at which validation and test begin."""
    assert protocol.cut is not None
    first, second = (seconds(mark) for mark in protocol.cut)
    if is_share(first):
        ordered = np.sort(timestamps)
        first, second = (float(ordered[int(share * len(ordered))]) for share in (first, second))
    return first, second


def _shown(time: float) -> str:
    return str(np.datetime64(int(time), "s")) if abs(time) < 1e11 else str(time)


_RULES: dict[str, Callable[[Dataset, Protocol], Cut]] = {LEAVE_ONE_OUT: _leave_one_out, GLOBAL_TIME: _global_time}
