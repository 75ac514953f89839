"""`harness data verify`: checks of data and split, the audit, and the provenance of artefacts.

And `harness verify DATASET --tie-seeds N`: sensitivity of split and metrics to the order of equal timestamps.

If a user has two interactions at one time, the source's order determines the test target, and published copies of a
data set differ in it. Each tie seed orders such interactions by the hash rule of `harness data prepare --tie-seed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.catalog import catalogue_entries
from harness.data.dataset import Dataset
from harness.data.loading import load_dataset, reorder_ties
from harness.data.readers.times import EARLY
from harness.data.reading import Reading
from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.protocol.audit.audit import Audit, audit
from harness.protocol.audit.provenance import UNKNOWN, read_provenance
from harness.protocol.audit.verification import Check, verify
from harness.protocol.context import SilentReporter
from harness.protocol.protocol import Protocol
from harness.protocol.split import EvaluationSplit, Split, parts, split
from harness.runs.config import protocol_sets, resolve_protocol
from harness.runs.job import Job, RunOptions, plan
from harness.runs.run import context_of, ranked

MODELS = ("mostpop", "markov", "itemknn")


@dataclass(frozen=True)
class DatasetReport:
    """Result of the checks. `audit` is None if the protocol cannot be applied to the data, which a failed check
    reports."""

    dataset: Dataset
    protocol: Protocol
    checks: tuple[Check, ...]
    audit: Audit | None

    @property
    def broken(self) -> list[str]:
        """Names of the failed checks."""
        return [check.name for check in self.checks if not check.ok]

    @property
    def alarms(self) -> list[str]:
        """Leaks that the audit detected."""
        return [] if self.audit is None else self.audit.alarms()

    def document(self) -> dict[str, Any]:
        """JSON-able; `ok`: no failed check and no leak."""
        findings = () if self.audit is None else self.audit.findings
        return {
            "dataset": self.dataset.name,
            "protocol": self.protocol.model_dump(mode="json"),
            "ok": not self.broken and not self.alarms,
            "checks": [asdict(check) for check in self.checks],
            "findings": [asdict(finding) for finding in findings],
            "audit": None if self.audit is None else self.audit.document(),
        }


def inspect(
    name: str,
    order: str = "time",
    protocol: str | None = None,
    sets: Sequence[str] = (),
    files: Sequence[Path] = (),
    reading: Reading | None = None,
) -> DatasetReport:
    """Checks one data set under one protocol. Raises `InputError` if the data cannot be read."""
    rules = resolve_protocol((*protocol_sets(protocol), *sets))
    dataset = load_dataset(name, order, reading)
    checks = verify(dataset, rules, registered=name in catalogue_entries())
    if not all(check.ok for check in checks if check.name == "split"):
        return DatasetReport(dataset, rules, tuple(checks), None)
    split_parts = parts(dataset, rules)
    checks += [_artefact(path, dataset, rules) for path in files]
    return DatasetReport(dataset, rules, tuple(checks), audit(dataset, rules, split_parts))


def _artefact(path: Path, dataset: Dataset, rules: Protocol) -> Check:
    """Checks that a file of vectors or codes was computed without held-out rows of this split."""
    name = f"artefact {path.name}"
    if not path.is_file():
        raise InputError("no such file", where=path, hint="check --artefact")
    try:
        provenance = read_provenance(path)
    except InputError as error:
        return Check(name, False, str(error))
    if provenance == UNKNOWN:
        return Check(name, True, "unknown provenance: not checked")
    fault = provenance.fault(parts(dataset, rules).train)
    return Check(name, fault is None, fault or f"made by {provenance.made_by} from {provenance.rows} rows")


def tie_report(
    options: RunOptions, seeds: int, models: Sequence[str] = MODELS, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The split and the test metrics of training-free models under the source's order and `seeds` other orders of equal
    times, JSON-able.

    `orders`: one entry an order, the source's first, with fingerprints of data set and split, and the share of test and
    validation cases whose target differs from the source's order. `models`: for each model and metric the value under
    the source's order, and mean, standard deviation (n - 1), minimum and maximum over the other orders. Raises
    `InputError` for data without timestamps, and for fewer than 2 seeds.
    """
    if seeds < 2:
        raise InputError(f"{seeds} other orders have no standard deviation", where="--tie-seeds", hint="give 2 or more")
    jobs = [plan(model, options)[0] for model in models]
    dataset = jobs[0].data()
    if dataset.timestamps is None:
        raise InputError(
            "the data set has no timestamps and thus no ties",
            where=dataset.name,
            hint="leave --tie-seeds out, or give data with timestamps",
        )
    if not _tied(dataset) and dataset.timestamps.max(initial=0) < EARLY:
        raise InputError(
            "the timestamps are an order, not times, so equal times cannot be seen",
            where=dataset.name,
            hint="leave --tie-seeds out, or give data with true timestamps",
        )
    source = split(dataset, jobs[0].settings.protocol)
    orders: list[dict[str, Any]] = []
    values: list[dict[str, dict[str, float]]] = []
    for seed in (None, *range(1, seeds + 1)):
        ordered = dataset if seed is None else reorder_ties(dataset, seed)
        current = source if seed is None else split(ordered, source.protocol)
        orders.append(
            {
                "tie_seed": seed,
                "fingerprint": ordered.fingerprint,
                "protocol_fingerprint": current.fingerprint,
                "test_targets_moved": _moved(current.test, source.test),
                "valid_targets_moved": _moved(current.valid, source.valid),
            }
        )
        values.append({job.entry.name: _metrics(job, current) for job in jobs})
        log(f"{'order of the source' if seed is None else f'tie seed {seed}'}: measured")
    return {
        "dataset": dataset.name,
        "protocol": source.protocol.name,
        "protocol_fingerprint": source.fingerprint,
        "tied_interactions": _tied(dataset),
        "orders": orders,
        "models": {model: _spread([order_values[model] for order_values in values]) for model in models},
    }


def _moved(current: EvaluationSplit, source: EvaluationSplit) -> float:
    """Share of cases whose target differs or is missing."""
    cases = source.targets.cases
    size = 1 + max(fold.targets.cases.max(initial=-1) for fold in (current, source))
    targets = np.full((2, size), -1, dtype=np.int64)
    for row, fold in zip(targets, (current, source), strict=True):
        row[fold.targets.cases] = fold.targets.items
    return float((targets[0, cases] != targets[1, cases]).mean()) if len(cases) else 0.0


def _tied(dataset: Dataset) -> float:
    """Share of interactions with the timestamp of another interaction of the user."""
    assert dataset.timestamps is not None
    rows, times = dataset.sequences.rows(), dataset.timestamps
    equal = (rows[1:] == rows[:-1]) & (times[1:] == times[:-1])  # a user's interactions are sorted by time
    tied = np.zeros(len(times), dtype=bool)
    tied[1:] |= equal
    tied[:-1] |= equal
    return float(tied.mean()) if len(tied) else 0.0


def _metrics(job: Job, current: Split) -> dict[str, float]:
    recommender, context = job.recommender(), context_of(job, current, SilentReporter())
    recommender.fit(current.train, context)
    return compute_metrics(ranked(recommender, current.test.requests, context, current.protocol), current.test.targets)


def _spread(values: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Statistics of each metric: the source order's values first, then the other orders'."""
    first, *rest = values
    spread = {}
    for metric in first:
        column = np.array([metrics[metric] for metrics in rest])
        spread[metric] = {
            "source": first[metric],
            "mean": float(column.mean()),
            "sd": float(column.std(ddof=1)),
            "min": float(column.min()),
            "max": float(column.max()),
        }
    return spread
