"""`RecToolsRecommender`: a RecTools transformer as a `Recommender`; `RecToolsConfig`: its settings, and their
conversion to RecTools' settings.

The names of the models are read from RecTools' files without importing it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from baselines.library import LibraryConfig, LibraryRecommender, library_entry, package_folder
from harness.errors import unknown_name
from harness.protocol.context import RunContext

CLASS = re.compile(r"^class (\w+)Model\(TransformerModelBase\[", re.MULTILINE)
# Set by the protocol, by the other fields or by the engine; refused in `extra`.
RESERVED = frozenset({
    "cls", "batch_size", "data_preparator_type", "dataloader_num_workers", "deterministic", "dropout_rate", "epochs",
    "gbce_t", "get_trainer_func", "get_trainer_func_kwargs", "get_val_mask_func", "get_val_mask_func_kwargs",
    "item_net_block_types", "loss", "lr", "n_blocks", "n_factors", "n_heads", "n_negatives", "recommend_batch_size",
    "recommend_torch_device", "relative_time_attention", "session_max_len", "similarity_module_type",
    "train_min_user_interactions", "transformer_layers_type", "use_causal_attn", "use_key_padding_mask", "verbose",
})  # fmt: skip
LAYERS = {
    "sasrec": "rectools.models.nn.transformers.sasrec.SASRecTransformerLayers",
    "preln": "rectools.models.nn.transformers.net_blocks.PreLNTransformerLayers",
    "ligr": "rectools.models.nn.transformers.ligr.LiGRLayers",
    "stu": "rectools.models.nn.transformers.hstu.STULayers",
}
WIDENED = ("preln", "ligr")  # layers whose feed-forward part has a width of its own
SMALL = {"hidden_size": 32, "blocks": 1, "heads": 1, "dropout": 0.1, "negatives": 16}


@cache
def rectools_models() -> tuple[str, ...]:
    """Names of the transformer models of the installed RecTools, without the `Model` at their end."""
    folder = package_folder("RecTools") / "models" / "nn" / "transformers"
    sources = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    return tuple(sorted(name for source in sources for name in CLASS.findall(source)))


def check_model(name: str) -> str:
    """The name as RecTools spells it, whatever its case. Raises `InputError` for an unknown model."""
    for names in rectools_models():
        if names.lower() == name.lower():
            return names
    raise unknown_name("RecTools model", name, list(rectools_models()))


def describe(name: str) -> dict[str, Any]:
    """The registry's fields for `rectools:NAME`. Raises `InputError` as `check_model` does."""
    exact = check_model(name)
    return library_entry("RecTools", exact, f"RecTools' {exact}")


# Model → its default layers, and other settings that differ from the defaults below.
DEFAULTS: dict[str, dict[str, Any]] = {
    "SASRec": {"layer": "sasrec"},
    "BERT4Rec": {"layer": "preln"},
    "HSTU": {"layer": "stu", "temperature": 0.05},  # its scores are cosines
}


class RecToolsConfig(LibraryConfig):
    """One RecTools transformer and how it is trained. `max_samples` counts next items as samples.

    `layer` is the kind of transformer layer, by default the model's own. `train_batch_size` counts users. `temperature`
    divides the logits in the loss. `filter_viewed`, an argument of RecTools' `recommend`, ranks the items of the
    history last; it is on in the published rows, and a third of ndcg@10 depends on it where users never repeat an item.
    """

    model: str = "SASRec"
    train_batch_size: int = Field(128, ge=1)
    eval_batch_size: int = Field(512, ge=1)
    layer: Literal["sasrec", "preln", "ligr", "stu"]
    blocks: int = Field(1, ge=1)
    heads: int = Field(1, ge=1)
    hidden_size: int = Field(256, ge=1)
    ff_multiplier: int | None = Field(None, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    loss: Literal["softmax", "sampled_softmax", "BCE", "gBCE"] = "sampled_softmax"
    negatives: int = Field(256, ge=1)
    gbce_t: float = Field(0.75, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)
    filter_viewed: bool = True

    reserved: ClassVar[frozenset[str]] = RESERVED
    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {"small": True, "epochs": 16, "max_samples": 100_000, "learning_rate": 0.01, "train_batch_size": 32},
        "cpu": {"max_samples": 10_000_000},
    }  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        name = check_model(str(value.get("model", cls.model_fields["model"].default)))
        small = SMALL if value.get("small") is True else {}
        return {**DEFAULTS.get(name, {"layer": "preln"}), **small, **value, "model": name}

    @model_validator(mode="after")
    def _fit_structure(self) -> RecToolsConfig:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} cannot be shared by {self.heads} heads")
        if self.ff_multiplier is not None and self.layer not in WIDENED:
            raise ValueError(f"layers of the kind {self.layer!r} have no 'ff_multiplier'")
        if (self.model == "HSTU") != (self.layer == "stu"):
            raise ValueError(f"{self.model} cannot have layers of the kind {self.layer!r}")
        return self

    def settings(self, max_history: int) -> dict[str, Any]:
        """Arguments of RecTools' model class and `filter_viewed`, as JSON values; the engine adds what depends on the
        class."""
        wide = {} if self.ff_multiplier is None else {"ff_factors_multiplier": self.ff_multiplier}
        extra = {name: value for name, value in self.extra.items() if not name.endswith("_kwargs")}
        mapping = {name: value for name, value in self.extra.items() if name.endswith("_kwargs")}
        kwargs = {"transformer_layers_kwargs": wide, "lightning_module_kwargs": {"logits_t": self.temperature}}
        return {
            **extra,
            **{name: {**kwargs.get(name, {}), **mapping.get(name, {})} for name in (*kwargs, *mapping)},
            "transformer_layers_type": LAYERS[self.layer],
            "n_blocks": self.blocks,
            "n_heads": self.heads,
            "n_factors": self.hidden_size,
            "dropout_rate": self.dropout,
            "loss": self.loss,
            "n_negatives": self.negatives,
            "gbce_t": self.gbce_t,
            "lr": self.learning_rate,
            "batch_size": self.train_batch_size,
            "recommend_batch_size": self.eval_batch_size,
            "session_max_len": max_history,
            "use_key_padding_mask": self.layer != "stu",
            "filter_viewed": self.filter_viewed,
        }


class RecToolsRecommender(LibraryRecommender[RecToolsConfig]):
    """Trained on all positions of a training sequence at once."""

    config_class = RecToolsConfig
    code_version = 1
    library = "RecTools"

    def _order(self, context: RunContext) -> dict[str, Any]:
        depth = {} if context.validation is None else {"depth": context.validation.depth}
        return {"epochs": self.config.epochs, "patience": self.config.patience, **depth}
