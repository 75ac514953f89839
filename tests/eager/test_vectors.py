"""Both sources of item vectors: what they are made of, and that their cache can neither miss a change nor lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eager import semantic
from eager.behavior import BehaviorConfig, behavior_vectors
from eager.semantic import EMBEDDED, semantic_vectors
from harness.data.dataset import ItemText
from harness.errors import InputError
from tests import toys

BEHAVIOR = BehaviorConfig(dim=8, layers=1, epochs=2, window=6)
TEXT = (
    ItemText("Toy Story (1995)", categories=("Animation", "Comedy")),
    ItemText("Toy Story (1995)", categories=("Horror",)),
    ItemText("A nineteenth century treatise on the differential calculus"),
)


def test_equal_fields_give_near_vectors_and_empty_fields_do_not_count(tmp_path: Path) -> None:
    context = toys.context(tmp_path)
    vectors, _ = semantic_vectors(TEXT, EMBEDDED, ("title", "categories"), context)
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    alone, _ = semantic_vectors(TEXT, EMBEDDED, ("title",), context)
    np.testing.assert_allclose(alone[2], vectors[2], atol=1e-5)  # the treatise has no categories
    assert np.abs(alone[0] - vectors[0]).max() > 0.01


def test_the_semantic_cache_hits_what_is_equal_and_misses_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def encode(strings: list[str], folder: str, context: object) -> np.ndarray:
        calls.append(len(strings))
        return np.random.default_rng(len(strings)).normal(size=(len(strings), 4))

    monkeypatch.setattr(semantic, "_encode", encode)
    context = toys.context(tmp_path)
    first, key = semantic_vectors(TEXT, EMBEDDED, ("title",), context)
    again, same = semantic_vectors(TEXT, EMBEDDED, ("title",), context)
    assert len(calls) == 1 and key == same
    np.testing.assert_array_equal(first, again)
    changed = (*TEXT[:2], ItemText("Another title"))
    for arguments in ((changed, EMBEDDED, ("title",)), (TEXT, "other", ("title",)), (TEXT, EMBEDDED, ("categories",))):
        _, other = semantic_vectors(*arguments, context)
        assert other != key
    assert len(calls) == 4


def test_behaviour_vectors_depend_on_data_seed_and_settings(tmp_path: Path) -> None:
    data, context = toys.split().train, toys.context(tmp_path)
    vectors, key = behavior_vectors(data, BEHAVIOR, context)
    assert vectors.shape == (24, 8) and vectors.dtype == np.float32
    cached, same = behavior_vectors(data, BEHAVIOR, context)
    assert same == key
    np.testing.assert_array_equal(vectors, cached)
    afresh, _ = behavior_vectors(data, BEHAVIOR, toys.context(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(vectors, afresh)
    keys = {
        key,
        behavior_vectors(data, BEHAVIOR, replace(context, seed=2))[1],
        behavior_vectors(data, BEHAVIOR.model_copy(update={"epochs": 1}), context)[1],
        behavior_vectors(toys.split(toys.noise()).train, BEHAVIOR, context)[1],
    }
    assert len(keys) == 4


def test_neighbours_on_the_circle_are_learned(tmp_path: Path) -> None:
    """The planted cycle: an item's successor should be told by the encoder, which is what its vectors are good for."""
    import torch

    from eager.behavior import _train

    data = toys.split(toys.cycle(length=12)).train
    config = BehaviorConfig(dim=16, layers=1, heads=2, epochs=60, batch=16, learning_rate=1e-2, dropout=0.0)
    encoder = _train(data, config, toys.context(tmp_path))
    with torch.no_grad():
        scores = encoder(torch.arange(24)[:, None])[:, -1] @ encoder.item.weight[:24].T
    assert (scores.argmax(-1) == (torch.arange(24) + 1) % 24).float().mean() > 0.8


def test_an_encoder_that_is_not_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="encoder"):
        semantic_vectors(TEXT, str(tmp_path / "nothing"), ("title",), toys.context(tmp_path))
