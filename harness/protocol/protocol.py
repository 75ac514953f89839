"""`Protocol`: the rules under which every model is measured, as one frozen value with a version.

What can move a number bumps the version, with one dated line here saying why.
leave-one-out/1 (2026-11-23): first version.
global-time/1 (2026-11-23): first version.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.data.readers.times import seconds_of
from harness.errors import unknown_name

METRICS = (*(f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (1, 5, 10, 20)), "mrr@10")
MAIN_METRIC = "ndcg@10"
DEPTH = 20  # items a user that are measured and stored

LEAVE_ONE_OUT, GLOBAL_TIME = "leave-one-out/1", "global-time/1"
NAMES = (LEAVE_ONE_OUT, GLOBAL_TIME)
SHARES = (0.8, 0.9)

Mark = float | str
UNUSUAL = 19_700_101  # what is smaller is a share, or seconds: no date as a whole number, no milliseconds


class Protocol(BaseModel):
    """Leave-one-out: the last item of a user is the test, the one before it the validation, the rest the training.
    Global time: training ends at one date for everybody; who buys again after it is asked for that next item.

    `harness.protocol.split_points` says exactly what each name means. A name may be given without its version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default=LEAVE_ONE_OUT, description=" or ".join(NAMES))
    max_history: int = Field(default=20, ge=1, description="a history keeps its latest items")
    exclude_history: bool = Field(default=False, description="take items of the history out of every model's list")
    cut: tuple[Mark, Mark] | None = Field(
        default=None,
        description="where validation and test begin in global time: two shares of the interactions (0.8 and 0.9 "
        "where nothing is said), or two times, as ISO 8601 in UTC or in seconds since 1970 (milliseconds and dates "
        "such as 20180630 are known by their size)",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        for known in NAMES:
            if name in (known, known.partition("/")[0]):
                return known
        raise ValueError(str(unknown_name("protocol", name, NAMES)))

    @model_validator(mode="before")
    @classmethod
    def _with_cut(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        cut = given.get("cut")
        if isinstance(cut, (list, tuple)):
            cut = [_in_seconds(mark) for mark in cut]
            given = {**given, "cut": cut}
        if cut is None and str(given.get("name", "")).partition("/")[0] == "global-time":
            return {**given, "cut": SHARES}
        return {**given, "cut": tuple(cut)} if isinstance(cut, list) else given  # strict checks know no list as a tuple

    @model_validator(mode="after")
    def _cut_fits(self) -> Self:
        if self.cut is None:
            return self
        if self.name != GLOBAL_TIME:
            raise ValueError(f"cut is of {GLOBAL_TIME}; {self.name} has none")
        first, second = (seconds(mark) for mark in self.cut)
        if is_share(first) != is_share(second) or not 0 < first < second:
            raise ValueError("cut must be two shares between 0 and 1 or two times, the first one smaller")
        return self

    @property
    def depth_asked(self) -> int:
        """How long a list a model is asked for: enough that `DEPTH` are left once the history is taken out."""
        return DEPTH + (self.max_history if self.exclude_history else 0)

    def rules(self) -> dict[str, Any]:
        """The settings that this protocol has, for its fingerprint."""
        return self.model_dump(mode="json", exclude_none=True)


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
