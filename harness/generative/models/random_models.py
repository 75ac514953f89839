"""Backbones that are drawn, not read: a minute Llama over bytes for tests and smoke runs, and small Llamas of any width
and depth for the question whether pretraining helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.core.seeding import derive_seed

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerBase

TINY = "tiny-random"
RANDOM_LLAMA = "random-llama"
WIDTH, LAYERS, HEAD = 256, 4, 32  # of random-llama, where nothing else is asked; the width of one attention head


def tiny_shape(layers: int | None, vocabulary: int) -> LlamaConfig:
    """`tiny-random`: 48 wide, two layers unless said otherwise."""
    return _llama(vocabulary, 48, layers or 2, (4, 2), context=1024, intermediate=96)


def llama_shape(width: int | None, layers: int | None, vocabulary: int) -> LlamaConfig:
    """`random-llama`: heads of 32, an MLP of 8/3 the width as in Llama."""
    width = width or WIDTH
    heads = width // HEAD
    return _llama(vocabulary, width, layers or LAYERS, (heads, heads), context=2048, intermediate=8 * width // 3)


def draw(config: Any, seed: int, dtype: Any) -> Any:
    """A causal LM of this shape with weights of this seed."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(derive_seed(seed, "backbone"))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte, and one that ends a response."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(["<eos>", *alphabet])}
    tokens = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokens.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>")


def _llama(
    vocabulary: int, width: int, layers: int, heads: tuple[int, int], *, context: int, intermediate: int
) -> LlamaConfig:
    """`heads`: of queries, and of keys and values."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
