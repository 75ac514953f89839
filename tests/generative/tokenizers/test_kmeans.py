"""Codes by residual k-means and by OPQ: against their definitions, and independent of the order of items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.hashing import fingerprint
from harness.errors import InputError
from harness.generative.tokenizers.base import ItemIndex
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.tokenizers.kmeans import KMeansTokenizer, OPQTokenizer, RQKMeansTokenizer, kmeans
from harness.protocol.audit.provenance import Provenance
from harness.protocol.split import TrainingData
from tests import toys

RQ: dict[str, Any] = {"levels": 3, "size": 16}
OPQ: dict[str, Any] = {"levels": 4, "size": 16, "pca": 0, "rotations": 8}
TOKENIZERS = [RQKMeansTokenizer(**RQ), RQKMeansTokenizer(**RQ, balanced=True), OPQTokenizer(**OPQ)]


def vectors(n: int = 300, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (3 * rng.normal(size=(12, dim))[rng.integers(12, size=n)] + rng.normal(size=(n, dim))).astype(np.float32)


def items(n: int = 300) -> TrainingData:
    return toys.split(toys.dataset([np.arange(n), np.arange(n)], n, None)).train


def index(tokenizer: KMeansTokenizer, values: np.ndarray, folder: Path, data: TrainingData | None = None) -> ItemIndex:
    value = {"semantic": ItemVectors(values, fingerprint(values), Provenance.of_text("test"))}
    return tokenizer.make_index(data or items(len(values)), value, toys.context(folder))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda each: f"{each.kind} {getattr(each, 'balanced', '')}")
def test_codes_do_not_depend_on_the_order_of_items(tokenizer: KMeansTokenizer, tmp_path: Path) -> None:
    data, values, order = items(), vectors(), np.random.default_rng(1).permutation(300)
    shuffled = replace(data, items=tuple(data.items[item] for item in order))
    one, other = index(tokenizer, values, tmp_path, data), index(tokenizer, values[order], tmp_path, shuffled)
    np.testing.assert_array_equal(other.table.digits, one.table.digits[order])
    assert {**one.details, "seconds": 0} == {**other.details, "seconds": 0}
    assert one.table.sizes == (16,) * tokenizer.levels and one.provenance.rows == "none"


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda each: f"{each.kind} {getattr(each, 'balanced', '')}")
def test_a_token_tells_items_of_one_code_apart(tokenizer: KMeansTokenizer, tmp_path: Path) -> None:
    values = np.repeat(vectors(60), 5, axis=0)  # five items of each vector
    shared = index(tokenizer, values, tmp_path)
    collisions = shared.details["collisions_before"]
    assert collisions == pytest.approx(shared.record()["collision_rate"])
    assert collisions > 0.9 if getattr(tokenizer, "balanced", False) else collisions == 1  # even clusters part a few
    apart = index(tokenizer.model_copy(update={"distinct": "token"}), values, tmp_path)
    assert apart.details["collisions_before"] == collisions and apart.record()["collision_rate"] == 0
    np.testing.assert_array_equal(apart.table.digits[:, :-1], shared.table.digits)


def test_residual_levels_cluster_what_is_left() -> None:
    values = vectors()
    digits, decoded = RQKMeansTokenizer(**RQ).quantise(values, 1)
    remaining = values.copy()
    for level in range(3):
        means = np.stack([remaining[digits[:, level] == token].mean(axis=0) for token in range(16)])
        distances = np.square(remaining[:, None] - means[None]).sum(axis=2)
        assert (distances.argmin(axis=1) == digits[:, level]).mean() > 0.99
        remaining = remaining - means[digits[:, level]]
    np.testing.assert_allclose(values - remaining, decoded, atol=1e-3)


def test_balanced_levels_use_every_token_alike() -> None:
    plain, _ = RQKMeansTokenizer(**RQ).quantise(vectors(), 1)
    digits, decoded = RQKMeansTokenizer(**RQ, balanced=True).quantise(vectors(), 1)
    for level in range(3):
        counts = np.bincount(digits[:, level], minlength=16)
        assert set(counts.tolist()) == {18, 19}
        assert len(set(np.bincount(plain[:, level]).tolist())) > 2
    assert np.square(vectors() - decoded).sum() < 0.3 * np.square(vectors() - vectors().mean(axis=0)).sum()


def test_a_rotation_pays_where_variance_is_uneven(tmp_path: Path) -> None:
    """Two slices of two dimensions, all of the variance in the first: turned, both books have something to say."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(500, 4)) * [3, 3, 0.1, 0.1]).astype(np.float32)
    settings: dict[str, Any] = {"levels": 2, "size": 8, "pca": 0}
    errors = [
        index(OPQTokenizer(**settings, rotations=turns), values, tmp_path).details["unexplained_variance"]
        for turns in (0, 20)
    ]
    assert errors[1] < 0.7 * errors[0] and errors[0] > 0.05


def test_opq_decodes_to_its_own_error() -> None:
    """Each digit is the nearest centre of its slice: no other digit decodes nearer to the vector."""
    tokenizer, values = OPQTokenizer(**OPQ), vectors()
    points = tokenizer.prepared(values)
    digits, decoded = tokenizer.quantise(points, 1)
    assert digits.shape == (300, 4) and decoded.shape == points.shape
    unexplained = np.square(points - decoded).sum() / np.square(points).sum()
    assert unexplained < 0.1
    product, _ = OPQTokenizer(**{**OPQ, "rotations": 0}).quantise(points, 1)
    for level, part in enumerate(np.split(points, 4, axis=1)):
        means = np.stack([part[product[:, level] == token].mean(axis=0) for token in range(16)])
        nearest = np.square(part[:, None] - means[None]).sum(axis=2).argmin(axis=1)
        assert (nearest == product[:, level]).mean() > 0.97


def test_opq_pads_and_whitens() -> None:
    assert OPQTokenizer(levels=5, pca=0).prepared(vectors()).shape == (300, 20)
    white = OPQTokenizer(levels=4, pca=8).prepared(vectors())
    assert white.shape == (300, 8)
    np.testing.assert_allclose(np.cov(white.T), np.eye(8), atol=1e-3)
    assert OPQTokenizer(levels=32).prepared(vectors(10)).shape == (10, 32)


def test_a_seed_decides_the_codes(tmp_path: Path) -> None:
    for tokenizer in TOKENIZERS:
        one, repeated, other = (tokenizer.quantise(vectors(), seed)[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, repeated)
        assert (one != other).any()


def test_fewer_vectors_than_codes() -> None:
    digits, centres = kmeans(np.repeat(np.eye(3, dtype=np.float32), 2, axis=0), 256, 10, 1)
    assert centres.shape == (3, 3) and len(np.unique(digits)) == 3 and (digits[::2] == digits[1::2]).all()


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = vectors(30)
    values[4, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        index(RQKMeansTokenizer(**RQ), values, tmp_path)
