"""`harness ablate`: the runs of a grid, planned before the first one starts, each identical to that of `harness run`.

A failed row leaves its reason in the state file and does not stop the others. Several commands may run one grid
together: each run has its lock, and the state file holds the results of all of them. Rows that need the base's record
are planned when it exists. `harness.experiments.scheduler` executes the runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.core.files import RESULTS_HINT, remove_stale_temp_files, write_result_text
from harness.core.hashing import fingerprint
from harness.core.locks import acquire_lock
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.experiments.grid import Grid, Variant, read_grid
from harness.protocol.split import Split
from harness.protocol.split import split as split_by
from harness.registry import ModelEntry, model_entry
from harness.runs.job import Job, RunOptions, plan
from harness.store.record import RunKey, folder_name, model_folder
from harness.store.run_store import Store, StoredRun

State = Literal["complete", "unfinished", "new", "waits", "failed"]


@dataclass(frozen=True)
class GridRun:
    """One run of the grid: a row under one seed. `run_id` is None while it waits for the base."""

    cell: str
    seed: int
    run_id: str | None
    state: State
    reason: str = ""
    trace: str = ""

    @property
    def name(self) -> str:
        return f"{self.cell}, seed {self.seed}"


@dataclass
class Ablation:
    """A grid in progress. `slots` has the runs in the order of their execution, the base first."""

    grid: Grid
    entry: ModelEntry
    options: RunOptions
    store: Store
    dataset: Dataset
    split: Split
    slots: list[GridRun] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)  # the names of runs whose outcome this command recorded

    @property
    def model(self) -> str:
        return self.entry.name

    def job(self, slot: GridRun) -> Job | None:
        """The job of a run; None where it waits for the base's run of its seed. Raises `InputError` where the base's
        record lacks a value that the row needs."""
        cell = self.cell(slot.cell)
        record = None
        if cell.needs_base:
            base = self.stored(next(s for s in self.slots if s.cell == self.grid.cells[0].name and s.seed == slot.seed))
            if base is None:
                return None
            record = base.record.document()
        return _jobs(self.entry.argument, self.options, self.grid, cell, record, (slot.seed,))[0]

    def cell(self, name: str) -> Variant:
        return next(cell for cell in self.grid.cells if cell.name == name)

    def key(self, job: Job) -> RunKey:
        """The key of a job's run: that of `harness run`."""
        return RunKey(job.entry.name, self.dataset.name, job.outcome(self.dataset, self.split).run_id)

    def stored(self, slot: GridRun) -> StoredRun | None:
        """The stored run, if it is complete."""
        if slot.run_id is None:
            return None
        stored_run = self.store.complete(RunKey(self.model, self.dataset.name, slot.run_id))
        if stored_run is not None:
            stored_run.folder.clear()
        return stored_run

    def being_made(self, slot: GridRun) -> bool:
        """Whether another process is making this run at the moment."""
        return slot.run_id is not None and self.store.held(RunKey(self.model, self.dataset.name, slot.run_id))

    def resolve(self, slot: GridRun) -> tuple[GridRun, Job | None]:
        """The grid run with its run id and its state in the store, and its job."""
        job = self.job(slot)
        if job is None:
            return replace(slot, run_id=None, state="waits"), None
        key = self.key(job)
        grid_run = replace(slot, run_id=key.run_id)
        folder = self.store.folder(key)
        state: State = "complete" if self.stored(grid_run) else "unfinished" if folder.log.exists() else "new"
        return replace(grid_run, state=state), job

    def record(self, slot: GridRun) -> None:
        """Records the outcome of a run; the state file is valid at any time."""
        place = next(i for i, other in enumerate(self.slots) if other.name == slot.name)
        self.slots[place] = slot
        self.settled.add(slot.name)
        self.save()

    def refresh(self) -> None:
        """Marks runs as complete that failed here and were made by another command since."""
        for slot in [slot for slot in self.slots if slot.state == "failed" and self.stored(slot) is not None]:
            self.record(replace(slot, state="complete", reason="", trace=""))

    def save(self) -> None:
        """Writes the state file; outcomes of other commands for this grid stay in it."""
        with acquire_lock(self.path.with_name(f".{self.path.name}.lock"), hint=RESULTS_HINT):
            remove_stale_temp_files(self.path.parent, self.path.name)
            entries = _kept(self.path)
            slots = [self._newest(slot, entries.get(slot.name)) for slot in self.slots]
            write_result_text(self.path, json.dumps(self.document(slots), indent=2, ensure_ascii=False) + "\n")

    def _newest(self, planned: GridRun, grid_run: GridRun | None) -> GridRun:
        """The entry of a run of which the state file has `grid_run`."""
        if grid_run is None or planned.state == "complete" or grid_run.state not in ("complete", "failed"):
            return planned
        stays = self.stored(grid_run) is not None if grid_run.state == "complete" else planned.name not in self.settled
        return grid_run if stays else planned

    @property
    def path(self) -> Path:
        """The state file: which runs the grid's rows are, and why some failed. The same grid, settings and seeds have
        the same file."""
        runs = [[slot.cell, slot.seed] for slot in self.slots]
        mark = fingerprint(runs, self.grid.settings, self._rows(), self.slots[0].run_id)
        folder = self.store.root / "ablations" / model_folder(self.model) / self.dataset.name
        return folder / f"{folder_name('grid', self.grid.name)}-{mark[:8]}.json"

    def document(self, slots: Sequence[GridRun]) -> dict[str, Any]:
        """The state file's content."""
        owner = {"schema": 1, "grid": self.grid.name, "about": self.grid.about, "model": self.model}
        return {
            **owner,
            "dataset": self.dataset.name,
            "split": self.split.fingerprint,
            "rows": self._rows(),
            "runs": [asdict(slot) for slot in slots],
        }

    def _rows(self) -> list[dict[str, str]]:
        return [{"name": cell.name, "changes": cell.text()} for cell in self.grid.cells]


