"""RQ-VAE codes: shape, determinism, the even mapping, the guard against dead codes, and the rounds of separation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import InputError
from harness.generative.tokenizers.rqvae import RQVAE, RQVAEConfig, resolve_collisions, rqvae_codes
from tests import toys

SMALL = RQVAEConfig(hidden=(32,), latent=8, epochs=30, batch=64, learning_rate=3e-3)


def vectors(n: int = 300, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (3 * rng.normal(size=(12, dim))[rng.integers(12, size=n)] + rng.normal(size=(n, dim))).astype(np.float32)


def test_codes_are_unique_and_every_level_lives(tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"epochs": 8})
    result = rqvae_codes(vectors(), 3, 32, short, toys.context(tmp_path))
    assert result.digits.shape == (300, 3) and result.digits.min() >= 0 and result.digits.max() < 32
    assert all(len(np.unique(result.digits[:, level])) >= 8 for level in range(3))
    assert result.collisions == 0 and len(np.unique(result.digits, axis=0)) == 300


def test_shared_codes_are_counted_before_and_after(tmp_path: Path) -> None:
    result = {}
    for how in ("none", "sinkhorn", "assignment"):
        config = SMALL.model_copy(update={"epochs": 3, "separate": how, "rounds": 2})
        result[how] = built = rqvae_codes(vectors(), 2, 12, config, toys.context(tmp_path))
        _, counts = np.unique(built.digits, axis=0, return_counts=True)
        assert counts[counts > 1].sum() / 300 == pytest.approx(built.collisions)
    first = result["none"].collisions
    assert first == result["none"].collisions_first == result["sinkhorn"].collisions_first > 0.5
    assert result["assignment"].collisions < first and result["sinkhorn"].collisions < first
    assert [result[how].rounds for how in ("none", "sinkhorn", "assignment")] == [0, 2, 1]


def test_equal_seeds_give_equal_codes_and_others_do_not(tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"epochs": 3})
    one, repeated, other = (
        rqvae_codes(vectors(), 2, 16, short, toys.context(tmp_path, seed=seed)).digits for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, repeated)
    assert (one != other).any()


def test_first_tokens_carry_similarity(tmp_path: Path) -> None:
    points = vectors()
    digits = rqvae_codes(points, 2, 16, SMALL, toys.context(tmp_path)).digits[:, 0]
    within = np.mean([points[digits == digit].var(axis=0).sum() for digit in np.unique(digits)])
    assert within < 0.5 * points.var(axis=0).sum()


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": (24,)}, {"latent": 4}, {"commitment": 2.0}, {"epochs": 4}, {"batch": 100}, {"learning_rate": 1e-2},
        {"weight_decay": 0.5}, {"warmup": 0.5}, {"clip": 0.01}, {"sinkhorn": 0.0}, {"iterations": 1},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_does_something(change: dict[str, object], tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"epochs": 2})
    changed = RQVAEConfig.model_validate({**short.model_dump(), **change})
    one, other = (rqvae_codes(vectors(), 2, 16, settings, toys.context(tmp_path)) for settings in (short, changed))
    assert one.loss != other.loss


def test_the_mapping_uses_codes_evenly() -> None:
    model = RQVAE(4, 1, 8, RQVAEConfig(hidden=(4,), latent=2, sinkhorn=0.05))
    distances = torch.rand(80, 8, generator=torch.Generator().manual_seed(1))
    distances[:, 0] -= 0.5  # the nearest of most
    assert torch.bincount(distances.argmin(1), minlength=8)[0] > 30
    assert torch.bincount(model.sinkhorn_assign(distances), minlength=8).max() <= 15


def test_dead_codes_are_revived_on_residuals() -> None:
    model = RQVAE(4, 1, 4, RQVAEConfig(hidden=(4,), latent=2))
    with torch.no_grad():
        model.books[0] = torch.tensor([[0.0, 0.0], [99.0, 99.0], [-99.0, 99.0], [99.0, -99.0]])
    batch = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    moved = model.reset_dead_codes(torch.tensor([[30, 0, 0, 0]]), batch, torch.Generator().manual_seed(3))
    latent = model.encoder(batch)
    assert moved == 3 and torch.cdist(model.books[0, 1:].detach(), latent).amin(1).max() < 1e-3


def test_without_the_guard_codes_stay_dead(tmp_path: Path) -> None:
    events: list[dict[str, object]] = []

    class Hearing(toys.SilentReporter):
        def event(self, **fields: object) -> None:
            events.append(fields)

    for revive in (True, False):
        config = SMALL.model_copy(update={"epochs": 4, "revive": revive})
        rqvae_codes(vectors(), 3, 64, config, toys.context(tmp_path, reporter=Hearing()))
    assert sum(int(str(e["revived"])) for e in events[:4]) > 0
    assert all(e["revived"] == 0 for e in events[4:])


def test_rounds_separate_items_that_share_a_code() -> None:
    torch.manual_seed(1)
    model = RQVAE(4, 2, 8, RQVAEConfig(hidden=(4,), latent=2))
    with torch.no_grad():
        model.books.copy_(torch.randn(2, 8, 2))
    digits, remaining = torch.zeros(6, 2, dtype=torch.long), torch.randn(6, 2)
    assert resolve_collisions(model, digits, remaining) >= 1
    assert len(torch.unique(digits, dim=0)) == 6 and (digits[:, 0] == 0).all()
    stuck = RQVAE(4, 2, 8, RQVAEConfig(hidden=(4,), latent=2, rounds=0))
    same = torch.zeros(6, 2, dtype=torch.long)
    assert resolve_collisions(stuck, same, remaining) == 0 and len(torch.unique(same, dim=0)) == 1


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = vectors()
    broken[0, 0] = np.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        rqvae_codes(broken, 2, 16, SMALL, toys.context(tmp_path))
