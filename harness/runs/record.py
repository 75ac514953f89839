"""Builds the record of a run; external rankings use `dataset_mark` and `protocol_mark` too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.data.dataset import Dataset
from harness.protocol.split import Split
from harness.runs.job import Job
from harness.store.environment import environment
from harness.store.record import SCHEMA, Cost, DatasetInfo, Integrity, Metrics, ProtocolInfo, Record, to_jsonable


@dataclass(frozen=True)
class RunMeasurements:
    """The measurements of a run."""

    metrics: Metrics
    cost: Cost
    integrity: Integrity
    details: dict[str, Any]
    audit: dict[str, Any]
    codes: dict[str, Any] | None = None


def record_of(
    job: Job, dataset: Dataset, split: Split, measured: RunMeasurements, events: list[dict[str, Any]]
) -> Record:
    """The record of a run of a model; `events` is its log."""
    outcome = job.outcome(dataset, split)
    sessions = [event for event in events if event.get("event") == "session"]
    model = dict(measured.details.get("model", {}))
    comprehension = model.pop("comprehension", None)
    details = {
        "configuration": outcome.settings,
        "sessions": len(sessions),
        "data_notes": dataset.notes,
        **measured.details,
        "model": model,
    }
    return Record(
        schema=SCHEMA,
        run_id=outcome.run_id,
        model=job.entry.name,
        family=job.entry.family,
        dataset=dataset_mark(dataset),
        protocol=protocol_mark(split),
        seed=job.seed,
        profile=job.settings.profile,
        metrics=measured.metrics,
        cost=measured.cost,
        integrity=measured.integrity,
        env=environment(outcome.code_version),
        started=datetime.fromisoformat(sessions[0]["time"]),
        finished=datetime.now(UTC),
        comprehension=to_jsonable(comprehension),
        codes=to_jsonable(measured.codes),
        leaks=list(job.settings.model.leaks()),
        audit=to_jsonable(measured.audit),
        effort=job.effort,
        settings=job.configuration(),
        command=list(job.command),
        details=to_jsonable(details),
    )


def dataset_mark(dataset: Dataset) -> DatasetInfo:
    """The record's `dataset`."""
    return DatasetInfo(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        users=len(dataset.users),
        items=len(dataset.items),
        interactions=dataset.interactions,
    )


def protocol_mark(split: Split) -> ProtocolInfo:
    """The record's `protocol`."""
    return ProtocolInfo(fingerprint=split.fingerprint, **split.protocol.model_dump())
