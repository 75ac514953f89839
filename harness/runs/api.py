"""`harness.run`, `harness.evaluate` and `harness.build_index`, and the options shared by the functions of `import
harness`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import index
from pathlib import Path
from typing import Any

from harness.core.config_files import flatten
from harness.core.environment import cache_dir
from harness.core.locks import acquire_lock
from harness.data.dataset import Dataset
from harness.data.reading import Reading
from harness.errors import InputError, unknown_name
from harness.protocol.context import Reporter, SilentReporter
from harness.protocol.split import Split, split
from harness.registry import model_entries
from harness.runs.external import evaluate as measure
from harness.runs.job import RunOptions, plan
from harness.runs.run import Finished, context_of, execute
from harness.store.run_store import Store, warn

EVALUATE = ("name", "seed", "set", "protocol", "order", "data", "results")  # options of `evaluate`


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
    dataset: str,
    order: str | None = None,
    reading: Reading | None = None,
    protocol: str | None = None,
    sets: Sequence[str] | None = None,
) -> tuple[Dataset, Split]:
    """A data set and its split under a protocol (None: the default; `sets`: `protocol.key=value`), to check an index
    file or rankings against."""
    reading = reading or Reading()
    options = RunOptions(dataset=dataset, order=order, reading=reading, protocol=protocol, sets=tuple(sets or ()))
    (job,) = plan("mostpop", options)
    loaded = job.data()
    return loaded, split(loaded, job.settings.protocol)


def check_writable(path: Path) -> None:
    """Raises `InputError` if no file can be written at `path`; called before any computation."""
    if path.is_dir():
        raise InputError("the path is a folder", where=path, hint="name a file in it")
    if not path.parent.is_dir():
        raise InputError("no such folder", where=path.parent, hint="create it first")


@dataclass(frozen=True)
class Options:
    """Keyword options of `run`, `ablate` and `tune`, as on the command line. `seed`: a number or a sequence; `set`: a
    mapping from `section.key` to a value (or nested, as in a configuration file), or lines `section.key=value`; `data`:
    options of reading files (`{"core": 5, "columns": {"user": "customer"}}`)."""

    profile: str | None = None
    seed: int | Sequence[int] | None = None
    set: Mapping[str, Any] | Sequence[str] | str = ()
    config: str | Path | None = None
    device: str | None = None
    protocol: str | None = None
    order: str | None = None
    data: Mapping[str, Any] | None = None
    track: str | Sequence[str] = ()
    results: str | Path = "results"
    fresh: bool = False
    reporter: Reporter | None = None

    @classmethod
    def of(cls, function: str, options: Mapping[str, Any], names: Sequence[str] = ()) -> Options:
        """From keyword arguments, of which `names` are allowed (empty: all). Raises `InputError` for another one, with
        similar names."""
        names = names or [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                raise unknown_name("option", name, names, where=f"harness.{function}")
        return cls(**options)

    @property
    def store(self) -> Store:
        return Store(Path(self.results))

    @property
    def several(self) -> bool:
        """Whether `seed` is a sequence."""
        return isinstance(self.seed, Iterable) and not isinstance(self.seed, str)

    def run_options(self, dataset: str | Path | None, *, elsewhere: bool = False) -> RunOptions:
        """The same as `RunOptions`. Raises `InputError`."""
        listed = self.seed if self.several else () if self.seed is None else (self.seed,)
        return RunOptions(
            dataset=None if dataset is None else _dataset(dataset),
            profile=self.profile,
            seeds=tuple(map(_seed, listed)),  # pyright: ignore[reportArgumentType]
            sets=_lines(self.set),
            config=None if self.config is None else Path(self.config),
            device=self.device,
            protocol=self.protocol,
            order=self.order,
            reading=Reading.of(self.data),
            track=(self.track,) if isinstance(self.track, str) else tuple(self.track),
            elsewhere=elsewhere,
        )


def run(model: str, dataset: str | Path | None = None, **options: Any) -> Finished | list[Finished]:
    """Runs `model` on `dataset` (a name or a folder; default `ml-100k`), or returns the stored run.

    Options: `profile`, `seed`, `set`, `config`, `device`, `protocol`, `order`, `data`, `track`, `results`, `fresh`,
    `reporter`. Returns one `Finished`, or a list if `seed` is a sequence: `.record` is `result.json`, `.metrics` the
    test metrics, `.path` the run's folder, `.reused` whether the run was stored before. Raises `InputError` for invalid
    input.
    """
    value = Options.of("run", options)
    jobs = plan(model, value.run_options(dataset))
    finished = [execute(job, value.store, fresh=value.fresh, reporter=value.reporter) for job in jobs]
    return finished if value.several else finished[0]


def evaluate(predictions: str | Path, dataset: str | Path, *, name: str | None = None, **options: Any) -> Finished:
    """Measures a file of external rankings under the same protocol, and stores it as a run named `name` (default: the
    file's name).

    Options: `seed`, `set`, `protocol`, `order`, `data`, `results`, as in `run`. Raises `InputError` for invalid input.
    """
    value = Options.of("evaluate", options, EVALUATE)
    return measure(Path(predictions), value.run_options(dataset), value.store, warn, name=name)


def _dataset(dataset: str | Path) -> str:
    """A name or a folder. Raises `InputError` for another type."""
    if isinstance(dataset, (str, Path)):
        return str(dataset)
    hint = "give the name or the folder, which the record states"
    raise InputError(f"{type(dataset).__name__} is neither a name nor a folder", where="dataset", hint=hint)


def _plain(value: Any) -> Any:
    """Converts NumPy numbers and paths, which JSON does not support."""
    return value.item() if hasattr(value, "item") else str(value)


def _seed(value: Any) -> int:
    """An integer of any type, NumPy included. Raises `InputError`."""
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise InputError(f"{value!r} is not a seed", where="seed", hint="give an integer from 0, or several")


def _lines(settings: Mapping[str, Any] | Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(settings, Mapping):
        return tuple(f"{key}={json.dumps(value, default=_plain)}" for key, value in flatten(settings).items())
    return (settings,) if isinstance(settings, str) else tuple(settings)
