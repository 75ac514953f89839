"""RecBole's sequential models: those with tuned settings as a table, and any other by `recbole:NAME`.

An entry maps settings to RecBole's names, pins RecBole settings, and has defaults and the form of samples. The names of
all models are read from RecBole's files without importing it; models outside the table have RecBole's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import yaml

from baselines.library import library_entry, package_folder
from harness.errors import InputError, unknown_name

Names = Mapping[str, tuple[str, ...]]
# Over the complete catalogue; RecBole then requires negative sampling to be disabled explicitly.
CROSS_ENTROPY = {"loss_type": "CE", "train_neg_sample_args": None}
PAIRWISE = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
CATEGORIES, BRAND, WORDS, ALL = "categories", "brand", "words", "features"
FIELDS = (CATEGORIES, BRAND, WORDS)
# Structure of `small`, for the fields that a model has.
SMALL = {
    "embedding_size": 32, "hidden_size": 32, "layers": 1, "heads": 1, "inner_size": 32, "dropout": 0.1,
    "pretrain_epochs": 2,
}  # fmt: skip
WIDTHS = {"hidden_size": 64, "layers": 2, "heads": 2, "inner_size": 256}
SEQUENTIAL = "sequential"
CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
GRAPH = "needs a knowledge graph, which no data set here has"
PAIRS = "is trained on labels and scores one item at a time, so that it cannot rank a whole catalogue"
REFUSED = {"GRU4RecKG": GRAPH, "KSR": GRAPH, "DIN": PAIRS, "DIEN": PAIRS}


@dataclass(frozen=True)
class RecBoleModel:
    """`names`: field of `RecBoleConfig` to the model's names in RecBole (one field may set several).

    `pinned`: RecBole settings that define the model. `defaults`: default values of fields. `samples`: `next` is a
    history and its next item; `masked` is a history followed by the next item, with masks; `pretrained` is `next` after
    a stage that fills masked items, features and segments. `left`: padding on the left, as in the papers' code, so that
    a position has the same meaning for any length; for models that weight items by position only.
    """

    names: Names = field(default_factory=dict)
    pinned: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    samples: Literal["next", "masked", "pretrained"] = "next"
    left: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Fields of `features.item_features` that the model uses."""
        one = self.pinned.get("item_attribute")
        return tuple(self.pinned.get("selected_features", () if one is None else (one,)))


TRANSFORMER: Names = {
    "hidden_size": ("hidden_size",),
    "layers": ("n_layers",),
    "heads": ("n_heads",),
    "inner_size": ("inner_size",),
    "dropout": ("hidden_dropout_prob", "attn_dropout_prob"),
}
RECBOLE_MODELS: dict[str, RecBoleModel] = {
    "SASRec": RecBoleModel(TRANSFORMER, CROSS_ENTROPY, {**WIDTHS, "dropout": 0.3}),
    "GRU4Rec": RecBoleModel(
        {
            "embedding_size": ("embedding_size",),
            "hidden_size": ("hidden_size",),
            "layers": ("num_layers",),
            "dropout": ("dropout_prob",),
        },
        CROSS_ENTROPY,
        {"embedding_size": 64, "hidden_size": 128, "layers": 1, "dropout": 0.3},
    ),
    "BERT4Rec": RecBoleModel(
        TRANSFORMER,
        {**CROSS_ENTROPY, "transform": "mask_itemseq"},
        {**WIDTHS, "dropout": 0.2},
        samples="masked",
        left=True,
    ),
    "Caser": RecBoleModel(
        {"embedding_size": ("embedding_size",), "dropout": ("dropout_prob",)},
        CROSS_ENTROPY,
        {"embedding_size": 64, "dropout": 0.4},
        left=True,
    ),
    "HGN": RecBoleModel({"embedding_size": ("embedding_size",)}, CROSS_ENTROPY, {"embedding_size": 64}, left=True),
    "FDSA": RecBoleModel(TRANSFORMER, {**CROSS_ENTROPY, "selected_features": list(FIELDS)}, {**WIDTHS, "dropout": 0.3}),
    "S3Rec": RecBoleModel(
        {**TRANSFORMER, "pretrain_epochs": ("pretrain_epochs",)},
        {**CROSS_ENTROPY, "item_attribute": ALL, "train_stage": "pretrain"},
        {**WIDTHS, "dropout": 0.3, "pretrain_epochs": 50},
        samples="pretrained",
        left=True,
    ),
    "NARM": RecBoleModel(
        {"embedding_size": ("embedding_size",), "hidden_size": ("hidden_size",), "layers": ("n_layers",)},
        CROSS_ENTROPY,
        {"embedding_size": 64, "hidden_size": 128, "layers": 1},
    ),
    "LightSANs": RecBoleModel(TRANSFORMER, CROSS_ENTROPY, {**WIDTHS, "dropout": 0.3}),
}


@cache
def recbole_models() -> dict[str, str]:
    """All models of the installed RecBole with their kind: `sequential`, `general`, `context_aware`, …"""
    entries = {}
    for path in sorted((package_folder("RecBole") / "model").glob("*_recommender/*.py")):
        for name in CLASS.findall(path.read_text(encoding="utf-8")):
            if name.lower() == path.stem:
                entries[name] = path.parent.name.removesuffix("_recommender")
    return entries


def recbole_model(name: str) -> RecBoleModel:
    """The entry of a sequential model by its name in RecBole. Raises `InputError` for an unknown name, and for a model
    that is not sequential or needs other data."""
    if name in RECBOLE_MODELS:
        return RECBOLE_MODELS[name]
    kinds = recbole_models()
    if name not in kinds:
        raise unknown_name("RecBole model", name, _usable())
    hint = f"choose one of {', '.join(_usable())}"
    if kinds[name] != SEQUENTIAL:
        kind = kinds[name].replace("_", "-")
        raise InputError(
            f"RecBole's {name} is no sequential model (its kind is {kind})", hint=hint, code="incompatible"
        )
    if name in REFUSED:
        raise InputError(f"RecBole's {name} {REFUSED[name]}", hint=hint, code="incompatible")
    defaults = _defaults(name)
    # FPMC and TransRec have only a pairwise loss, which TransRec does not name
    loss = CROSS_ENTROPY if defaults.get("loss_type", "BPR") == "CE" else PAIRWISE
    return RecBoleModel(pinned={**loss, "selected_features": list(FIELDS)} if "selected_features" in defaults else loss)


def describe(name: str) -> dict[str, Any]:
    """Fields of the registry for `recbole:NAME`, in any case. Raises `InputError` like `recbole_model`."""
    exact = {names.lower(): names for names in (*recbole_models(), *RECBOLE_MODELS)}.get(name.lower(), name)
    entry = recbole_model(exact)
    needs = ("text",) if entry.features else ()
    return library_entry("RecBole", exact, f"RecBole's {exact} with RecBole's own settings", needs)


def _usable() -> list[str]:
    return sorted(name for name, kind in recbole_models().items() if kind == SEQUENTIAL and name not in REFUSED)


def _defaults(name: str) -> dict[str, Any]:
    path = package_folder("RecBole") / "properties" / "model" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
