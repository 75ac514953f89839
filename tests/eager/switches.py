"""Every switch of EAGER-LLM's configuration with a change that must show: what `test_switches.py` goes through."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.generative import toy_models


class Switch(NamedTuple):
    """A value that differs from the base's, and what the base needs for it to count: {"section.field": value}. A value
    that is a file is a function of the folder to make it in."""

    to: Any
    given: dict[str, Any] = {}  # noqa: RUF012 -- a tuple's default is never changed


def own_backbone(folder: Path) -> str:
    """A Llama of three layers over bytes, in a folder."""
    place = folder / "backbone"
    if not place.is_dir():
        from transformers import LlamaConfig, LlamaForCausalLM

        tiny = toy_models.backbone(folder)
        torch.manual_seed(3)
        shape = LlamaConfig(
            vocab_size=tiny.vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
            num_attention_heads=2, max_position_embeddings=1024, bos_token_id=None, eos_token_id=0,
        )  # fmt: skip
        LlamaForCausalLM(shape).save_pretrained(place)
        tiny.tokenizer.save_pretrained(place)
    return str(place)


def bare_encoder(folder: Path) -> str:
    """The embedded encoder as a plain transformers folder, whose vectors have lengths of their own."""
    from harness.generative.config import EMBEDDED
    from harness.generative.tokenizers.text_encoder import encoder_folder

    place = folder / "encoder"
    if not place.is_dir():
        shutil.copytree(encoder_folder(EMBEDDED), place)
        (place / "modules.json").unlink()
    return str(place)


def own_vectors(folder: Path) -> str:
    np.save(folder / "own.npy", np.random.default_rng(8).normal(size=(24, 6)))
    (folder / "own.ids.txt").write_text("\n".join(f"i{item}" for item in range(24)))
    return str(folder / "own.npy")


def own_index(folder: Path) -> str:
    rows = {f"i{item}": [f"<a_{item // 5}>", f"<b_{item % 5}>"] for item in range(24)}
    (folder / "own.index.json").write_text(json.dumps(rows))
    return str(folder / "own.index.json")


def turned_index(folder: Path) -> str:
    """The same codes, the last item's first."""
    rows = json.loads(Path(own_index(folder)).read_text())
    (folder / "turned.index.json").write_text(json.dumps(dict(zip(rows, reversed(rows.values()), strict=True))))
    return str(folder / "turned.index.json")


def own_wishes(folder: Path) -> str:
    path = folder / "wishes.json"
    path.write_text(json.dumps({"items": {f"i{item}": f"something {item}" for item in range(24)}}))
    return str(path)


def mostly(task: str, **more: Any) -> dict[str, Any]:
    """Nearly every step of stage 1 is one of this task."""
    return {f"tasks.{task}": 50.0, **{f"tasks.{name}": value for name, value in more.items()}}


