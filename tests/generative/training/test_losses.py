"""What a step costs: one pass over a window equals each next item asked alone; who takes part in the contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from eager.config import ContrastConfig
from eager.method import Contrast, info_nce
from harness.generative.tasks.prompts import IGNORED, Prompts
from harness.generative.training.losses import Losses
from tests import toys
from tests.generative import toy_models

CODES = toy_models.table(items=24)
WINDOWS = [np.array([3, 5, 7, 9]), np.array([1, 2]), np.array([20, 4, 6])]


def losses(folder: Path, contrast: Contrast | None = None) -> Losses:
    backbone = toy_models.backbone(folder)
    model = toy_models.code_lm(folder, CODES)
    return Losses(model, Prompts(backbone, CODES), contrast, "cpu")


def term(width: int = 48, **settings: float) -> Contrast:
    rng = np.random.default_rng(2)
    vectors = {"semantic": rng.normal(size=(24, 12)), "behavior": rng.normal(size=(24, 6))}
    torch.manual_seed(4)
    return Contrast(width, vectors, ContrastConfig(**settings))  # type: ignore[arg-type]


def alone(computed: Losses, window: np.ndarray, place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Code loss of one next item behind its history and nothing else, and the summary state of the response."""
    prompt = computed.prompts.history(window[:place])
    code = computed.prompts.codes[window[place]]
    states = computed.model.states(torch.tensor([[*prompt, *code.tolist()]]))[0]
    parts = []
    for level, token in enumerate(code - computed.model.vocabulary):
        logits = computed.model.level_logits(states[len(prompt) - 1 + level], level)
        parts.append(functional.cross_entropy(logits[None], torch.tensor([token - computed.model.offsets[level]])))
    return torch.stack(parts).mean(), states[-1]


def test_a_window_costs_what_its_targets_cost_alone(tmp_path: Path) -> None:
    contrast = term()
    computed, samples = losses(tmp_path, contrast), np.arange(0, 24, 2)
    together = computed.windows(WINDOWS, 0, samples).value()
    pairs = [(window, place) for window in WINDOWS for place in range(1, len(window))]
    single = [alone(computed, window, place) for window, place in pairs]
    items = torch.tensor([window[place] for window, place in pairs])
    expected = torch.stack([loss for loss, _ in single]).mean()
    expected = expected + contrast(torch.stack([state for _, state in single]), items, torch.tensor(samples))
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-5)
    inputs = list(computed.model.parameters())
    for one, other in zip(
        torch.autograd.grad(together, inputs, allow_unused=True),
        torch.autograd.grad(expected, inputs, allow_unused=True),
        strict=True,
    ):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_text_rows_are_scored_on_the_response_alone(tmp_path: Path) -> None:
    computed, text = losses(tmp_path), toys.titles(24)
    samples = [computed.prompts.index2item(item, text[item], 0) for item in (0, 5)]
    parts = []
    for sample in samples:
        logits = computed.model.text_logits(computed.model.states(torch.tensor([sample.ids]))[0])
        for place, label in enumerate(sample.labels):
            if label != IGNORED:
                parts.append(functional.cross_entropy(logits[place - 1][None], torch.tensor([label])))
    expected = torch.stack(parts).mean()
    torch.testing.assert_close(computed.rows(samples, np.empty(0, np.int64)).value(), expected, rtol=1e-5, atol=1e-5)


def test_code_rows_equal_one_sample_at_a_time(tmp_path: Path) -> None:
    computed, text = losses(tmp_path, term()), toys.titles(24)
    samples = [computed.prompts.item2index(item, text[item], item % 3) for item in (0, 7, 23)]
    sampled = np.arange(24)
    each = torch.stack([computed.rows([sample], sampled).value() for sample in samples]).mean()
    torch.testing.assert_close(computed.rows(samples, sampled).value(), each, rtol=1e-5, atol=1e-5)


def test_the_positive_is_never_its_own_negative() -> None:
    vectors = functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    items = torch.tensor([2])
    with_it = info_nce(vectors[[2]], vectors, items, torch.tensor([0, 1, 2, 3]), 0.1)
    without = info_nce(vectors[[2]], vectors, items, torch.tensor([0, 1, 3]), 0.1)
    torch.testing.assert_close(with_it, without)
    similarity = vectors[2] @ vectors[[2, 0, 1, 3]].T / 0.1
    torch.testing.assert_close(without, -torch.log_softmax(similarity, 0)[0])


@pytest.mark.parametrize("source", ["semantic", "behavior"])
def test_each_weight_switches_its_term(source: str) -> None:
    states, items = torch.randn(6, 48, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    both, samples = term()(states, items, torch.arange(24)), torch.arange(24)
    off = term(**{source: 0.0})
    assert set(off.weights) == {"semantic", "behavior"} - {source}
    assert float(off(states, items, samples).detach()) < float(both.detach())
    doubled = {"semantic": 0.1, "behavior": 0.1, source: 0.2}
    assert float(term(**doubled)(states, items, samples).detach()) > float(both.detach())


def test_code_to_item_rows_have_no_contrastive_term(tmp_path: Path) -> None:
    text, samples = toys.titles(24), np.arange(24)
    plain, pulled = losses(tmp_path), losses(tmp_path, term())
    words = [plain.prompts.index2item(3, text[3], 0)]
    assert plain.rows(words, samples).value().item() == pulled.rows(words, samples).value().item()
    codes = [plain.prompts.item2index(3, text[3], 0)]
    assert plain.rows(codes, samples).value().item() < pulled.rows(codes, samples).value().item()
