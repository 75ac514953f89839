"""`harness run --explain`: what a run would reuse, continue and make, under which keys, and why; nothing is made.

The plan follows the flow of `execute`: the data, what the model looks for in the cache, the run as a whole. Where
something is missed, the nearest that is kept tells by which part of its key it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from harness.store.run_key import Outcome, RunKey
from harness.store.run_store import RunFolder, Store, StoredRun, Unreadable, check_files, read_record

State = Literal["reused", "continued", "to be made", "not needed"]
FROM_STORE = "the run is complete"


@dataclass(frozen=True)
class Step:
    """One stage of the plan. `inputs` are the parts of its `key`; `differs`: how the nearest that is kept differs."""

    stage: str
    state: State
    why: str
    key: str
    where: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    differs: Sequence[Difference] = ()


@dataclass(frozen=True)
class Plan:
    """What one job would do."""

    model: str
    dataset: str
    seed: int
    steps: tuple[Step, ...]

    def document(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "steps": [asdict(step) for step in self.steps]}


def explain(job: Job, store: Store, *, fresh: bool = False) -> Plan:
    """The plan of a job. Raises `InputError` for what would be wrong with running it, as far as that is known before
    anything is made."""
    dataset = job.data()
    split = split_by(dataset, job.settings.protocol)
    run = _run(job, dataset, split, store, fresh)
    context = context_of(job, split, SilentReporter())
    cache_entries = job.recommender().artefacts(split.train, context)
    steps = (
        _data(job, dataset, split),
        *_files(job.settings.model.files(split.train)),
        *(_artefact(each, needed=run.state != "reused") for each in cache_entries),
        run,
    )
    return Plan(job.entry.name, dataset.name, job.seed, steps)


def _data(job: Job, dataset: Dataset, split: Split) -> Step:
    entry = catalogue_entries().get(job.dataset)
    inputs = {"data": dataset.fingerprint, "order": dataset.order, "protocol": split.protocol.model_dump(mode="json")}
    state, reason = (
        ("reused", "on this machine") if entry is not None else ("to be made", "read from its folder each time")
    )
    return Step("data set and split", state, reason, split.fingerprint, job.dataset, inputs)


def _files(paths: Sequence[Path]) -> Iterator[Step]:
    for path in paths:
        if not path.is_file():
            raise InputError("no such file", where=str(path), hint="check the path")
        digest = sha256_of(path)
        yield Step(f"file {path.name}", "reused", "given ready-made", digest[:16], str(path), {"sha256": digest})


def _artefact(cache_entry: CacheEntry, *, needed: bool) -> Step:
    key, state = cache_entry.key, cache_entry.state()
    differs: Sequence[Difference] = ()
    if not needed:
        text, reason = "not needed", FROM_STORE
    elif state == "kept":
        text, reason = "reused", "each part of its key and the hash of its content are the same"
    elif state == "damaged":
        text, reason = "to be made", "the kept one is damaged"
    else:
        differs = cache_entry.closest(f"{cache_entry.manifest.name.removesuffix(f'{key.digest}.json')}*.json") or ()
        text, reason = "to be made", _missed(differs)
    return Step(key.kind, text, reason, key.digest, str(cache_entry.manifest), dict(key.parts), differs)


def _run(job: Job, dataset: Dataset, split: Split, store: Store, fresh: bool) -> Step:
    outcome = job.outcome(dataset, split)
    folder = store.folder(RunKey(job.entry.name, dataset.name, outcome.run_id))
    requested = _parts(outcome)
    differs: Sequence[Difference] = ()
    state, reason = _stored(folder)
    if fresh and state != "to be made":
        state, reason = "to be made", "--fresh says so"
    elif state == "to be made" and not reason:
        differs = _nearest(job, store, {**requested, "data": dataset.fingerprint})
        reason = _missed(differs)
    return Step("training, ranking and measuring", state, reason, outcome.run_id, str(folder.path), requested, differs)


def _parts(outcome: Outcome) -> dict[str, Any]:
    return {
        "code_version": str(outcome.code_version),
        "data": outcome.data,
        "protocol": outcome.protocol,
        "seed": outcome.seed,
        "configuration": dict(outcome.configuration),
    }


def _stored(folder: RunFolder) -> tuple[State, str]:
    if folder.result.exists():
        try:
            run = StoredRun(read_record(folder.result), folder)
            check_files(run)
        except Unreadable as error:
            return "to be made", str(error)
        return "reused", f"complete since {run.record.finished:%Y-%m-%d %H:%M} UTC, and its hashes are right"
    if read_events(folder.log):
        return "continued", "an unfinished run of the same key is there"
    return "to be made", ""


def _nearest(job: Job, store: Store, requested: Mapping[str, Any]) -> Sequence[Difference]:
    """How the stored run of this model differs that differs least."""
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
        # where nothing of that differs, it is what the fingerprint of the data leaves out
        rest = (Difference("data", "another order of rows, or another content of a file", requested["data"]),)
        results.append(differences(entries, requested) or rest)
    return min(results, key=len, default=())


def _missed(differs: Sequence[Difference]) -> str:
    if not differs:
        return "nothing of the kind is kept"
    names = ", ".join(each.part for each in differs[:3]) + (", …" if len(differs) > 3 else "")
    return f"the nearest that is kept differs in {names}"
