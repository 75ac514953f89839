"""Grids of runs: the same runs as `harness run` makes, failures that stop nothing, and several processes."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from harness.errors import InputError
from harness.experiments.ablation import Ablation, ablation
from harness.experiments.scheduler import TRIES, ProcessExecutor, SerialExecutor, run_grid
from harness.experiments.subprocess_run import RunOutcome
from harness.runs.job import Job, RunOptions, plan
from harness.runs.run import execute
from harness.store.run_store import Store
from tests.fakes import Fake, FakeConfig
from tests.folders import FAKE, install

TEXT = """
[changes.wide]
fake.layer.width = 9
[changes.small]
fake.size = 2
"""


class Silent:
    def __enter__(self) -> Any:
        from harness.protocol.context import SilentReporter

        return SilentReporter()

    def __exit__(self, *raised: object) -> None:
        pass


HERE = SerialExecutor(Silent, print)


def planned(tmp_path: Path, toy: str, store: Store, text: str = TEXT, model: str = "fake", **options: Any) -> Ablation:
    (tmp_path / "g.toml").write_text(text)
    return ablation(model, str(tmp_path / "g.toml"), RunOptions(dataset=toy, **options), store)


def states(grid_run: Ablation) -> list[tuple[str, int, str]]:
    return [(slot.cell, slot.seed, slot.state) for slot in grid_run.slots]


def test_rows_are_the_runs_of_harness_run(tmp_path: Path, toy: str, store: Store) -> None:
    (job,) = plan("fake", RunOptions(dataset=toy, seeds=(2,), sets=("fake.rate=0.3", "fake.size=2")))
    remote = execute(job, store).record.run_id
    result = planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",))
    assert states(result) == [
        ("base", 1, "new"), ("base", 2, "new"), ("wide", 1, "new"), ("wide", 2, "new"), ("small", 1, "new"),
        ("small", 2, "complete"),
    ]  # fmt: skip
    assert result.slots[5].run_id == remote and len(Fake.resumed) == 1
    run_grid(result, HERE)
    assert {state for _, _, state in states(result)} == {"complete"} and len(Fake.resumed) == 6
    assert all(result.stored(slot) for slot in result.slots) and len({slot.run_id for slot in result.slots}) == 6
    document = json.loads(result.path.read_text())
    assert [run["state"] for run in document["runs"]] == ["complete"] * 6 and document["rows"][1]["name"] == "wide"
    run_grid(planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",)), HERE)
    assert len(Fake.resumed) == 6, "nothing is made twice"
    run_grid(planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",)), HERE, fresh=True)
    assert len(Fake.resumed) == 12


def test_a_model_of_recbole_has_a_folder_that_every_system_knows(tmp_path: Path, toy: str, store: Store) -> None:
    result = planned(tmp_path, toy, store, "[changes.one]\nrecbole.epochs = 1", "recbole:SHAN", profile="smoke")
    assert result.path.parent == store.root / "ablations" / "recbole@SHAN" / "toy"


def test_a_row_wins_over_set_and_set_over_the_grids_settings(tmp_path: Path, toy: str, store: Store) -> None:
    text = 'settings = { "fake.size" = 5, "fake.rate" = 0.7 }\n' + TEXT
    built = planned(tmp_path, toy, store, text, sets=("fake.size=6",))
    result = {slot.cell: job.settings.model for slot in built.slots if (job := built.job(slot)) is not None}
    sizes = {cell: model.size for cell, model in result.items() if isinstance(model, FakeConfig)}
    assert sizes == {"base": 6, "wide": 6, "small": 2}
    assert {model.rate for model in result.values() if isinstance(model, FakeConfig)} == {0.7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[changes.a]\nfake.sise = 2", "g.toml, a: fake.sise=2: unknown setting 'fake.sise'; did you mean size?"),
        ("[changes.a]\nfake.size = 0", "g.toml, a: fake.size=0: fake.size is 0"),
        ("[changes.a]\nfeke.size = 1", "unknown section 'feke'; did you mean fake?"),
        ("settings = { 'fake.sise' = 1 }\n" + TEXT, "g.toml, settings: fake.sise=1: unknown setting"),
    ],
)
def test_wrong_settings_stop_everything_before_it_starts(
    tmp_path: Path, toy: str, store: Store, text: str, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        planned(tmp_path, toy, store, TEXT + text if text.startswith("[") else text)
    assert message in str(raised.value) and not store.runs.exists() and Fake.resumed == []


def test_a_failed_row_is_a_reason_and_stops_nothing(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Fake._fit

    def some(self: Fake, *rest: Any) -> None:
        if self.config.layer.width == 9:
            raise RuntimeError("out of\nmemory")
        fit(self, *rest)

    monkeypatch.setattr(Fake, "_fit", some)
    message: list[str] = []
    result = planned(tmp_path, toy, store)
    run_grid(result, SerialExecutor(Silent, message.append), note=message.append)
    assert [state for _, _, state in states(result)] == ["complete", "failed", "complete"]
    stored = json.loads(result.path.read_text())["runs"][1]
    assert stored["reason"] == "RuntimeError: out of memory" and "Traceback" in stored["trace"]
    assert "failed: wide, seed 1: RuntimeError: out of memory" in message
    monkeypatch.setattr(Fake, "_fit", fit)
    repeated = planned(tmp_path, toy, store)
    assert repeated.path == result.path and [state for _, _, state in states(repeated)][1] == "unfinished"
    run_grid(repeated, HERE)
    assert [state for _, _, state in states(repeated)] == ["complete"] * 3 and len(Fake.resumed) == 3


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = plan("fake", RunOptions(dataset=toy))
    execute(job, store)
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    result = planned(tmp_path, toy, store)
    with pytest.raises(KeyboardInterrupt):
        run_grid(result, HERE)
    monkeypatch.setattr(Fake, "failure", None)
    repeated = planned(tmp_path, toy, store)
    assert [state for _, _, state in states(repeated)] == ["complete", "unfinished", "new"]
    run_grid(repeated, HERE)
    assert [state for _, _, state in states(repeated)] == ["complete"] * 3 and Fake.resumed == [
        False,
        False,
        True,
        False,
    ]


def test_equal_rows_are_made_once(tmp_path: Path, toy: str, store: Store) -> None:
    result = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n[changes.b]\nfake.size = 4\n")
    run_grid(result, HERE, fresh=True)
    assert [state for _, _, state in states(result)] == ["complete"] * 3 and len(Fake.resumed) == 2


def test_the_state_file_keeps_what_another_command_settled(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> list[tuple[str, str]]:
        return [(run["state"], run["reason"]) for run in json.loads(result.path.read_text())["runs"]]

    result, other = (planned(tmp_path, toy, store) for _ in range(2))
    execute(job(result, 0), store)
    result.record(replace(result.slots[0], state="complete"))
    result.record(replace(result.slots[1], state="failed", reason="no memory", trace="where"))
    other.save()
    assert kept() == [("complete", ""), ("failed", "no memory"), ("new", "")], "a command that begins wipes nothing out"
    other.record(replace(other.slots[2], state="failed", reason="no time"))
    assert kept() == [("complete", ""), ("failed", "no memory"), ("failed", "no time")]
    execute(job(result, 1), store)
    other.record(replace(other.slots[1], state="complete"))
    result.save()
    assert kept()[1] == ("complete", ""), "what fails here and is made elsewhere is there"
    result.refresh()
    assert [state for _, _, state in states(result)][:2] == ["complete", "complete"] and result.slots[1].reason == ""
    shutil.rmtree(store.runs)
    removed = planned(tmp_path, toy, store)
    removed.save()
    assert [state for state, _ in kept()] == ["new", "new", "failed"], "what is no longer there is not complete"


def test_what_another_command_is_making_comes_last(tmp_path: Path, toy: str, store: Store) -> None:
    result = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n[changes.b]\nfake.size = 5\n")
    message: list[str] = []
    key = result.key(job(result, 0))
    with ExitStack() as stack:
        stack.enter_context(store.claim(key))

        def note(line: str) -> None:
            message.append(line)
            if "another process is executing" in line:
                stack.close()

        run_grid(result, SerialExecutor(Silent, note), note=note)
    order = [line.partition(",")[0] for line in message if line.startswith("started")]
    assert order == ["started: a", "started: b", "started: base"] and len(Fake.resumed) == 3


class Elsewhere(SerialExecutor):
    """Says that a task is made; what it makes shows up after `late` seconds, as on a network file system, or never."""

    def __init__(self, late: float | None) -> None:
        super().__init__(Silent, print)
        self.late = late

    def start(self, task: Any) -> None:
        if self.late is not None:
            Timer(self.late, task.make).start()
        self._ended.append((task, RunOutcome()))


def test_what_is_made_elsewhere_is_waited_for_and_missed_where_it_never_comes(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n")
    monkeypatch.setattr("harness.experiments.scheduler.LATE", 0.1)
    run_grid(result, Elsewhere(None))
    assert [state for _, _, state in states(result)] == ["failed"] * 2
    assert result.slots[0].reason == f"it was made, but {store.root} here does not show it"
    monkeypatch.setattr("harness.experiments.scheduler.LATE", 60.0)
    run_grid(result, Elsewhere(0.5))
    assert [state for _, _, state in states(result)] == ["complete"] * 2 and len(Fake.resumed) == 2


def test_a_state_file_that_is_none_and_what_a_dead_writer_left(tmp_path: Path, toy: str, store: Store) -> None:
    result = planned(tmp_path, toy, store)
    result.save()
    remaining = result.path.with_name(f".{result.path.name}.123-abc.tmp")
    for text in ("", "[]", '{"runs": [{"cell": "base"}]}', '{"runs": 3}'):
        remaining.write_text("half")
        result.path.write_text(text)
        result.save()
        assert len(json.loads(result.path.read_text())["runs"]) == 3 and not remaining.exists()


def job(grid_run: Ablation, number: int) -> Job:
    result = grid_run.job(grid_run.slots[number])
    assert result is not None
    return result


def test_a_row_takes_what_the_base_measured(tmp_path: Path, toy: str, store: Store) -> None:
    text = '[changes.a]\nfake.rate.from_base = "details.model.width"\n[changes.b]\nfake.rate.from_base = "nothing"\n'
    result = planned(tmp_path, toy, store, text, seeds=(1, 2))
    assert [state for _, _, state in states(result)] == ["new", "new", *["waits"] * 4]
    run_grid(result, HERE)
    assert [state for _, _, state in states(result)] == ["complete"] * 4 + ["failed"] * 2
    assert "no number at nothing" in result.slots[4].reason
    repeated = planned(tmp_path, toy, store, text, seeds=(1, 2))
    assert [state for _, _, state in states(repeated)] == ["complete"] * 4 + ["waits"] * 2
    assert repeated.slots[2].run_id == result.slots[2].run_id and repeated.slots[2].state == "complete"
    job = result.job(result.slots[2])
    assert job is not None and isinstance(job.settings.model, FakeConfig) and job.settings.model.rate == 4.0


def test_two_processes_give_the_same_runs(tmp_path: Path, toy: str, store: Store) -> None:
    text = "[product]\nitemknn.neighbours = [3]\n"
    result = planned(tmp_path, toy, store, text, "itemknn")
    threads = os.environ.get("OMP_NUM_THREADS")
    run_grid(result, ProcessExecutor(2, print))
    assert [state for _, _, state in states(result)] == ["complete"] * 2
    assert os.environ.get("OMP_NUM_THREADS") == threads
    alone = Store(tmp_path / "alone")
    other = planned(tmp_path, toy, alone, text, "itemknn")
    run_grid(other, HERE)
    for one, two in zip(result.slots, other.slots, strict=True):
        a, b = result.stored(one), other.stored(two)
        assert a is not None and b is not None and a.record.metrics == b.record.metrics and one.run_id == two.run_id


class Dies(Fake):
    """Its process is killed, the first time only."""

    def _fit(self, *rest: Any) -> None:
        mark = Path(os.environ["HARNESS_HOME"]) / f"died-{self.config.size}"
        if self.config.size > 3 and not (self.config.size == 4 and mark.exists()):
            mark.touch()
            os.kill(os.getpid(), 9)
        super()._fit(*rest)


DIES = replace(FAKE, name="dies", target="tests.experiments.test_ablation:Dies")


def test_a_killed_process_is_started_again_once(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "site", dies="tests.experiments.test_ablation:DIES")
    message: list[str] = []
    execute(job(planned(tmp_path, toy, store, model="dies"), 0), store)  # the base needs no process
    result = planned(tmp_path, toy, store, "[product]\nfake.size = [4, 5]\n", "dies")
    run_grid(result, ProcessExecutor(2, message.append), note=message.append)
    assert [state for _, _, state in states(result)] == ["complete", "complete", "failed"]
    assert result.slots[2].reason == "its process ended with code -9"
    assert (
        message.count("killed, made again: size=4, seed 1") == message.count("killed, made again: size=5, seed 1") == 1
    )
    assert TRIES == 2
