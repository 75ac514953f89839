"""What `--track` logs to: TensorBoard, MLflow, Weights & Biases, each behind the same four calls.

A tracker is told names, numbers, steps and times, and knows nothing of runs beyond that; which numbers, and what
happens where it fails, is `tracking`'s business. Each library is imported when a run begins and not before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from harness.core.environment import OFFLINE_VARIABLE, offline
from harness.errors import InputError, unknown_name

PROJECT = "harness"  # of MLflow's experiment and of the W&B project, where the user names none
LONGEST = 500  # characters of a setting that MLflow is given
BATCH = 100  # settings in one of MLflow's calls, its own limit


@dataclass(frozen=True)
class TrackerSpec:
    """One `--track`: a tracker's name, and where it logs to (a folder, a URI or a project; empty for its default)."""

    name: str
    where: str = ""


@dataclass(frozen=True)
class Tracked:
    """The run that is logged. `settings` is its configuration, flattened."""

    run_id: str
    model: str
    dataset: str
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.model} {self.dataset} {self.run_id}"


class Tracker(Protocol):
    """Whatever a call raises ends the tracker, never the run."""

    def begin(self, run: Tracked, previous: str) -> str:
        """Opens the log. `previous` is what an earlier session's `begin` gave, empty for a log to be begun; gives what
        finds the log again, something else than `previous` where it is begun anew."""
        ...

    def log(self, values: Mapping[str, float], step: int, timestamp: float) -> None:
        """Numbers by `stage/name`, at a step of the stage and a time (seconds since 1970)."""
        ...

    def end(self, final: Mapping[str, float] | None) -> None:
        """Closes the log: with the final numbers, or with None where the run was stopped."""
        ...


class TensorBoard:
    """Event files in `RUN/tensorboard`, or in `WHERE/MODEL/DATASET/RUN_ID`."""

    def __init__(self, location: str) -> None:
        self.where = location

    def begin(self, run: Tracked, previous: str) -> str:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._settings = dict(run.settings)
        own = run.folder / "tensorboard"
        folder = Path(self.where, run.model, run.dataset, run.run_id) if self.where else own
        mark = str(folder) if self.where else own.name  # the run's own folder may move
        if mark != previous:
            for old in folder.glob("events.out.tfevents.*"):  # of the run that `--fresh` makes again
                old.unlink()
        self._writer = SummaryWriter(str(folder))
        if mark != previous:
            lines = "".join(f"    {key}: {value}\n" for key, value in run.settings.items())
            self._writer.add_text("configuration", lines)
        return mark

    def log(self, values: Mapping[str, float], step: int, timestamp: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=timestamp)
        self._writer.flush()

    def end(self, final: Mapping[str, float] | None) -> None:
        if final is not None:
            self._writer.add_hparams(self._settings, dict(final), run_name=".")  # their table, in the same folder
        self._writer.close()


class MLflow:
    """A run in the experiment `MLFLOW_EXPERIMENT_NAME` (else `harness`) of the server or store at WHERE, by default
    `MLFLOW_TRACKING_URI` or what MLflow takes."""

    def __init__(self, location: str) -> None:
        self.where = location

    def begin(self, run: Tracked, previous: str) -> str:
        from mlflow.entities import Param  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self._client = MlflowClient(tracking_uri=self.where or None)
        if previous:
            self._client.update_run(previous, status="RUNNING")
            self._id = previous
            return previous
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        result = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if result is None else result.experiment_id
        tags = {"model": run.model, "dataset": run.dataset, "run_id": run.run_id}
        self._id = self._client.create_run(experiment, run_name=run.title, tags=tags).info.run_id
        params = [Param(_allowed(key), value[:LONGEST]) for key, value in run.settings.items()]
        for first in range(0, len(params), BATCH):
            self._client.log_batch(self._id, params=params[first : first + BATCH])
        return self._id

    def log(self, values: Mapping[str, float], step: int, timestamp: float) -> None:
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]

        now = round(timestamp * 1000)
        self._client.log_batch(self._id, metrics=[Metric(_allowed(key), v, now, step) for key, v in values.items()])

    def end(self, final: Mapping[str, float] | None) -> None:
        if final is not None:
            for name, value in final.items():
                self._client.log_metric(self._id, _allowed(name), value)
        self._client.set_terminated(self._id, "KILLED" if final is None else "FINISHED")


