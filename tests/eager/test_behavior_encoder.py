"""The behaviour source: what DIN and SASRec compute, what they may see, and how the pass is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eager.behavior_encoder import BehaviorEmbeddings, train_encoder
from eager.behavior_models import DIN, HISTORY, WINDOWS, BehaviorConfig, SASRec, cut, every_target, released
from harness.core import timer
from harness.data.dataset import CanonicalOrder
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from tests import toys
from tests.stops import StopAfter

SASREC: dict[str, Any] = {"encoder": "sasrec", "choose": "last", "dim": 8, "layers": 1, "epochs": 2, "window": 6}
DIN_: dict[str, Any] = {"encoder": "din", "choose": "last", "dim": 8, "epochs": 2, "negatives": 5}


def vectors_of(folder: Path, config: dict[str, Any], **changes: Any) -> np.ndarray:
    settings = BehaviorConfig.model_validate({**config, **changes})
    split = toys.split()
    context = toys.context(folder, split.valid)
    if settings.windows == "released":
        context = replace(context, validation_items=split.valid.targets.items)
    return BehaviorEmbeddings(settings).fit(split.train, context).values


@pytest.mark.parametrize("base", [SASREC, DIN_], ids=["sasrec", "din"])
def test_vectors_depend_on_data_seed_and_settings(base: dict[str, Any], tmp_path: Path) -> None:
    data, context, config = toys.split().train, toys.context(tmp_path), BehaviorConfig.model_validate(base)
    first, cached = BehaviorEmbeddings(config).fit(data, context), BehaviorEmbeddings(config).fit(data, context)
    assert first.values.shape == (24, 8) and first.values.dtype == np.float32
    assert first.key == cached.key and first.provenance.rows == "training" and cached.details == first.details
    np.testing.assert_array_equal(first.values, cached.values)
    afresh = BehaviorEmbeddings(config).fit(data, toys.context(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(first.values, afresh.values)
    keys = {
        first.key,
        BehaviorEmbeddings(config).fit(data, replace(context, seed=2)).key,
        BehaviorEmbeddings(config.model_copy(update={"epochs": 1})).fit(data, context).key,
        BehaviorEmbeddings(config).fit(toys.split(toys.noise()).train, context).key,
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("base", "change"),
    [(base, change) for base in (SASREC, DIN_) for change in (
        {"windows": "released"}, {"epochs": 3}, {"batch": 16}, {"learning_rate": 1e-2}, {"weight_decay": 0.9},
        {"dropout": 0.6},
    )]
    + [(SASREC, {"window": 4}), (SASREC, {"layers": 2}), (SASREC, {"heads": 1}), (SASREC, {"label_smoothing": 0.5})]
    + [(DIN_, {"negatives": 3}), (DIN_, {"samples": 40}), (SASREC, {"encoder": "din"})],
    ids=str,
)  # fmt: skip
def test_every_switch_does_something(base: dict[str, Any], change: dict[str, Any], tmp_path: Path) -> None:
    assert np.abs(vectors_of(tmp_path, base) - vectors_of(tmp_path, base, **change)).max() > 1e-6


@pytest.mark.parametrize(
    ("base", "changes"),
    [(SASREC, {"dropout": 0.3}), (DIN_, {"dropout": 0.3}), (SASREC, {"choose": "validation", "patience": 2})],
    ids=["sasrec", "din", "validation"],
)
def test_an_interrupted_training_goes_on_within_a_pass(
    base: dict[str, Any], changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    split, config = toys.split(), BehaviorConfig.model_validate({**base, "epochs": 6, "batch": 16, **changes})
    counted, rest = StopAfter(), StopAfter()
    complete = BehaviorEmbeddings(config).fit(
        split.train, toys.context(tmp_path / "whole", split.valid, reporter=counted)
    )
    stop = counted.calls * 2 // 3
    with pytest.raises(KeyboardInterrupt):
        BehaviorEmbeddings(config).fit(split.train, toys.context(tmp_path, split.valid, reporter=StopAfter(stop)))
    repeated = BehaviorEmbeddings(config).fit(split.train, toys.context(tmp_path, split.valid, reporter=rest))
    assert rest.calls <= counted.calls - stop + 3, "it started anew"
    np.testing.assert_array_equal(complete.values, repeated.values)
    assert complete.record() == repeated.record()


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (SASREC, {"dim": 16, "epochs": 60, "batch": 16, "learning_rate": 1e-2, "dropout": 0.0, "window": 21}),
        (DIN_, {"dim": 16, "epochs": 15, "batch": 16, "learning_rate": 2e-2, "dropout": 0.0, "negatives": 10}),
    ],
    ids=["sasrec", "din"],
)
def test_neighbours_on_the_circle_are_learned(base: dict[str, Any], settings: dict[str, Any], tmp_path: Path) -> None:
    """The planted cycle: an item's successor should be told by the encoder, which is what its vectors are good for."""
    data = toys.split(toys.cycle(length=12)).train
    order = CanonicalOrder.of((), [f"{item:02}" for item in range(24)])
    rows = [np.asarray(row) for row in data.sequences]
    config = BehaviorConfig.model_validate({**base, **settings})
    encoder, _ = train_encoder(rows, 24, order, config, toys.context(tmp_path))
    with torch.no_grad():
        scores = encoder.scores([(np.arange(5) + item) % 24 for item in range(24)])
    assert (scores.argmax(-1) == (torch.arange(24) + 5) % 24).float().mean() > 0.8


