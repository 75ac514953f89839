"""`harness ablate`: runs a grid of variants of one model, and prints the difference that each change makes; `harness
tune`: searches settings on the validation cases, and optionally runs the best.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    RESULTS,
    TABLE_FORMATS,
    AsJson,
    Dataset,
    Device,
    Fresh,
    ModelName,
    Order,
    OutputFile,
    Profile,
    Protocol,
    Results,
    Sets,
    Track,
    check_metrics,
    check_output,
    conflict,
    numbers,
    output_format,
    with_reading,
)
from harness.cli.output import counted, log, print_json, print_report, print_summary, print_table, reporter, stdout_kept
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError
from harness.registry import model_entry

if TYPE_CHECKING:
    from harness.experiments.ablation import Ablation
    from harness.experiments.tuning import Study
    from harness.reports.tables import Report
    from harness.runs.run import Finished

SHOWN = ("ndcg@10", "recall@10")


@with_reading
def ablate(
    model: ModelName,
    dataset: Dataset,
    grid: Annotated[
        str | None, typer.Option(help="A named grid of the model, or a .yaml file.", show_default="the model's")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="1,2,3", help="Seeds of every row.", show_default="1")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="One seed; repeatable.")] = None,
    factor: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Instead of a grid: components of variance. tokenizer_seed,model_seed crosses the seeds of both; or "
            "model_seed.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of runs in parallel on this machine.", show_default="1"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Execute runs on a Dask cluster (docs/cluster.md).")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the planned runs and exit.")] = False,
    metric: Annotated[str, typer.Option(help="Metric of the differences.")] = SHOWN[0],
    form: Annotated[str, typer.Option("--format", help=TABLE_FORMATS)] = "table",
    output: OutputFile = None,
    profile: Profile = None,
    sets: Sets = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Base configuration of every row.")] = None,
    results: Results = RESULTS,
    fresh: Fresh = False,
    device: Device = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Run a grid of variants and print the difference of each change to the base.

    Each run equals that of `harness run`: stored runs are reused.
    """
    from harness.experiments.ablation import ablation
    from harness.experiments.api import executor
    from harness.experiments.grid import seed_grid
    from harness.experiments.scheduler import run_grid
    from harness.runs.job import RunOptions
    from harness.store.run_store import Store

    form = output_format(form, as_json=as_json)
    check_metrics(metric)
    check_output(output)
    if workers is not None and scheduler is not None:
        raise conflict("--workers and --scheduler exclude each other", hint="remove one of them")
    if factor is not None and grid is not None:
        raise conflict("--factor and --grid are two plans of runs", hint="leave one of them out")
    every = (*numbers(seeds), *(seed or ()))
    values = (tuple(sets or ()), config, device, protocol, order, tuple(track or ()))
    options = RunOptions(dataset, profile, every, *values, reading=reading, elsewhere=scheduler is not None)
    with stdout_kept(), executor(workers, None if plan else scheduler, reporter, log) as started:
        rows = grid if factor is None else seed_grid(factor, model_entry(model), every)
        under_way = ablation(model, rows, options, Store(results))
        _announce_grid(under_way, fresh=fresh)
        if not plan:
            run_grid(under_way, started, fresh=fresh, note=log)
            log(f"runs and failures are listed in {under_way.path}")
    if not plan:
        print_report(_table(under_way, metric) if factor is None else _variance(under_way, metric), form, output)
    elif form == "json":
        print_json(under_way.document(under_way.slots))


def _announce_grid(under_way: Ablation, *, fresh: bool) -> None:
    """Prints the planned runs on stderr, with their state in the store."""
    fields = {"complete": "is there", "unfinished": "to be continued", "new": "to be made", "waits": "after the base"}
    grid = under_way.grid
    log(f"{grid.name}: {grid.about}" if grid.about else grid.name)
    for cell in grid.cells:
        slots = [slot for slot in under_way.slots if slot.cell == cell.name]
        states = [f"seed {slot.seed} {'to be made again' if fresh else fields[slot.state]}" for slot in slots]
        log(f"  {cell.name}: {cell.text() or 'no changes'} ({', '.join(states)})")
    current = 0 if fresh else sum(slot.state == "complete" for slot in under_way.slots)
    log(f"{counted(len(under_way.slots), 'run')} on {under_way.dataset.name}, {current} of them stored")


