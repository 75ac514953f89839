"""One run in a process of its own: where it works, what it says, and what is never made twice. And which Dask workers
may make runs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.experiments.dask_cluster import PROGRAM, incompatibility
from harness.experiments.subprocess_run import RunOutcome, RunProcess, Task, packed
from harness.protocol.split import split
from harness.runs.job import RunOptions, plan
from harness.runs.run import execute
from harness.store.environment import source_mark
from harness.store.record import RunKey
from harness.store.run_store import Store
from tests.fakes import Fake


def task(toy: str, store: Store, *sets: str, fresh: bool = False) -> Task:
    (job,) = plan("fake", RunOptions(dataset=toy, sets=sets))
    data = load_dataset(job.dataset, job.order)
    key = RunKey("fake", data.name, job.outcome(data, split(data, job.settings.protocol)).run_id)
    return Task("base, seed 1", job, key, store.root, store.root.parent / "home", Path.cwd(), fresh)


def test_a_process_works_in_the_folders_of_its_task(
    toy: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here/w.txt").write_text("words")
    monkeypatch.chdir(tmp_path / "here")
    requested = replace(task(toy, store, "fake.words=w.txt"), home=tmp_path / "cache")
    monkeypatch.chdir(tmp_path / "there")
    assert RunProcess(packed(requested)).ending() == RunOutcome()
    assert store.complete(requested.key) is not None and (tmp_path / "cache").is_dir()
    missing = RunProcess(packed(replace(requested, folder=tmp_path / "there"))).ending()
    assert "w.txt: cannot be read" in missing.reason and not missing.killed and missing.trace == ""


def test_what_a_process_cannot_read_or_survive_is_its_ending() -> None:
    strange = RunProcess(b"cno.such.module\nTask\n.").ending()  # a pickle of something that is not installed here
    assert strange.reason.startswith("ModuleNotFoundError") and "Traceback" in strange.trace and not strange.killed
    process = RunProcess(b"")
    os.kill(process._process.pid, signal.SIGSTOP)  # so that it is not faster than no patience at all
    process.stop(0)
    assert process.ending() == RunOutcome("its process ended with code -9", killed=True)


def test_a_process_killed_in_the_middle_of_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    last = """import os; os.write(1, b'{"reason": "out of me'); os.kill(os.getpid(), 9)"""
    monkeypatch.setattr("harness.experiments.subprocess_run.BOOT", last)
    assert RunProcess(b"").ending() == RunOutcome("its process ended with code -9", killed=True)


def test_a_second_try_of_a_fresh_task_makes_nothing_twice(toy: str, store: Store) -> None:
    first = task(toy, store, fresh=True)
    first.make()
    first.make()
    stored = store.complete(first.key)
    assert len(Fake.resumed) == 1 and stored is not None
    second = replace(first, replaces=stored.record.finished)
    second.make()
    second.make()
    assert len(Fake.resumed) == 2


def test_a_run_is_the_one_that_was_planned(toy: str, store: Store) -> None:
    requested = task(toy, store)
    with pytest.raises(InputError, match=r"the planned run is seed1-else, here it is seed1-.*; use the same data"):
        execute(requested.job, store, expected="seed1-else")
    assert not store.runs.exists() and Fake.resumed == []


def test_a_worker_must_see_the_files_and_the_locks_and_run_this_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.experiments.dask_cluster.LATE", 0.2)
    mark = tmp_path / ".mark"
    assert f"does not see {tmp_path} as this machine does" in incompatibility([str(mark)], PROGRAM)
    with FileLock(mark):
        assert incompatibility([str(mark)], PROGRAM) == ""
        assert "another version of the program" in incompatibility([str(mark)], "0.1.0-else")
    mark.touch()
    assert "does not see locks that this machine holds" in incompatibility([str(mark)], PROGRAM)


def test_the_mark_of_the_program_is_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("harness", "eager"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.setattr("harness.store.environment.ROOT", tmp_path)
    first = source_mark()
    (tmp_path / "eager/notes.txt").write_text("no code")
    assert source_mark() == first
    (tmp_path / "eager/__init__.py").write_text("x = 1")
    assert source_mark() != first
