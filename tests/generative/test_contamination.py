"""The memory probe: a model that knows the item file is found, one that does not is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.generative.contamination import CONTEXTS, memory_probe
from harness.generative.models.backbone import Backbone, byte_tokenizer
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

ITEMS = 30


def data(seed: int = 0) -> TrainingData:
    """Thirty items with random ids and random titles; histories of three items and the next one."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    titles = ["".join(letters[rng.integers(0, 26, 12)]) for _ in range(ITEMS)]
    ids = [str(number) for number in rng.permutation(9000)[:ITEMS] + 1000]
    rows = [[(user + step) % ITEMS for step in range(4)] for user in range(ITEMS)]
    text = [ItemText(title=title) for title in titles]
    return TrainingData("toy", tuple(ids), RaggedArray.of(rows), text, 20)


class Knowing(nn.Module):
    """States are one-hot next bytes of the texts that it knows, and flat elsewhere."""

    def __init__(self, known: list[str], vocabulary: int) -> None:
        super().__init__()
        self.known, self.tokenizer = known, byte_tokenizer()
        self.flat = nn.Parameter(torch.zeros(vocabulary))
        self.config = SimpleNamespace(max_position_embeddings=4096)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        tokenizer: Any = self.tokenizer
        states = torch.zeros(*input_ids.shape, len(self.flat))
        memory = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.known]
        for row, ids in enumerate(input_ids.tolist()):
            for length in range(1, len(ids)):
                for tokens in memory:
                    for cut in range(6, len(tokens)):  # an id and its mark, at least
                        if ids[max(0, length - cut) : length] == tokens[:cut]:
                            states[row, length - 1, tokens[cut]] = 1.0
        return SimpleNamespace(last_hidden_state=states)


def backbone(known: list[str]) -> Backbone:
    tokenizer: Any = byte_tokenizer()
    vocabulary = len(tokenizer)
    body: Any = Knowing(known, vocabulary)
    return Backbone("knowing", body, 10 * torch.eye(vocabulary), tokenizer, tokenizer.eos_token_id)


def probe(training: TrainingData, known: list[str], newer: tuple[str, ...] = ()) -> dict[str, Any]:
    return memory_probe(backbone(known), training, RunContext(seed=1, cache=None), items=20, newer=newer)  # type: ignore[arg-type]


def test_a_model_that_knows_the_file_is_found() -> None:
    training = data()
    assert training.text is not None
    rows = [f"{item}::{text.title}" for item, text in zip(training.items, training.text, strict=True)]
    part = probe(training, rows)["ids"]
    assert part["true_context_best"] > 0.9 and part["gain"] > 5 * part["standard_error"] > 0


def test_a_model_that_knows_other_ids_is_not() -> None:
    training = data()
    assert training.text is not None
    rows = [f"{item}::{text.title}" for item, text in zip(training.items[1:], training.text, strict=False)]
    result = probe(training, rows)
    assert result["ids"]["true_context_best"] < 1 / (CONTEXTS + 1)
    assert result["newer"] is None


def test_an_ignorant_model_gains_nothing() -> None:
    result = probe(data(), [])
    assert result["ids"]["gain"] == pytest.approx(0, abs=1e-6)
    assert result["neighbours"]["gain"] == pytest.approx(0, abs=1e-6)


def test_titles_that_are_easier_than_newer_ones() -> None:
    training = data()
    assert training.text is not None
    titles = [text.title for text in training.text]
    part = probe(training, titles, newer=("qwertyuiopqw", "zxcvbnmzxcvb", ""))["newer"]
    assert part["texts"] == 2 and part["difference"] > 1
