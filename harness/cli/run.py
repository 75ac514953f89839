"""`harness run` trains, ranks, evaluates and stores a model, and prints its metrics and place in the leaderboard;
`harness evaluate` does so with external rankings, `harness ensemble` with the fused lists of stored runs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Dataset,
    Device,
    Fresh,
    MaybeDataset,
    ModelName,
    Order,
    Profile,
    Protocol,
    Results,
    Sets,
    Track,
    with_reading,
)
from harness.cli.output import log, print_json, print_summary, print_table, reporter, stdout_kept
from harness.data.reading import PLAIN, Reading
from harness.errors import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.runs.job import Job
    from harness.store.run_store import Store


@with_reading
def run(
    model: ModelName,
    dataset: MaybeDataset = None,
    profile: Profile = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the run; repeatable.", show_default="1")] = None,
    sets: Sets = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A configuration, such as a stored run's config.yaml.")
    ] = None,
    results: Results = RESULTS,
    fresh: Fresh = False,
    device: Device = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    track: Track = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what would be reused, resumed and computed, and why; run nothing.")
    ] = False,
    as_json: AsJson = False,
    expected: Annotated[str | None, typer.Option(hidden=True, help="Run id; another one is an error.")] = None,
    replaces: Annotated[
        str | None, typer.Option(hidden=True, help="With --fresh: repeat only the run that was finished at this time.")
    ] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", hidden=True, help="Stop like Ctrl-C when stdin ends.")
    ] = False,
) -> None:
    """Train and measure a model; print its metrics and its place in the leaderboard.

    A stored run is returned, an interrupted one is resumed. The default data set is ml-100k. Under torchrun or
    accelerate launch, EAGER-LLM, LC-Rec and TIGER distribute the work over all processes.
    """
    from harness.experiments.subprocess_run import stop_at_eof, superseded
    from harness.protocol.context import SINGLE_PROCESS, run_on_all
    from harness.runs.distributed import joined, placed
    from harness.runs.job import RunOptions, plan
    from harness.runs.run import execute, run_as_worker
    from harness.store.run_store import Store

    if until_eof:
        stop_at_eof()
    values = (tuple(sets or ()), config, device, protocol, order, tuple(track or ()))
    options = RunOptions(dataset, profile, tuple(seed or ()), *values, reading=reading)
    store, finished = Store(results), []
    again = (superseded(replaces) or True) if fresh else False
    if explain:
        _explain(plan(model, options), store, fresh=fresh, as_json=as_json)
        return
    with stdout_kept(), joined() as world:
        for job in run_on_all(world, lambda: [placed(one, world) for one in plan(model, options)]):
            shares = job.entry.load().distributed
            if world.rank:
                if shares:
                    run_as_worker(job, world)
                continue
            if world.size > 1 and not shares:
                log(f"{model} runs in one process; the other {world.size - 1} are idle")
            with reporter() as bars:
                process_group = world if shares else SINGLE_PROCESS
                finished.append(
                    execute(job, store, fresh=again, expected=expected, reporter=bars, note=log, world=process_group)
                )
    if not world.rank:
        print_summary(finished, store, as_json=as_json)


def _explain(jobs: Sequence[Job], store: Store, *, fresh: bool, as_json: bool) -> None:
    from harness.runs.explain import explain

    with stdout_kept():
        plans = [explain(job, store, fresh=fresh) for job in jobs]
    if as_json:
        documents = [asdict(plan) for plan in plans]
        print_json(documents if len(documents) > 1 else documents[0])
        return
    for plan in plans:
        rows = [{"stage": step.stage, "state": step.state, "key": step.key, "why": step.why} for step in plan.steps]
        text = f"{plan.model} on {plan.dataset}, seed {plan.seed}"
        print_table(rows, {"stage": text, "state": "state", "key": "key", "why": "why"})
        for step in plan.steps:
            for difference in step.differs:
                print(f"{step.stage}: {difference.part} is {quote(difference.asked)}, kept: {quote(difference.kept)}")


@with_reading
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Rankings with raw ids: .csv or .tsv (user,item and score or rank), a TREC run, .json, .lz4, .parquet."
        ),
    ],
    dataset: Dataset,
    name: Annotated[str | None, typer.Option(help="Name in the leaderboard.", show_default="file name")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the seeds of one name are one row.")] = None,
    sets: Sets = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Evaluate external rankings under the same protocol, and store them as a run."""
    from harness.runs.external import evaluate as measure
    from harness.runs.job import RunOptions
    from harness.store.run_store import Store

    store = Store(results)
    seeds = () if seed is None else (seed,)
    options = RunOptions(dataset, seeds=seeds, sets=tuple(sets or ()), protocol=protocol, order=order, reading=reading)
    with stdout_kept():
        finished = measure(predictions, options, store, log, name=name)
    print_summary([finished], store, as_json=as_json)


def ensemble(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN [RUN ...]",
            help="A run id or its beginning, a model's name (all its seeds), or ids with commas.",
        ),
    ],
    name: Annotated[str, typer.Option(help="Name in the leaderboard.")],
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Fuse the test lists of stored runs by reciprocal rank, and store the result as a row of its own."""
    from harness.reports.per_user import measured
    from harness.reports.selection import check_comparable, choose
    from harness.runs.external import ensemble as fuse
    from harness.store.run_store import Store

    store = Store(results)
    groups = choose(store, runs, dataset)
    check_comparable(groups)
    members = [run for group in groups for run in group.runs]
    with stdout_kept():
        data = measured(members, dataset if dataset is not None and Path(dataset).is_dir() else None)
        finished = fuse(name, members, [data.lists(run) for run in members], data.dataset, data.split, store)
    print_summary([finished], store, as_json=as_json)
