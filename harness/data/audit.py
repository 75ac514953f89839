"""What in a data set makes results hard to believe, counted before anything is trained.

These are properties of the data, not faults: each finding is a number to print beside a result. Rules of the split are
checked in `harness.protocol.verify`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Dataset
from harness.data.statistics import duplicated

HELD_OUT = (("test", 1), ("validation", 2))  # how far from the end of a sequence


@dataclass(frozen=True)
class Finding:
    """`count` of `total` cases (0 where it cannot be told); `detail` says what they are and why they matter."""

    name: str
    count: int
    total: int
    detail: str

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class Audit:
    """All findings on one data set."""

    dataset: str
    findings: tuple[Finding, ...]

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)


def audit(dataset: Dataset) -> Audit:
    """Ties in time at the cut, answers that the history shows, answers that no training part has, text that lacks.

    Only users with 3 or more interactions, those whom leave-one-out can cut, count.
    """
    findings = []
    for fold, held_out in HELD_OUT:
        findings += [look(dataset, fold, held_out) for look in (_ties, _in_history, _untrained)]
    return Audit(dataset.name, (*findings, *_texts(dataset)))


def _ends(dataset: Dataset, held_out: int) -> np.ndarray:
    """Where the held-out interaction of each user stands in the flat arrays."""
    cut = dataset.sequences.lengths >= 3
    return dataset.sequences.offsets[1:][cut] - held_out


def _ties(dataset: Dataset, fold: str, held_out: int) -> Finding:
    detail = f"{fold} items with the very timestamp of the item before: their order is a matter of the tie rule"
    if dataset.timestamps is None:
        return Finding(f"{fold}_ties", 0, 0, "the source states an order but no timestamps: ties cannot be told")
    ends = _ends(dataset, held_out)
    ties = dataset.timestamps[ends] == dataset.timestamps[ends - 1]
    return Finding(f"{fold}_ties", int(ties.sum()), len(ends), detail)


def _in_history(dataset: Dataset, fold: str, held_out: int) -> Finding:
    """Over the whole history, however long."""
    ends = _ends(dataset, held_out)
    rows = dataset.sequences.rows()
    width = len(dataset.items)
    before = dataset.sequences.trimmed(held_out)
    history = before.rows() * width + before.values
    found = np.isin(rows[ends] * width + dataset.sequences.values[ends], history)
    detail = f"{fold} items that the user had before: taking out the history makes them impossible to hit"
    return Finding(f"{fold}_in_history", int(found.sum()), len(ends), detail)


def _untrained(dataset: Dataset, fold: str, held_out: int) -> Finding:
    ends = _ends(dataset, held_out)
    trained = np.bincount(dataset.sequences.trimmed(2).values, minlength=len(dataset.items)) > 0
    cold = ~trained[dataset.sequences.values[ends]]
    detail = f"{fold} items that stand in no user's training part: only text can lead to them"
    return Finding(f"{fold}_untrained", int(cold.sum()), len(ends), detail)


def _texts(dataset: Dataset) -> tuple[Finding, ...]:
    if dataset.text is None:
        return (Finding("without_text", len(dataset.items), len(dataset.items), "the source has no item text"),)
    empty = sum(text.empty for text in dataset.text)
    return (
        Finding("without_text", empty, len(dataset.items), "items that say nothing of themselves"),
        Finding("duplicate_titles", duplicated(dataset.text), len(dataset.items), "items whose title another has too"),
    )
