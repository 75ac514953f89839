"""The reference decoder: transformers' `generate` with beams and a constraint in Python.

The engine is tested and benchmarked against it: the constraint is the trie of item codes, batches are padded on the
left with an attention mask, the cache is on, the model's generation settings are ignored, and scores are sums (no
length penalty).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from harness.generative.item_codes import CodeTable
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.lora import plain_name
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch
from harness.protocol.predictions import NO_ITEM


def with_grown_vocabulary(model: CodeLM, first: int | None = None, dtype: torch.dtype | None = None) -> Any:
    """The model as a transformers model of its backbone's class: one embedding and one head over text and code tokens.
    The ids of code tokens begin at `first` (None: after all rows of the text vocabulary); rows there without a token
    follow them. An adapter is not included: the base weights are used."""
    config = model.body.config.__class__.from_dict(model.body.config.to_dict())
    config.vocab_size = model.vocabulary + len(model.code_in)
    config.tie_word_embeddings = False
    causal = AutoModelForCausalLM.from_config(config, dtype=dtype or model.code_in.dtype)

    def grown(text: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        begin = len(text) if first is None else first
        return torch.cat([text[:begin], codes.to(text.dtype), text[begin:]]).detach()

    state = {plain_name(name): value for name, value in model.body.state_dict().items()}
    embedding = grown(model.embedding.weight, model.code_in)
    state[_embedding_name(model)] = embedding
    causal.base_model.load_state_dict({name: value for name, value in state.items() if name is not None})
    head = causal.get_output_embeddings()
    rows = grown(model.text_head, model.code_out * (model.scale / model.head.scale))
    head.weight.data = rows.to(head.weight.dtype)
    if model.text_bias is not None:
        head.bias.data = grown(model.text_bias, model.text_bias.new_zeros(len(model.code_in))).to(head.bias.dtype)
    return causal.to(model.code_in.device).eval().requires_grad_(False)


def _embedding_name(model: CodeLM) -> str:
    return next(name for name, value in model.body.named_parameters() if value is model.embedding.weight)


class PrefixTree:
    """The tokens that may follow a prefix of an existing code, for `prefix_allowed_tokens_fn`."""

    def __init__(self, table: CodeTable, vocabulary: int, eos: int) -> None:
        self.item: dict[tuple[int, ...], int] = {}
        following: dict[tuple[int, ...], set[int]] = {}
        for item, code in enumerate((table.flat + vocabulary).tolist()):
            self.item.setdefault(tuple(code), item)
            for depth, token in enumerate(code):
                following.setdefault(tuple(code[:depth]), set()).add(token)
            following[tuple(code)] = {eos}
        self._following = {prefix: sorted(tokens) for prefix, tokens in following.items()}
        self.eos = eos

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Allowed tokens after `generated`; beams outside the trie (more beams than codes) can only end."""
        return self._following.get(tuple(generated), [self.eos])


@torch.inference_mode()
def generate(
    causal: Any, tree: PrefixTree, prompts: Sequence[Sequence[int]], beams: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items (batch, beams) best first and their scores, as `beam_search` gives them in the mode `vocabulary`."""
    device = causal.device
    batch = PromptBatch.of(prompts, device, side="left")
    ids = torch.where(batch.real, batch.ids, tree.eos)
    levels = len(next(iter(tree.item)))
    begin = 1 if causal.config.is_encoder_decoder else ids.shape[1]

    def allowed(_: int, sequence: torch.Tensor) -> list[int]:
        return tree.allowed(sequence[begin:].tolist())

    settings = GenerationConfig(
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=levels + 1,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        eos_token_id=tree.eos,
        pad_token_id=tree.eos,
        bos_token_id=None,
        decoder_start_token_id=getattr(causal.config, "decoder_start_token_id", None),
        return_dict_in_generate=True,
        output_scores=True,
    )
    causal.generation_config = GenerationConfig()
    output = causal.generate(
        input_ids=ids, attention_mask=batch.real.long(), generation_config=settings, prefix_allowed_tokens_fn=allowed
    )
    codes = output.sequences[:, begin : begin + levels].tolist()
    items = np.array([tree.item.get(tuple(code), NO_ITEM) for code in codes]).reshape(len(prompts), beams)
    scores = to_float64(output.sequences_scores).cpu().numpy().reshape(len(prompts), beams)
    return items, np.where(items == NO_ITEM, 0.0, scores)
