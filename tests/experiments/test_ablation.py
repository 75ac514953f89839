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
from harness.experiments.executors import ProcessExecutor, SerialExecutor
from harness.experiments.scheduler import TRIES, run_grid
from harness.experiments.subprocess_run import RunOutcome
from harness.runs.job import Job, RunOptions, plan
from harness.runs.run import execute
from harness.store.run_store import Store
from tests.fakes import Fake, FakeConfig

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


def states(made: Ablation) -> list[tuple[str, int, str]]:
    return [(slot.cell, slot.seed, slot.state) for slot in made.slots]


def test_rows_are_the_runs_of_harness_run(tmp_path: Path, toy: str, store: Store) -> None:
    (job,) = plan("fake", RunOptions(dataset=toy, seeds=(2,), sets=("fake.rate=0.3", "fake.size=2")))
    there = execute(job, store).record.run_id
    made = planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",))
    assert states(made) == [
        ("base", 1, "new"), ("base", 2, "new"), ("wide", 1, "new"), ("wide", 2, "new"), ("small", 1, "new"),
        ("small", 2, "complete"),
    ]  # fmt: skip
    assert made.slots[5].run_id == there and len(Fake.resumed) == 1
    run_grid(made, HERE)
    assert {state for _, _, state in states(made)} == {"complete"} and len(Fake.resumed) == 6
    assert all(made.stored(slot) for slot in made.slots) and len({slot.run_id for slot in made.slots}) == 6
    kept = json.loads(made.path.read_text())
    assert [run["state"] for run in kept["runs"]] == ["complete"] * 6 and kept["rows"][1]["name"] == "wide"
    run_grid(planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",)), HERE)
    assert len(Fake.resumed) == 6, "nothing is made twice"
    run_grid(planned(tmp_path, toy, store, seeds=(1, 2), sets=("fake.rate=0.3",)), HERE, fresh=True)
    assert len(Fake.resumed) == 12


def test_a_model_of_recbole_has_a_folder_that_every_system_knows(tmp_path: Path, toy: str, store: Store) -> None:
    made = planned(tmp_path, toy, store, "[changes.one]\nrecbole.epochs = 1", "recbole:SHAN", profile="smoke")
    assert made.path.parent == store.root / "ablations" / "recbole@SHAN" / "toy"


def test_a_row_wins_over_set_and_set_over_the_grids_settings(tmp_path: Path, toy: str, store: Store) -> None:
    text = 'settings = { "fake.size" = 5, "fake.rate" = 0.7 }\n' + TEXT
    made = planned(tmp_path, toy, store, text, sets=("fake.size=6",))
    found = {slot.cell: job.settings.model for slot in made.slots if (job := made.job(slot)) is not None}
    sizes = {cell: model.size for cell, model in found.items() if isinstance(model, FakeConfig)}
    assert sizes == {"base": 6, "wide": 6, "small": 2}
    assert {model.rate for model in found.values() if isinstance(model, FakeConfig)} == {0.7}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[changes.a]\nfake.sise = 2", "g.toml, a: fake.sise=2: unknown setting 'fake.sise'; did you mean size?"),
        ("[changes.a]\nfake.size = 0", "g.toml, a: fake.size=0: fake.size is 0"),
        ("[changes.a]\nfeke.size = 1", "unknown section 'feke'; did you mean fake?"),
        ("settings = { 'fake.sise' = 1 }\n" + TEXT, "g.toml, settings: fake.sise=1: unknown setting"),
    ],
)
def test_wrong_settings_stop_everything_before_it_starts(
    tmp_path: Path, toy: str, store: Store, text: str, said: str
) -> None:
    with pytest.raises(InputError) as raised:
        planned(tmp_path, toy, store, TEXT + text if text.startswith("[") else text)
    assert said in str(raised.value) and not store.runs.exists() and Fake.resumed == []


