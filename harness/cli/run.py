"""`harness run`: prepare, train, recommend, measure, store; then the place in the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, AsJson, Device, MaybeDataset, Order, Profile, Protocol, Results, Sets
from harness.cli.output import note, stdout_kept


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(run)


def run(
    model: Annotated[str, typer.Argument(help="A registered model; `harness models` lists them.")],
    dataset: MaybeDataset = None,
    profile: Profile = None,
    seed: Annotated[list[int] | None, typer.Option(help="The run's seed; repeatable.", show_default="1")] = None,
    sets: Sets = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A configuration, such as a stored run's config.yaml.")
    ] = None,
    results: Results = RESULTS,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Make complete runs again, or continue interrupted ones.")
    ] = False,
    device: Device = None,
    protocol: Protocol = None,
    order: Order = None,
    as_json: AsJson = False,
) -> None:
    """Train and measure a model; print its metrics and its place in the leaderboard.

    A complete run is returned at once, an interrupted one continues. Without -d the data set is ml-100k. Started by
    torchrun or accelerate launch, EAGER-LLM, LC-Rec and TIGER share the work among all processes.
    """
    from harness.cli.progress import reporter
    from harness.cli.summary import conclude
    from harness.jobs.assisting import assist
    from harness.jobs.execute import execute
    from harness.jobs.job import RunOptions, plan
    from harness.jobs.processes import joined, placed
    from harness.protocol.world import ALONE, agreed
    from harness.store.runs import Store

    options = RunOptions(dataset, profile, tuple(seed or ()), tuple(sets or ()), config, device, protocol, order)
    store, done = Store(results), []
    with stdout_kept(), joined() as world:
        for job in agreed(world, lambda: [placed(one, world) for one in plan(model, options)]):
            shares = job.entry.load().distributed
            if world.rank:
                if shares:
                    assist(job, world)
                continue
            if world.size > 1 and not shares:
                note(f"{model} is made by one process; the other {world.size - 1} have nothing to do")
            with reporter() as shown:
                together = world if shares else ALONE
                done.append(execute(job, store, fresh=fresh, reporter=shown, note=note, world=together))
    if not world.rank:
        conclude(done, store, as_json=as_json)
