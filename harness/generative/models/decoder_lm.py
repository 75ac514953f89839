"""`CodeLM`: a causal LM whose vocabulary is grown by the code tokens.

The rows of the new tokens are parameters of their own beside the untouched vocabulary, so that training them never
moves (nor pays for) the other rows. Ids: 0..vocabulary-1 are the backbone's tokens, vocabulary + flat code number
(`CodeTable.flat`) the code tokens, the numbers that the tokenizer gives them when they are added in that order.

The code tokens as a tokenizer sees them: each exactly one token, or the backbone is refused before any training.

Prompts and search put code tokens in by number and never ask a tokenizer. But a model is to be used elsewhere too, by
text, and there a tokenizer that splits a code, changes its spelling or already means something else by it would give
other answers. What a tokenizer does is found out by asking it, never by the name or the path that it comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn
from torch.nn import functional

from harness.errors import InputError
from harness.generative.models.backbone import Backbone
from harness.generative.models.dropout import add_residual_dropout, dropout
from harness.generative.models.heads import Head, embedding_scale, final_norm_size
from harness.generative.models.readers import Reader, reader_for
from harness.generative.models.vocabulary_logsumexp import text_logsumexp

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CodeLMBody(Protocol):
    """What `CodeLM` is built on, in the terms of `Backbone`."""

    @property
    def body(self) -> Any: ...

    @property
    def head(self) -> torch.Tensor: ...

    @property
    def eos(self) -> int: ...

    @property
    def shape(self) -> Head: ...


class CodeLM(nn.Module):
    """`code_in` (code tokens, width) are the input embeddings of the code tokens, `code_out` the rows of the head; with
    `tied` the two are one parameter.

    `dropout` is on what goes into the blocks and on what comes out of them, `residual_dropout` on what each attention
    and MLP adds to the residual stream, both in training mode only.

    Logits of code tokens are `scale · ⟨state, code_out⟩`, under the soft cap of the backbone's head where it has one;
    those of text tokens are the backbone's own (`heads.Head`). The scale is learned and starts where the logits have
    unit variance: over the final norm of a trained LM, rows of the size of its embeddings give losses of 11 a token.
    """

    embedding: nn.Embedding
    text_head: torch.Tensor
    text_bias: torch.Tensor | None

    def __init__(
        self,
        backbone: CodeLMBody,
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
        self.packs: bool | None = None  # whether sequences may share a row: not tried yet
        self.offsets = [sum(self.sizes[:level]) for level in range(len(self.sizes) + 1)]
        width, codes = backbone.head.shape[1], sum(self.sizes)
        self.code_in = nn.Parameter(torch.empty(codes, width))
        self.code_out = self.code_in if tied else nn.Parameter(torch.empty(codes, width))
        self.scale = nn.Parameter(torch.ones(()))
        self.reset_codes(torch.randn(codes, width))

    @torch.no_grad()
    def reset_codes(self, directions: torch.Tensor) -> None:
        """Starts the code rows along `directions` (code tokens, width), at the size of the backbone's embeddings."""
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
        codes = functional.embedding((ids - self.vocabulary).clamp(min=0), self.code_in)
        if self.embedding_scale != 1:
            codes = codes * self.embedding_scale
        return torch.where(is_code[..., None], codes.to(text.dtype), text)

    @property
    def head(self) -> Head:
        """What the backbone's head does besides multiplying."""
        return self._shape if self.text_bias is None else replace(self._shape, bias=self.text_bias)

    @property
    def limit(self) -> int:
        """The longest input, in tokens."""
        return int(getattr(self.body.config, "max_position_embeddings", None) or 1 << 30)

    def reader(self, lead: Sequence[int], longest: int, room: int) -> Reader:
        """What a search reads with: prompts that begin with `lead`, of at most `longest` tokens with what is put behind
        them, and about `room` such tokens each."""
        return reader_for(self, lead, longest, room)

    def states(self, ids: torch.Tensor, **index_of: Any) -> torch.Tensor:
        """Last hidden states after the final norm, (batch, length, width). `where`: attention_mask (None: causal),
        position_ids, past_key_values, use_cache, as transformers takes them."""
        index_of.setdefault("use_cache", False)
        inputs = dropout(self.embed(ids), self.dropout, self.training)
        states = self.body(inputs_embeds=inputs, **index_of).last_hidden_state
        return dropout(states, self.dropout, self.training)

    def level_logits(self, states: torch.Tensor, level: int) -> torch.Tensor:
        """Logits of the code tokens of one level, (*states.shape[:-1], size of the level)."""
        rows = self.code_out[self.offsets[level] : self.offsets[level + 1]]
        return self.head.capped(functional.linear(states, rows.to(states.dtype)).float() * self.scale)

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
        """Logits of one text or code token a state, from their float32 products (n,): of a text token with its row of
        the head, of a code token with its own, scaled."""
        if self.head.plain:
            return products
        text = self.head.finish(products, labels.clamp(max=self.vocabulary - 1))
        return torch.where(labels < self.vocabulary, text, self.head.capped(products))

    def vocabulary_logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the whole vocabulary, text then codes, (*states.shape[:-1], vocabulary + code tokens): what
        `generate` scores. Large: `vocabulary_logsumexp` gives the sum that most callers want it for."""
        return torch.cat([self.text_logits(states), self.code_logits(states)], dim=-1)

    def vocabulary_logsumexp(self, states: torch.Tensor) -> torch.Tensor:
        """log Σ exp over the whole vocabulary, text and codes, float32 (*states.shape[:-1]): a token's exact
        log-probability is its logit minus this. Gradients reach the states and the code rows, as through the logits."""
        text = text_logsumexp(states, self.text_head, self.head)
        return torch.logaddexp(text, self.code_logits(states).logsumexp(dim=-1))


def code_tokenizer(backbone: Backbone, names: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy of the backbone's tokenizer with the code tokens `names` behind its own, in their order.

    Raises `InputError` where it has such a token already, or where a code token, alone or beside another, does not come
    back as that one token.
    """
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(backbone.tokenizer)
    known_by_name = tokenizer.get_vocab()
    if selected := [name for name in names if name in known_by_name]:
        raise _refused(backbone, f"has {len(selected)} of the code tokens already ({selected[0]})")
    first = len(tokenizer)
    added: list[str | AddedToken] = [AddedToken(name, normalized=False, special=False) for name in names]
    tokenizer.add_tokens(added)  # type: ignore[arg-type]
    values = cast(list[list[int]], tokenizer(list(names), add_special_tokens=False)["input_ids"])
    for number, (name, ids) in enumerate(zip(names, values, strict=True)):
        if ids != [first + number]:
            raise _refused(
                backbone, f"makes {len(ids)} other tokens ({tokenizer.convert_ids_to_tokens(ids)}) of {name}"
            )
    items = cast(list[int], tokenizer("".join(names), add_special_tokens=False)["input_ids"])
    if items != list(range(first, first + len(names))):
        raise _refused(backbone, "does not keep code tokens apart that follow each other")
    return tokenizer


def _refused(backbone: Backbone, reason: str) -> InputError:
    return InputError(
        f"the tokenizer of the backbone {backbone.name!r} {reason}",
        where="backbone.name",
        hint="each code must be exactly one token: choose another backbone",
    )
