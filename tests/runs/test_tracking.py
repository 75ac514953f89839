"""`--track`: what trackers are told, that runs are the same with and without them, and that none can stop a run."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.runs.job import RunOptions, plan
from harness.runs.run import Finished, execute
from harness.runs.tracking import PACKAGES, Curves, Point, RunTracker
from harness.store.run_store import Store
from tests.fakes import Fake

NOON = 1767268800.0
SESSION = {"event": "session", "time": "2026-01-01T12:00:00+00:00", "seconds": 0.0}


class Curved(Fake):
    """Tells four steps of a stage; where a checkpoint is found it goes on from step 2, as an interrupted one would."""

    stop: ClassVar[int | None] = None

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        assert context.checkpoint is not None
        mark = context.checkpoint / "step.json"
        for step in range(2 if mark.exists() else 1, 5):
            context.event(stage="tuning", step=step, loss=4.0 / step, learning_rate=0.1, words="no number")
            if step == self.stop:
                mark.write_text("2")
                raise KeyboardInterrupt
        for epoch in (1, 2):
            context.event(stage="epochs", epoch=epoch, loss=1.0, valid=0.1 * epoch)
        super()._fit(data, context)


@pytest.fixture
def go(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("tests.fakes.Fake", Curved)
    monkeypatch.setattr(Curved, "stop", None)
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)

    def run(*track: str, fresh: bool = False) -> Finished:
        (job,) = plan("fake", RunOptions(dataset=toy, track=track))
        return execute(job, store, fresh=fresh)

    return run


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve of TensorBoard's event files, as TensorBoard reads them."""
    read = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_events_become_points() -> None:
    curves = Curves()
    assert curves.on_event(SESSION) is None and curves.on_event({"event": "train", "seconds": 1.0}) is None
    event = {"stage": "a", "step": 20, "loss": 2.5, "said": "x", "ok": True, "seconds": 3.0, "session_seconds": 9.0}
    assert curves.on_event(event) == Point({"a/loss": 2.5, "a/seconds": 3.0}, 20, NOON + 9)
    assert curves.on_event(event) is None  # told again by a resumed run
    late = {"stage": "a", "step": 20, "valid": 0.1, "seconds": 4.0}
    assert curves.on_event(late) == Point({"a/valid": 0.1}, 20, NOON + 4)
    unnumbered = {"stage": "b", "loss": float("nan"), "valid": 0.5, "seconds": 5.0}
    assert curves.on_event(unnumbered) == Point({"b/valid": 0.5}, 1, NOON + 5)
    assert curves.on_event({"stage": "b", "said": "a word", "seconds": 6.0}) is None
    end = {"event": "stage end", "stage": "a", "step": 40, "loss": 1.0, "seconds": 7.0, "session_seconds": 8.0}
    assert curves.on_event(end) == Point({"a/stage_seconds": 7.0}, 40, NOON + 8)


def test_tensorboard_reads_what_the_log_says(go: Any) -> None:
    done = go("tensorboard")
    result = scalars(Path(done.path) / "tensorboard")
    assert result["tuning/loss"] == [(1, 4.0), (2, 2.0), (3, pytest.approx(4 / 3)), (4, 1.0)]
    assert [step for step, _ in result["tuning/learning_rate"]] == [1, 2, 3, 4] and "tuning/words" not in result
    assert result["epochs/valid"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2))]
    metrics = done.record.metrics
    for fold, values in (("test", metrics.test), ("valid", metrics.valid)):
        assert result[f"{fold}/ndcg@10"][0][1] == pytest.approx(values["ndcg@10"])
    (settings,) = Path(done.path, "tensorboard").glob("*/hparams.yml")
    assert yaml.safe_load(settings.read_text())["fake.layer.width"] == "4"


def test_the_trackers_are_those_of_accelerate() -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert set(PACKAGES) <= set(LOGGER_TYPE_TO_CLASS)