def ablation(model: str, grid: str | Grid | None, options: RunOptions, store: Store) -> Ablation:
    """Plans a grid, a made one or one that is named. Raises `InputError` for an invalid one, before anything runs."""
    entry = model_entry(model)
    current_grid = grid if isinstance(grid, Grid) else read_grid(grid, entry)
    jobs = {cell.name: _jobs(model, options, current_grid, cell, None, options.seeds) for cell in current_grid.cells}
    first = jobs[current_grid.cells[0].name][0]
    dataset = first.data()
    under_way = Ablation(current_grid, entry, options, store, dataset, split_by(dataset, first.settings.protocol))
    seeds = [job.seed for job in jobs[current_grid.cells[0].name]]
    under_way.slots = [GridRun(cell.name, seed, None, "waits") for cell in current_grid.cells for seed in seeds]
    for number, slot in enumerate(under_way.slots):  # the base comes first, so that what waits for it finds it
        with suppress(
            InputError
        ):  # a base without what the row needs: a failure of this row alone, when its turn comes
            under_way.slots[number] = under_way.resolve(slot)[0]
    return under_way


def _kept(path: Path) -> dict[str, GridRun]:
    """The entries of the state file, by name; none where it is missing or unreadable."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {slot.name: slot for slot in (GridRun(**run) for run in json.loads(path.read_bytes())["runs"])}
    return {}


def _jobs(
    model: str,
    options: RunOptions,
    grid: Grid,
    cell: Variant,
    record: Mapping[str, Any] | None,
    seeds: Sequence[int],
) -> list[Job]:
    """The jobs of one row. Errors name the row."""
    cell_sets = cell.sets(record)
    sets = (*grid.settings, *options.sets, *cell_sets)
    try:
        return plan(model, replace(options, sets=sets, seeds=tuple(seeds)))
    except InputError as error:
        message = (error.where or "").removeprefix("--set ")
        if message in cell_sets:
            location = f"{cell.name}: {message}"
        elif message in grid.settings and message not in options.sets:
            location = f"settings: {message}"
        elif cell_sets and not error.where:
            location = cell.name
        else:
            raise
        place = f"{grid.where}, {location}"
        raise InputError(error.what, where=place, hint=error.hint, code=error.code) from error
