"""`harness tune`: searches settings on the validation cases, and optionally runs the best."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Dataset,
    Device,
    ModelName,
    Order,
    Profile,
    Protocol,
    Results,
    Sets,
    numbers,
    with_reading,
)
from harness.cli.output import log, print_json, print_table, stdout_kept
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.experiments.study import Study
    from harness.runs.run import Finished


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(tune)


@with_reading
def tune(
    model: ModelName,
    dataset: Dataset,
    trials: Annotated[int, typer.Option(help="Number of trials in total, the default settings first.")] = 20,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="No trial starts after this total time.", show_default="none"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Maximised metric on the validation cases.")] = "ndcg@10",
    space: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .yaml file with a search space.", show_default="the model's")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search and its trials.", show_default="1")] = None,
    run: Annotated[bool, typer.Option("--run", help="Then run the best settings.")] = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Seeds of these runs.", show_default="the search's")
    ] = None,
    profile: Profile = None,
    sets: Sets = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Base configuration of every trial.")] = None,
    results: Results = RESULTS,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Restart the study (and the runs), or resume it.")
    ] = False,
    device: Device = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Search settings on the validation cases only; test cases are never ranked.

    The same command resumes after an interruption, and continues with more trials. The best settings are written to a
    file for `harness run MODEL --config`, whose record then has the tuning effort.
    """
    from harness.cli.progress import reporter
    from harness.experiments.study import Search
    from harness.experiments.tune import alone, conduct, study
    from harness.runs.job import RunOptions
    from harness.store.run_store import Store

    if seeds is not None and not run:
        raise InputError(
            "are for the runs with the best settings",
            where="--seeds",
            hint="add --run, or use --seed",
            code="conflicting-options",
        )
    items = numbers(seeds)
    values = () if seed is None else (seed,)
    options = RunOptions(dataset, profile, values, tuple(sets or ()), config, device, protocol, order, reading=reading)
    store = Store(results)
    with stdout_kept():
        current_study = study(model, Search(trials, timeout, metric, space), options, store)
        with alone(current_study, lambda: log(f"another process works on {current_study.path}; waiting"), fresh=fresh):
            _announce(current_study)
            conduct(current_study, reporter, log)
        done = _runs(current_study, items, fresh=fresh) if run else []
    _conclude(current_study, done, as_json=as_json)


def _announce(study: Study) -> None:
    entry, present = study.base.entry, len(study.trials)
    cases = len(study.split.valid.requests)
    log(f"{entry.name} on {study.dataset.name}, {study.search.metric} of {cases} validation cases")
    for key, text in study.space.document().items():
        log(f"  {key}: {text}")
    log(f"{study.search.trials} trials, {min(present, study.search.trials)} of them stored")


def _runs(study: Study, seeds: tuple[int, ...], *, fresh: bool) -> list[Finished]:
    from dataclasses import replace

    from harness.cli.progress import reporter
    from harness.runs.run import execute

    best, done = study.best_job(), []
    for seed in seeds or (best.seed,):
        with reporter() as bar_reporter:
            done.append(execute(replace(best, seed=seed), study.store, fresh=fresh, reporter=bar_reporter, note=log))
    return done


def _conclude(study: Study, done: list[Finished], *, as_json: bool) -> None:
    from harness.cli.output import print_summary
    from harness.experiments.grid import short_names

    document = {**study.document(), "path": str(study.path), "best_config": str(study.best_config)}
    if as_json:
        print_json({**document, "runs": [finished.document() for finished in done]})
        return
    best = study.best
    assert best is not None
    keys = list(study.space.document())
    names = short_names(keys)
    rows = [
        {
            "trial": trial.number,
            "valid": f"{study.value(trial):.4f}" if trial.state == "complete" else trial.state,
            "seconds": round(trial.seconds, 1),
            **{name: _short(trial.values.get(key)) for name, key in zip(names, keys, strict=True)},
            "": "best" if trial is best else "",
        }
        for trial in study.trials
    ]
    print_table(rows, {key: f"valid {study.search.metric}" if key == "valid" else key for key in rows[0]})
    log(f"{study.effort().trials} trials, {study.seconds:.0f} s; state in {study.path}")
    location = [] if study.store.root == RESULTS else ["--results", str(study.store.root)]
    log(shlex.join(["harness", "run", study.base.entry.name, "--config", str(study.best_config), *location]))
    if done:
        print_summary(done, study.store, as_json=False)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