def _table(under_way: Ablation, metric: str) -> Report:
    from harness.reports.ablation import Variant, ablation_table, report
    from harness.reports.per_user import Measured

    variants = []
    for cell in under_way.grid.cells:
        slots = [slot for slot in under_way.slots if slot.cell == cell.name]
        runs = [run for slot in slots if slot.state == "complete" and (run := under_way.stored(slot)) is not None]
        failures = tuple(slot.reason for slot in slots if slot.state == "failed")
        variants.append(Variant(cell.name, tuple(runs), cell.text(), len(slots), failures))
    grid, rules = under_way.grid, under_way.split.protocol
    title = (
        f"{under_way.model} on {under_way.dataset.name}, grid {grid.name} · {rules.name}, history {rules.max_history}"
    )
    metrics = (metric, *(name for name in SHOWN if name != metric))
    return report(ablation_table(title, variants, metrics, Measured(under_way.dataset, under_way.split)))


def _variance(under_way: Ablation, metric: str) -> Report:
    """The components of variance of crossed seeds. Raises `InputError` where a run is missing."""
    import numpy as np

    from harness.evaluation.significance import components
    from harness.reports.ablation import variance_report
    from harness.reports.per_user import Measured

    if missing := [slot for slot in under_way.slots if slot.state != "complete"]:
        reason = missing[0].reason or missing[0].state
        hint = "components need every run of the table; repeat the command"
        raise InputError(f"{missing[0].name}: {reason}", where=under_way.grid.name, hint=hint, code="no-runs")
    base = Measured(under_way.dataset, under_way.split)
    runs = [
        [under_way.stored(slot) for slot in under_way.slots if slot.cell == cell.name] for cell in under_way.grid.cells
    ]
    values = [base.values([run for run in row if run is not None], (metric,))[metric] for row in runs]
    variance = components(np.stack(values), base.clusters)
    rules = under_way.split.protocol
    title = f"{under_way.model} on {under_way.dataset.name} · {rules.name}, history {rules.max_history} · {metric}"
    return variance_report(title, metric, variance)


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
    from harness.experiments.tuning import Search, alone, conduct, study
    from harness.runs.job import RunOptions
    from harness.runs.run import execute
    from harness.store.run_store import Store

    if seeds is not None and not run:
        raise conflict("are for the runs with the best settings", where="--seeds", hint="add --run, or use --seed")
    items = numbers(seeds)
    values = () if seed is None else (seed,)
    options = RunOptions(dataset, profile, values, tuple(sets or ()), config, device, protocol, order, reading=reading)
    store = Store(results)
    with stdout_kept():
        current_study = study(model, Search(trials, timeout, metric, space), options, store)
        with alone(current_study, lambda: log(f"another process works on {current_study.path}; waiting"), fresh=fresh):
            _announce_study(current_study)
            conduct(current_study, reporter, log)
        finished = []
        if run:
            best = current_study.best_job()
            for number in items or (best.seed,):
                with reporter() as bars:
                    finished.append(execute(replace(best, seed=number), store, fresh=fresh, reporter=bars, note=log))
    _conclude(current_study, finished, as_json=as_json)


def _announce_study(study: Study) -> None:
    entry, present = study.base.entry, len(study.trials)
    cases = len(study.split.valid.requests)
    log(f"{entry.name} on {study.dataset.name}, {study.search.metric} of {cases} validation cases")
    for key, text in study.space.document().items():
        log(f"  {key}: {text}")
    log(f"{counted(study.search.trials, 'trial')}, {min(present, study.search.trials)} of them stored")


def _conclude(study: Study, done: list[Finished], *, as_json: bool) -> None:
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
    log(shlex.join(["harness", "run", study.base.entry.argument, "--config", str(study.best_config), *location]))
    if done:
        print_summary(done, study.store, as_json=False)


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