def test_tracking_changes_nothing(go: Any) -> None:
    plain = go()
    lists = (Path(plain.path) / "predictions.parquet").read_bytes()
    tracked = go("tensorboard", fresh=True)
    assert tracked.record.run_id == plain.record.run_id and tracked.record.metrics == plain.record.metrics
    assert (Path(tracked.path) / "predictions.parquet").read_bytes() == lists
    assert "tensorboard" not in (Path(tracked.path) / "config.yaml").read_text()


@pytest.mark.parametrize("first", ["tensorboard", None])
def test_a_resumed_run_goes_on_with_its_curves(go: Any, monkeypatch: pytest.MonkeyPatch, first: str | None) -> None:
    monkeypatch.setattr(Curved, "stop", 3)
    with pytest.raises(KeyboardInterrupt):
        go(*filter(None, [first]))
    monkeypatch.setattr(Curved, "stop", None)
    _into_the_next_second()  # TensorBoard reads its files in the order of their names, which begin with whole seconds
    folder = Path(go("tensorboard").path) / "tensorboard"
    assert [step for step, _ in scalars(folder)["tuning/loss"]] == [1, 2, 3, 4]
    assert len(list(folder.glob("events*"))) == (2 if first else 1)  # a file a session


def _into_the_next_second() -> None:
    began = int(time.time())
    while int(time.time()) == began:
        time.sleep(0.01)


def test_a_complete_run_is_told_once(go: Any, tmp_path: Path) -> None:
    path = Path(go().path)
    assert not (path / "tensorboard").exists()
    named = f"tensorboard={tmp_path / 'boards'}"
    assert go(named).reused
    folder = tmp_path / "boards" / "fake" / "toy" / path.name
    messages = scalars(folder)
    assert [step for step, _ in messages["tuning/loss"]] == [1, 2, 3, 4] and "test/ndcg@10" in messages
    files = sorted(folder.iterdir())
    go(named)
    assert sorted(folder.iterdir()) == files and not (path / "tensorboard").exists()
    go(named, fresh=True)
    assert scalars(folder)["tuning/loss"] == messages["tuning/loss"] and not set(files) & set(folder.iterdir())


def test_a_tracker_that_fails_is_given_up_and_begun_anew(
    go: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunTracker.log

    def broken(self: RunTracker, point: Point) -> None:
        if point.step == 3:
            raise ConnectionError("the server\nis gone")
        log(self, point)

    with monkeypatch.context() as patched:
        patched.setattr(RunTracker, "log", broken)
        done = go("tensorboard")
    message = capsys.readouterr().err
    assert message.count("warning: tensorboard is disabled for this run: ConnectionError: the server is gone") == 1
    assert not done.reused and json.loads((Path(done.path) / "tracking.json").read_text()) == {}
    assert go("tensorboard").reused  # what is missing is told from the log
    assert [step for step, _ in scalars(Path(done.path) / "tensorboard")["tuning/loss"]] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("track", "message"),
    [
        (("tensorbord",), "--track tensorbord: unknown tracker 'tensorbord'; did you mean tensorboard?"),
        (("tensorboard", "tensorboard=x"), "--track tensorboard=x: tensorboard is given twice"),
        (("tensorboard=",), "there is no value after ="),
        (("mlflow=http://host",), "HARNESS_OFFLINE=1 forbids it"),
        (("wandb",), "--track: wandb is not installed; pip install wandb"),
    ],
)
def test_what_cannot_be_tracked_is_said_before_anything_runs(
    toy: str, monkeypatch: pytest.MonkeyPatch, track: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else find_spec("json"))
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        plan("fake", RunOptions(dataset=toy, track=track))


