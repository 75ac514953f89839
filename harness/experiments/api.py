"""`harness.ablate` and `harness.tune`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experiments.ablation import ablation
from harness.experiments.scheduler import Executor, Note, ProcessExecutor, SerialExecutor, run_grid
from harness.experiments.tuning import Search, Study, alone, conduct, study
from harness.protocol.context import Reporter, SilentReporter
from harness.protocol.protocol import MAIN_METRIC
from harness.runs.api import Options

if TYPE_CHECKING:
    import pandas as pd


def ablate(
    model: str,
    dataset: str | Path,
    *,
    grid: str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Runs a grid of variants of one model: `grid` is the name of one of the model's grids or a file, its own grid
    without one. `workers` processes make the runs, or the Dask cluster at `scheduler`.

    Options: those of `run`. Gives a DataFrame with a row a run: variant, changes, seed, state (`complete` or `failed`),
    reason, run_id, path, and the test metrics. `harness.compare` tests the differences. Raises `InputError` for wrong
    input.
    """
    import pandas as pd

    value = Options.of("ablate", options)
    run_options = value.run_options(dataset, elsewhere=scheduler is not None)
    with executor(workers, scheduler, lambda: nullcontext(value.reporter or SilentReporter()), _silent) as started:
        current = ablation(model, None if grid is None else str(grid), run_options, value.store)
        run_grid(current, started, fresh=value.fresh)
    changes = {variant.name: variant.text() for variant in current.grid.cells}
    rows = []
    for grid_run in current.slots:
        stored = current.stored(grid_run)
        row = {"variant": grid_run.cell, "changes": changes[grid_run.cell], "seed": grid_run.seed}
        row |= {"state": grid_run.state, "reason": grid_run.reason, "run_id": grid_run.run_id}
        if stored is not None:
            row |= {"path": str(stored.folder.path), **stored.record.metrics.test}
        rows.append(row)
    return pd.DataFrame(rows)


def executor(
    workers: int | None, scheduler: str | None, reporter: Callable[[], AbstractContextManager[Reporter]], note: Note
) -> AbstractContextManager[Executor]:
    """The Dask cluster at `scheduler`, else `workers` processes, else (1 or None) this process with `reporter`."""
    if scheduler is not None:
        from harness.experiments.dask_cluster import connected

        return connected(scheduler, note)
    return nullcontext(SerialExecutor(reporter, note) if workers in (None, 1) else ProcessExecutor(workers, note))


def tune(
    model: str,
    dataset: str | Path,
    *,
    trials: int = Search.trials,
    timeout: float | None = None,
    metric: str = MAIN_METRIC,
    space: str | Path | None = None,
    **options: Any,
) -> Study:
    """Searches settings of one model by a metric of the validation cases; test cases are never ranked. A study that was
    interrupted continues.

    Options: those of `run`, with one `seed`. Gives the `Study`: `.trials`, `.best` (the best trial, with its `.values`
    and `.metrics`), and `.best_config`, a file for the option `config` of `run`. Raises `InputError` for wrong input,
    and where no trial gave a score.
    """
    value = Options.of("tune", options)
    search = Search(trials, timeout, metric, None if space is None else Path(space))
    current = study(model, search, value.run_options(dataset), value.store)
    with alone(current, lambda: None, fresh=value.fresh):
        conduct(current, lambda: nullcontext(value.reporter or SilentReporter()), _silent)
    return current


def _silent(line: str) -> None:
    """Progress in words is the command line's."""
