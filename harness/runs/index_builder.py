"""Builds item indices: the codes that a run would train on, without training its model."""

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
    """`index` is what the model's `item_codes` gave: it has a code `table`, its `record()`, and can `write` itself.
    `checkpoint` is a folder of what making it needed to go on after a kill."""

    dataset: Dataset
    split: Split
    index: Any
    checkpoint: Path

    def written(self) -> None:
        """Removes the checkpoint, after the index is stored."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)


def build_index(model: str, options: RunOptions, reporter: Reporter | None = None) -> BuiltIndex:
    """The index that `model` would make with these options and the first of their seeds.

    Raises `InputError` for a model that makes no item codes, and for whatever is wrong with the options or the data.
    """
    job = plan(model, options)[0]
    recommender = job.recommender()
    make = getattr(recommender, "item_codes", None)
    if make is None:
        able = sorted(name for name, entry in model_entries().items() if hasattr(entry.load(), "item_codes"))
        raise InputError(f"{model} makes no item codes", where="--model", hint=f"choose {' or '.join(able)}")
    dataset = job.data(whole_text=False)  # codes of some settings need none
    current_split = split(dataset, job.settings.protocol)
    checkpoint = cache_dir() / "unfinished" / f"index-{model}-{job.outcome(dataset, current_split).run_id}"
    context = replace(context_of(job, current_split, reporter or SilentReporter()), checkpoint=checkpoint)
    with acquire_lock(checkpoint.with_name(f".{checkpoint.name}.lock")):
        return BuiltIndex(dataset, current_split, make(current_split.train, context), checkpoint)


def load_split(
    dataset: str, order: str | None = None, reading: Reading | None = None, protocol: str | None = None
) -> tuple[Dataset, Split]:
    """A data set under a protocol, the default one for None: an index file is held against its catalogue and its test
    targets."""
    options = RunOptions(dataset=dataset, order=order, reading=reading or Reading(), protocol=protocol)
    (job,) = plan("mostpop", options)
    loaded = job.data()
    return loaded, split(loaded, job.settings.protocol)


def check_writable(path: Path) -> None:
    """Raises `InputError` where no file can be written at `path`; asked before anything is computed."""
    if path.is_dir():
        raise InputError("a folder, where a file is to be written", where=str(path), hint="name a file in it")
    if not path.parent.is_dir():
        raise InputError("no such folder", where=str(path.parent), hint="make it first")