def test_din_is_what_its_definition_says() -> None:
    """The factored attention unit and the windows, against the plain way, one history and one candidate at a time."""
    torch.manual_seed(3)
    model = DIN(10, BehaviorConfig(dim=4)).eval()
    history, candidate = torch.tensor([[10] * 5 + [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]]), 7
    with torch.no_grad():
        result = model(history, torch.tensor([[candidate]]))
        among = model(history, torch.tensor([[0, 3, candidate, 9]]))  # many candidates take another way
        q, h = model.item.weight[candidate], model.item(history[0])
        products = torch.stack([model.unit_product @ (q * row) for row in h])
        weights = model.unit(products + model.unit_query(q) + model.unit_history(h))[:, 0] * (history[0] != 10)
        pieces, begin = [], 0
        for size in WINDOWS:
            pieces.append((weights[begin : begin + size, None] * h[begin : begin + size]).sum(0))
            begin += size
        expected = model.mlp(torch.cat([*pieces, q])[None])
    assert begin == HISTORY == 19
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(among[:, 2:3], expected, atol=1e-5, rtol=1e-4)
    full = torch.randn(16, 4)  # the factored first layer is a layer on [q, h, q-h, q∘h] with A+C, B-C and D
    a, b, c, d = full[:4], full[4:8], full[8:12], full[12:]
    plain = q @ a + h[6] @ b + (q - h[6]) @ c + (q * h[6]) @ d
    torch.testing.assert_close(q @ (a + c) + h[6] @ (b - c) + (q * h[6]) @ d, plain)


def test_din_loss_is_the_corrected_sampled_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DIN(11, BehaviorConfig(dim=4, negatives=3))
    logits = torch.tensor([[1.0, 0.5, 2.0, -1.0]])
    monkeypatch.setattr(model, "forward", lambda histories, candidates: logits)

    class Drawn:
        def integers(self, *value: Any, **named: Any) -> np.ndarray:
            return np.array([[4, 6, 6]])  # the label is 4: masked, two negatives count

    batch = torch.tensor([[11] * 18 + [2, 4]])
    loss = model.loss(batch, Drawn())  # pyright: ignore[reportArgumentType]
    shift = np.log(2 / 10)
    expected = np.log(np.exp(1) + np.exp(2 - shift) + np.exp(-1 - shift)) - 1
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_clean_windows_make_every_training_item_a_target_and_released_ones_slide() -> None:
    long, short = np.arange(22), np.array([30, 31, 32])
    clean = every_target(RaggedArray.of([long, [7], short, []]), 99)
    assert len(clean) == 21 + 2 and clean[:, -1].tolist() == [*range(1, 22), 31, 32]
    assert clean[0].tolist() == [99] * 18 + [0, 1]
    value = released(RaggedArray.of([long, [7], short, []]), 99)
    assert value[:, -1].tolist() == [19, 20, 21, 32] and value[0].tolist() == list(range(20))
    assert value[3].tolist() == [99] * 17 + [30, 31, 32]
    for windows in (every_target, released):
        assert windows(RaggedArray.of([]), 99).shape == (0, 20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 21), st.data())
