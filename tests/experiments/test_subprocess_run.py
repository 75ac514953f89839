"""One run in a process of its own: its command, where it works, what it says, and what is never made twice. And which
Dask workers may make runs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from harness.data.loading import load_dataset
from harness.errors import InputError
from harness.experiments.dask_cluster import PROGRAM, incompatibility
from harness.experiments.subprocess_run import Command, RunOutcome, RunProcess, Task, superseded
from harness.protocol.split import split
from harness.runs.job import RunOptions, plan
from harness.runs.run import execute
from harness.store.environment import source_mark
from harness.store.record import RunKey
from harness.store.run_store import Store, Supersedes
from tests.fakes import Fake
from tests.folders import install


def task(toy: str, store: Store, *sets: str, fresh: bool = False, track: tuple[str, ...] = ()) -> Task:
    (job,) = plan("fake", RunOptions(dataset=toy, sets=sets, track=track))
    data = load_dataset(job.dataset, job.order)
    key = RunKey("fake", data.name, job.outcome(data, split(data, job.settings.protocol)).run_id)
    return Task("base, seed 1", job, key, store.root, store.root / "grid", fresh)


def test_a_cell_is_a_command_and_makes_the_run_of_harness_run(
    toy: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folders of its task, with the settings of its file; a second time it finds the run."""
    install(monkeypatch, tmp_path / "site", fake="tests.folders:FAKE")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here/w.txt").write_text("words")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "cache"))
    requested = task(toy, store, "fake.words=w.txt", "fake.rate=0.3", track=("tensorboard=boards",))
    command = requested.command()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORLD_SIZE", "2")  # a launcher's, that a run of one process does not join
    monkeypatch.setenv("RANK", "0")
    assert RunProcess(command).ending() == RunOutcome()
    stored = store.complete(requested.key)
    assert stored is not None and (tmp_path / "cache/artefacts").parent.is_dir()
    assert stored.folder.path.name == requested.key.run_id and stored.record.settings == requested.job.configuration()
    assert list((tmp_path / "here/boards").glob("**/events.out.tfevents.*")), "as the command said it, from here"
    config, log = (requested.folder / f"{requested.key.run_id}.{ending}" for ending in ("yaml", "log"))
    assert config.read_text() == requested.job.config_yaml() and "stored in" in log.read_text()
    assert RunProcess(command).ending() == RunOutcome() and "is complete already" in log.read_text()
    missing = RunProcess(replace(command, folder=str(tmp_path / "there"))).ending()
    assert "w.txt: cannot be read" in missing.reason and not missing.killed and missing.trace == ""
    other = RunProcess(replace(command, arguments=(*command.arguments, "--seed", "2"))).ending()
    assert f"the planned run is {requested.key.run_id}, here it is seed2-" in other.reason


def test_the_words_of_a_command(toy: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = task(toy, store, fresh=True, track=("tensorboard=boards",))
    words = first.command().arguments
    assert words[:2] == ("run", "fake") and f"--track=tensorboard={tmp_path / 'boards'}" in words
    assert words[-4:] == ("--fresh", "--replaces", "never", "--until-eof") and "--device" not in words
    moment = datetime(2025, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    second = replace(first, replaces=moment, job=replace(first.job, command=("--device", "cpu")))
    words = second.command().arguments
    assert superseded(words[words.index("--replaces") + 1]) == Supersedes(moment)
    assert words[words.index("--device") + 1] == "cpu"
    assert superseded("never") == Supersedes(None) and superseded(None) is None


def test_a_fresh_command_makes_nothing_twice(
    toy: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "site", fake="tests.folders:FAKE")
    requested = task(toy, store, fresh=True)
    finished = []
    for _ in range(2):
        assert RunProcess(requested.command()).ending() == RunOutcome()
        stored = store.complete(requested.key)
        assert stored is not None
        finished.append(stored.record.finished)
    assert finished[0] == finished[1]
    assert RunProcess(replace(requested, replaces=finished[0]).command()).ending() == RunOutcome()
    stored = store.complete(requested.key)
    assert stored is not None and stored.record.finished > finished[1]


LINE = "harness: internal error: RuntimeError: no memory\n"
TRACE = "Traceback (most recent call last):\n  …\nRuntimeError: no\nmemory\n"


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        (0, "harness: a line of a library", RunOutcome()),
        (1, f"10%\n{TRACE}{LINE}", RunOutcome("RuntimeError: no memory", TRACE)),
        (1, f"{LINE}a library's last words\n", RunOutcome("RuntimeError: no memory")),
        (1, "python: No module named harness\n\n", RunOutcome("python: No module named harness")),
        (1, "", RunOutcome("its process ended with code 1")),
        (2, f"{TRACE}harness: w.txt: cannot be read\n", RunOutcome("w.txt: cannot be read")),
        (130, "harness: interrupted", RunOutcome("its process ended with code 130", killed=True)),
        (-9, LINE[:20], RunOutcome("its process ended with code -9", killed=True)),
    ],
)
def test_the_outcome_of_a_process(code: int, output: str, expected: RunOutcome) -> None:
    assert RunOutcome.of_process(code, output) == expected


def test_what_a_process_cannot_read_or_survive_is_its_ending(tmp_path: Path) -> None:
    log = tmp_path / "logs/a.log"
    process = RunProcess(Command(("run", "mostpop", "--config", "none.yaml"), str(tmp_path), str(tmp_path), str(log)))
    assert process.ending().reason.startswith("none.yaml: cannot be read")
    process = RunProcess(Command(("run", "mostpop"), str(tmp_path), str(tmp_path), str(log)))
    os.kill(process._process.pid, signal.SIGSTOP)  # so that it is not faster than no patience at all
    process.stop(0)
    assert process.ending() == RunOutcome("its process ended with code -9", killed=True), "the old line is not its own"


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