class WeightsAndBiases:
    """A run in the project WHERE, by default `WANDB_PROJECT`, else `harness`; its files lie in the run's folder.
    Offline where `HARNESS_OFFLINE=1`, or by W&B's own settings."""

    def __init__(self, location: str) -> None:
        self.where = location

    def begin(self, run: Tracked, previous: str) -> str:
        import wandb  # pyright: ignore[reportMissingImports]

        self._stages: set[str] = set()
        mark = previous or f"{run.run_id}-{uuid4().hex[:8]}"
        self._run: Any = wandb.init(
            project=self.where or os.environ.get("WANDB_PROJECT") or PROJECT,
            id=mark,
            name=run.title,
            resume="allow",
            reinit="create_new",
            config=dict(run.settings),
            dir=str(run.folder),
            mode="offline" if offline() else None,
            settings=wandb.Settings(console="off"),
        )
        return mark

    def log(self, values: Mapping[str, float], step: int, timestamp: float) -> None:
        for stage in {name.rpartition("/")[0] for name in values} - self._stages:
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")  # each stage counts its own steps
            self._stages.add(stage)
        steps = {f"{name.rpartition('/')[0]}/step": step for name in values}
        self._run.log({**values, **steps, "time": timestamp})

    def end(self, final: Mapping[str, float] | None) -> None:
        if final is not None:
            self._run.summary.update(dict(final))
        self._run.finish(exit_code=1 if final is None else 0)


@dataclass(frozen=True)
class Kind:
    """A tracker that can be asked for: the package that it needs, and how to get it."""

    make: type[TensorBoard] | type[MLflow] | type[WeightsAndBiases]
    module: str
    package: str


KINDS = {
    "tensorboard": Kind(TensorBoard, "tensorboard", "tensorboard"),
    "mlflow": Kind(MLflow, "mlflow", "mlflow"),
    "wandb": Kind(WeightsAndBiases, "wandb", "wandb"),
}


def parse_trackers(texts: tuple[str, ...]) -> tuple[TrackerSpec, ...]:
    """What `--track NAME[=WHERE]`, once or several times, asks for. Raises `InputError` for an unknown tracker, for one
    that is not installed, and for one given twice."""
    from importlib.util import find_spec

    entries: dict[str, TrackerSpec] = {}
    for text in texts:
        name, equals, location = text.partition("=")
        if name not in KINDS:
            raise unknown_name("tracker", name, KINDS, where=f"--track {text}")
        if name in entries or (equals and not location):
            message = f"{name} is given twice" if name in entries else "nothing stands behind the ="
            raise InputError(message, where=f"--track {text}", hint="give each tracker once, with a place or without =")
        if find_spec(KINDS[name].module) is None:
            raise InputError(f"{name} is not installed", where="--track", hint=f"pip install {KINDS[name].package}")
        if name == "mlflow" and location.startswith(("http:", "https:")) and offline():
            raise InputError(
                f"{OFFLINE_VARIABLE}=1 forbids it", where=f"--track {text}", hint="unset it, or name a local store"
            )
        entries[name] = TrackerSpec(
            name, str(Path(location).expanduser().resolve()) if location and name == "tensorboard" else location
        )
    return tuple(entries.values())


def tracker(wish: TrackerSpec) -> Tracker:
    """The tracker that is asked for."""
    return KINDS[wish.name].make(wish.where)


def _allowed(name: str) -> str:
    """A name as MLflow takes it.

    >>> _allowed("test/ndcg@10"), _allowed("generating (valid)/loss")
    ('test/ndcg_at_10', 'generating _valid_/loss')
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
