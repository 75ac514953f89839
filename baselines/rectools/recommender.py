"""`RecToolsRecommender`: a RecTools transformer as a `Recommender`."""

from __future__ import annotations

from typing import Any

from baselines.library import LibraryRecommender
from baselines.rectools.config import RecToolsConfig
from baselines.rectools.worker import RECTOOLS
from harness.protocol.context import RunContext


class RecToolsRecommender(LibraryRecommender[RecToolsConfig]):
    """Trained on all positions of a training sequence at once."""

    config_class = RecToolsConfig
    code_version = 1
    worker = RECTOOLS

    def _order(self, context: RunContext) -> dict[str, Any]:
        depth = {} if context.validation is None else {"depth": context.validation.depth}
        return {"epochs": self.config.epochs, "patience": self.config.patience, **depth}
