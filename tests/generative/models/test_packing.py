"""Packed sequences are read as if each were alone: states and gradients, for every kind of model and a shared lead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.packing import pack, read_packed, read_padded
from tests.generative import toy_models

LEAD = [5, 9, 2, 30]


def sequences(vocabulary: int, lengths: tuple[int, ...] = (7, 3, 12, 1, 5, 2)) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, vocabulary, length) for length in lengths]


def alone(model: CodeLM, value: list[np.ndarray], lead: list[int]) -> torch.Tensor:
    """The states of each sequence read in a pass of its own, one behind the other."""
    passes = [model.states(torch.tensor([[*lead, *row.tolist()]]))[0, len(lead) :] for row in value]
    return torch.cat(passes)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
@pytest.mark.parametrize("lead", [[], LEAD])
def test_states_are_those_of_each_sequence_alone(tmp_path: Path, kind: str, lead: list[int]) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table(), kind)
    value = sequences(model.vocabulary + 12)
    read = read_packed(model, value, lead)
    assert read.states.shape[0] < len(value), "several share a row"
    places = np.arange(sum(map(len, value)))
    torch.testing.assert_close(read[places], alone(model, value, lead), rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60))
@settings(deadline=None, max_examples=30)
def test_rounded_layouts_return_often_and_hold_all(lengths: list[int]) -> None:
    layout = pack(lengths, rounded=True)
    assert layout.width % 16 == 0 and layout.rows * layout.width % 64 == 0
    assert (layout.column + np.array(lengths) <= layout.width).all() and layout.row.max() < layout.rows
    cells = np.repeat(layout.row * layout.width + layout.column, lengths) + np.concatenate(
        list(map(np.arange, lengths))
    )
    assert len(np.unique(cells)) == sum(lengths)


def test_attention_in_training_has_the_gradients_of_evaluation_kernels(tmp_path: Path) -> None:
    """Explicit attention weights in bfloat16 against the kernel of torch's choice."""
    model = toy_models.code_lm(tmp_path, toy_models.table())
    value, places = sequences(model.vocabulary), np.arange(30)
    inputs = list(model.body.layers[0].self_attn.parameters())
    gradients = []
    for training in (True, False):
        model.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            loss = read_packed(model, value, LEAD)[places].square().mean()
        gradients.append(torch.autograd.grad(loss, inputs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.02 * float(other.abs().max()))


@pytest.mark.parametrize("variant", ["sdpa", "eager", "checkpointing", "bfloat16"])
def test_every_way_to_compute_attention(tmp_path: Path, variant: str) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    value = sequences(model.vocabulary)
    if variant == "eager":
        model.body.set_attn_implementation("eager")
    if variant == "checkpointing":
        model.body.activation_checkpointing_enable()
        model.train()
    loose = variant == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=loose):
        read = read_packed(model, value, LEAD)[np.arange(sum(map(len, value)))]
        expected = alone(model, value, LEAD)
    torch.testing.assert_close(read, expected, rtol=0.05 if loose else 1e-4, atol=0.05 if loose else 1e-5)


@pytest.mark.parametrize("reading", ["packed", "padded"])
def test_gradients_reach_everything_through_the_shared_lead(tmp_path: Path, reading: str) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    value, weights = sequences(model.vocabulary + 12), torch.randn(30, 48)
    inputs = [parameter for parameter in model.parameters() if parameter is not model.code_out]
    expected = torch.autograd.grad((alone(model, value, LEAD) * weights).sum(), inputs, allow_unused=True)
    if reading == "packed":
        result = read_packed(model, value, LEAD)[np.arange(30)]
    else:
        read = read_padded(model, [np.concatenate([LEAD, row]) for row in value])
        result = read[np.concatenate([b + 4 + np.arange(len(row)) for b, row in zip(read.begins, value, strict=True)])]
    for one, other in zip(
        torch.autograd.grad((result * weights).sum(), inputs, allow_unused=True), expected, strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_sequences_of_one_length_need_no_mask_and_no_padding(tmp_path: Path) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    value = sequences(model.vocabulary, (40,) * 5)
    read = read_packed(model, value)
    assert read.states.shape[:2] == (5, 40)
    torch.testing.assert_close(read[np.arange(200)], alone(model, value, []), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_nothing_overlaps_and_little_is_empty(lengths: list[int]) -> None:
    layout = pack(lengths)
    selected = np.zeros((layout.rows, layout.width), np.int64)
    for length, row, column in zip(lengths, layout.row, layout.column, strict=True):
        selected[row, column : column + length] += 1
    assert selected.max() == 1 and (selected > 0).any(axis=1).all()
    padded = len(lengths) * max(lengths)
    assert layout.rows * layout.width <= padded
    assert layout.rows * layout.width <= 2 * sum(lengths) + max(lengths) * 3


def test_a_pack_of_many_lengths_is_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(8, 84, 200)
    layout = pack(lengths)
    assert lengths.sum() / (layout.rows * layout.width) > 0.97
