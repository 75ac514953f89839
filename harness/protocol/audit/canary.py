"""The leakage canary: other answers are put into the data, and nothing that a model is given may sing of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.data.dataset import Dataset
from harness.data.ragged import Ragged
from harness.protocol.protocol import Protocol
from harness.protocol.split import Fold, Parts, parts


def canary(dataset: Dataset, protocol: Protocol) -> str:
    """What of an answer reached a model, in words; empty where nothing did.

    Every interaction that is kept from training is replaced by another item, in two steps: those from the test answers
    on, then those from the validation answers on. The first must change no training part, no validation question and
    no history of the test; the second no training part and no validation question.
    """
    if len(dataset.items) < 2:
        return ""
    made = parts(dataset, protocol)
    test, valid = made.cut.test, made.cut.valid
    changed = parts(_planted(dataset, test), protocol)
    found = _given(made, changed)
    if _histories(made.test) != _histories(changed.test):
        found.append("the test histories")
    earliest = np.where(valid >= 0, valid, test)
    found += [f"{what} (validation)" for what in _given(made, parts(_planted(dataset, earliest), protocol))]
    return f"answers reached {', '.join(found)}" if found else ""


def _planted(dataset: Dataset, places: np.ndarray) -> Dataset:
    """Every interaction from its user's place on becomes the next item of the catalogue; -1 leaves a user alone."""
    rows = dataset.sequences
    begins = np.where(places >= 0, rows.offsets[:-1] + places, rows.offsets[1:])
    later = np.arange(len(rows.values)) >= np.repeat(begins, rows.lengths)
    values = np.where(later, (rows.values + 1) % len(dataset.items), rows.values)
    return replace(dataset, sequences=Ragged(values, rows.offsets))


def _given(one: Parts, other: Parts) -> list[str]:
    found = []
    if one.train.fingerprint != other.train.fingerprint:
        found.append("the training part")
    if _histories(one.valid) != _histories(other.valid):
        found.append("the validation histories")
    return found


def _histories(fold: Fold) -> tuple[bytes, bytes, bytes]:
    histories = fold.requests.histories
    return fold.requests.users.tobytes(), histories.values.tobytes(), histories.offsets.tobytes()
