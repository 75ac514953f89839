"""Execution of a run: data, split, training, ranking, metrics, record.

Models are loaded through the registry only. Predictions meet `Targets` only here, when metrics are computed. With
several processes the main one calls `execute`, the others `run_as_worker`; both call `fit_and_rank`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from harness.core import config_files
from harness.core.environment import cache_dir
from harness.core.files import write_result_text, writing_results
from harness.core.hashing import fingerprint
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.evaluation.metrics import code_level, compute_metrics, count_list_defects, without_history
from harness.protocol.audit.audit import Audit
from harness.protocol.audit.audit import audit as run_audit
from harness.protocol.context import (
    ASIDE,
    BACK,
    SINGLE_PROCESS,
    ProcessGroup,
    Reporter,
    RunContext,
    SilentReporter,
    Validation,
    assert_equal_on_all,
    run_on_all,
)
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.recommender import Recommender
from harness.protocol.requests import Requests, Targets
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by
from harness.runs.distributed import device_named
from harness.runs.job import Job, tuning_section
from harness.runs.tracking import track_stored, tracking
from harness.store.environment import MemoryWatch, device_memory_mb, environment, reset_device_memory
from harness.store.event_log import EventLog, RunReporter, read_events, seconds_between
from harness.store.record import (
    Cost,
    DatasetInfo,
    Integrity,
    Metrics,
    Outcome,
    ProtocolInfo,
    Record,
    RunKey,
    TuningEffort,
    to_jsonable,
    write_predictions,
)
from harness.store.run_store import Reservation, Store, StoredRun, Supersedes

TRAIN, TRAINED = "train", "trained"  # the events between which the training clock runs


def prepare_inputs(job: Job, world: ProcessGroup) -> tuple[Dataset, Split, RunKey]:
    """Data, split and key of the run. Raises `InputError` if they differ between processes."""

    def prepare() -> tuple[Dataset, Split, RunKey]:
        dataset = job.data()
        split = split_by(dataset, job.settings.protocol)
        return dataset, split, RunKey(job.entry.name, dataset.name, job.outcome(dataset, split).run_id)

    inputs = run_on_all(world, prepare)
    assert_equal_on_all(world, inputs[2].run_id)
    return inputs


@dataclass(frozen=True)
class Finished:
    """A complete run; `reused`: it was stored before."""

    run: StoredRun
    reused: bool

    @property
    def record(self) -> Record:
        return self.run.record

    @property
    def metrics(self) -> dict[str, float]:
        """Test metrics."""
        return self.record.metrics.test

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.run.folder.path)

    def document(self) -> dict[str, Any]:
        """`result.json` plus `path`: what `harness run --json` prints."""
        return {**self.record.document(), "path": self.path}


def execute(
    job: Job,
    store: Store,
    *,
    fresh: bool | Supersedes = False,
    expected: str | None = None,
    reporter: Reporter | None = None,
    note: Callable[[str], None] = lambda line: None,
    world: ProcessGroup = SINGLE_PROCESS,
) -> Finished:
    """Executes the run, resumes it after an interruption, or returns the stored one.

    In a `world` of several processes this is the main process, the only one that writes; the others call
    `run_as_worker`. `fresh` repeats a complete run; the old one stays until the new one is complete. `expected`: the
    run id of the plan, perhaps on another machine. Raises `InputError` for invalid input, for another run id than
    `expected`, and for disk errors. Other errors of a model propagate and leave an unfinished folder.
    """
    dataset, split, key = prepare_inputs(job, world)
    if expected not in (None, key.run_id):
        raise InputError(
            f"the planned run is {expected}, here it is {key.run_id}",
            where=dataset.name,
            hint="use the same data and the same version of this program everywhere",
        )

    def waiting() -> None:
        note(f"another process is executing {key.run_id}; waiting")

    with store.claim(key, fresh=fresh, waiting=waiting) as claim:
        world.broadcast_object(claim.stored is None)
        if claim.stored is not None:
            track_stored(job.track, claim.stored)
            return Finished(_with_effort(claim, job.effort, note), reused=True)
        for warning in dataset.warnings:
            note(warning)
        if read_events(claim.folder.log):
            note(f"resuming the unfinished run in {claim.folder.path}")
        audit = run_audit(dataset, split.protocol, split)
        for alarm in audit.alarms():
            note(f"the audit detected a leak in {dataset.name}: {alarm}")
        try:
            stored_run = _make(job, dataset, split, audit, claim, reporter or SilentReporter(), world)
            return Finished(stored_run, reused=False)
        except InputError:
            claim.discard()
            raise


def _with_effort(claim: Reservation, effort: TuningEffort, note: Callable[[str], None]) -> StoredRun:
    """The stored run, with the study's effort in its record if the study has more trials than the record.

    Equal settings are the same run, which is not repeated. Only `effort` changes; the change is logged, and written to
    the run's configuration.
    """
    stored = claim.stored
    assert stored is not None
    former = stored.record.effort
    if effort.study is None or effort.changed or (former is not None and former.trials >= effort.trials):
        return stored
    previous_trials = None if former is None else former.trials
    EventLog(stored.folder.log).write(event="effort", before=previous_trials, **tuning_section(effort))
    if stored.folder.config.exists():
        content = config_files.read(stored.folder.config)
        write_result_text(stored.folder.config, config_files.write({**content, **tuning_section(effort)}))
    record = claim.update_record(stored.record.model_copy(update={"effort": effort}))
    note(f"{record.run_id} is already stored; its record now has {effort.trials} trials as tuning effort")
    return replace(stored, record=record)


def _make(
    job: Job, dataset: Dataset, split: Split, audit: Audit, claim: Reservation, reporter: Reporter, world: ProcessGroup
) -> StoredRun:
    folder = claim.folder
    write_result_text(folder.config, job.config_yaml())
    with writing_results(folder.checkpoint):
        folder.checkpoint.mkdir(exist_ok=True)
    with tracking(job.track, job.configuration(), folder, claim.final) as tracked:
        log = EventLog(folder.log, tracked.on_event)
        context = context_of(job, split, RunReporter(log, reporter))
        context = replace(context, checkpoint=folder.checkpoint, run_dir=folder.path, world=world)
        reset_device_memory(job.device)
        try:
            ranked = fit_and_rank(job, split, context, lambda event: log.write(event=event))
        except BaseException as error:
            with suppress(Exception):
                log.write(event="stopped", reason=type(error).__name__)
            raise
        write_predictions(folder.predictions, ranked.test, split.test.names(dataset.users), dataset.items)
        with writing_results(folder.model):
            ranked.recommender.save(folder.model)
        record = _record(job, dataset, split, audit, ranked, log, world)
        tracked.finish(record)
    return claim.finish(record)


@dataclass(frozen=True)
class Ranked:
    """A fitted model and its lists. `peak_memory_mb`: one entry a process."""

    recommender: Recommender[Any]
    valid: Predictions
    test: Predictions
    eval_seconds: float
    peak_memory_mb: np.ndarray


def fit_and_rank(job: Job, split: Split, context: RunContext, log: Callable[[str], None]) -> Ranked:
    """Trains the model and ranks both folds: the part of a run that all processes execute. `log` gets the events of the
    training clock."""
    recommender, protocol = job.recommender(), split.protocol
    with MemoryWatch() as memory:
        log(TRAIN)
        recommender.fit(split.train, context)
        log(TRAINED)
        valid = ranked(recommender, split.valid.requests, context, protocol)
        began = time.perf_counter()
        test = ranked(recommender, split.test.requests, context, protocol)
        eval_seconds = time.perf_counter() - began
    peaks = np.array(context.world.all_gather(memory.peak_mb))
    return Ranked(recommender, valid, test, eval_seconds, peaks)


def _record(
    job: Job, dataset: Dataset, split: Split, audit: Audit, ranked: Ranked, log: EventLog, world: ProcessGroup
) -> Record:
    """Computes the metrics, and puts everything measured into the run's record."""
    recommender, valid, test, peaks = ranked.recommender, ranked.valid, ranked.test, ranked.peak_memory_mb
    metrics = Metrics(test=compute_metrics(test, split.test.targets), valid=compute_metrics(valid, split.valid.targets))
    log.write(event="measured", **metrics.test)
    events = read_events(log.path)
    sessions = [event for event in events if event.get("event") == "session"]
    outcome, depth, size = job.outcome(dataset, split), split.protocol.depth, recommender.size()
    groups = recommender.code_groups()
    model = dict(recommender.record())
    comprehension = model.pop("comprehension", None)
    details = {
        "configuration": outcome.settings,
        "sessions": len(sessions),
        "data_notes": dataset.notes,
        "audit_valid": count_list_defects(valid, split.valid.requests, depth, len(dataset.items)),
        "model": model,
        "peak_device_memory_mb": device_memory_mb(job.device),
        **({"processes": {"number": world.size, "peak_memory_mb": peaks.tolist()}} if world.size > 1 else {}),
    }
    return new_record(
        outcome,
        dataset,
        split,
        test,
        family=job.entry.family,
        profile=job.settings.profile,
        metrics=metrics,
        cost=Cost(
            train_seconds=seconds_between(events, TRAIN, TRAINED) - seconds_between(events, ASIDE, BACK),
            eval_seconds=ranked.eval_seconds,
            eval_users_per_second=len(split.test.requests) / ranked.eval_seconds,
            peak_memory_mb=float(peaks.sum()),
            parameters=size.parameters or None,  # not stated
            trainable_parameters=size.trainable_parameters if size.parameters else None,
            device=device_named(job, world),
        ),
        started=datetime.fromisoformat(sessions[0]["time"]),
        comprehension=to_jsonable(comprehension),
        codes=None if groups is None else to_jsonable(code_level(test, split.test.targets, groups)),
        leaks=list(job.settings.model.leaks()),
        audit=to_jsonable(audit.document()),
        effort=job.effort,
        settings=job.configuration(),
        command=list(job.command),
        details=to_jsonable(details),
    )


