"""`--track`: sends events of a run's log, its settings and its final metrics to experiment trackers.

The trackers are those of `accelerate.tracking`, imported when a run starts. Tracking is not part of a run's key, and a
tracker that fails is dropped with a warning. `tracking.json` in the run's folder has the logs that were started, so
that a resumed run continues its curves; a tracker that is added later first gets the previous log.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness.core.config_files import flatten
from harness.core.environment import OFFLINE_VARIABLE, offline
from harness.core.files import write_result_text
from harness.errors import InputError, unknown_name
from harness.store.event_log import read_events
from harness.store.record import Record, RunKey
from harness.store.run_store import RunFolder, StoredRun, warn

Event = Mapping[str, Any]
PROJECT = "harness"  # default of MLflow's experiment and the other services' project
STATE = "tracking.json"
NO_VALUES = {"event", "stage", "step", "epoch", "session_seconds"}
PACKAGES = {  # accelerate's name of a tracker, also its module, to its package
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "aim": "aim",
    "clearml": "clearml",
    "comet_ml": "comet-ml",
    "swanlab": "swanlab",
    "trackio": "trackio",
}
ONLINE = ("clearml", "comet_ml", "swanlab")
OWN_STEPS = ("trackio", "wandb")  # their steps must increase over the run: a stage's step is logged as a value


@dataclass(frozen=True)
class TrackerSpec:
    """One `--track`: name of a tracker, and its location (a folder, a URI or a project; "" for the default)."""

    name: str
    where: str = ""


def parse_trackers(texts: tuple[str, ...]) -> tuple[TrackerSpec, ...]:
    """Parses the trackers of `--track NAME[=WHERE]`. Raises `InputError` for a tracker that is unknown, not installed
    or repeated."""
    from importlib.util import find_spec

    entries: dict[str, TrackerSpec] = {}
    for text in texts:
        name, equals, location = text.partition("=")
        if name not in PACKAGES:
            raise unknown_name("tracker", name, PACKAGES, where=f"--track {text}")
        if name in entries or (equals and not location):
            message = f"{name} is given twice" if name in entries else "there is no value after ="
            raise InputError(message, where=f"--track {text}", hint="give each tracker once, with a location or no =")
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed", where="--track", hint=f"pip install {PACKAGES[name]}")
        online = name in ONLINE or (name == "mlflow" and location.startswith(("http:", "https:")))
        if online and offline():
            hint = "unset it, or use a tracker that logs to files"
            raise InputError(f"{OFFLINE_VARIABLE}=1 forbids it", where=f"--track {text}", hint=hint)
        is_folder = bool(location) and name in ("tensorboard", "aim")
        entries[name] = TrackerSpec(name, str(Path(location).expanduser().resolve()) if is_folder else location)
    return tuple(entries.values())


@dataclass(frozen=True)
class Point:
    """The values of one event by `stage/name`, at a step and a time (seconds since 1970)."""

    values: dict[str, float]
    step: int
    when: float


@dataclass
class Curves:
    """Reads events in order; repeated steps of a curve are skipped."""

    began: float = 0.0
    last: dict[str, int] = field(default_factory=dict)

    def on_event(self, event: Event) -> Point | None:
        """New values in an event; None if there are none."""
        if event.get("event") == "session":
            self.began = datetime.fromisoformat(str(event["time"])).timestamp()
        stage = event.get("stage")
        numbers = {name: value for name, value in event.items() if name not in NO_VALUES and _is_number(value)}
        if "session_seconds" not in event:  # otherwise the session's clock, not a measurement
            numbers.pop("seconds", None)
        if stage is None or not numbers:
            return None
        if event.get("event") is not None:  # the end of a stage repeats its last values
            numbers = {"stage_seconds": numbers["seconds"]} if event["event"] == "stage end" else {}
        first = next(iter(numbers), "")
        step = event.get("step", event.get("epoch"))
        step = int(step) if _is_number(step) else self.last.get(f"{stage}/{first}", 0) + 1
        names = {f"{stage}/{name}": float(value) for name, value in numbers.items()}
        new = {name: value for name, value in names.items() if step > self.last.get(name, -1)}
        self.last |= dict.fromkeys(new, step)
        timestamp = self.began + float(event.get("session_seconds", event.get("seconds", 0.0)))
        return Point(new, step, timestamp) if new else None


class RunTracker:
    """One of accelerate's trackers for one run. `settings`: its flattened configuration. `previous`: `log_id` of the
    session to continue, "" for a new log."""

    def __init__(
        self, spec: TrackerSpec, key: RunKey, folder: Path, settings: Mapping[str, str], previous: str
    ) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        _start_accelerate()
        self.name = spec.name
        self.log_id, positional, options = _arguments(spec, key, folder, previous)
        if spec.name == "mlflow" and spec.where:
            import mlflow  # pyright: ignore[reportMissingImports]

            mlflow.set_tracking_uri(spec.where)
        self._tracker = LOGGER_TYPE_TO_CLASS[spec.name](*positional, **options)
        self._tracker.start()
        if spec.name == "mlflow":
            self.log_id = self._tracker.tracker.info.run_id
        if self.log_id != previous:
            self._tracker.store_init_configuration({self._label(name): value for name, value in settings.items()})
        self._stages: set[str] = set()

    def log(self, point: Point) -> None:
        """Sends the values of one event."""
        values: dict[str, Any] = {self._label(name): value for name, value in point.values.items()}
        if self.name in OWN_STEPS:
            stages = {name.rpartition("/")[0] for name in point.values}
            if self.name == "wandb":
                for stage in stages - self._stages:
                    self._tracker.tracker.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages |= stages
            self._tracker.log({**values, **{f"{stage}/step": point.step for stage in stages}, "time": point.when})
        else:
            times = {"tensorboard": {"walltime": point.when}, "mlflow": {"timestamp": round(point.when * 1000)}}
            self._tracker.log(values, step=point.step, **times.get(self.name, {}))

    def finish(self, final: Mapping[str, float] | None = None) -> None:
        """Closes the log, with the final metrics of a complete run."""
        if final:
            step = {} if self.name in OWN_STEPS else {"step": 0}
            self._tracker.log({self._label(name): value for name, value in final.items()}, **step)
        self._tracker.finish()

    def _label(self, name: str) -> str:
        return _mlflow_name(name) if self.name == "mlflow" else name


def _start_accelerate() -> None:
    """Creates accelerate's state, which its loggers need, without changing torch's number of threads."""
    import torch
    from accelerate import PartialState

    threads = torch.get_num_threads()
    PartialState(cpu=True)
    torch.set_num_threads(threads)


def _arguments(
    spec: TrackerSpec, key: RunKey, run_folder: Path, previous: str
) -> tuple[str, list[str], dict[str, Any]]:
    """The log's id, and the positional and keyword arguments of accelerate's tracker."""
    project, title = spec.where or PROJECT, f"{key.model} {key.dataset} {key.run_id}"
    if spec.name == "tensorboard":
        default = run_folder / "tensorboard"
        folder = Path(spec.where, key.model, key.dataset, key.run_id) if spec.where else default
        log_id = str(folder) if spec.where else default.name  # the run's folder may move
        if log_id != previous:
            shutil.rmtree(folder, ignore_errors=True)  # of the replaced run
        return log_id, ["", str(folder)], {}
    if spec.name == "mlflow":
        tags = {"model": key.model, "dataset": key.dataset, "run_id": key.run_id}
        return previous, [PROJECT], {"run_id": previous or None, "run_name": title, "tags": tags}
    log_id = previous or f"{key.run_id}-{uuid4().hex[:8]}"
    if spec.name == "wandb":
        options = {"id": log_id, "name": title, "resume": "allow", "dir": str(run_folder)}
        mode = "offline" if offline() else None
        project = spec.where or os.environ.get("WANDB_PROJECT") or PROJECT
        return log_id, [project], {**options, "mode": mode, "settings": {"console": "off"}}
    return log_id, [title, spec.where or str(run_folder)] if spec.name == "aim" else [project], {}


class Tracking:
    """The active trackers of one run."""

    def __init__(
        self, tracker_specs: Sequence[TrackerSpec], key: RunKey, folder: RunFolder, settings: Mapping[str, str]
    ) -> None:
        self._start = partial(RunTracker, key=key, folder=folder.path, settings=settings)
        self._path = folder.path / STATE
        self._state: dict[str, dict[str, Any]] = _read_state(self._path)
        self._open: dict[str, tuple[RunTracker, Curves]] = {}
        past = read_events(folder.log)
        for spec in tracker_specs:
            with self._dropped_on_error(spec.name):
                self._begin(spec, past)

    def on_event(self, event: Event) -> None:
        """Forwards one event of the log."""
        for name, (tracker, curves) in list(self._open.items()):
            with self._dropped_on_error(name):
                if (point := curves.on_event(event)) is not None:
                    tracker.log(point)

    def finish(self, record: Record) -> None:
        """Ends the logs of a complete run."""
        folds = {"test": record.metrics.test, "valid": record.metrics.valid}
        final = {f"{fold}/{name}": value for fold, values in folds.items() for name, value in values.items()}
        costs = record.cost.model_dump()
        final |= {f"cost/{name}": float(value) for name, value in costs.items() if _is_number(value)}
        self.close(final)

    def close(self, final: Mapping[str, float] | None = None) -> None:
        """Closes the logs, with the final metrics of a complete run."""
        for name, (tracker, _) in list(self._open.items()):
            with self._dropped_on_error(name):
                tracker.finish(final)
                del self._open[name]
                if final is not None:
                    self._save(name, {**self._state[name], "complete": True})

    def _begin(self, spec: TrackerSpec, past: Sequence[Event]) -> None:
        state = self._state.get(spec.name, {})
        previous = str(state.get("mark", "")) if state.get("where") == spec.where else ""
        if previous and state.get("complete"):
            return
        tracker, curves = self._start(spec, previous=previous), Curves()
        self._open[spec.name] = (tracker, curves)
        for event in past:
            point = curves.on_event(event)
            if point is not None and tracker.log_id != previous:
                tracker.log(point)
        self._save(spec.name, {"where": spec.where, "mark": tracker.log_id, "complete": False})

    @contextmanager
    def _dropped_on_error(self, name: str) -> Iterator[None]:
        """Drops a tracker that fails, and its state, so that the next session starts its log anew."""
        try:
            yield
        except Exception as error:
            tracker, _ = self._open.pop(name, (None, None))
            warn(f"{name} is disabled for this run: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            if tracker is not None:
                with suppress(Exception):
                    tracker.finish()
            try:
                self._save(name, None)
            except Exception as again:
                warn(f"{self._path} cannot be written: {again}")

    def _save(self, name: str, state: dict[str, Any] | None) -> None:
        self._state.pop(name, None)
        if state is not None:
            self._state[name] = state
        write_result_text(self._path, json.dumps(self._state, indent=2) + "\n")


@contextmanager
def tracking(
    tracker_specs: Sequence[TrackerSpec], settings: Mapping[str, Any], folder: RunFolder, final: RunFolder
) -> Iterator[Tracking]:
    """The trackers of a run that is executed in `folder` and moved to `final`; logs are closed at the end of
    the block."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(settings).items()}
    current_tracking = Tracking(tracker_specs, RunKey(*final.path.parts[-3:]), folder, texts)
    try:
        yield current_tracking
    finally:
        current_tracking.close()


def track_stored(tracker_specs: Sequence[TrackerSpec], run: StoredRun) -> None:
    """Sends a complete run to trackers that do not have it."""
    if tracker_specs:
        with tracking(tracker_specs, run.settings, run.folder, run.folder) as current_tracking:
            current_tracking.finish(run.record)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _mlflow_name(name: str) -> str:
    """A valid name for MLflow.

    >>> _mlflow_name("test/ndcg@10"), _mlflow_name("generating (valid)/loss")
    ('test/ndcg_at_10', 'generating _valid_/loss')
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
