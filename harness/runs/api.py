"""What `import harness` offers for running: `run`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import index
from pathlib import Path
from typing import Any

from harness.data.reading import Reading
from harness.errors import InputError, unknown_name
from harness.protocol.context import Reporter
from harness.runs.job import RunOptions, plan
from harness.runs.overrides import flat
from harness.runs.run import Finished, execute
from harness.store.run_store import Store


@dataclass(frozen=True)
class _Options:
    """The keyword options of `run`, as on the command line. `seed` is a number or several; `set` a mapping from
    `section.key` to a value (or of sections, as in a configuration file), or lines `section.key=value`; `data` has the
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


def run(model: str, dataset: str | Path | None = None, **options: Any) -> Finished | list[Finished]:
    """Makes the run of `model` on `dataset` (a name or a folder; `ml-100k` without one), or returns the stored one.

    Options: `profile`, `seed`, `set`, `config`, `device`, `protocol`, `order`, `data`, `track`, `results`, `fresh`,
    `reporter`. Gives one `Finished`, or a list of them where `seed` is a sequence: `.record` is `result.json`,
    `.metrics` its test metrics, `.path` the run's folder, `.reused` whether it was there already. Raises `InputError`
    for wrong input.
    """
    names = [field.name for field in fields(_Options)]
    for name in options:
        if name not in names:
            raise unknown_name("option", name, names, where="harness.run")
    value = _Options(**options)
    several = isinstance(value.seed, Iterable) and not isinstance(value.seed, str)
    listed = value.seed if several else () if value.seed is None else (value.seed,)
    seeds = tuple(map(_seed, listed))  # pyright: ignore[reportArgumentType]
    if dataset is not None and not isinstance(dataset, (str, Path)):
        hint = "run reads the data itself, so that its record can name them"
        raise InputError(f"{type(dataset).__name__} is neither a name nor a folder", where="dataset", hint=hint)
    run_options = RunOptions(
        dataset=None if dataset is None else str(dataset),
        profile=value.profile,
        seeds=seeds,
        sets=_lines(value.set),
        config=None if value.config is None else Path(value.config),
        device=value.device,
        protocol=value.protocol,
        order=value.order,
        reading=Reading.of(value.data),
        track=(value.track,) if isinstance(value.track, str) else tuple(value.track),
    )
    store = Store(Path(value.results))
    done = [execute(job, store, fresh=value.fresh, reporter=value.reporter) for job in plan(model, run_options)]
    return done if several else done[0]


def _plain(value: Any) -> Any:
    """What JSON has no word for: a NumPy number, a path."""
    return value.item() if hasattr(value, "item") else str(value)


def _seed(value: Any) -> int:
    """A whole number of any type, NumPy's too. Raises `InputError`."""
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise InputError(f"{value!r} is no seed", where="seed", hint="give a whole number from 0 on, or several")


def _lines(settings: Mapping[str, Any] | Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(settings, Mapping):
        return tuple(f"{key}={json.dumps(value, default=_plain)}" for key, value in flat(settings))
    return (settings,) if isinstance(settings, str) else tuple(settings)
