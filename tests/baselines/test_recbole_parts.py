"""The parts of RecBole's adapter that need no RecBole: names, item features, and the forms of samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.recbole.model_table import ALL, BRAND, CATEGORIES, RECBOLE_MODELS, WORDS, recbole_model, recbole_models
from baselines.recbole.recommender import MOST, TITLE_WORDS, item_features
from harness.data.dataset import ItemText
from harness.errors import InputError
from harness.registry import model_entry

ROOT = Path(__file__).parents[2]


def test_names_are_recboles_own_and_read_without_importing_it() -> None:
    kinds = recbole_models()
    assert {name for name in RECBOLE_MODELS if kinds[name] != "sequential"} == set()
    assert (kinds["BPR"], kinds["KGAT"], kinds["STAMP"]) == ("general", "knowledge_aware", "sequential")
    code = "import sys; from harness.registry import model_entry; model_entry('recbole:stamp'); "
    code += "print([name for name in ('recbole', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_prefix_resolves_to_any_sequential_model() -> None:
    entry = model_entry("recbole:stamp")
    assert (entry.name, entry.preset, entry.needs) == ("recbole:STAMP", (("model", "STAMP"),), ())
    assert model_entry("recbole:SASRecF").needs == ("text",)
    assert model_entry("recbole:GRU4Rec") is model_entry("gru4rec")
    for name in ("bert4rec", "caser", "hgn", "narm", "lightsans", "sasrec", "gru4rec"):
        assert model_entry(name).needs == ()
    for name in ("fdsa", "s3rec"):
        assert model_entry(name).needs == ("text",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SASRek", r"unknown RecBole model 'SASRek'; did you mean SASRec"),
        ("BPR", r"RecBole's BPR is no sequential model \(its kind is general\); choose one of BERT4Rec"),
        ("KSR", r"RecBole's KSR needs a knowledge graph"),
        ("DIN", r"RecBole's DIN is trained on labels and scores one item at a time"),
        ("", r"unknown RecBole model ''"),
    ],
)
def test_what_cannot_be_run_gives_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model_entry(f"recbole:{name}")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_the_loss_decides_about_negative_items() -> None:
    for name in ("STAMP", "SINE", "RepeatNet", *RECBOLE_MODELS):
        assert recbole_model(name).pinned["train_neg_sample_args"] is None, name
    for name in ("FPMC", "TransRec"):
        assert recbole_model(name).pinned["train_neg_sample_args"]["sample_num"] == 1
        assert recbole_model(name).pinned["loss_type"] == "BPR"


def items(count: int = 12) -> list[ItemText]:
    """Two categories, one that all share and one of a single item; a brand of three; words of titles."""
    return [
        ItemText(
            title=f"The {'blue' if i % 2 else 'red'} pen number{'abcdefghijklmnop'[i] * 3} box",
            brand="Inky" if i < 3 else f"Maker {i}",
            categories=("Office", "Pens" if i % 2 else "Ink", *(("Rare",) if not i else ())),
        )
        for i in range(count)
    ]


def test_features_are_what_some_share_and_not_all() -> None:
    result = item_features(items(), np.ones(12, bool), location="toy")
    assert [result[CATEGORIES][i].tolist() for i in (0, 1)] == [[0], [1]]  # neither "Office" nor "Rare"
    assert [result[BRAND][i].tolist() for i in (0, 2, 3)] == [[0], [0], []]
    assert set(result[WORDS].values.tolist()) == {0, 1}  # "blue" and "red"; "pen" and "box" are everywhere
    assert result[WORDS][0].tolist() != result[WORDS][1].tolist()
    sizes = [int(result[name].values.max()) + 1 for name in (CATEGORIES, BRAND, WORDS)]
    together = [result[CATEGORIES][0][0], sizes[0] + result[BRAND][0][0], sizes[0] + sizes[1] + result[WORDS][0][0]]
    assert result[ALL][0].tolist() == together


def test_items_without_training_interactions_change_nothing_for_the_others() -> None:
    output = np.arange(12) < 10
    expected = item_features(items(), output, location="toy")
    other = items()
    other[10:] = [ItemText(title="red red red gadget", brand="Inky", categories=("Ink", "Gadgets"))] * 2
    changed = item_features(other, output, location="toy")
    for name in expected:
        assert [row.tolist() for row in expected[name]][:10] == [row.tolist() for row in changed[name]][:10]
    assert len(changed[CATEGORIES][10]) == len(changed[BRAND][10]) == 1  # known tokens reach them all the same


def test_features_are_bounded() -> None:
    words = [f"{'abcdefghij'[i // 10 % 10]}{'klmnopqrst'[i % 10]}{'uvwxyzabcd'[i // 100]}" for i in range(400)]
    text = [ItemText(title=" ".join(words[j % 400] for j in range(i, i + 12))) for i in range(400)]
    result = item_features(text, np.ones(400, bool), location="toy")
    assert result[WORDS].values.max() == MOST - 1 and result[WORDS].lengths.max() <= TITLE_WORDS


def test_no_shared_token_at_all_gives_one_clear_line() -> None:
    text = [ItemText(title=word, brand=word) for word in ("alpha", "beta", "gamma", "delta")]
    with pytest.raises(InputError, match="toy: no category, brand or title word is shared by 3 items"):
        item_features(text, np.ones(4, bool), location="toy")


def test_pretraining_draws_what_it_says() -> None:
    torch = pytest.importorskip("torch")
    from baselines.recbole.data import PretrainingData

    items, features, ratio = 30, 5, 0.4
    table = torch.rand(items + 1, features)
    draw = PretrainingData(table, ratio)
    torch.manual_seed(1)
    lengths = torch.randint(1, 9, (400,))
    rows = torch.stack([torch.randperm(items - 1)[:8] + 1 for _ in lengths]) * (torch.arange(8) < lengths[:, None])
    result, masked, true, negative, hidden, local, other = draw(rows, lengths)
    for row, length, remaining in zip(rows, lengths, true, strict=True):
        assert remaining.tolist() == [0] * (8 - length) + row[:length].tolist()
    np.testing.assert_array_equal(result, table[true])
    real, removed = true != 0, masked == items
    assert not (removed & ~real).any() and (masked == true)[~removed].all()
    assert removed.sum() / real.sum() == pytest.approx(ratio, abs=0.05)
    assert (negative == true)[~removed].all()
    assert all(int(item) not in row.tolist() for row, samples in zip(true, negative, strict=True)
               for item in samples[(samples != 0) & (samples != row)])  # fmt: skip
    assert (negative[removed] != true[removed]).all() and negative.max() < items
    inside = hidden == items
    for row in range(len(true)):
        span, length = int(inside[row].sum()), int(lengths[row])
        assert span == 0 if length == 1 else 1 <= span <= length // 2
        places = torch.nonzero(inside[row]).flatten()
        assert not span or int(places[-1] - places[0]) == span - 1
    assert (local == true)[inside].all() and (hidden == true)[~inside].all()
    long = (lengths > 1)[:, None] & real & ~inside
    assert (local[long] == items).all() and (other[long] == items).all()
    assert (other[inside] != true[inside]).float().mean() > 0.5 and (other[inside] > 0).all()
    alone = lengths == 1
    for value in (hidden, local, other):
        np.testing.assert_array_equal(value[alone], true[alone])
