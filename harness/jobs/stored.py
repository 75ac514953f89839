"""A stored run's fitted model, as it was when it was stored: for commands that use it instead of making it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.data.load import load_dataset
from harness.errors import InputError
from harness.jobs.execute import context_of
from harness.jobs.job import Job, RunOptions, plan
from harness.protocol.context import Reporter, RunContext, SilentReporter
from harness.protocol.split import Split, split
from harness.store.runs import StoredRun

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.protocol.recommender import Recommender


@dataclass(frozen=True, eq=False)
class Restored:
    """The model, ready to recommend, and what it was fitted on."""

    job: Job
    dataset: Dataset
    split: Split
    recommender: Recommender[Any]
    context: RunContext


def restore(run: StoredRun, device: str | None = "cpu", reporter: Reporter | None = None) -> Restored:
    """Raises `InputError` for a run that keeps no model or a damaged one, and where its data set is not here as it was
    (then the numbers of items would mean others)."""
    folder, record = run.folder, run.record
    if not folder.model.is_dir():
        mend = f"make the run again: harness run {record.model} --config {folder.config} --fresh"
        raise InputError("this run keeps no model", where=str(folder.path), mend=mend)
    (job,) = plan(record.model, RunOptions(config=folder.config, device=device))
    dataset = load_dataset(job.dataset, job.order)
    made = split(dataset, job.settings.protocol)
    if (dataset.fingerprint, made.fingerprint) != (record.dataset.fingerprint, record.protocol.fingerprint):
        what = f"the data set {record.dataset.name} is not what the run was made on"
        raise InputError(what, where=str(folder.path), mend="bring it back, or make the run again")
    recommender, context = job.recommender(), context_of(job, made, reporter or SilentReporter())
    try:
        recommender.load(folder.model, made.train, context)
    except (OSError, ValueError, KeyError) as error:
        mend = f"make the run again: harness run {record.model} --config {folder.config} --fresh"
        raise InputError(f"the model cannot be read ({error})", where=str(folder.model), mend=mend) from error
    return Restored(job, dataset, made, recommender, context)
