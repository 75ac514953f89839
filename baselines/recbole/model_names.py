"""Which models RecBole has, read from its files: RecBole itself is never imported on this side.

Answers for `recbole:NAME`. A model of `table` is run as the table says; any other sequential model keeps RecBole's own
structural settings.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from baselines.recbole.model_table import CROSS_ENTROPY, FIELDS, PAIRWISE, RECBOLE_MODELS, RecBoleModel
from harness.errors import InputError, unknown_name

SEQUENTIAL = "sequential"
CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)

GRAPH = "needs a knowledge graph, which no data set here has"
PAIRS = "is trained on labels and scores one item at a time, so that it cannot rank a whole catalogue"
REFUSED = {"GRU4RecKG": GRAPH, "KSR": GRAPH, "DIN": PAIRS, "DIEN": PAIRS}


@cache
def recbole_models() -> dict[str, str]:
    """Every model of the installed RecBole and its kind: `sequential`, `general`, `context_aware`, …"""
    found = {}
    for path in sorted((_folder() / "model").glob("*_recommender/*.py")):
        for name in CLASS.findall(path.read_text(encoding="utf-8")):
            if name.lower() == path.stem:
                found[name] = path.parent.name.removesuffix("_recommender")
    return found


def recbole_model(name: str) -> RecBoleModel:
    """What the harness knows of a sequential model by RecBole's name for it. Raises `InputError` for a name that
    RecBole lacks, and for a model that is not sequential or cannot be fed."""
    if name in RECBOLE_MODELS:
        return RECBOLE_MODELS[name]
    kinds = recbole_models()
    if name not in kinds:
        raise unknown_name("RecBole model", name, _usable())
    mend = f"choose one of {', '.join(_usable())}"
    if kinds[name] != SEQUENTIAL:
        kind = kinds[name].replace("_", "-")
        raise InputError(f"RecBole's {name} is no sequential model (its kind is {kind})", mend=mend)
    if name in REFUSED:
        raise InputError(f"RecBole's {name} {REFUSED[name]}", mend=mend)
    own = _defaults(name)
    # FPMC and TransRec know no other loss than a pairwise one; TransRec does not even name it
    loss = CROSS_ENTROPY if own.get("loss_type", "BPR") == "CE" else PAIRWISE
    return RecBoleModel(pinned={**loss, "selected_features": list(FIELDS)} if "selected_features" in own else loss)


def describe(name: str) -> dict[str, Any]:
    """The registry's fields for `recbole:NAME`, upper or lower case. Raises `InputError` as `recbole_model` does."""
    exact = {known.lower(): known for known in (*recbole_models(), *RECBOLE_MODELS)}.get(name.lower(), name)
    entry = recbole_model(exact)
    return {
        "name": f"recbole:{exact}",
        "family": "recbole",
        "target": "baselines.recbole.recommender:RecBoleRecommender",
        "description": f"RecBole's {exact} with RecBole's own settings",
        "paper": "",
        "section": "recbole",
        "needs": ("text",) if entry.features else (),
        "preset": (("model", exact),),
    }


def _usable() -> list[str]:
    return sorted(name for name, kind in recbole_models().items() if kind == SEQUENTIAL and name not in REFUSED)


def _defaults(name: str) -> dict[str, Any]:
    path = _folder() / "properties" / "model" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


@cache
def _folder() -> Path:
    spec = find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("RecBole is not installed", mend="install this project under Python 3.11")
    return Path(next(iter(spec.submodule_search_locations)))
