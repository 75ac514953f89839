"""`harness run --explain`: what a run would reuse, resume and compute, with keys and reasons, without running it.

The plan has the stages of `execute`: the data, the model's cache entries, the run. For a cache miss it states how the
key of the closest entry differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.core.artifact_cache import CacheEntry, Difference, differences, sha256_of
from harness.data.catalog import catalogue_entries
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.protocol.context import SilentReporter
from harness.protocol.split import Split
from harness.protocol.split import split as split_by
from harness.runs.job import Job
from harness.runs.run import context_of
from harness.store.event_log import read_events
from harness.store.record import RunKey
from harness.store.run_store import RunFolder, Store, StoredRun, Unreadable, check_files, read_record

State = Literal["reused", "continued", "to be made", "not needed"]
FROM_STORE = "the run is complete"


@dataclass(frozen=True)
class Step:
    """One stage of the plan. `inputs`: parts of its `key`; `differs`: differences to the closest stored key."""

    stage: str
    state: State
    why: str
    key: str
    where: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    differs: Sequence[Difference] = ()


@dataclass(frozen=True)
class Plan:
    """The plan of one job."""

    model: str
    dataset: str
    seed: int
    steps: tuple[Step, ...]


def explain(job: Job, store: Store, *, fresh: bool = False) -> Plan:
    """The plan of a job. Raises the `InputError` that running it would raise, as far as known before training."""
    dataset = job.data()
    split = split_by(dataset, job.settings.protocol)
    run = _run(job, dataset, split, store, fresh)
    context = context_of(job, split, SilentReporter())
    cache_entries = job.recommender().artefacts(split.train, context)
    steps = (
        _data(job, dataset, split),
        *_files(job.settings.model.files(split.train)),
        *(_artefact(entry, needed=run.state != "reused") for entry in cache_entries),
        run,
    )
    return Plan(job.entry.name, dataset.name, job.seed, steps)


def _data(job: Job, dataset: Dataset, split: Split) -> Step:
    inputs = {"data": dataset.fingerprint, "order": dataset.order, "protocol": split.protocol.model_dump(mode="json")}
    if job.dataset in catalogue_entries():
        return Step("data set and split", "reused", "on this machine", split.fingerprint, job.dataset, inputs)
    reason = "read from its folder each time"
    return Step("data set and split", "to be made", reason, split.fingerprint, job.dataset, inputs)


def _files(paths: Sequence[Path]) -> Iterator[Step]:
    for path in paths:
        if not path.is_file():
            raise InputError("no such file", where=path, hint="check the path")
        digest = sha256_of(path)
        yield Step(f"file {path.name}", "reused", "given by the user", digest[:16], str(path), {"sha256": digest})


def _artefact(cache_entry: CacheEntry, *, needed: bool) -> Step:
    key, state = cache_entry.key, cache_entry.state()
    differs: Sequence[Difference] = ()
    if not needed:
        text, reason = "not needed", FROM_STORE
    elif state == "kept":
        text, reason = "reused", "its key and content hash match"
    elif state == "damaged":
        text, reason = "to be made", "the stored one is corrupt"
    else:
        differs = cache_entry.closest(f"{cache_entry.manifest.name.removesuffix(f'{key.digest}.json')}*.json") or ()
        text, reason = "to be made", _missed(differs)
    return Step(key.kind, text, reason, key.digest, str(cache_entry.manifest), dict(key.parts), differs)


def _run(job: Job, dataset: Dataset, split: Split, store: Store, fresh: bool) -> Step:
    outcome = job.outcome(dataset, split)
    folder = store.folder(RunKey(job.entry.name, dataset.name, outcome.run_id))
    requested = {
        "code_version": str(outcome.code_version),
        "data": outcome.data,
        "protocol": outcome.protocol,
        "seed": outcome.seed,
        "configuration": dict(outcome.configuration),
    }
    differs: Sequence[Difference] = ()
    state, reason = _stored(folder)
    if fresh and state != "to be made":
        state, reason = "to be made", "--fresh is set"
    elif state == "to be made" and not reason:
        differs = _nearest(job, store, {**requested, "data": dataset.fingerprint})
        reason = _missed(differs)
    return Step("training, ranking and measuring", state, reason, outcome.run_id, str(folder.path), requested, differs)


def _stored(folder: RunFolder) -> tuple[State, str]:
    if folder.result.exists():
        try:
            run = StoredRun(read_record(folder.result), folder)
            check_files(run)
        except Unreadable as error:
            return "to be made", str(error)
        return "reused", f"complete since {run.record.finished:%Y-%m-%d %H:%M} UTC, and its checksums match"
    if read_events(folder.log):
        return "continued", "there is an unfinished run with this key"
    return "to be made", ""


def _nearest(job: Job, store: Store, requested: Mapping[str, Any]) -> Sequence[Difference]:
    """Differences to the closest stored run of this model."""
    results = []
    for run in store.query(warn=lambda line: None):
        record = run.record
        if record.model != job.entry.name:
            continue
        configuration = run.settings.get(job.entry.section)
        entries = {
            "code_version": record.env.code_version,
            "data": record.dataset.fingerprint,
            "protocol": record.protocol.fingerprint,
            "seed": record.seed,
            "configuration": configuration if isinstance(configuration, dict) else {},
        }
        # if none of these differs, the data differ in what their fingerprint leaves out
        rest = (Difference("data", "another order of rows, or another content of a file", requested["data"]),)
        results.append(differences(entries, requested) or rest)
    return min(results, key=len, default=())


def _missed(differs: Sequence[Difference]) -> str:
    if not differs:
        return "there is none in the cache"
    names = ", ".join(difference.part for difference in differs[:3]) + (", …" if len(differs) > 3 else "")
    return f"the closest entry differs in {names}"