SASREC = {"behavior.encoder": "sasrec"}
DIN = {"behavior.encoder": "din", "behavior.negatives": 5}
GRAPH = {"behavior.encoder": "graph"}
CHOSEN = {"behavior.choose": "validation", "behavior.epochs": 5}
RQVAE = {
    "index.kind": "rqvae", "index.k": 5, "index.sources": ("semantic",), "index.rqvae.hidden": (16,),
    "index.rqvae.latent": 4, "index.rqvae.epochs": 4, "index.rqvae.batch": 8,
}  # fmt: skip
VECTORS: dict[str, Switch] = {  # shown by the vectors of both sources, what their making measured, and the codes
    "semantic.encoder": Switch(bare_encoder),
    "semantic.fields": Switch(("title",)),
    "semantic.pooling": Switch("cls"),
    "semantic.normalise": Switch(False, {"semantic.encoder": bare_encoder}),
    "semantic.max_tokens": Switch(3),
    "semantic.text": Switch("released"),
    "semantic.vectors": Switch(own_vectors),
    "behavior.encoder": Switch("din"),
    "behavior.graph.reach": Switch(1, GRAPH),
    "behavior.graph.shrinkage": Switch(0.0, GRAPH),
    "behavior.graph.transition": Switch(0.0, GRAPH),
    "behavior.graph.diagonal": Switch(2.0, GRAPH),
    "behavior.windows": Switch("released"),
    "behavior.choose": Switch("validation"),
    "behavior.patience": Switch(2, {**CHOSEN, "behavior.patience": 1, "behavior.learning_rate": 1e-9}),
    "behavior.validation_users": Switch(7, CHOSEN),
    "behavior.vectors": Switch(own_vectors),
    "behavior.dim": Switch(12),
    "behavior.epochs": Switch(3),
    "behavior.batch": Switch(16),
    "behavior.learning_rate": Switch(1e-2),
    "behavior.weight_decay": Switch(0.9),
    "behavior.dropout": Switch(0.6),
    "behavior.window": Switch(4, SASREC),
    "behavior.layers": Switch(2, SASREC),
    "behavior.heads": Switch(4, SASREC),
    "behavior.label_smoothing": Switch(0.5, SASREC),
    "behavior.negatives": Switch(3, DIN),
    "behavior.samples": Switch(40, DIN),
    "index.kind": Switch("random"),
    "index.sources": Switch(("behavior", "semantic")),
    "index.levels": Switch(("behavior", "semantic")),
    "index.k": Switch(7),
    "index.height": Switch(3),
    "index.order": Switch("released"),
    "index.leaf_tokens": Switch("own"),
    "tokenizer": Switch({"kind": "random", "index": {"k": 6}}),
    "index.file": Switch(own_index, {"index.kind": "file", "index.file": turned_index}),
    "index.rqvae.hidden": Switch((24,), RQVAE),
    "index.rqvae.latent": Switch(3, RQVAE),
    "index.rqvae.commitment": Switch(2.0, RQVAE),
    "index.rqvae.epochs": Switch(6, RQVAE),
    "index.rqvae.batch": Switch(12, RQVAE),
    "index.rqvae.learning_rate": Switch(1e-2, RQVAE),
    "index.rqvae.weight_decay": Switch(0.9, RQVAE),
    "index.rqvae.warmup": Switch(0.5, RQVAE),
    "index.rqvae.clip": Switch(0.01, RQVAE),
    "index.rqvae.sinkhorn": Switch(0.0, RQVAE),
    "index.rqvae.iterations": Switch(1, RQVAE),
    "index.rqvae.separate": Switch("none", RQVAE),
    "index.rqvae.rounds": Switch(0, {**RQVAE, "index.rqvae.separate": "sinkhorn"}),
    "index.rqvae.revive": Switch(False, RQVAE),
}
CHOSEN_STATE = {"max_steps": 8, "choose": "validation", "every": 0.1}
STAGE: dict[str, Switch] = {  # of both stages
    "epochs": Switch(0.5, {"max_steps": None, "epochs": 0.2}),
    "max_steps": Switch(3),
    "targets": Switch(24),
    "accumulate": Switch(2),
    "engine": Switch("plain"),  # equal but for rounding, which shows
    "normalise": Switch("vocabulary"),
    "learning_rate": Switch(1e-4),
    "code_rate": Switch(1e-4),
    "warmup": Switch(1.0),
    "floor": Switch(1.0, {"max_steps": 4}),
    "weight_decay": Switch(0.9),
    "beta2": Switch(0.5),
    "clip": Switch(1e-3),
    "item_targets": Switch(0.01),
    "average": Switch(0.9),
    "max_seconds": Switch(1e-6),
    "choose": Switch("validation"),
    "every": Switch(0.3, {**CHOSEN_STATE, "patience": 50}),
    "patience": Switch(1, {**CHOSEN_STATE, "patience": 50, "learning_rate": 1e-9, "code_rate": 1e-9}),
    "validation_users": Switch(1, CHOSEN_STATE),
    "rank": Switch(2, {"adapter": True}),
    "alpha": Switch(3.0, {"adapter": True}),
    "dropout": Switch(0.6, {"adapter": True}),
}
WEIGHTS: dict[str, Switch] = {  # shown by the weights of a model after both stages, and what chose them
    "backbone.name": Switch(own_backbone),
    "backbone.layers": Switch(1),
    "backbone.width": Switch(64, {"backbone.name": "random-llama", "backbone.layers": 1, "backbone.width": 32}),
    "backbone.weights": Switch("random", {"backbone.name": own_backbone}),
    "backbone.storage": Switch("bfloat16"),
    "backbone.checkpointing": Switch(True),  # equal but for rounding, which shows
    "backbone.vocabulary": Switch("trained"),
    "backbone.codes": Switch("random"),
    "backbone.tied_codes": Switch(True),
    "backbone.dropout": Switch(0.3),
    "backbone.residual_dropout": Switch(0.3),
    "backbone.precision": Switch("bfloat16"),
    "tasks.seqrec": Switch(0.001, {"tasks.seqrec": 50.0, "tasks.item2index": 1.0}),
    **{f"tasks.{task}": Switch(50.0) for task in
       ("item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain")},
    "tasks.mixing": Switch("samples", {"tasks.fusionseqrec": 0.4, "tasks.item2index": 0.4}),
    "tasks.caps.seqrec": Switch(5),
    **{f"tasks.caps.{task}": Switch(3, mostly(task)) for task in
       ("item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain")},
    "tasks.templates": Switch(8),
    "tasks.window": Switch(4),
    "tasks.titles": Switch(1, mostly("fusionseqrec")),
    "tasks.recent": Switch(1, mostly("itemsearch")),
    "tasks.text_tokens": Switch(8, mostly("item2index")),
    "tasks.title_tokens": Switch(3, mostly("fusionseqrec")),
    "tasks.held_out": Switch(0.4, mostly("item2index")),
    "tasks.intentions": Switch(own_wishes, mostly("itemsearch")),
    "walks.share": Switch(1.0),
    "walks.text": Switch(1.0, {"walks.share": 1.0}),
    "contrast.mode": Switch("released"),
    "contrast.semantic": Switch(0.0),
    "contrast.behavior": Switch(0.0),
    "contrast.temperature": Switch(0.5),
    "contrast.negatives": Switch(2),
    "tuning.rows": Switch(4, mostly("item2index")),
    "tuning.adapter": Switch(True),
    "annealing.adapter": Switch(False),
    "annealing.enabled": Switch(False),
    "annealing.contrast": Switch(False),
    **{f"{stage}.{name}": Switch(switch.to, {f"{stage}.{key}": value for key, value in switch.given.items()})
       for stage in ("tuning", "annealing") for name, switch in STAGE.items()},
}  # fmt: skip
