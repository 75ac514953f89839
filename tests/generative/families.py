"""Causal LMs of many families, minute and drawn at random, whose heads, norms and embeddings differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.generative.models.backbone import byte_tokenizer

ROWS = 265  # of the embedding: eight more than the tokenizer has tokens, as in Qwen 2.5
SIZE: dict[str, Any] = {
    "vocab_size": ROWS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {},
    "gpt2": {},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi3": {},
    "granite": {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.2},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.25},
    "olmo2": {},
    "stablelm": {},
    "smollm3": {},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": {},
    "bloom": {},
    "nemotron": {},
    "glm4": {"head_dim": 8},
    "starcoder2": {},
    "mixtral": {},
    "hyperclovax": {"logits_scaling": 0.125},
    "nanochat": {},
    "mamba": {},
}
REFUSED = {"bert": {"is_decoder": True}}  # between its last states and its head stand a layer and a norm


def drawn(kind: str, **more: Any) -> Any:
    """A model of the family `kind`, float32, with weights so large that its logits spread over some tens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **{**SIZE, **(FAMILIES | REFUSED)[kind], **more})
    model: Any = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 2 or name.endswith("bias"):
                value.normal_(0.0, 0.3)
            elif value.ndim == 1:
                value.add_(torch.randn_like(value), alpha=0.1)
    return model


def saved(kind: str, folder: Path, tokenizer: Any = None, **more: Any) -> Any:
    """The same as a folder with a tokenizer (bytes, where none is given); the model."""
    model = drawn(kind, **more)
    model.save_pretrained(folder)
    (byte_tokenizer() if tokenizer is None else tokenizer).save_pretrained(folder)
    return model
