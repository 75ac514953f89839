"""`CodeLM`: a causal LM whose vocabulary is extended by the code tokens, and its tokenizer.

Code embeddings are parameters of their own, so that training them does not change or read the other embeddings. Ids:
0..vocabulary-1 are the backbone's tokens, vocabulary + flat number (`CodeTable.flat`) the code tokens: the ids that the
tokenizer gives them when they are added in this order. Prompts and search insert code tokens by id; the tokenizer
matters for exported models.

`CodeDecoder`: a causal transformer over item codes alone, a Llama (Touvron et al., arXiv 2302.13971) with random
initial weights. Ids: 0 starts a sequence, 1 ends one, then 2 + flat code number.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaModel

from harness.errors import InputError
from harness.generative.models.backbone import Backbone
from harness.generative.models.heads import (
    Head,
    LevelLogits,
    SampledRows,
    embedding_scale,
    final_norm_size,
    products,
    text_logsumexp,
)
from harness.generative.models.precision import add_residual_dropout, attention_kernel, dropout
from harness.generative.models.readers import Reader, reader_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

START, EOS = 0, 1
UNLIMITED = 1 << 20  # tokens of a prompt with its code: positions are rotary and know no limit of their own


class CodeLM(nn.Module):
    """`code_in` (code tokens, width): input embeddings of the code tokens; `code_out`: their rows of the head, the same
    parameter if `tied`.

    `dropout` applies to input embeddings and last hidden states, `residual_dropout` to the output of each attention and
    MLP, in training mode only.

    Logits of code tokens are `scale · ⟨state, code_out⟩`, with the soft cap of the backbone's head if it has one; those
    of text tokens are the backbone's (`heads.Head`). The scale is trained, and initialised for logits of unit variance:
    with scale 1, embeddings of the backbone's size give an initial loss of about 11 a token.
    """

    embedding: nn.Embedding
    text_head: torch.Tensor
    text_bias: torch.Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        sizes: Sequence[int],
        *,
        dropout: float = 0.0,
        residual_dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.body = backbone.body
        self.embedding = cast(nn.Embedding, self.body.get_input_embeddings())
        self.register_buffer("text_head", backbone.head, persistent=False)
        self.register_buffer("text_bias", backbone.shape.bias, persistent=False)
        self._shape, self.embedding_scale = backbone.shape, embedding_scale(self.embedding)
        self.vocabulary, self.eos = len(backbone.head), backbone.eos
        self.sizes = tuple(sizes)
        self.dropout = dropout
        if residual_dropout:
            add_residual_dropout(self.body, residual_dropout)
        self.packs: bool | None = None  # whether sequences can share a row (`packing.can_pack`); None: not tested
        self.offsets = [sum(self.sizes[:level]) for level in range(len(self.sizes) + 1)]
        width, codes = backbone.head.shape[1], sum(self.sizes)
        self.code_in = nn.Parameter(torch.empty(codes, width))
        self.code_out = self.code_in if tied else nn.Parameter(torch.empty(codes, width))
        self.scale = nn.Parameter(torch.ones(()))
        self.reset_codes(torch.randn(codes, width))

    @torch.no_grad()
    def reset_codes(self, directions: torch.Tensor) -> None:
        """Initialises the code embeddings along `directions` (code tokens, width), with the norm of the backbone's."""
        rows = self.embedding.weight
        typical = rows[: min(len(rows), 4096)].float().std()
        unit = directions / directions.std().clamp(min=1e-9)
        self.code_in.copy_(unit * typical)
        self.code_out.copy_(unit * typical)
        state = final_norm_size(self.body)
        self.scale.fill_(1.0 / (state * typical.item() * self.code_in.shape[1] ** 0.5))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings of text and code tokens, (*ids.shape, width)."""
        is_code = ids >= self.vocabulary
        text = self.embedding(ids.clamp(max=self.vocabulary - 1))
        if ids.device.type == "cpu" and not is_code.any():
            return text  # the gradient of a table that is read is as large as the table
        codes = functional.embedding((ids - self.vocabulary).clamp(min=0), self.code_in)
        if self.embedding_scale != 1:
            codes = codes * self.embedding_scale
        return torch.where(is_code[..., None], codes.to(text.dtype), text)

    @property
    def head(self) -> Head:
        """The head's operations besides the matrix product."""
        return self._shape if self.text_bias is None else replace(self._shape, bias=self.text_bias)

    @property
    def limit(self) -> int:
        """Maximal length of the input, in tokens."""
        return int(getattr(self.body.config, "max_position_embeddings", None) or 1 << 30)

    def reader(self, lead: Sequence[int], longest: int, room: int) -> Reader:
        """A reader for prompts of at most `longest` tokens that begin with `lead`, with `room` tokens after each."""
        return reader_for(self, lead, longest, room)

    def states(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        """Last hidden states after the final norm, (batch, length, width). `options`: attention_mask (None: causal),
        position_ids, past_key_values, use_cache, as in transformers."""
        options.setdefault("use_cache", False)
        inputs = dropout(self.embed(ids), self.dropout, self.training)
        with attention_kernel(inputs, self.body.config, self.training):
            states = self.body(inputs_embeds=inputs, **options).last_hidden_state
        return dropout(states, self.dropout, self.training)

    def level_logits(self, states: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
        """Logits of the code tokens of one level, (*states.shape[:-1], size of the level), or of the tokens `sampled`
        for each state, flat."""
        return self.levels()(states, level, sampled)

    def levels(self) -> LevelLogits:
        """`level_logits` as a function that takes the gradient of all levels at once, for the levels of one loss."""
        tables = self.code_out.split(self.sizes)

        def level_logits(states: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
            return self.head.capped(products(states, tables[level], sampled) * self.scale)

        return level_logits

    def text_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the backbone's own vocabulary, (*states.shape[:-1], vocabulary)."""
        return self.head.logits(states, self.text_head)

    def code_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of all code tokens, level after level, (*states.shape[:-1], code tokens)."""
        return self.head.capped(functional.linear(states, self.code_out.to(states.dtype)).float() * self.scale)

    def eos_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logit of the end-of-sequence token, (*states.shape[:-1],)."""
        row = slice(self.eos, self.eos + 1)
        product = functional.linear(states, self.text_head[row].to(states.dtype)).float()
        return self.head.finish(product, row)[..., 0]

    def finish(self, products: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits of one text or code token a state, from the float32 products (n,) with the token's row of the head;
        those of code tokens are scaled already."""
        if self.head.plain:
            return products
        text = self.head.finish(products, labels.clamp(max=self.vocabulary - 1))
        return torch.where(labels < self.vocabulary, text, self.head.capped(products))

    def vocabulary_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the complete vocabulary, text then codes, (*states.shape[:-1], vocabulary + code tokens), as in
        `generate`. `vocabulary_logsumexp` needs less memory."""
        return torch.cat([self.text_logits(states), self.code_logits(states)], dim=-1)

    def vocabulary_logsumexp(self, states: torch.Tensor) -> torch.Tensor:
        """log Σ exp over the complete vocabulary, float32 (*states.shape[:-1]): the log-probability of a token is its
        logit minus this. Gradients flow to the states and the code embeddings."""
        text = text_logsumexp(states, self.text_head, self.head)
        return torch.logaddexp(text, self.code_logits(states).logsumexp(dim=-1))


def code_tokenizer(backbone: Backbone, names: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy of the backbone's tokenizer with the code tokens `names` appended, in their order.

    Raises `InputError` if it already has such a token, or if a code token, alone or next to another, is not tokenized
    as that one token.
    """
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(backbone.tokenizer)
    vocabulary = tokenizer.get_vocab()
    if present := [name for name in names if name in vocabulary]:
        raise _refused(backbone, f"already has {len(present)} of the code tokens ({present[0]})")
    first = len(tokenizer)
    added: list[str | AddedToken] = [AddedToken(name, normalized=False, special=False) for name in names]
    tokenizer.add_tokens(added)  # type: ignore[arg-type]
    single = cast(list[list[int]], tokenizer(list(names), add_special_tokens=False)["input_ids"])
    for number, (name, ids) in enumerate(zip(names, single, strict=True)):
        if ids != [first + number]:
            raise _refused(backbone, f"tokenizes {name} as {len(ids)} tokens ({tokenizer.convert_ids_to_tokens(ids)})")
    concatenated = cast(list[int], tokenizer("".join(names), add_special_tokens=False)["input_ids"])
    if concatenated != list(range(first, first + len(names))):
        raise _refused(backbone, "does not separate consecutive code tokens")
    return tokenizer


def _refused(backbone: Backbone, reason: str) -> InputError:
    return InputError(
        f"the tokenizer of the backbone {backbone.name!r} {reason}",
        where="backbone.name",
        hint="each code must be exactly one token: choose another backbone",
    )


@dataclass(frozen=True)
class DecoderShape:
    """`inner`: width of the feed-forward layers. `dropout`: on embeddings, residual branches and last states, as in
    T5."""

    layers: int = 2
    width: int = 256
    heads: int = 8
    head_width: int = 32
    inner: int = 512
    dropout: float = 0.3


class CodeDecoder(CodeLM):
    """A `CodeLM` whose own vocabulary is the two tokens that start and end a sequence. One table embeds and predicts
    tokens: its entries have unit variance, logits are `scale · ⟨state, row⟩` with a learned scale that begins at
    width^-½. Seed torch before: the weights are drawn here."""

    def __init__(self, sizes: Sequence[int], shape: DecoderShape) -> None:
        config = LlamaConfig(
            vocab_size=2,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.head_width,
            max_position_embeddings=UNLIMITED,
            bos_token_id=START,
            eos_token_id=EOS,
            pad_token_id=None,
        )
        body = LlamaModel(config)
        rows = body.embed_tokens.weight
        rates = {"dropout": shape.dropout, "residual_dropout": shape.dropout}
        tokenizer = cast(Any, None)  # there is no text, and so no tokenizer
        backbone = Backbone("code decoder", body, rows.detach().clone(), tokenizer=tokenizer, eos=EOS)
        super().__init__(backbone, sizes, **rates, tied=True)
        del self.text_head
        self.text_head = rows
        with torch.no_grad():
            for table in (rows, self.code_in):
                nn.init.normal_(table)
            self.scale.fill_(shape.width**-0.5)
