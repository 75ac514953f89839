"""What `import harness` offers for running: `run`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import unknown_name
from harness.jobs.execute import Finished, execute
from harness.jobs.job import RunOptions, plan
from harness.protocol.context import Reporter
from harness.store.runs import Store


@dataclass(frozen=True)
class _Options:
    """The keyword options of `run`, as on the command line. `seed` is a number or several; `set` a mapping from
    `section.key` to a value, or lines `section.key=value`."""

    profile: str | None = None
    seed: int | Sequence[int] | None = None
    set: Mapping[str, Any] | Sequence[str] = ()
    config: str | Path | None = None
    device: str | None = None
    protocol: str | None = None
    order: str | None = None
    track: str | Sequence[str] = ()
    results: str | Path = "results"
    fresh: bool = False
    reporter: Reporter | None = None


def run(model: str, dataset: str | None = None, **options: Any) -> Finished | list[Finished]:
    """Makes the run of `model` on `dataset` (a name or a folder; `ml-100k` without one), or returns the stored one.

    Options: `profile`, `seed`, `set`, `config`, `device`, `protocol`, `order`, `track`, `results`, `fresh`,
    `reporter`. Gives one `Finished`, or a list of them where `seed` is a sequence: `.record` is `result.json`, `.path`
    the run's folder, `.reused` whether it was there already. Raises `InputError` for wrong input.
    """
    known = [field.name for field in fields(_Options)]
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known, where="harness.run")
    given = _Options(**options)
    seeds = () if given.seed is None else (given.seed,) if isinstance(given.seed, int) else tuple(given.seed)
    asked = RunOptions(
        dataset=dataset,
        profile=given.profile,
        seeds=seeds,
        sets=_lines(given.set),
        config=None if given.config is None else Path(given.config),
        device=given.device,
        protocol=given.protocol,
        order=given.order,
        track=(given.track,) if isinstance(given.track, str) else tuple(given.track),
    )
    store = Store(Path(given.results))
    done = [execute(job, store, fresh=given.fresh, reporter=given.reporter) for job in plan(model, asked)]
    return done[0] if given.seed is None or isinstance(given.seed, int) else done


def _lines(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    if isinstance(settings, Mapping):
        return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())
    return tuple(settings)
