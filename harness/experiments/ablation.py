"""`harness ablate`: the runs of a grid, planned whole before the first one starts, each as `harness run` would make it.

A row that fails leaves its reason in the state file and does not stop the rest. Several commands may make one grid
together: each run has its lock, and the state file keeps what any of them settled. Rows that need the base's record are
planned when it is there. How the runs are made, here, by several processes or on a cluster, is `conduct`'s business.
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
from harness.registry import model_entry
from harness.runs.job import Job, RunOptions, plan
from harness.store.run_key import RunKey, folder_name, model_folder
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
    """The grid under way. `slots` has the rows' runs in the order in which they are made, the base first."""

    grid: Grid
    model: str
    options: RunOptions
    store: Store
    dataset: Dataset
    split: Split
    slots: list[GridRun] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)  # the names of slots whose outcome this command knows

    def job(self, slot: GridRun) -> Job | None:
        """The job of a slot; None where it waits for the base's run of its seed. Raises `InputError` where that run
        lacks what the row needs of it."""
        cell = self.cell(slot.cell)
        record = None
        if cell.needs_base:
            base = self.stored(next(s for s in self.slots if s.cell == self.grid.cells[0].name and s.seed == slot.seed))
            if base is None:
                return None
            record = base.record.document()
        return _jobs(self.model, self.options, self.grid, cell, record, (slot.seed,))[0]

    def cell(self, name: str) -> Variant:
        return next(cell for cell in self.grid.cells if cell.name == name)

    def key(self, job: Job) -> RunKey:
        """Where the run of a job lies: as `harness run` has it."""
        return RunKey(job.entry.name, self.dataset.name, job.outcome(self.dataset, self.split).run_id)

    def stored(self, slot: GridRun) -> StoredRun | None:
        """The complete run of a slot."""
        if slot.run_id is None:
            return None
        stored_run = self.store.complete(RunKey(self.model, self.dataset.name, slot.run_id))
        if stored_run is not None:
            stored_run.folder.clear()
        return stored_run

    def being_made(self, slot: GridRun) -> bool:
        """Whether another process is making a slot's run at this moment."""
        return slot.run_id is not None and self.store.held(RunKey(self.model, self.dataset.name, slot.run_id))

    def resolve(self, slot: GridRun) -> tuple[GridRun, Job | None]:
        """The slot with its run id and what the store holds of it, and its job."""
        job = self.job(slot)
        if job is None:
            return replace(slot, run_id=None, state="waits"), None
        key = self.key(job)
        grid_run = replace(slot, run_id=key.run_id)
        folder = self.store.folder(key)
        state: State = "complete" if self.stored(grid_run) else "unfinished" if folder.log.exists() else "new"
        return replace(grid_run, state=state), job

    def record(self, slot: GridRun) -> None:
        """Takes down what became of a slot; the state file is whole at any time."""
        place = next(i for i, other in enumerate(self.slots) if other.name == slot.name)
        self.slots[place] = slot
        self.settled.add(slot.name)
        self.save()

    def refresh(self) -> None:
        """Takes down as complete what failed here and was made by another command since."""
        for slot in [slot for slot in self.slots if slot.state == "failed" and self.stored(slot) is not None]:
            self.record(replace(slot, state="complete", reason="", trace=""))

    def save(self) -> None:
        """Writes the state file. What another command for this grid has settled stays in it until this one knows."""
        with acquire_lock(self.path.with_name(f".{self.path.name}.lock"), hint=RESULTS_HINT):
            remove_stale_temp_files(self.path.parent, self.path.name)
            entries = _kept(self.path)
            slots = [self._newest(slot, entries.get(slot.name)) for slot in self.slots]
            write_result_text(self.path, json.dumps(self.document(slots), indent=2, ensure_ascii=False) + "\n")

    def _newest(self, current_grid_run: GridRun, grid_run: GridRun | None) -> GridRun:
        """What is to be said of a slot of which the state file says `grid_run`."""
        if grid_run is None or current_grid_run.state == "complete" or grid_run.state not in ("complete", "failed"):
            return current_grid_run
        stays = (
            self.stored(grid_run) is not None
            if grid_run.state == "complete"
            else current_grid_run.name not in self.settled
        )
        return grid_run if stays else current_grid_run

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


def ablation(model: str, grid: str | None, options: RunOptions, store: Store) -> Ablation:
    """Plans a grid. Raises `InputError` for whatever is wrong with it, before anything is run."""
    entry = model_entry(model)
    current_grid = read_grid(grid, entry)
    jobs = {cell.name: _jobs(model, options, current_grid, cell, None, options.seeds) for cell in current_grid.cells}
    first = jobs[current_grid.cells[0].name][0]
    dataset = first.data()
    under_way = Ablation(current_grid, entry.name, options, store, dataset, split_by(dataset, first.settings.protocol))
    seeds = [job.seed for job in jobs[current_grid.cells[0].name]]
    under_way.slots = [GridRun(cell.name, seed, None, "waits") for cell in current_grid.cells for seed in seeds]
    for number, slot in enumerate(under_way.slots):  # the base comes first, so that what waits for it finds it
        with suppress(
            InputError
        ):  # a base without what the row needs: a failure of this row alone, when its turn comes
            under_way.slots[number] = under_way.resolve(slot)[0]
    return under_way


def _kept(path: Path) -> dict[str, GridRun]:
    """What the state file says of each slot, by name; nothing where there is none, or none that can be read."""
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
    """The jobs of one row. What is wrong is said with the name of the row that it stands in."""
    own = cell.sets(record)
    sets = (*grid.settings, *options.sets, *own)
    try:
        return plan(model, replace(options, sets=sets, seeds=tuple(seeds)))
    except InputError as error:
        message = (error.where or "").removeprefix("--set ")
        if message in own:
            raise InputError(
                error.what, where=f"{grid.where}, {cell.name}: {message}", hint=error.hint, code=error.code
            ) from error
        if message in grid.settings and message not in options.sets:
            raise InputError(
                error.what, where=f"{grid.where}, settings: {message}", hint=error.hint, code=error.code
            ) from error
        if own and not error.where:
            raise InputError(
                error.what, where=f"{grid.where}, {cell.name}", hint=error.hint, code=error.code
            ) from error
        raise
