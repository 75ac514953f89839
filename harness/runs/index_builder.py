"""Builds item codes as in a run, without training its model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.environment import cache_dir
from harness.core.locks import acquire_lock
from harness.data.dataset import Dataset
from harness.data.reading import Reading
from harness.errors import InputError
from harness.protocol.context import Reporter, SilentReporter
from harness.protocol.split import Split, split
from harness.registry import model_entries
from harness.runs.job import RunOptions, plan
from harness.runs.run import context_of


@dataclass(frozen=True, eq=False)
class BuiltIndex:
    """`index`: result of the model's `item_codes`, with a code `table`, `record()` and `write`. `checkpoint`: folder of
    intermediate results for resuming."""

    dataset: Dataset
    split: Split
    index: Any
    checkpoint: Path

    def written(self) -> None:
        """Removes the checkpoint, after the index is stored."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)


def build_index(model: str, options: RunOptions, reporter: Reporter | None = None) -> BuiltIndex:
    """The index that `model` builds with these options and the first of their seeds.

    Raises `InputError` for a model without item codes, and for invalid options or data.
    """
    job = plan(model, options)[0]
    recommender = job.recommender()
    item_codes = getattr(recommender, "item_codes", None)
    if item_codes is None:
        models = sorted(name for name, entry in model_entries().items() if hasattr(entry.load(), "item_codes"))
        raise InputError(f"{model} has no item codes", where="--model", hint=f"choose {' or '.join(models)}")
    dataset = job.data(whole_text=False)  # not all settings need text
    data_split = split(dataset, job.settings.protocol)
    checkpoint = cache_dir() / "unfinished" / f"index-{model}-{job.outcome(dataset, data_split).run_id}"
    context = replace(context_of(job, data_split, reporter or SilentReporter()), checkpoint=checkpoint)
    with acquire_lock(checkpoint.with_name(f".{checkpoint.name}.lock")):
        return BuiltIndex(dataset, data_split, item_codes(data_split.train, context), checkpoint)


def load_split(
    dataset: str, order: str | None = None, reading: Reading | None = None, protocol: str | None = None
) -> tuple[Dataset, Split]:
    """A data set and its split under a protocol (None: the default), to check an index file against."""
    options = RunOptions(dataset=dataset, order=order, reading=reading or Reading(), protocol=protocol)
    (job,) = plan("mostpop", options)
    loaded = job.data()
    return loaded, split(loaded, job.settings.protocol)


def check_writable(path: Path) -> None:
    """Raises `InputError` if no file can be written at `path`; called before any computation."""
    if path.is_dir():
        raise InputError("the path is a folder", where=str(path), hint="name a file in it")
    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), hint="create it first")
