"""`RecBoleRecommender`: any of the table's RecBole models behind the `Recommender` contract.

Speaks to RecBole's process through `session`; the validation answers never leave this side.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from baselines.recbole.catalogue import recbole_model
from baselines.recbole.config import RecBoleConfig
from baselines.recbole.exchange import read_arrays, write_ragged, write_requests
from baselines.recbole.features import item_features
from baselines.recbole.session import Session
from harness import pace
from harness.data.dataset import require_text
from harness.data.ragged import Ragged
from harness.errors import ContractError
from harness.fingerprint import fingerprint
from harness.protocol.context import RunContext, Stage
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData
from harness.seeding import derive_seed

VERBS = {"pretrain": "pre-trains", "train": "trains"}


class RecBoleRecommender(Recommender[RecBoleConfig]):
    """Trained by RecBole on exactly our training sequences, every prefix a sample; its best epoch is the one that our
    validation metric likes best."""

    config_class = RecBoleConfig
    code_version = 1

    def __init__(self, config: RecBoleConfig) -> None:
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
        kept = None if context.checkpoint is None else context.checkpoint.absolute() / "recbole"
        order = {
            "seed": context.seed,
            "mark": fingerprint(self.config.model_dump(mode="json"), data.fingerprint, context.seed, self.code_version),
            "max_samples": self.config.max_samples,
            "depth": DEPTH,
            "validation": None if validation is None else str(validation),
            "checkpoint": None if kept is None else str(kept),
            "keep_seconds": pace.KEEP_SECONDS,
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
        for line in session.chatter():
            context.event(stage="recbole", said=line)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        session = self._running()
        asked, lists = session.folder / "requests.npz", session.folder / "lists.npz"
        write_requests(asked, requests)
        with context.stage(f"{self.config.model} ranks {requests.fold}"):
            session.request("recommend", requests=str(asked), k=k, lists=str(lists))
        arrays = read_arrays(lists)
        return Predictions(requests.users, arrays["items"], arrays["scores"].astype(np.float64))

    def _save(self, folder: Path) -> None:
        self._running().request("save", folder=str(folder.absolute()))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        self._open(data, context).request("load", folder=str(folder.absolute()))

    def size(self) -> ModelSize:
        return self._size

    def record(self) -> dict[str, Any]:
        return dict(self._record)

    def close(self) -> None:
        """Ends RecBole's process, which otherwise lives as long as this object."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _running(self) -> Session:
        if self._session is None:
            raise ContractError("RecBole's process has been closed")
        return self._session

    def _open(self, data: TrainingData, context: RunContext) -> Session:
        self.close()
        self._session = session = Session()
        rows = {"training": data.sequences, **self._features(data)}
        files = {name: write_ragged(session.folder / f"{name}.npz", each) for name, each in rows.items()}
        with context.stage(f"{self.config.model} starts RecBole"):
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
        self._record = {"recbole": answer["version"]}
        return session

    def _features(self, data: TrainingData) -> dict[str, Ragged]:
        wanted = recbole_model(self.config.model).features
        if not wanted:
            return {}
        text = require_text(data.text, data.items, where=data.dataset)
        known = item_features(text, data.counts() > 0, where=data.dataset)
        return {name: known[name] for name in wanted if len(known[name].values)}

    def _score(self, lists: Path, context: RunContext) -> float:
        assert context.validation is not None
        arrays = read_arrays(lists)
        users = context.validation.requests.users
        predictions = Predictions(users, arrays["items"], arrays["scores"].astype(np.float64))
        return context.validation.score(predictions)[MAIN_METRIC]


def _report(message: dict[str, Any], stage: Stage, context: RunContext, learning_rate: float) -> None:
    told = {name: message[name] for name in ("epoch", "loss", "valid", "seconds")}
    shown = {} if told["valid"] is None else {MAIN_METRIC: told["valid"]}
    stage.advance(0, epoch=told["epoch"], loss=told["loss"], **shown)
    context.event(stage=message["stage"], **told, learning_rate=learning_rate)
