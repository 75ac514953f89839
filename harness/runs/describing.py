"""The settings of a model: default, meaning, and what each profile and variant changes.

Read off the model's configuration class, so that it cannot differ from what `harness run` takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from harness.protocol.protocol import Protocol
from harness.registry import ModelEntry

# Settings whose names say the same in every model; what a field says of itself goes above this.
COMMON = {
    "backbone": "the language model: a built-in name or a Hugging Face folder",
    "batch": "samples of an optimiser step",
    "blocks": "transformer layers",
    "caps": "samples of this task in a pass, at most; null: all",
    "clip": "largest norm of the gradient",
    "commitment": "weight of the commitment loss",
    "dropout": "share of activations that are dropped in training",
    "embedding_size": "width of the item embeddings",
    "enabled": "whether this stage is made at all",
    "encoder": "the model whose item vectors are taken",
    "epochs": "passes over the training samples, at most",
    "eval_batch_size": "users ranked at once",
    "extra": "further settings of the library, passed on as they are",
    "ff_multiplier": "width of the feed-forward layers, as a multiple of hidden_size; null: the layer's own",
    "filter_viewed": "items of the history go behind all others, as the library's recommend does",
    "fusionseqrec": "the task: next item's title from codes, or its code from titles",
    "gbce_t": "calibration of the gBCE loss: 0 is BCE, 1 the full correction",
    "graph": "how behaviour vectors take in the graph of items",
    "head_width": "dimensions of an attention head",
    "heads": "attention heads",
    "hidden_size": "width of the hidden layers",
    "index2item": "the task: title from code",
    "inner_size": "width of the feed-forward layers",
    "item2index": "the task: code from title",
    "itemsearch": "the task: item from an intention",
    "layer": "kind of transformer layer",
    "layers": "number of layers",
    "learning_rate": "step size of the optimiser",
    "loss": "training loss",
    "max_samples": "training ends after the whole epochs that fit into so many samples; null: no bound",
    "model": "the library's name of the model",
    "negatives": "sampled negative items a positive one",
    "optimiser": "optimiser",
    "patience": "epochs without a better validation score that end the training",
    "preferenceobtain": "the task: preferences from a history",
    "pretrain_epochs": "passes of the pre-training",
    "schedule": "how the learning rate falls",
    "separate": "how items of equal codes are told apart",
    "seqrec": "the task: next item's code from the history's codes",
    "small": "a structure that trains in seconds in place of the model's own",
    "temperature": "divides the logits in the loss",
    "train_batch_size": "training samples of a step (users for RecTools)",
    "warmup": "share of the steps in which the learning rate rises",
    "weight_decay": "weight decay of the optimiser",
    "width": "width of the network",
}


def describe(entry: ModelEntry) -> dict[str, Any]:
    """`settings`: one document a setting, `name` (as for `--set`), `default` (with the registry entry's preset),
    `values` (the choices of one that has them), `meaning`, `profiles` and `variants` (their names to the value that
    they set). `protocol` lists the settings of the protocol in the same way."""
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
    """Path, field and value of every setting that holds no further ones."""
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
    """The values of a `Literal`, also where it may be something else too; empty for every other kind."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for part in get_args(kind) for value in _choices(part) if part is not kind]


def _changes(bundles: Mapping[str, Mapping[str, Any]], path: tuple[str, ...]) -> dict[str, Any]:
    """What each bundle sets the setting to, where it does."""
    entries = {}
    for name, bundle in bundles.items():
        value: Any = bundle
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            entries[name] = to_jsonable_python(value)
    return entries