def new_record(outcome: Outcome, dataset: Dataset, split: Split, test: Predictions, **more: Any) -> Record:
    """The record of a run that ends now; `more`: the fields of `Record` that do not follow from its test lists."""
    return Record(
        run_id=outcome.run_id,
        model=outcome.model,
        dataset=DatasetInfo.of(dataset),
        protocol=ProtocolInfo.of(split),
        seed=outcome.seed,
        integrity=Integrity(**count_list_defects(test, split.test.requests, split.protocol.depth, len(dataset.items))),
        env=environment(outcome.code_version),
        finished=datetime.now(UTC),
        **more,
    )


def _held_out(fold: EvaluationSplit, n_users: int) -> np.ndarray:
    """The fold's target of each user, the latest of several, (n_users,), -1 if none: for models that declare a leak."""
    items = np.full(n_users, -1, dtype=np.int64)
    items[fold.requests.users] = fold.targets.items  # sorted: the last one of a user stays
    return items


def context_of(job: Job, split: Split, reporter: Reporter) -> RunContext:
    """The context of a job's model, without folders to write to."""
    return RunContext(
        seed=job.seed,
        cache=cache_dir() / "artefacts",
        device=job.device,
        validation=Validation(
            split.valid.requests,
            lambda predictions: _validation_metrics(predictions, split.valid, split.protocol),
            digest=fingerprint([split.train.items[item] for item in split.valid.targets.items]),
            depth=split.protocol.depth_asked,
        ),
        reporter=reporter,
        validation_items=_held_out(split.valid, split.train.n_users) if job.settings.model.leaks() else None,
    )