def test_a_failed_row_is_a_reason_and_stops_nothing(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Fake._fit

    def some(self: Fake, *rest: Any) -> None:
        if self.config.layer.width == 9:
            raise RuntimeError("out of\nmemory")
        fit(self, *rest)

    monkeypatch.setattr(Fake, "_fit", some)
    said: list[str] = []
    made = planned(tmp_path, toy, store)
    run_grid(made, SerialExecutor(Silent, said.append), note=said.append)
    assert [state for _, _, state in states(made)] == ["complete", "failed", "complete"]
    kept = json.loads(made.path.read_text())["runs"][1]
    assert kept["reason"] == "RuntimeError: out of memory" and "Traceback" in kept["trace"]
    assert "failed: wide, seed 1: RuntimeError: out of memory" in said
    monkeypatch.setattr(Fake, "_fit", fit)
    again = planned(tmp_path, toy, store)
    assert again.path == made.path and [state for _, _, state in states(again)][1] == "unfinished"
    run_grid(again, HERE)
    assert [state for _, _, state in states(again)] == ["complete"] * 3 and len(Fake.resumed) == 3


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = plan("fake", RunOptions(dataset=toy))
    execute(job, store)
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    made = planned(tmp_path, toy, store)
    with pytest.raises(KeyboardInterrupt):
        run_grid(made, HERE)
    monkeypatch.setattr(Fake, "failure", None)
    again = planned(tmp_path, toy, store)
    assert [state for _, _, state in states(again)] == ["complete", "unfinished", "new"]
    run_grid(again, HERE)
    assert [state for _, _, state in states(again)] == ["complete"] * 3 and Fake.resumed == [False, False, True, False]


def test_equal_rows_are_made_once(tmp_path: Path, toy: str, store: Store) -> None:
    made = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n[changes.b]\nfake.size = 4\n")
    run_grid(made, HERE, fresh=True)
    assert [state for _, _, state in states(made)] == ["complete"] * 3 and len(Fake.resumed) == 2


def test_the_state_file_keeps_what_another_command_settled(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> list[tuple[str, str]]:
        return [(run["state"], run["reason"]) for run in json.loads(made.path.read_text())["runs"]]

    made, other = (planned(tmp_path, toy, store) for _ in range(2))
    execute(job(made, 0), store)
    made.record(replace(made.slots[0], state="complete"))
    made.record(replace(made.slots[1], state="failed", reason="no memory", trace="where"))
    other.save()
    assert kept() == [("complete", ""), ("failed", "no memory"), ("new", "")], "a command that begins wipes nothing out"
    other.record(replace(other.slots[2], state="failed", reason="no time"))
    assert kept() == [("complete", ""), ("failed", "no memory"), ("failed", "no time")]
    execute(job(made, 1), store)
    other.record(replace(other.slots[1], state="complete"))
    made.save()
    assert kept()[1] == ("complete", ""), "what fails here and is made elsewhere is there"
    made.refresh()
    assert [state for _, _, state in states(made)][:2] == ["complete", "complete"] and made.slots[1].reason == ""
    shutil.rmtree(store.runs)
    gone = planned(tmp_path, toy, store)
    gone.save()
    assert [state for state, _ in kept()] == ["new", "new", "failed"], "what is no longer there is not complete"


def test_what_another_command_is_making_comes_last(tmp_path: Path, toy: str, store: Store) -> None:
    made = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n[changes.b]\nfake.size = 5\n")
    said: list[str] = []
    key = made.key(job(made, 0))
    with ExitStack() as stack:
        stack.enter_context(store.claim(key))

        def note(line: str) -> None:
            said.append(line)
            if "another process is executing" in line:
                stack.close()

        run_grid(made, SerialExecutor(Silent, note), note=note)
    order = [line.partition(",")[0] for line in said if line.startswith("started")]
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
    made = planned(tmp_path, toy, store, "[changes.a]\nfake.size = 4\n")
    monkeypatch.setattr("harness.experiments.scheduler.LATE", 0.1)
    run_grid(made, Elsewhere(None))
    assert [state for _, _, state in states(made)] == ["failed"] * 2
    assert made.slots[0].reason == f"it was made, but {store.root} here does not show it"
    monkeypatch.setattr("harness.experiments.scheduler.LATE", 60.0)
    run_grid(made, Elsewhere(0.5))
    assert [state for _, _, state in states(made)] == ["complete"] * 2 and len(Fake.resumed) == 2


def test_a_state_file_that_is_none_and_what_a_dead_writer_left(tmp_path: Path, toy: str, store: Store) -> None:
    made = planned(tmp_path, toy, store)
    made.save()
    left = made.path.with_name(f".{made.path.name}.123-abc.tmp")
    for text in ("", "[]", '{"runs": [{"cell": "base"}]}', '{"runs": 3}'):
        left.write_text("half")
        made.path.write_text(text)
        made.save()
        assert len(json.loads(made.path.read_text())["runs"]) == 3 and not left.exists()


def job(made: Ablation, number: int) -> Job:
    found = made.job(made.slots[number])
    assert found is not None
    return found


def test_a_row_takes_what_the_base_measured(tmp_path: Path, toy: str, store: Store) -> None:
    text = '[changes.a]\nfake.rate.from_base = "details.model.width"\n[changes.b]\nfake.rate.from_base = "nothing"\n'
    made = planned(tmp_path, toy, store, text, seeds=(1, 2))
    assert [state for _, _, state in states(made)] == ["new", "new", *["waits"] * 4]
    run_grid(made, HERE)
    assert [state for _, _, state in states(made)] == ["complete"] * 4 + ["failed"] * 2
    assert "no number at nothing" in made.slots[4].reason
    again = planned(tmp_path, toy, store, text, seeds=(1, 2))
    assert [state for _, _, state in states(again)] == ["complete"] * 4 + ["waits"] * 2
    assert again.slots[2].run_id == made.slots[2].run_id and again.slots[2].state == "complete"
    job = made.job(made.slots[2])
    assert job is not None and isinstance(job.settings.model, FakeConfig) and job.settings.model.rate == 4.0


def test_two_processes_give_the_same_runs(tmp_path: Path, toy: str, store: Store) -> None:
    text = "[product]\nitemknn.neighbours = [3, 4]\n"
    made = planned(tmp_path, toy, store, text, "itemknn")
    threads = os.environ.get("OMP_NUM_THREADS")
    run_grid(made, ProcessExecutor(2, print))
    assert [state for _, _, state in states(made)] == ["complete"] * 3 and os.environ.get("OMP_NUM_THREADS") == threads
    alone = Store(tmp_path / "alone")
    other = planned(tmp_path, toy, alone, text, "itemknn")
    run_grid(other, HERE)
    for one, two in zip(made.slots, other.slots, strict=True):
        a, b = made.stored(one), other.stored(two)
        assert a is not None and b is not None and a.record.metrics == b.record.metrics and one.run_id == two.run_id


class Dies(Fake):
    """Its process is killed, the first time only."""

    def _fit(self, *rest: Any) -> None:
        mark = Path(os.environ["HARNESS_HOME"]) / f"died-{self.config.size}"
        if self.config.size > 3 and not (self.config.size == 4 and mark.exists()):
            mark.touch()
            os.kill(os.getpid(), 9)
        super()._fit(*rest)


def test_a_killed_process_is_started_again_once(
    tmp_path: Path, toy: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from harness.registry import MODELS
    from tests.folders import FAKE

    dies = replace(FAKE, name="dies", target="tests.experiments.test_ablation:Dies")
    monkeypatch.setattr("harness.registry.MODELS", (*MODELS, dies))
    said: list[str] = []
    made = planned(tmp_path, toy, store, "[product]\nfake.size = [4, 5]\n", "dies")
    run_grid(made, ProcessExecutor(2, said.append), note=said.append)
    assert [state for _, _, state in states(made)] == ["complete", "complete", "failed"]
    assert made.slots[2].reason == "its process ended with code -9"
    assert said.count("killed, made again: size=4, seed 1") == said.count("killed, made again: size=5, seed 1") == 1
    assert TRIES == 2
