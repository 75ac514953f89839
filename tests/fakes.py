"""A recommender that can be told to fail, and that leaves and finds a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import ModelConfig, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData


class Layer(ModelConfig):
    width: int = 4


class FakeConfig(ModelConfig):
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"smoke": {"size": 7, "rate": 0.5}, "gpu": {"size": 70}}

    size: int = Field(1, ge=1)
    rate: float = 0.1
    kind: Literal["a", "b"] = "a"
    levels: tuple[int, ...] = (1, 2)
    layer: Layer = Layer()
    peek: bool = False
    words: str | None = None

    def leaks(self) -> tuple[str, ...]:
        return ("it peeks at validation items",) if self.peek else ()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        return (Path(self.words),) if self.words else ()


class Fake(Recommender[FakeConfig]):
    """Ranks by the distance to the last item of the history. Class attributes steer it and tell what happened."""

    config_class = FakeConfig
    failure: ClassVar[BaseException | None] = None  # raised in the middle of `fit`, after a checkpoint
    resumed: ClassVar[list[bool]] = []  # whether each `fit` found a checkpoint
    validated: ClassVar[dict[str, float]] = {}
    asked: ClassVar[list[int]] = []
    shown: ClassVar[np.ndarray | None] = None  # the held-out items that the last `fit` was given

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        assert context.checkpoint is not None and context.validation is not None
        type(self).shown = context.validation_items
        mark = context.checkpoint / "state.json"
        type(self).resumed.append(mark.exists())
        mark.write_text("{}")
        with context.stage("train", 2) as stage:
            stage.advance(1, loss=2.0)
            if self.failure is not None:
                raise self.failure
            stage.advance(1, loss=1.0)
        some = context.validation.requests.take(np.arange(5))
        self.n = data.n_items
        type(self).validated = context.validation.score(self._recommend(some, 10, context))

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        print("a library that prints to stdout")
        type(self).asked.append(k)
        last = np.array([history[-1] for history in requests.histories])
        return Predictions.best(requests.cases, -((np.arange(self.n) - last[:, None]) % self.n).astype(float), k)

    def record(self) -> dict[str, Any]:
        return {"width": np.int64(self.config.layer.width), "nothing": float("nan")}

    def _save(self, folder: Path) -> None:
        (folder / "model.json").write_text(str(self.n))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        raise NotImplementedError


class Choosy(Fake):
    """Ranks the better, the nearer its rate is to 0.1 and its width to 8; nobody may show it test cases. It fails in
    the fit whose number (from 0) `fails` maps to an error."""

    fits: ClassVar[list[float]] = []  # the rate of each fit
    fails: ClassVar[dict[int, BaseException]] = {}
    tested: ClassVar[bool] = False  # whether test cases are allowed

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        number = len(type(self).fits)
        type(self).fits.append(self.config.rate)
        type(self).failure = self.fails.get(number)
        super()._fit(data, context)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        assert self.tested or requests.fold == "valid", "test cases were shown"
        off = round(3 * abs(np.log10(self.config.rate) + 1) + abs(self.config.layer.width - 8) / 2)
        last = np.array([history[-1] for history in requests.histories])
        removed = (np.arange(self.n) - last[:, None] - 1 + off) % self.n
        return Predictions.best(requests.cases, -removed.astype(float), k)
