"""Each code token exactly one token, in every style of tokenizer; one that cannot is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers import models as pieces
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from harness.errors import InputError
from harness.generative.models.decoder_lm import code_tokenizer
from tests.generative import toy_models

NAMES = toy_models.table().tokens


def sentencepiece() -> PreTrainedTokenizerBase:
    """In the style of Llama 2 and Mistral: spaces as letters, one put before every text, bytes for what is unknown."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "_", "<", ">"]
    tokens = Tokenizer(pieces.BPE({word: n for n, word in enumerate(words)}, [], byte_fallback=True, unk_token="<unk>"))
    tokens.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # type: ignore[assignment]
    tokens.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="</s>", bos_token="<s>", unk_token="<unk>")


def reread(tokenizer: PreTrainedTokenizerBase, place: Path, style: str) -> PreTrainedTokenizerBase:
    """Saved, and read again as a tokenizer of another class."""
    tokenizer.save_pretrained(place)
    file = place / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tokenizer_class": style}))
    return AutoTokenizer.from_pretrained(place)


@pytest.mark.parametrize("style", ["LlamaTokenizer", "PreTrainedTokenizerFast", "Qwen2Tokenizer", "GPT2Tokenizer"])
@pytest.mark.parametrize("folder", ["here", "llama-qwen-gpt2"])
def test_every_style_of_tokenizer_takes_them_as_one_token_each(style: str, folder: str, tmp_path: Path) -> None:
    tiny = toy_models.backbone(tmp_path)
    plain = sentencepiece() if style == "LlamaTokenizer" else tiny.tokenizer
    tokenizer = reread(plain, tmp_path / folder, style)
    grown = code_tokenizer(replace(tiny, tokenizer=tokenizer), NAMES)
    assert len(grown) == len(tokenizer) + len(NAMES)
    ids: Any = grown(f"ab {NAMES[3]}{NAMES[0]} a", add_special_tokens=False)["input_ids"]
    codes = [token - len(tokenizer) for token in ids if token >= len(tokenizer)]
    assert codes == [3, 0] and grown.convert_tokens_to_ids(NAMES[3]) == len(tokenizer) + 3
    assert not set(NAMES) & set(tokenizer.get_vocab()), "the backbone's own tokenizer stays as it was"


def test_a_tokenizer_that_means_something_else_by_a_code_is_refused(tmp_path: Path) -> None:
    tiny = toy_models.backbone(tmp_path)
    tiny.tokenizer.add_tokens([NAMES[2]])
    with pytest.raises(InputError, match=r"already has 1 of the code tokens \(<a_2>\)"):
        code_tokenizer(tiny, NAMES)


class Splitting(PreTrainedTokenizerFast):
    """Takes underscores for spaces before anything else sees the text."""

    def __call__(self, text: Any, **options: Any) -> Any:
        texts = [row.replace("_", " ") for row in text] if isinstance(text, list) else text.replace("_", " ")
        return super().__call__(texts, **options)


class Spacing(PreTrainedTokenizerFast):
    """Puts a space between code tokens that follow each other."""

    def __call__(self, text: Any, **options: Any) -> Any:
        return super().__call__(text if isinstance(text, list) else text.replace("><", "> <"), **options)


@pytest.mark.parametrize(
    ("kind", "why"), [(Splitting, "tokenizes <a_0> as"), (Spacing, "not separate consecutive code tokens")]
)
def test_a_tokenizer_that_splits_or_changes_a_code_is_refused(
    kind: type[PreTrainedTokenizerFast], why: str, tmp_path: Path
) -> None:
    tiny = toy_models.backbone(tmp_path)
    hostile = kind(tokenizer_object=tiny.tokenizer.backend_tokenizer, eos_token="<eos>")  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=why) as caught:
        code_tokenizer(replace(tiny, tokenizer=hostile), NAMES)
    assert caught.value.exit_code == 2 and "exactly one token" in str(caught.value)