def finalize_predictions(predictions: Predictions, requests: Requests, protocol: Protocol) -> Predictions:
    """The lists that are measured and stored: at most `depth` items, without the history if the protocol
    excludes it."""
    if protocol.exclude_history:
        return without_history(predictions, requests, protocol.depth)
    return predictions.first(protocol.depth)


def ranked(recommender: Recommender[Any], requests: Requests, context: RunContext, protocol: Protocol) -> Predictions:
    """The lists of a fitted model for these requests, as they are measured."""
    return finalize_predictions(recommender.recommend(requests, protocol.depth_asked, context), requests, protocol)


def _validation_metrics(predictions: Predictions, fold: EvaluationSplit, protocol: Protocol) -> dict[str, float]:
    """Metrics over the ranked cases (a model may validate on a subset)."""
    requested = np.flatnonzero(np.isin(fold.requests.cases, predictions.cases))
    targets = Targets(fold.targets.cases[requested], fold.targets.items[requested])
    return compute_metrics(finalize_predictions(predictions, fold.requests, protocol), targets)


def run_as_worker(job: Job, world: ProcessGroup) -> None:
    """The part of the run of each process but the main one: training and ranking. It writes nothing."""
    _, split, _ = prepare_inputs(job, world)
    if world.broadcast_object():  # the main process has no stored run
        context = replace(context_of(job, split, SilentReporter()), world=world)
        fit_and_rank(job, split, context, lambda event: None)