def test_sasrec_windows_are_what_their_definition_says(lengths: list[int], window: int, data: st.DataObject) -> None:
    """Row by row: the first window of a long row ends `shift` items early, and windows overlap by one item."""
    shift = data.draw(st.integers(0, window - 1))
    rows = [np.arange(length) + 100 * number for number, length in enumerate(lengths)]
    expected = []
    for row in rows:
        begin = -min(shift, len(row) - 2) if len(row) > window else 0
        while begin < len(row) - 1:
            piece = row[max(begin, 0) : begin + window + 1].tolist()
            expected.append(piece + [9999] * (window + 1 - len(piece)))
            begin += window
    assert cut(RaggedArray.of(rows), window, shift, 9999).tolist() == expected


@pytest.mark.parametrize("base", [SASREC, DIN_], ids=["sasrec", "din"])
def test_released_windows_see_validation_items_and_say_so(base: dict[str, Any], tmp_path: Path) -> None:
    split, config = toys.split(), BehaviorConfig.model_validate({**base, "windows": "released"})
    with pytest.raises(InputError, match="released windows need validation items"):
        BehaviorEmbeddings(config).fit(split.train, toys.context(tmp_path))
    output = replace(toys.context(tmp_path), validation_items=split.valid.targets.items)
    one = BehaviorEmbeddings(config).fit(split.train, output)
    assert one.provenance.rows == "training+validation"
    other = BehaviorEmbeddings(config).fit(
        split.train, replace(output, validation_items=np.roll(split.valid.targets.items, 1))
    )
    assert one.key != other.key and np.abs(one.values - other.values).max() > 1e-6


@pytest.mark.parametrize("base", [SASREC, DIN_], ids=["sasrec", "din"])
def test_the_best_pass_on_validation_is_taken_and_patience_ends_training(base: dict[str, Any], tmp_path: Path) -> None:
    split, requested = toys.split(), []
    values = iter([0.1, 0.5, 0.4, 0.3, 0.9])

    def score(predictions: Predictions) -> dict[str, float]:
        requested.append(len(predictions.cases))
        return {"ndcg@10": next(values)}

    def context(folder: str, scored: bool) -> RunContext:
        plain = toys.context(tmp_path / folder, split.valid)
        assert plain.validation is not None
        return replace(plain, validation=replace(plain.validation, score=score)) if scored else plain

    settings = {**base, "choose": "validation", "epochs": 9, "patience": 2, "validation_users": 7}
    result = BehaviorEmbeddings(BehaviorConfig.model_validate(settings)).fit(split.train, context("a", True))
    assert result.details == {"passes": 4, "chosen": 2, "valid_ndcg@10": 0.5} and requested == [7] * 4
    stored = {**settings, "choose": "last", "epochs": 9}
    last = BehaviorEmbeddings(BehaviorConfig.model_validate(stored)).fit(split.train, context("b", False))
    assert last.details == {"passes": 9, "chosen": "last"} and np.abs(last.values - result.values).max() > 1e-6


def test_scores_are_of_the_whole_catalogue_after_each_history() -> None:
    for model in (DIN(30, BehaviorConfig(dim=4)).eval(), SASRec(30, BehaviorConfig(dim=4)).eval()):
        histories = [np.array([1, 2, 3]), np.arange(25), np.array([], dtype=np.int64)]
        with torch.no_grad():
            together, alone = model.scores(histories), model.scores(histories[1:2])
        assert together.shape == (3, 30)
        torch.testing.assert_close(together[1:2], alone)
