"""Small random language models and code tables for the tests of the generative room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import TINY, Backbone, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.heads import head_of
from harness.protocol.context import RunContext


def context(folder: Path, seed: int = 1) -> RunContext:
    return RunContext(seed, folder)


def backbone(folder: Path, kind: str = "llama") -> Backbone:
    """A random backbone of the given architecture over the tiny byte tokenizer."""
    tiny = load_backbone(TINY, None, "pretrained", context(folder))
    if kind == "llama":
        return tiny
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": tiny.vocabulary,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    if kind == "gpt2":
        sizes |= {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256}
    else:
        sizes |= {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)).float()
    head, shape = head_of(model, kind)
    return replace(tiny, name=kind, body=model.base_model, head=head, shape=shape)


def table(items: int = 30, sizes: tuple[int, ...] = (4, 5, 3), seed: int = 0) -> CodeTable:
    """Distinct random codes."""
    every = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    return CodeTable(np.random.default_rng(seed).permutation(every)[:items], sizes)


def code_lm(folder: Path, codes: CodeTable, kind: str = "llama") -> CodeLM:
    """An untrained model whose code rows are large enough that scores differ."""
    torch.manual_seed(11)
    model = CodeLM(backbone(folder, kind), codes.sizes)
    with torch.no_grad():
        model.scale.mul_(4)
    return model.eval()
