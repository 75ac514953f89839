"""`--track` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from harness.experiments.subprocess_run import Task
from harness.runs.job import RunOptions, plan
from harness.store.record import RunKey
from tests.cli.conftest import Harness


def test_run_and_ablate_write_tensorboards_files(harness: Harness, toy: str) -> None:
    path = Path(json.loads(harness("run", "fake", "-d", toy, "--track", "tensorboard", "--json").out)["path"])
    assert list((path / "tensorboard").glob("events.out.tfevents.*"))
    Path("g.toml").write_text("[changes.wide]\nfake.layer.width = 9\n")
    done = harness("ablate", "fake", "-d", toy, "--grid", "g.toml", "--track", "tensorboard")
    assert done.code == 0 and len(list(Path("results/runs").glob("*/*/*/tensorboard"))) == 2, done.err
    assert "1 of them stored" in done.err


def test_a_worker_is_told_what_to_track(toy: str) -> None:
    """Wherever the worker stands."""
    (job,) = plan("fake", RunOptions(dataset=toy, track=("tensorboard=boards",)))
    words = Task("a", job, RunKey("fake", "toy", "seed1-a"), Path("results"), Path("results/grid")).command().arguments
    assert f"--track=tensorboard={Path('boards').resolve()}" in words


def test_an_unknown_tracker(harness: Harness, toy: str) -> None:
    Path("g.toml").write_text("[changes.wide]\nfake.layer.width = 9\n")
    for command in (("run", "fake"), ("ablate", "fake", "--grid", "g.toml")):
        done = harness(*command, "-d", toy, "--track", "tensorbord")
        assert done.code == 2 and "did you mean tensorboard" in done.err and done.err.count("\n") == 1
    assert not Path("results/runs").exists()
