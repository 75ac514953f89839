"""`RecBoleConfig`: the settings of a RecBole model, and their conversion to RecBole's settings.

`model_table` has each model's settings and defaults. The worker sets files, folders and devices.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from baselines.library import LibraryConfig
from baselines.recbole.model_table import SMALL, recbole_model
from harness.protocol.protocol import MAIN_METRIC
from harness.protocol.recommender import TextModelConfig

STRUCTURE = ("embedding_size", "hidden_size", "layers", "heads", "inner_size", "dropout", "pretrain_epochs")

# Set by the protocol, other fields or the worker; not allowed in `extra`.
RESERVED = {
    "model", "dataset", "seed", "reproducibility", "device", "gpu_id", "use_gpu", "worker", "data_path", "load_col",
    "checkpoint_dir", "show_progress", "epochs", "train_batch_size", "eval_batch_size", "learning_rate", "weight_decay",
    "stopping_step", "eval_step", "eval_args", "metrics", "topk", "valid_metric", "valid_metric_bigger", "repeatable",
    "MAX_ITEM_LIST_LENGTH", "benchmark_filename", "loss_type", "train_neg_sample_args", "save_dataset",
    "save_dataloaders", "dataset_save_path", "dataloaders_save_path", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD",
    "seq_separator", "transform", "selected_features", "item_attribute", "train_stage", "pretrain_epochs",
    "pre_model_path", "save_step",
}  # fmt: skip


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

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "small": True,
            "epochs": 40,
            "max_samples": 100_000,
            "learning_rate": 0.01,
            "train_batch_size": 128,
        },
        "cpu": {"max_samples": 600_000, "patience": 5, "train_batch_size": 256},
        "gpu": {"train_batch_size": 2048},
    }

    @model_validator(mode="before")
    @classmethod
    def _fill_from_table(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("model", cls.model_fields["model"].default)
        defaults = recbole_model(str(name)).defaults
        small = {field: value for field, value in SMALL.items() if field in defaults and values.get("small") is True}
        return {**defaults, **small, **values}

    @field_validator("extra")
    @classmethod
    def _leave_reserved(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if names := sorted(RESERVED & set(extra)):
            raise ValueError(f"{', '.join(names)} cannot be set in extra: the harness settles it")
        return extra

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
