"""The audit of a data set under a protocol, made before training and stored in the run's record.

Most findings are properties of the data, to be printed beside a result. An alarm is a leak: held-out rows are visible
in a model's input. `harness.protocol.audit.verification` checks the rules of the split, the single checks are in
`harness.protocol.audit.checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.data.dataset import Dataset, Order
from harness.protocol.audit.checks import Finding, FoldView, canary, on_fold, on_text
from harness.protocol.protocol import Protocol
from harness.protocol.split import SplitParts, parts


@dataclass(frozen=True)
class Audit:
    """All findings on one data set under one protocol. `lost` counts the users without an evaluation, by reason;
    `times` are where validation and test begin, for a protocol with a cut in time."""

    dataset: str
    order: Order
    findings: tuple[Finding, ...]
    lost: dict[str, int] = field(default_factory=dict)
    times: tuple[str, str] | None = None
    canary: str = ""

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)

    def alarms(self) -> list[str]:
        """One line for each leak of held-out rows; empty for a clean data set."""
        problems = [
            f"{finding.name}: {finding.count} of {finding.total} {finding.detail}"
            for finding in self.findings
            if finding.alarm
        ]
        return [*problems, *([f"canary: {self.canary}"] if self.canary else [])]

    def document(self) -> dict[str, Any]:
        """What a record keeps: `findings` maps a name to [count, total]."""
        return {
            "order": self.order,
            "findings": {finding.name: [finding.count, finding.total] for finding in self.findings},
            "alarms": self.alarms(),
            "canary": self.canary or "silent",
            "lost": self.lost,
            "times": None if self.times is None else list(self.times),
        }


def audit(dataset: Dataset, protocol: Protocol, split_parts: SplitParts | None = None) -> Audit:
    """Looks at both folds, the text, and what was lost; `split_parts` are the parts where they are known already.

    Raises `InputError` as `split` does.
    """
    split_parts = parts(dataset, protocol) if split_parts is None else split_parts
    times = split_parts.cut.times
    folds = [
        FoldView(dataset, split_parts, fold, name)
        for name, fold in (("test", split_parts.test), ("validation", split_parts.valid))
    ]
    return Audit(
        dataset=dataset.name,
        order=dataset.order,
        findings=(*(finding for view in folds for finding in on_fold(view)), *on_text(dataset)),
        lost={**dict(dataset.lost), **_not_evaluated(dataset, split_parts)},
        times=None if times is None else (_moment(times[0]), _moment(times[1])),
        canary=canary(dataset, protocol),
    )


def _not_evaluated(dataset: Dataset, split_parts: SplitParts) -> dict[str, int]:
    """Users who take no part, and items that none has, by reason; only a cut in time has any."""
    if split_parts.cut.times is None:
        return {}
    assert dataset.timestamps is not None
    rows, lengths = dataset.sequences.rows(), dataset.sequences.lengths
    untrained = split_parts.cut.train == 0
    if split_parts.test.requests.case_ids is not None:  # a user may have several cases
        users = np.arange(len(lengths))
        test, valid = (~np.isin(users, fold.requests.users) for fold in (split_parts.test, split_parts.valid))
        counted = {
            "users without a test case": test,
            "users without a validation case": valid,
            "users without a training part (their first interaction has no history and is no case)": untrained,
        }
    else:
        before_valid, before_test = (
            np.bincount(rows[dataset.timestamps < time], minlength=len(lengths)) for time in split_parts.cut.times
        )
        inside, after = before_test > before_valid, lengths > before_test
        new_in_test, new_in_valid = after & (before_test == 0), inside & (before_valid == 0)
        no_history = "users whose first interaction lies in the {} period (no history, not evaluated{})"
        counted = {
            "users without an interaction in the test period": ~after,
            no_history.format("test", ""): new_in_test,
            "users without an interaction in the validation period": ~inside,
            no_history.format("validation", " in validation"): new_in_valid,
            "users without a training part": untrained,
        }
    counted["items that no training part has"] = split_parts.train.counts() == 0
    return {reason: int(mask.sum()) for reason, mask in counted.items() if mask.any()}


def _moment(time: float) -> str:
    """ISO 8601 in UTC where the number can be a date."""
    return f"{np.datetime64(int(time), 's')}Z" if 0 <= time < 1e11 else str(time)
