"""`CodeT5`: an encoder-decoder over item codes (T5, Raffel et al., JMLR 2020) with random weights, as in TIGER.

The encoder reads the history; the decoder generates a code. Ids: 0 is padding, 1 ends a sequence, the method's
additional tokens (of users) follow up to vocabulary - 1, then vocabulary + flat code number. Input and output
embeddings are tied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.models.t5.modeling_t5 import T5LayerFF

from harness.generative.models.heads import SampledRows, products
from harness.generative.models.readers import BeamTree, PreallocatedKVCache, PromptBatch, Reader, additive_mask

PAD, EOS = 0, 1


@dataclass(frozen=True)
class T5Shape:
    """Defaults as in TIGER (Rajput et al., NeurIPS 2023). `encoder_layers`: None for as many as the decoder has.
    `tied`: the output layer is the input embedding. `inner_layers`: hidden layers of a feed-forward layer."""

    layers: int = 4
    width: int = 128
    heads: int = 6
    head_width: int = 64
    inner: int = 1024
    dropout: float = 0.1
    tied: bool = True
    inner_layers: int = 1
    encoder_layers: int | None = None


class CodeT5(nn.Module):
    """`extra`: tokens besides padding, end and codes. Weights are random: seed torch before."""

    def __init__(self, sizes: Sequence[int], shape: T5Shape | None = None, extra: int = 0) -> None:
        super().__init__()
        shape = shape or T5Shape()
        self.vocabulary, self.eos = 2 + extra, EOS
        self.limit = 1 << 20  # tokens of a prompt with its code: positions are relative and know no limit
        self.sizes = tuple(sizes)
        self.offsets = [sum(self.sizes[:level]) for level in range(len(self.sizes) + 1)]
        config = T5Config(
            vocab_size=self.vocabulary + sum(self.sizes),
            d_model=shape.width,
            d_kv=shape.head_width,
            d_ff=shape.inner,
            num_layers=shape.layers if shape.encoder_layers is None else shape.encoder_layers,
            num_decoder_layers=shape.layers,
            num_heads=shape.heads,
            dropout_rate=shape.dropout,
            pad_token_id=PAD,
            eos_token_id=EOS,
        )
        config.decoder_start_token_id = PAD
        self.t5 = T5ForConditionalGeneration(config)
        if not shape.tied:
            self.t5.lm_head = nn.Linear(shape.width, config.vocab_size, bias=False)
        for layer in self.t5.modules() if shape.inner_layers > 1 else ():
            if isinstance(layer, T5LayerFF):
                layer.add_module("DenseReluDense", _feed_forward(shape))
        self._factor = shape.width**-0.5 if shape.tied and config.scale_decoder_outputs else 1.0

    def reset_codes(self, directions: torch.Tensor) -> None:
        """Initialises the code embeddings along `directions` (code tokens, width), with the spread of random ones."""
        self.reset_rows(self.vocabulary, directions)

    @torch.no_grad()
    def reset_rows(self, first: int, directions: torch.Tensor) -> None:
        """As `reset_codes`, the embeddings of the tokens from `first` on."""
        unit = directions / directions.std().clamp(min=1e-9)
        for table in {self.t5.shared.weight, self.t5.lm_head.weight}:
            table[first : first + len(unit)] = unit * table.std()

    def encode(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Encoder states (batch, length, width) of padded prompts."""
        return cast(Any, self.t5.encoder)(input_ids=ids, attention_mask=real.long()).last_hidden_state

    def states(self, ids: torch.Tensor, real: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        """Decoder states (batch, tokens, width) that predict each token of `response` (batch, tokens) for the prompts
        `ids`."""
        return self.decode(self.encode(ids, real), real, response)

    def decode(self, encoded: torch.Tensor, real: torch.Tensor, response: torch.Tensor) -> torch.Tensor:
        """As `states`, from the encoder states of the prompts."""
        shifted = functional.pad(response[:, :-1], (1, 0), value=PAD)
        output = cast(Any, self.t5.decoder)(
            input_ids=shifted, encoder_hidden_states=encoded, encoder_attention_mask=real.long(), use_cache=False
        )
        return output.last_hidden_state

    def level_logits(self, states: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
        """Logits of the code tokens of one level, (*states.shape[:-1], size of the level), or of the tokens `sampled`
        for each state, flat."""
        begin, end = (self.vocabulary + offset for offset in self.offsets[level : level + 2])
        return self._logits(states, begin, end, sampled)

    def vocabulary_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the complete vocabulary as in `generate`, (*states.shape[:-1], vocabulary + code tokens)."""
        return self._logits(states, 0, None)

    def eos_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logit of the end-of-sequence token, (*states.shape[:-1],)."""
        return self._logits(states, EOS, EOS + 1)[..., 0]

    def vocabulary_logsumexp(self, states: torch.Tensor) -> torch.Tensor:
        """log Σ exp over the complete vocabulary, (*states.shape[:-1],)."""
        return self.vocabulary_logits(states).logsumexp(dim=-1)

    def reader(self, lead: Sequence[int], longest: int, room: int) -> Reader:
        """A reader for beam search. Encoder attention is bidirectional, so that a common prefix cannot be shared."""
        return T5Reader(self, lead, room)

    def _logits(
        self, states: torch.Tensor, begin: int, end: int | None, sampled: SampledRows | None = None
    ) -> torch.Tensor:
        return products(states * self._factor, self.t5.lm_head.weight[begin:end], sampled)


def _feed_forward(shape: T5Shape) -> nn.Sequential:
    """A feed-forward layer with several hidden layers, initial weights as in T5: variance 1 / inputs."""
    sizes = [shape.width, *[shape.inner] * shape.inner_layers, shape.width]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.ReLU(), nn.Dropout(shape.dropout)]
        nn.init.normal_(layers[-3].weight, std=inputs**-0.5)  # type: ignore[arg-type]
    return nn.Sequential(*layers[:-2])


class T5Reader:
    """Encodes a prompt once; its cross-attention keys and values serve all beams, which are tokens of one decoder
    sequence after the start token. Relative positions are differences of depth, not of position in the sequence."""

    def __init__(self, model: CodeT5, lead: Sequence[int] = (), room: int = 0) -> None:
        self._decoder = cast(Any, model.t5.decoder)
        self._model, self._lead, self._room = model, list(lead), room
        self._slabs = PreallocatedKVCache(len(self._decoder.block))

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        batch, device = len(prompts.ids), prompts.ids.device
        lead = torch.tensor(self._lead, dtype=torch.int64, device=device).expand(batch, -1)
        real = torch.cat([torch.ones_like(lead, dtype=torch.bool), prompts.real], dim=1)
        self._encoded = self._model.encode(torch.cat([lead, prompts.ids], dim=1), real)
        self._real = real[:, None, None]
        self._slabs.begin(batch, 1 + self._room)
        self._cache = EncoderDecoderCache(self._slabs, DynamicCache())
        self._tree = BeamTree(batch, device)
        start = torch.full((batch, 1), PAD, device=device)
        return self._states(start, torch.ones_like(start, dtype=torch.bool)[..., None], torch.zeros_like(start))

    def extend(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        rows, depth = self._tree.grow(parents)
        return self._states(tokens, functional.pad(rows, (1, 0), value=True), depth + 1)

    def reset(self) -> None:
        self._slabs.truncate(1)
        self._tree = BeamTree(len(self._encoded), self._encoded.device)

    def _states(self, tokens: torch.Tensor, visible: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Decoder states of tokens at `depth` that attend to `visible` (batch, tokens, start and appended tokens)."""
        states = self._decoder.embed_tokens(tokens)
        keys = functional.pad(self._tree.depth + 1, (1, 0))
        bias = self._bias(keys[:, None] - depth[..., None])
        mask, cross_mask = (additive_mask(part, states.dtype) for part in (visible[:, None], self._real))
        cross_bias = None
        for block in self._decoder.block:
            states, bias, cross_bias = block(
                states, mask, bias, self._encoded, cross_mask, cross_bias, past_key_values=self._cache
            )
        return self._decoder.final_layer_norm(states)

    def _bias(self, relative: torch.Tensor) -> torch.Tensor:
        """The bias of relative positions (batch, tokens, keys), by head: (batch, heads, tokens, keys)."""
        attention = self._decoder.block[0].layer[0].SelfAttention
        buckets = attention._relative_position_bucket(
            relative,
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)
