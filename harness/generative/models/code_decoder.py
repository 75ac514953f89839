"""`CodeDecoder`: a causal transformer over item codes alone, with random initial weights.

Blocks with pre-normalisation by RMSNorm, rotary positions and gated feed-forward layers, as in Llama (Touvron et al.,
arXiv 2302.13971). Ids: 0 starts a sequence, 1 ends one, then 2 + flat code number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.heads import PLAIN, Head

START, EOS = 0, 1


@dataclass(frozen=True)
class DecoderShape:
    """`inner`: width of the feed-forward layers. `dropout`: on residual branches. `context`: the longest prompt with
    its code; positions are rotary and know no limit of their own."""

    layers: int = 2
    width: int = 256
    heads: int = 8
    head_width: int = 32
    inner: int = 512
    dropout: float = 0.3
    context: int = 1 << 20


@dataclass(frozen=True)
class _Body:
    """A transformer without a text vocabulary, as `CodeLM` reads one."""

    body: Any
    head: torch.Tensor
    eos: int = EOS
    shape: Head = PLAIN


class CodeDecoder(CodeLM):
    """A `CodeLM` whose own vocabulary is the two tokens that start and end a sequence. One table embeds and predicts
    tokens: its entries have unit variance, logits are `scale · ⟨state, row⟩` with a learned scale that begins at
    width^-½. Seed torch before: the weights are drawn here."""

    def __init__(self, sizes: Sequence[int], shape: DecoderShape | None = None) -> None:
        shape = shape or DecoderShape()
        config = LlamaConfig(
            vocab_size=2,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.head_width,
            max_position_embeddings=shape.context,
            bos_token_id=START,
            eos_token_id=EOS,
            pad_token_id=None,
        )
        body = LlamaModel(config)
        rows = body.embed_tokens.weight
        super().__init__(_Body(body, rows.detach().clone()), sizes, residual_dropout=shape.dropout, tied=True)
        del self.text_head
        self.text_head = rows
        with torch.no_grad():
            for table in (rows, self.code_in):
                nn.init.normal_(table)
            self.scale.fill_(shape.width**-0.5)
