"""`RecBoleRecommender`: a RecBole model as a `Recommender`."""

from __future__ import annotations

from baselines.library import LibraryRecommender
from baselines.recbole.config import RecBoleConfig
from baselines.recbole.features import item_features
from baselines.recbole.model_table import recbole_model
from baselines.recbole.worker_process import RECBOLE
from harness.data.dataset import require_text
from harness.data.ragged import RaggedArray
from harness.protocol.split import TrainingData


class RecBoleRecommender(LibraryRecommender[RecBoleConfig]):
    """Trained by RecBole, every prefix of a training sequence a sample."""

    config_class = RecBoleConfig
    code_version = 1
    worker = RECBOLE

    def _features(self, data: TrainingData) -> dict[str, RaggedArray]:
        names = recbole_model(self.config.model).features
        if not names:
            return {}
        text = require_text(data.text, data.items, location=data.dataset)
        available = item_features(text, data.counts() > 0, location=data.dataset)
        return {name: available[name] for name in names if len(available[name].values)}
