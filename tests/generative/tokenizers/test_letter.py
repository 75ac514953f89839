"""LETTER's codes: both terms against slow formulas, their effect on codes, resume, and the vectors that are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core import timer
from harness.generative.tokenizers.item_graph import CollaborativeConfig, CollaborativeEmbeddings, of_width
from harness.generative.tokenizers.letter import LetterLoss, LetterLossConfig, alignment_loss, diversity_loss, scaled
from harness.generative.tokenizers.rqvae import RQCodes, RQVAEConfig, rqvae_codes
from tests import toys
from tests.stops import StopAfter

SMALL = RQVAEConfig(hidden=(24,), latent=8, epochs=12, batch=50, learning_rate=3e-3, sinkhorn=0, separate="none")


def text_and_collaborative(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Text vectors that mostly tell 8 groups of one kind, and faintly 8 groups of another kind, which are those of the
    collaborative vectors."""
    rng = np.random.default_rng(3)
    one, other = rng.integers(8, size=n), rng.integers(8, size=n)
    text = 2 * rng.normal(size=(8, 16))[one] + 0.5 * rng.normal(size=(8, 16))[other] + 0.1 * rng.normal(size=(n, 16))
    collaborative = rng.normal(size=(8, 8))
    collaborative /= np.linalg.norm(collaborative, axis=1, keepdims=True)
    return scaled(text), collaborative[other].astype(np.float32)


def codes(folder: Path, losses: LetterLossConfig | None, config: RQVAEConfig = SMALL, **context: Any) -> RQCodes:
    text, collaborative = text_and_collaborative()
    run = toys.context(folder, **context)
    term = None if losses is None else LetterLoss(collaborative, losses, run)
    return rqvae_codes(text, 2, 16, config, run, "letter", term)


def test_alignment_is_the_formula() -> None:
    rng = np.random.default_rng(1)
    z, h = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    slow = np.mean([-np.log(np.exp(z[i] @ h[i]) / sum(np.exp(z[i] @ h[j]) for j in range(5))) for i in range(5)])
    result = alignment_loss(torch.from_numpy(z), torch.from_numpy(h))
    assert float(result) == pytest.approx(slow)


def test_diversity_is_the_formula() -> None:
    rng = np.random.default_rng(2)
    books, digits = rng.normal(size=(2, 6, 3)), rng.integers(6, size=(7, 2))
    clusters = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 2, 2]])
    terms = []
    for code in digits:
        for level in range(2):
            e, c = books[level], code[level]
            total = sum(np.exp(e[c] @ e[j]) for j in range(6) if j != c)
            near = [p for p in range(6) if p != c and clusters[level, p] == clusters[level, c]]
            terms.append(np.mean([-np.log(np.exp(e[c] @ e[p]) / total) for p in near]))
    result = diversity_loss(torch.from_numpy(books), torch.from_numpy(digits), torch.from_numpy(clusters))
    assert float(result) == pytest.approx(np.mean(terms))


def test_without_weights_the_codes_are_those_of_an_rqvae(tmp_path: Path) -> None:
    plain, none = codes(tmp_path, None), codes(tmp_path, LetterLossConfig(alignment=0, diversity=0))
    np.testing.assert_array_equal(plain.digits, none.digits)
    assert plain.loss == none.loss


def within(values: np.ndarray, groups: np.ndarray) -> float:
    """Share of the variance of `values` that is left inside groups."""
    return float(np.mean([values[groups == g].var(axis=0).sum() for g in groups]) / values.var(axis=0).sum())


def test_alignment_groups_items_by_their_collaborative_vectors(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"epochs": 60})
    _, collaborative = text_and_collaborative()
    plain = codes(tmp_path, LetterLossConfig(alignment=0, diversity=0), config)
    aligned = codes(tmp_path, LetterLossConfig(alignment=3.0, diversity=0), config)
    assert within(collaborative, aligned.digits[:, 0]) < 0.8 * within(collaborative, plain.digits[:, 0])


@pytest.mark.parametrize("change", [{"alignment": 0.5}, {"diversity": 0.5}, {"diversity": 0.5, "clusters": 4}], ids=str)
def test_every_switch_does_something(change: dict[str, Any], tmp_path: Path) -> None:
    base = LetterLossConfig(alignment=0.01, diversity=0.4 if "clusters" in change else 0.01)
    other = LetterLossConfig.model_validate({**base.model_dump(), **change})
    assert codes(tmp_path, base).loss != codes(tmp_path, other).loss


def test_an_interrupted_training_goes_on_with_its_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    losses = LetterLossConfig(alignment=0.1, diversity=0.5)
    counted = StopAfter()
    expected = codes(tmp_path, losses, checkpoint=tmp_path / "whole", reporter=counted)
    stop = counted.calls // 2 + 1
    with pytest.raises(KeyboardInterrupt):
        codes(tmp_path, losses, checkpoint=tmp_path / "cut", reporter=StopAfter(stop))
    rest = StopAfter()
    resumed = codes(tmp_path, losses, checkpoint=tmp_path / "cut", reporter=rest)
    assert rest.calls < counted.calls, "it started anew"
    np.testing.assert_array_equal(resumed.digits, expected.digits)
    assert resumed.loss == pytest.approx(expected.loss, rel=1e-9)


def test_vectors_of_another_width_keep_their_inner_products() -> None:
    rng = np.random.default_rng(4)
    flat = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 12))
    items = tuple(f"i{n}" for n in rng.permutation(30))
    for dim in (3, 16):
        result = of_width(flat, dim, items)
        assert result.shape == (30, dim) and result.dtype == np.float32
        np.testing.assert_allclose(result @ result.T, flat @ flat.T, atol=1e-4)


def test_collaborative_vectors_are_read_from_a_file(tmp_path: Path) -> None:
    data, path = toys.split().train, tmp_path / "v.npz"
    values = np.random.default_rng(1).normal(size=(data.n_items, 4)).astype(np.float32)
    np.savez(path, ids=np.array(data.items[::-1]), vectors=values[::-1])
    source = CollaborativeEmbeddings(CollaborativeConfig(vectors=path), 6)
    result = source.fit(data, toys.context(tmp_path)).values
    np.testing.assert_array_equal(result[:, :4], values)
    assert (result[:, 4:] == 0).all() and source.cache_entries(data, toys.context(tmp_path)) == ()
