"""Per-user metrics of stored runs, recomputed from their ranked lists, for paired comparisons.

The data set is read from the location in the runs' configuration; data and protocol must match their fingerprints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.errors import InputError
from harness.evaluation.metrics import per_user
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS, Protocol
from harness.protocol.split import Split, split
from harness.store.record import Record, read_predictions
from harness.store.run_store import StoredRun, Unreadable, check_files


@dataclass(frozen=True)
class Measured:
    """Data and split of a comparison."""

    dataset: Dataset
    split: Split

    def values(self, runs: Sequence[StoredRun], names: Sequence[str] = METRICS) -> Mapping[str, np.ndarray]:
        """Each metric by seed and test case, float64, shape (runs, cases); cases as in `split.test.requests`."""
        results = [per_user(self.lists(run), self.split.test.targets, names) for run in runs]
        return {name: np.stack([one[name] for one in results]) for name in results[0]}

    @property
    def clusters(self) -> np.ndarray | None:
        """The user of each test case if a user may have several; else None."""
        return self.split.test.requests.clusters

    def lists(self, run: StoredRun) -> Predictions:
        """A run's ranked lists, cases as in `split.test.requests`. Raises `InputError` if they are unreadable."""
        try:
            check_files(run)
        except Unreadable as error:
            raise InputError(str(error), hint="make the run again with --fresh", code="incompatible") from error
        lists = read_predictions(run.folder.predictions, self.split.test.names(self.dataset.users), self.dataset.items)
        rows = self.split.test.requests.cases  # `read_predictions` gives all names, in their order
        return Predictions(lists.cases[rows], lists.items[rows], lists.scores[rows])


def measured(runs: Sequence[StoredRun], location: str | None = None) -> Measured:
    """The data and split that the runs share. `location`: a name or folder, by default that of the runs' configuration.
    Raises `InputError` if the runs were measured on other data."""
    record = runs[0].record
    fields = runs[0].settings
    place = location or str(fields.get("dataset") or record.dataset.name)
    order = str(fields.get("order") or "time") if Path(place).exists() else "time"
    try:
        dataset = load_dataset(place, order, Reading.of(fields.get("data")))
    except InputError as error:
        hint = f"give the folder of {record.dataset.name} with -d" if location is None else error.hint
        raise InputError(error.what, where=error.where or place, hint=hint, code=error.code) from error
    current_split = split(dataset, protocol_of(record))
    for kind, theirs, actual in (
        ("data", record.dataset.fingerprint, dataset.fingerprint),
        ("split", record.protocol.fingerprint, current_split.fingerprint),
    ):
        if theirs != actual:
            message = f"the {kind} here ({actual}) is not what {record.run_id} was measured on ({theirs})"
            hint = "give the right folder with -d, or make the runs again"
            raise InputError(message, where=place, hint=hint, code="incompatible")
    return Measured(dataset, current_split)


def protocol_of(record: Record) -> Protocol:
    """The protocol of a record."""
    return Protocol.model_validate(record.protocol.model_dump(exclude={"fingerprint"}))
