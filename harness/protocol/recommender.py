"""The `Recommender` contract, which EAGER-LLM and every baseline implement.

The public methods validate; a model implements the private ones. A configuration is the only constructor argument, a
frozen pydantic value that refuses unknown keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.core.artifact_cache import CacheEntry
from harness.errors import InvalidPredictions
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData


class ModelConfig(BaseModel):
    """Base of every model's configuration. `profiles` names the settings that a profile changes from the defaults,
    `variants` those that the setting `variant` stands for; profiles and the user override a variant."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    profiles: ClassVar[dict[str, dict[str, Any]]] = {}
    variants: ClassVar[dict[str, dict[str, Any]]] = {}

    def resolved(self, device: str) -> Self:
        """This configuration with machine-dependent values resolved, as it goes into the run's key."""
        return self

    def reads_text(self) -> bool:
        """Whether this configuration of a model that needs item text reads it."""
        return True

    def leaks(self) -> tuple[str, ...]:
        """A sentence for each way in which this configuration lets the model see held-out rows. Only a model that
        declares one gets them (`RunContext.validation_items`), and every table marks its runs."""
        return ()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """The files that this configuration reads besides the data set: their content is part of the run's key."""
        return ()


class TextModelConfig(ModelConfig):
    """Base of the configurations of models that need item text."""

    missing_text: Literal["refuse", "drop", "empty"] = Field(
        default="refuse",
        exclude_if=lambda value: value == "refuse",  # stored configurations from before this setting keep their key
        description="of a model that needs text, what items without it do: end the run, leave the data set with their "
        "interactions, or go by a stand-in title",
    )


ConfigT = TypeVar("ConfigT", bound=ModelConfig)


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the model that ranks: all, and those that any stage trained."""

    parameters: int = 0
    trainable_parameters: int = 0


class Recommender(ABC, Generic[ConfigT]):
    """fit → recommend → save; load → recommend.

    `code_version` is bumped whenever a change of code can change this model's results: it is part of the run's key.
    `distributed`: it shards its work over the processes of `RunContext.world`; other models run in one process.
    """

    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    code_version: ClassVar[int] = 1
    distributed: ClassVar[bool] = False

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.n_items = 0

    def fit(self, data: TrainingData, context: RunContext) -> None:
        """Trains on `data`, from scratch or from this run's `context.checkpoint`."""
        self._fit(data, context)
        self.n_items = data.n_items

    def recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        """Up to `k` distinct items for each of `requests.cases`, best first. Raises `InvalidPredictions` where the
        model returns anything else."""
        if not self.n_items:
            raise InvalidPredictions(f"{type(self).__name__} was asked before it was fitted or loaded")
        predictions = self._recommend(requests, k, context)
        if problems := predictions.problems(requests.cases, self.n_items):
            raise InvalidPredictions(f"{type(self).__name__} gave {'; '.join(problems)}")
        return predictions

    def save(self, folder: Path) -> None:
        """Writes the files that `load` reads, as safetensors and JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save(folder)

    def load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        """Restores the saved model; `data` is the data that it was fitted on."""
        self._load(folder, data, context)
        self.n_items = data.n_items

    def size(self) -> ModelSize:
        """The number of parameters of the fitted model; 0 where it does not state it."""
        return ModelSize()

    def record(self) -> dict[str, Any]:
        """Further entries of the run's record, JSON-able: index statistics, stage times, the best validation metric."""
        return {}

    def code_groups(self) -> np.ndarray | None:
        """Of a model that ranks codes: the id of each item's code, int64 (n_items,); items with equal ids share a code.
        The harness then also computes code-level metrics and records the inflation. None for every other model."""
        return None

    def estimate(self, data: TrainingData | None, device: str) -> dict[str, Any]:
        """An estimate of what fitting needs on this machine, JSON-able, without loading or training anything; empty
        where the model has none. Without `data` there is no estimate of time."""
        return {}

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """The cache entries that fitting would look up, in that order. Nothing is computed or downloaded."""
        return ()

    @abstractmethod
    def _fit(self, data: TrainingData, context: RunContext) -> None: ...

    @abstractmethod
    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions: ...

    @abstractmethod
    def _save(self, folder: Path) -> None: ...

    @abstractmethod
    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None: ...
