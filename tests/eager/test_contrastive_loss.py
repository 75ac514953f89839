"""The contrastive terms: what the clean and the released way make of one draw of negatives, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from eager.config import ContrastConfig
from eager.method import Contrast
from harness.generative.training.losses import NO_ITEM
from tests import toys
from tests.generative.training.test_losses import losses

WIDTH, DIMS = 8, {"semantic": 6, "behavior": 3}


def contrast_of(**settings: Any) -> Contrast:
    rng = np.random.default_rng(2)
    vectors = {source: rng.normal(size=(10, dim)) for source, dim in DIMS.items()}
    torch.manual_seed(4)
    return Contrast(WIDTH, vectors, ContrastConfig(**settings))  # type: ignore[arg-type]


def states(rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(1))


def by_hand(term: Contrast, rows: torch.Tensor, items: list[int], negatives: list[list[int]]) -> float:
    """-log softmax of the positive among itself and each row's negatives, both sources weighed; row by row."""
    total = 0.0
    for source in DIMS:
        vectors = term.get_buffer(f"vectors_{source}")
        parts = []
        for row, item, against in zip(rows, items, negatives, strict=True):
            place = functional.normalize(term.projectors[source](row), dim=-1)
            best = torch.ones(()) if item == NO_ITEM else place @ vectors[item]
            scores = torch.cat([best[None], vectors[against] @ place]) / 0.1
            parts.append(-torch.log_softmax(scores, 0)[0])
        total += 0.1 * float(torch.stack(parts).mean().detach())
    return total


def test_clean_negatives_never_hold_the_target_and_rows_without_one_take_no_part() -> None:
    term, rows = contrast_of(), states()
    samples = [2, 3, 5, 7]
    value = term(rows, torch.tensor([2, NO_ITEM, 9, 7]), torch.tensor(samples))
    expected = by_hand(term, rows[[0, 2, 3]], [2, 9, 7], [[3, 5, 7], samples, [2, 3, 5]])
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(term(rows, torch.full((4,), NO_ITEM), torch.tensor(samples))) == 0


def test_released_negatives_are_as_drawn_and_rows_without_a_target_push() -> None:
    term, rows = contrast_of(mode="released"), states()
    samples, items = [2, 3, 5, 7], [2, NO_ITEM, 9, 7]
    value = term(rows, torch.tensor(items), torch.tensor(samples))
    unit = functional.normalize(rows, dim=-1)
    assert float(value) == pytest.approx(by_hand(term, unit, items, [samples] * 4), rel=1e-5)


def test_a_row_without_a_target_is_pushed_from_what_was_drawn_and_pulled_nowhere() -> None:
    term, rows = contrast_of(mode="released", behavior=0.0), states(1).requires_grad_()
    samples = torch.tensor([4])
    term(rows, torch.tensor([NO_ITEM]), samples).backward()
    assert rows.grad is not None
    with torch.no_grad():
        vector = term.get_buffer("vectors_semantic")[4]
        near = [
            functional.normalize(term.projectors["semantic"](functional.normalize(row, dim=-1)), dim=-1) @ vector
            for row in (rows, rows - 0.1 * rows.grad / rows.grad.norm())
        ]
    assert near[1] < near[0]


def test_projectors_fit_the_backbone_and_the_vectors() -> None:
    shapes = {source: tuple(layer.weight.shape) for source, layer in contrast_of().projectors.items()}  # type: ignore[union-attr]
    assert shapes == {source: (dim, WIDTH) for source, dim in DIMS.items()}


@pytest.mark.parametrize("setting", [{"temperature": 0.5}, {"semantic": 0.3}, {"behavior": 0.0}, {"mode": "released"}])
def test_each_setting_changes_the_loss(setting: dict[str, Any]) -> None:
    items, samples = torch.tensor([1, 2, 3, 4]), torch.arange(10)
    assert float(contrast_of()(states(), items, samples)) != float(contrast_of(**setting)(states(), items, samples))


def test_as_many_distinct_negatives_as_asked_and_there_are() -> None:
    rng = np.random.default_rng(0)
    assert [len(set(contrast_of(negatives=n).sample_negatives(10, rng).tolist())) for n in (3, 10, 2048)] == [3, 10, 10]


def test_rows_of_text_tasks_have_a_target_in_the_clean_mode_alone(tmp_path: Path) -> None:
    """item→code names an item, code→item does not; in the released mode neither has a target and both push."""
    text, samples = toys.titles(24), np.arange(24)
    rng = np.random.default_rng(2)
    vectors = {"semantic": rng.normal(size=(24, 12)), "behavior": rng.normal(size=(24, 6))}
    costs: dict[str, dict[str, float]] = {}
    for mode in ("clean", "released", None):
        torch.manual_seed(4)
        term = None if mode is None else Contrast(48, vectors, ContrastConfig(mode=mode))  # type: ignore[arg-type]
        computed = losses(tmp_path, term)
        named = computed.prompts.item2index(3, text[3], 0)
        unnamed = computed.prompts.index2item(3, text[3], 0)
        kinds = {"named": [named], "unnamed": [unnamed], "both": [named, unnamed]}
        costs[mode or "none"] = {kind: computed.rows(rows, samples).value().item() for kind, rows in kinds.items()}
    assert costs["clean"]["unnamed"] == costs["none"]["unnamed"] and costs["clean"]["named"] > costs["none"]["named"]
    extra = {kind: costs["released"][kind] - costs["none"][kind] for kind in costs["none"]}
    assert min(extra.values()) > 0
    assert extra["both"] == pytest.approx((extra["named"] + extra["unnamed"]) / 2, rel=1e-3)
