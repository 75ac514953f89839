"""A stored run's fitted model, as it was when it was stored: for commands that use it instead of making it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.protocol.context import Reporter, RunContext, SilentReporter
from harness.protocol.split import Split, split
from harness.runs.job import Job, RunOptions, plan
from harness.runs.run import context_of
from harness.store.run_store import StoredRun

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.protocol.recommender import Recommender

EXTERNAL = "external"  # the family of rankings made elsewhere


@dataclass(frozen=True, eq=False)
class Restored:
    """The model, ready to recommend, and what it was fitted on."""

    job: Job
    dataset: Dataset
    split: Split
    recommender: Recommender[Any]
    context: RunContext


def restore(
    run: StoredRun, device: str | None = "cpu", reporter: Reporter | None = None, data: str | None = None
) -> Restored:
    """Raises `InputError` for a run that keeps no model or a damaged one, where its data set is not here as it was
    (then the numbers of items would mean others), and where this version makes another run of its configuration.
    `data` is where the data set lies now, if it was moved."""
    folder, record = run.folder, run.record
    if record.family == EXTERNAL:
        what = "the rankings of this run were made elsewhere, so it has no model"
        raise InputError(what, where=record.run_id, mend="name a run of harness run")
    again = f"make the run again: harness run {record.model} --config {folder.config} --fresh"
    if not folder.model.is_dir():
        raise InputError("this run keeps no model", where=str(folder.path), mend=again)
    (job,) = plan(record.model, RunOptions(data, config=folder.config, device=device))
    try:
        dataset = job.data()
    except InputError as error:
        mend = f"give the folder of {record.dataset.name} with -d" if data is None else error.mend
        raise InputError(error.what, where=error.where or job.dataset, mend=mend) from error
    made = split(dataset, job.settings.protocol)
    if (dataset.fingerprint, made.fingerprint) != (record.dataset.fingerprint, record.protocol.fingerprint):
        what = f"the data set {record.dataset.name} is not what the run was made on"
        raise InputError(what, where=job.dataset, mend="bring it back, give it with -d, or make the run again")
    if job.outcome(dataset, made).run_id != record.run_id:
        what = "the program, the files that it reads or the order of the data's lines have changed since this run"
        raise InputError(what, where=str(folder.path), mend=again)
    recommender, context = job.recommender(), context_of(job, made, reporter or SilentReporter())
    try:
        recommender.load(folder.model, made.train, context)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the model cannot be read ({error})", where=str(folder.model), mend=again) from error
    return Restored(job, dataset, made, recommender, context)
