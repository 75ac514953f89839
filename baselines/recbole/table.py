"""RecBole's sequential models that the harness knows, as data: a new model is one more entry.

An entry says how our settings are called in that model, which of RecBole's settings are pinned, and what our settings
default to. Knows nothing of how a model is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import unknown_name


@dataclass(frozen=True)
class RecBoleModel:
    """`names`: field of `RecBoleConfig` → what this model calls it in RecBole (one field may set several).

    `pinned`: RecBole settings that are part of what the model is. `defaults`: our fields' values where nobody else sets
    them.
    """

    names: Mapping[str, tuple[str, ...]]
    pinned: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


# Cross-entropy over the whole catalogue; RecBole then wants the negative sampling switched off by name.
CROSS_ENTROPY = {"loss_type": "CE", "train_neg_sample_args": None}

RECBOLE_MODELS: dict[str, RecBoleModel] = {
    "SASRec": RecBoleModel(
        names={
            "hidden_size": ("hidden_size",),
            "layers": ("n_layers",),
            "heads": ("n_heads",),
            "inner_size": ("inner_size",),
            "dropout": ("hidden_dropout_prob", "attn_dropout_prob"),
        },
        pinned=CROSS_ENTROPY,
        defaults={"hidden_size": 64, "layers": 2, "heads": 2, "inner_size": 256, "dropout": 0.3},
    ),
    "GRU4Rec": RecBoleModel(
        names={
            "embedding_size": ("embedding_size",),
            "hidden_size": ("hidden_size",),
            "layers": ("num_layers",),
            "dropout": ("dropout_prob",),
        },
        pinned=CROSS_ENTROPY,
        defaults={"embedding_size": 64, "hidden_size": 128, "layers": 1, "dropout": 0.3},
    ),
}


def recbole_model(name: str) -> RecBoleModel:
    """The entry of one of RecBole's model names; `InputError` with near names for a miss."""
    if name not in RECBOLE_MODELS:
        raise unknown_name("RecBole model", name, RECBOLE_MODELS)
    return RECBOLE_MODELS[name]