class FakeMlflow:
    """The functions of the module `mlflow` that accelerate calls, with their signatures; `runs` holds what they got."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.active = ""

    def search_experiments(self, filter_string: str) -> list[Any]:
        return [
            SimpleNamespace(experiment_id=e) for name, e in self.experiments.items() if f"'{name}'" in filter_string
        ]

    def create_experiment(self, name: str, artifact_location: str | None, tags: dict[str, Any] | None) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def start_run(self, run_id: str | None, experiment_id: str, tags: dict[str, Any], **options: Any) -> Any:
        assert not self.active
        self.active = run_id or f"r{len(self.runs)}"
        new = {"params": {}, "metrics": {}, "tags": tags, "in": experiment_id}
        self.runs.setdefault(self.active, new)["status"] = "RUNNING"
        return SimpleNamespace(info=SimpleNamespace(run_id=self.active))

    def log_params(self, params: dict[str, Any]) -> None:
        self.runs[self.active]["params"] |= params

    def log_metrics(self, metrics: dict[str, float], step: int, timestamp: int | None = None) -> None:
        for name, value in metrics.items():
            assert name.replace("_", "").replace("/", "").isalnum(), name
            self.runs[self.active]["metrics"].setdefault(name, []).append((step, value))

    def end_run(self) -> None:
        if self.active:
            self.runs[self.active]["status"] = "FINISHED"
        self.active = ""


def module(name: str, **contents: Any) -> ModuleType:
    result = ModuleType(name)
    result.__spec__ = SimpleNamespace(name=name)  # pyright: ignore[reportAttributeAccessIssue]
    vars(result).update(contents)
    return result


def test_mlflow(go: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMlflow()
    limits = SimpleNamespace(validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100))
    functions = {name: getattr(fake, name) for name in dir(fake) if not name.startswith("_")}
    uris: list[str] = []
    monkeypatch.setitem(
        sys.modules, "mlflow", module("mlflow", utils=limits, set_tracking_uri=uris.append, **functions)
    )
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.setattr(Curved, "stop", 3)
    with pytest.raises(KeyboardInterrupt):
        go("mlflow=sqlite:///x")
    assert not fake.active and uris == ["sqlite:///x"]
    monkeypatch.setattr(Curved, "stop", None)
    done = go("mlflow=sqlite:///x")
    (run,) = fake.runs.values()  # the resumed one is the same
    assert run["status"] == "FINISHED" and fake.experiments == {"mine": "0"}
    assert [step for step, _ in run["metrics"]["tuning/loss"]] == [1, 2, 3, 4]
    assert run["metrics"]["test/ndcg_at_10"] == [(0, done.record.metrics.test["ndcg@10"])]
    assert run["params"]["fake.layer.width"] == "4" and run["tags"]["run_id"] == done.record.run_id
    go("mlflow=sqlite:///x")
    go("mlflow=sqlite:///x", fresh=True)
    assert list(fake.runs) == ["r0", "r1"]


@pytest.mark.parametrize("offline", [True, False])
def test_weights_and_biases(go: Any, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    calls: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    run = SimpleNamespace(logged=[], steps={}, ended=[])
    run.define_metric = lambda name, step_metric: run.steps.update({name: step_metric})
    run.log = lambda values, step: run.logged.append(values)
    run.finish = lambda: run.ended.append(True)

    def init(**options: Any) -> Any:
        calls.append(options)
        return run

    update = SimpleNamespace(update=lambda values, allow_val_change: config.update(values))
    monkeypatch.setitem(sys.modules, "wandb", module("wandb", init=init, config=update))
    monkeypatch.setenv("HARNESS_OFFLINE", "1" if offline else "0")
    monkeypatch.setattr(Curved, "stop", 3)
    with pytest.raises(KeyboardInterrupt):
        go("wandb=paper")
    monkeypatch.setattr(Curved, "stop", None)
    done = go("wandb=paper")
    first, second = calls
    assert first["id"] == second["id"] and first["id"].startswith(done.record.run_id) and first["resume"] == "allow"
    assert first["project"] == "paper" and config["fake.layer.width"] == "4"
    assert first["mode"] == ("offline" if offline else None) and run.ended == [True, True]
    logged = [(line["tuning/step"], line["tuning/loss"]) for line in run.logged if "tuning/loss" in line]
    assert logged == [(1, 4.0), (2, 2.0), (3, 4 / 3), (4, 1.0)] and run.steps["tuning/*"] == "tuning/step"
    assert run.logged[-1]["valid/ndcg@10"] == done.record.metrics.valid["ndcg@10"]
