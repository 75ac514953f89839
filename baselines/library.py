"""`LibraryRecommender`: a model that another library trains and scores, in a process of its own, behind our contract.

Speaks to that process through `session`; the validation targets never leave this side. What a library's model can be
set to, and what its process does, is the subclass's and the worker's business.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import Field, field_validator

from baselines.recbole.worker_process import Session, Worker, read_arrays, write_ragged, write_requests
from harness.core import timer
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed
from harness.data.ragged import RaggedArray
from harness.errors import InvalidPredictions
from harness.protocol.context import RunContext, Stage
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

VERBS = {"pretrain": "pre-trains", "train": "trains"}


class LibraryConfig(ModelConfig):
    """What every library's model can be set to.

    `small` replaces the structure by one that trains in seconds. `max_samples` bounds the cost on any data: training
    stops after the whole epochs that fit into so many training samples, but never before the first. `patience` counts
    epochs without a better validation score. `extra` goes to the library as it is.
    """

    model: str
    small: bool = False
    epochs: int = Field(200, ge=1)
    max_samples: int | None = Field(None, ge=1)
    patience: int = Field(10, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    train_batch_size: int = Field(512, ge=1)
    eval_batch_size: int = Field(1024, ge=1)
    extra: dict[str, Any] = Field(default_factory=dict)

    reserved: ClassVar[frozenset[str]] = frozenset()  # set by the protocol, other fields or the worker: not in `extra`

    @field_validator("extra")
    @classmethod
    def _leave_reserved(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if names := sorted(cls.reserved & set(extra)):
            raise ValueError(f"{', '.join(names)} cannot be set in extra: the harness settles it")
        return extra

    def settings(self, max_history: int) -> dict[str, Any]:
        """The library's own settings for this configuration, JSON-able, without paths, device and seed."""
        raise NotImplementedError


ConfigT = TypeVar("ConfigT", bound=LibraryConfig)


class LibraryRecommender(Recommender[ConfigT], Generic[ConfigT]):
    """Trained by the library on exactly our training sequences; its best epoch is the one with the best validation
    score by our evaluator."""

    worker: ClassVar[Worker]

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self._session: Session | None = None
        self._size = ModelSize()
        self._record: dict[str, Any] = {}

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        data.require_next_items()
        session = self._open(data, context)
        validation = None
        if context.validation is not None:
            validation = session.folder / "valid-requests.npz"
            write_requests(validation, context.validation.requests)
        path = None if context.checkpoint is None else context.checkpoint.absolute() / self.worker.key
        order = {
            "seed": context.seed,
            "mark": fingerprint(self.config.model_dump(mode="json"), data.fingerprint, context.seed, self.code_version),
            "max_samples": self.config.max_samples,
            "depth": DEPTH,
            "validation": None if validation is None else str(validation),
            "checkpoint": None if path is None else str(path),
            "keep_seconds": timer.KEEP_SECONDS,
            **self._order(context),
        }
        with ExitStack() as stack:
            stages: list[Stage] = []

            def listen(message: dict[str, Any]) -> dict[str, Any] | None:
                if "steps" in message:
                    name = f"{self.config.model} {VERBS[message['stage']]}"
                    stages.append(stack.enter_context(context.stage(name, message["steps"])))
                    stages[-1].advance(message["done"])
                elif "advance" in message:
                    stages[-1].advance(message["advance"])
                elif "lists" in message:
                    return {"score": self._score(Path(message["lists"]), context)}
                elif "loss" in message:
                    _report(message, stages[-1], context, self.config.learning_rate)
                return None

            answer = session.request("fit", listen, order=order)
        self._record |= {name: value for name, value in answer.items() if name != "kind"}
        for line in session.log_tail():
            context.event(stage=self.worker.key, said=line)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        session = self._running()
        path, lists = session.folder / "requests.npz", session.folder / "lists.npz"
        write_requests(path, requests)
        with context.stage(f"{self.config.model} ranks {requests.fold}"):
            session.request("recommend", requests=str(path), k=k, lists=str(lists))
        arrays = read_arrays(lists)
        return Predictions(requests.cases, arrays["items"], arrays["scores"].astype(np.float64))

    def _save(self, folder: Path) -> None:
        self._running().request("save", folder=str(folder.absolute()))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        self._open(data, context).request("load", folder=str(folder.absolute()))

    def size(self) -> ModelSize:
        return self._size

    def record(self) -> dict[str, Any]:
        return dict(self._record)

    def close(self) -> None:
        """Ends the library's process, which otherwise lives as long as this object."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _order(self, context: RunContext) -> dict[str, Any]:
        """What the process is told of this training besides, where it does not stand in the library's settings."""
        return {}

    def _features(self, data: TrainingData) -> dict[str, RaggedArray]:
        """Item features by name that go to the process besides the training sequences."""
        return {}

    def _running(self) -> Session:
        if self._session is None:
            raise InvalidPredictions(f"{self.worker.library}'s process has been closed")
        return self._session

    def _open(self, data: TrainingData, context: RunContext) -> Session:
        self.close()
        self._session = session = Session(self.worker)
        rows = {"training": data.sequences, **self._features(data)}
        files = {name: write_ragged(session.folder / f"{name}.npz", each) for name, each in rows.items()}
        with context.stage(f"{self.config.model} starts {self.worker.library}"):
            answer = session.request(
                "open",
                model=self.config.model,
                settings=self.config.settings(data.max_history),
                extra=sorted(self.config.extra),
                files=files,
                n_items=data.n_items,
                run={"device": context.device, "seed": derive_seed(context.seed, "weights") % 2**32},
            )
        self._size = ModelSize(answer["parameters"], answer["trainable"])
        self._record = {self.worker.key: answer["version"]}
        return session

    def _score(self, lists: Path, context: RunContext) -> float:
        assert context.validation is not None
        arrays = read_arrays(lists)
        cases = context.validation.requests.cases
        predictions = Predictions(cases, arrays["items"], arrays["scores"].astype(np.float64))
        return context.validation.score(predictions)[MAIN_METRIC]


def _report(message: dict[str, Any], stage: Stage, context: RunContext, learning_rate: float) -> None:
    fields = {name: message[name] for name in ("epoch", "loss", "valid", "seconds")}
    text = {} if fields["valid"] is None else {MAIN_METRIC: fields["valid"]}
    stage.advance(0, epoch=fields["epoch"], loss=fields["loss"], **text)
    context.event(stage=message["stage"], **fields, learning_rate=learning_rate)
