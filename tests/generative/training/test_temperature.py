"""`training.temperature`, LETTER's ranking-guided loss, against a formula written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.generative.config import ScoreNormalization
from harness.generative.models.readers import PromptBatch
from harness.generative.recipes import PrefixTraining
from harness.generative.sequence_models import PrefixTrainingConfig
from harness.generative.tasks.batching import target_tokens
from harness.generative.training.losses import Losses
from harness.generative.trie import CodeTrie
from tests.generative.training.test_code_training import CODES, HISTORY, RULES, TARGET, built


def by_hand(model: Any, rule: ScoreNormalization, temperature: float) -> float:
    """-1/T Σ_t log( exp(l_t[y_t] / τ) / Σ_j exp(l_t[j] / τ) ), j over the tokens that the rule compares."""
    network, code = model.network, CODES.digits[TARGET]
    targets = target_tokens(model.prompts.codes[[TARGET]], "cpu", end=rule == "vocabulary")
    prompts = PromptBatch.of([model.prompt(HISTORY)], "cpu")
    with torch.no_grad():
        states = network.states(prompts.ids, prompts.real, targets)
        every = network.vocabulary_logits(states)[0].double().numpy() / temperature
    costs = []
    for place, token in enumerate(targets[0].tolist()):
        if rule == "vocabulary":
            compared = np.arange(every.shape[1])
        elif rule == "level":
            compared = network.vocabulary + np.arange(network.offsets[place], network.offsets[place + 1])
        else:
            equal = (CODES.digits[:, :place] == code[:place]).all(axis=1)
            compared = network.vocabulary + network.offsets[place] + np.unique(CODES.digits[equal, place])
        costs.append(np.log(np.exp(every[place, compared]).sum()) - every[place, token])
    return float(np.mean(costs))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_loss_at_a_temperature_is_the_formula(rule: ScoreNormalization, temperature: float, tmp_path: Path) -> None:
    model = built("t5", tmp_path)
    recipe = PrefixTraining(model, PrefixTrainingConfig(normalise=rule, temperature=temperature), "tiger")
    result = recipe._loss([HISTORY], np.array([TARGET]), CodeTrie(CODES), "cpu")
    assert float(result.detach()) == pytest.approx(by_hand(model, rule, temperature), rel=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_on_windows_it_is_the_loss_of_logits_divided(rule: ScoreNormalization, tmp_path: Path) -> None:
    model = built("decoder", tmp_path)

    def loss(temperature: float) -> float:
        losses = Losses(
            model.network, model.prompts, None, "cpu", normalise=rule, trie=CodeTrie(CODES), temperature=temperature
        )
        return float(losses.windows([np.append(HISTORY, TARGET)], 0, np.empty(0, np.int64)).value().detach())

    divided = loss(0.7)
    assert divided != pytest.approx(loss(1.0), rel=1e-3)
    with torch.no_grad():
        model.network.scale.div_(0.7)  # of the logits of code tokens
        rows = model.network.text_head.detach() / 0.7  # of the logits of the two others; the embeddings stay
    del model.network.text_head
    model.network.text_head = rows
    assert loss(1.0) == pytest.approx(divided, rel=1e-4)
