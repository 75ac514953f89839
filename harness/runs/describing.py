"""The settings of a model: default, meaning, and what each profile and variant changes.

Read from the model's configuration class, so that it equals what `harness run` accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from harness.protocol.protocol import Protocol
from harness.registry import ModelEntry
from harness.runs.config import ABSENT, value_at

# Meaning of settings that are the same in every model; a field's own description has precedence.
COMMON = {
    "batch": "samples of an optimiser step",
    "blocks": "transformer layers",
    "caps": "maximum number of samples of this task in a pass; null: all",
    "clip": "maximal norm of the gradient",
    "commitment": "weight of the commitment loss",
    "dropout": "dropout probability in training",
    "embedding_size": "width of the item embeddings",
    "enabled": "whether this stage runs",
    "encoder": "the model of the item vectors",
    "epochs": "maximum number of passes over the training samples",
    "eval_batch_size": "users ranked at once",
    "extra": "further settings, passed to the library",
    "ff_multiplier": "width of the feed-forward layers, as a multiple of hidden_size; null: the layer's default",
    "filter_viewed": "items of the history are ranked last, as in the library's recommend",
    "gbce_t": "calibration of the gBCE loss: 0 is BCE, 1 the full correction",
    "head_width": "dimensions of an attention head",
    "heads": "attention heads",
    "hidden_size": "width of the hidden layers",
    "index2item": "task: title from code",
    "inner_size": "width of the feed-forward layers",
    "item2index": "task: code from title",
    "layer": "kind of transformer layer",
    "layers": "number of layers",
    "learning_rate": "peak learning rate",
    "loss": "training loss",
    "max_samples": "limits training to the complete epochs within this many samples; null: no limit",
    "model": "the library's name of the model",
    "negatives": "sampled negatives for each positive",
    "optimiser": "optimiser",
    "patience": "epochs without improvement before training stops",
    "pretrain_epochs": "epochs of pre-training",
    "schedule": "learning rate schedule",
    "separate": "how codes are made unique",
    "seqrec": "task: next code from the history's codes",
    "small": "a minimal network for tests",
    "temperature": "divides the logits in the loss",
    "train_batch_size": "training samples of a step (users for RecTools)",
    "warmup": "warm-up as a share of the steps",
    "weight_decay": "weight decay of the optimiser",
    "width": "width of the network",
}


def describe(entry: ModelEntry) -> dict[str, Any]:
    """`settings`: one document a setting: `name` (as in `--set`), `default` (with the registry entry's preset),
    `values` (its choices, if any), `meaning`, `profiles` and `variants` (names to the value they set). `protocol`: the
    settings of the protocol in the same form."""
    config_class = entry.load().config_class
    standing = config_class(**dict(entry.preset))
    layers = {"profiles": config_class.profiles, "variants": config_class.variants}
    rows = []
    for path, field, value in _fields(standing):
        changed = {kind: _changes(bundles, path) for kind, bundles in layers.items()}
        rows.append({**_row(entry.section, path, field, value), **changed})
    metadata = {key: getattr(entry, key) for key in ("name", "family", "description", "paper", "section")}
    return {
        **metadata,
        "needs": list(entry.needs),
        **{kind: list(bundles) for kind, bundles in layers.items()},
        "settings": rows,
        "protocol": [_row("protocol", path, field, value) for path, field, value in _fields(Protocol())],
    }


def _fields(values: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """Path, field and value of every leaf setting."""
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, (*above, name))
        else:
            yield (*above, name), field, value


def _row(section: str, path: tuple[str, ...], field: FieldInfo, value: Any) -> dict[str, Any]:
    return {
        "name": ".".join((section, *path)),
        "default": to_jsonable_python(value),
        "values": _choices(field.annotation),
        "meaning": field.description or COMMON.get("caps" if "caps" in path else path[-1], ""),
    }


def _choices(kind: Any) -> list[Any]:
    """Values of a `Literal`, also as part of a union; else empty."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for part in get_args(kind) for value in _choices(part) if part is not kind]


def _changes(bundles: Mapping[str, Mapping[str, Any]], path: tuple[str, ...]) -> dict[str, Any]:
    """The value of the setting in each bundle that sets it."""
    values = {name: value_at(bundle, path) for name, bundle in bundles.items()}
    return {name: to_jsonable_python(value) for name, value in values.items() if value is not ABSENT}
