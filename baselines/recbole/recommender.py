"""`RecBoleRecommender`: a RecBole model as a `Recommender`, its settings, and its item features.

This module never imports RecBole, which runs in a child process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from baselines.library import LibraryConfig, LibraryRecommender
from baselines.recbole.model_table import ALL, BRAND, CATEGORIES, FIELDS, SMALL, WORDS, recbole_model
from harness.data.dataset import ItemText, require_text
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.protocol import MAIN_METRIC
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData

STRUCTURE = ("embedding_size", "hidden_size", "layers", "heads", "inner_size", "dropout", "pretrain_epochs")

# Set by the protocol, other fields or the worker; not allowed in `extra`.
RESERVED = frozenset({
    "model", "dataset", "seed", "reproducibility", "device", "gpu_id", "use_gpu", "worker", "data_path", "load_col",
    "checkpoint_dir", "show_progress", "epochs", "train_batch_size", "eval_batch_size", "learning_rate", "weight_decay",
    "stopping_step", "eval_step", "eval_args", "metrics", "topk", "valid_metric", "valid_metric_bigger", "repeatable",
    "MAX_ITEM_LIST_LENGTH", "benchmark_filename", "loss_type", "train_neg_sample_args", "save_dataset",
    "save_dataloaders", "dataset_save_path", "dataloaders_save_path", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD",
    "seq_separator", "transform", "selected_features", "item_attribute", "train_stage", "pretrain_epochs",
    "pre_model_path", "save_step",
})  # fmt: skip
WORD = r"[^\W\d_]{3,}"  # runs of three letters and more
SHARED, COMMON, MOST = 3, 0.5, 200
TITLE_WORDS = 6


class RecBoleConfig(LibraryConfig, TextModelConfig):
    """One RecBole model and its training. A structural field is None if the model does not have it, or if RecBole's
    default is used because the model is not in the table. A sample of `max_samples` is a prefix of a sequence; in
    pre-training a sequence."""

    model: str = "SASRec"
    weight_decay: float = Field(0.0, ge=0)
    embedding_size: int | None = Field(None, ge=1)
    hidden_size: int | None = Field(None, ge=1)
    layers: int | None = Field(None, ge=1)
    heads: int | None = Field(None, ge=1)
    inner_size: int | None = Field(None, ge=1)
    dropout: float | None = Field(None, ge=0, lt=1)
    pretrain_epochs: int | None = Field(None, ge=0)

    reserved: ClassVar[frozenset[str]] = RESERVED
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"small": True, "epochs": 40, "max_samples": 100_000, "learning_rate": 0.01, "train_batch_size": 128},
        "cpu": {"max_samples": 600_000, "patience": 5, "train_batch_size": 256},
        "gpu": {"train_batch_size": 2048},
    }  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _fill_from_table(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("model", cls.model_fields["model"].default)
        defaults = recbole_model(str(name)).defaults
        small = {field: value for field, value in SMALL.items() if field in defaults and values.get("small") is True}
        return {**defaults, **small, **values}

    @model_validator(mode="after")
    def _fit_structure(self) -> RecBoleConfig:
        names = recbole_model(self.model).names
        for name in STRUCTURE:
            if (getattr(self, name) is None) == (name in names):
                hint = "" if names else ": give RecBole's own setting in extra"
                raise ValueError(f"{self.model} {'needs' if name in names else 'has no'} {name!r}{hint}")
        if self.heads and self.hidden_size and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} cannot be shared by {self.heads} heads")
        return self

    def settings(self, max_history: int) -> dict[str, Any]:
        """RecBole's settings for this configuration, JSON-able, without paths, device and seed."""
        entry = recbole_model(self.model)
        mask = entry.samples == "masked"  # the mask takes a position of the history
        structure = {alias: getattr(self, name) for name, aliases in entry.names.items() for alias in aliases}
        return {
            "epochs": self.epochs,
            "stopping_step": self.patience,
            "eval_step": 1,
            "learner": "adam",
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "train_batch_size": self.train_batch_size,
            "eval_batch_size": self.eval_batch_size,
            "MAX_ITEM_LIST_LENGTH": max_history + mask,
            "metrics": ["NDCG"],  # never computed by RecBole: they only define that higher is better
            "valid_metric": MAIN_METRIC.upper(),
            "topk": [int(MAIN_METRIC.partition("@")[2])],
            **structure,
            **self.extra,
            **entry.pinned,
        }


def item_features(text: Sequence[ItemText], mask: np.ndarray, *, location: str) -> dict[str, RaggedArray]:
    """Tokens of each item, numbered from 0 within a field: `categories`, `brand`, `words`, and `features`, which is all
    of them with numbers that do not overlap.

    `shown`, bool (n_items,): which items have training interactions. Raises `InputError` where no item has a token.
    """
    by_name = {
        CATEGORIES: [tuple(dict.fromkeys(entry.categories)) for entry in text],
        BRAND: [(entry.brand,) if entry.brand else () for entry in text],
        WORDS: _title_words([entry.title for entry in text], mask),
    }
    fields = {name: _numbered(by_name[name], mask) for name in FIELDS}
    if not any(len(rows.values) for rows in fields.values()):
        message = f"no category, brand or title word is shared by {SHARED} items and by at most half of them"
        hint = "give items categories or titles, or choose a model without item features"
        raise InputError(f"{message}: there are no item features", where=location, hint=hint, code="empty-data")
    sizes = [int(rows.values.max(initial=-1)) + 1 for rows in fields.values()]
    starts = np.cumsum([0, *sizes])
    feature_rows = [
        np.concatenate([rows[item] + start for rows, start in zip(fields.values(), starts, strict=False)])
        for item in range(len(text))
    ]
    return {**fields, ALL: RaggedArray.of(feature_rows)}


def _numbered(rows: Sequence[Sequence[str]], mask: np.ndarray) -> RaggedArray:
    counts = Counter(chain.from_iterable(rows[item] for item in np.flatnonzero(mask).tolist()))
    limit = COMMON * int(mask.sum())
    telling = [(-count, name) for name, count in counts.items() if SHARED <= count <= limit]
    number = {name: place for place, (_, name) in enumerate(sorted(telling)[:MOST])}
    return RaggedArray.of([np.array([number[name] for name in row if name in number], dtype=np.int64) for row in rows])


def _title_words(titles: Sequence[str], mask: np.ndarray) -> list[tuple[str, ...]]:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    from harness.generative.tasks.item_texts import ranked_words

    vectorizer = TfidfVectorizer(token_pattern=WORD, stop_words="english", min_df=SHARED, max_df=COMMON)
    try:
        vectorizer.fit([titles[item] for item in np.flatnonzero(mask).tolist()])
    except ValueError:  # not one word that several titles share
        return [()] * len(titles)
    weights = csr_matrix(vectorizer.transform(titles))
    ranked = ranked_words(weights, vectorizer.get_feature_names_out())
    return [tuple(word for word, _ in pairs[:TITLE_WORDS]) for pairs in ranked]


class RecBoleRecommender(LibraryRecommender[RecBoleConfig]):
    """Trained by RecBole, every prefix of a training sequence a sample."""

    config_class = RecBoleConfig
    code_version = 1
    library = "RecBole"

    def _features(self, data: TrainingData) -> dict[str, RaggedArray]:
        names = recbole_model(self.config.model).features
        if not names:
            return {}
        text = require_text(data.text, data.items, location=data.dataset)
        available = item_features(text, data.counts() > 0, location=data.dataset)
        return {name: available[name] for name in names if len(available[name].values)}
