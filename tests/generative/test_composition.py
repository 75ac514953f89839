"""Composition: every tokenizer under every generative method, and a new one from outside by one registry line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.generative.recommender import GenerativeRecommender
from harness.registry import TOKENIZERS, model_entry
from harness.runs.config import ConfigFile, resolve
from tests import toys

METHODS = {
    "tiger": "tiger",
    "tiger-decoder": "tiger",
    "rpg": "rpg",
    "lcrec": "lcrec",
    "eager-llm": "eager",
}  # name → section
SHORT = {
    "tiger": ("tiger.training.max_steps=2", "tiger.training.choose=last"),
    "tiger-decoder": ("tiger.training.max_steps=2", "tiger.training.choose=last"),
    "rpg": ("rpg.training.max_steps=2", "rpg.training.choose=last"),
    "lcrec": ("lcrec.tuning.max_steps=2", "lcrec.comprehension.items=0"),
    "eager-llm": (
        "eager.tuning.max_steps=2",
        "eager.annealing.max_steps=2",
        "eager.comprehension.items=0",
        "eager.behavior.epochs=1",
    ),
}
BEHAVIOR = {"behavior.encoder": "graph", "behavior.dim": 8}
KINDS: dict[str, dict[str, Any]] = {
    "rqvae": {"levels": 2, "size": 8, "distinct": "token", "rqvae.hidden": [16], "rqvae.latent": 4, "rqvae.epochs": 2},
    "rqkmeans": {"levels": 3, "size": 4, "balanced": True, "distinct": "token"},
    "opq": {"levels": 3, "size": 4, "rotations": 2},
    "tree": {"index.k": 5, **BEHAVIOR},
    "random": {"index.k": 6, "index.sources": ["semantic"]},
    "file": {},
    "spectral": {"branches": 3, "leaf": 4},
    "letter": {
        "levels": 2,
        "size": 8,
        "losses.clusters": 3,
        "rqvae.hidden": [16],
        "rqvae.latent": 4,
        "rqvae.epochs": 2,
    },
    "cid": {"branches": 3, "leaf": 4},
}
SPECTRAL = "tests.generative.spectral_tokenizer:SpectralTokenizer"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry line of a tokenizer that is not of this project."""
    monkeypatch.setitem(TOKENIZERS, "spectral", SPECTRAL)


def recommender(method: str, *sets: str, short: bool = True) -> GenerativeRecommender[Any]:
    """The method under its smoke profile with settings of the command line."""
    entry = model_entry(method)
    config = resolve(entry, "smoke", ConfigFile(), (*sets, *(SHORT[method] if short else ()))).model
    model = entry.load()(config.resolved("cpu"))
    assert isinstance(model, GenerativeRecommender)
    return model


def tokenizer_sets(method: str, kind: str, folder: Path) -> list[str]:
    """`--set` texts that select a tokenizer."""
    settings = dict(KINDS[kind])
    if kind == "file":
        index = {f"i{item}": [f"<a_{item // 5}>", f"<b_{item % 5}>"] for item in range(24)}
        settings["file"] = str(folder / "toy.index.json")
        (folder / "toy.index.json").write_text(json.dumps(index))
    section = METHODS[method]
    named = [f"{section}.tokenizer.{name}={json.dumps(value)}" for name, value in settings.items()]
    return [f"{section}.tokenizer.kind={kind}", *named]


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_tokenizer_crosses_with_every_method(method: str, kind: str, tmp_path: Path) -> None:
    sets, split, context = tokenizer_sets(method, kind, tmp_path), toys.split(), toys.context(tmp_path)
    model = recommender(method, *sets)
    model.fit(split.train, context)
    assert model.record()["index"]["kind"] == kind
    index = model.item_codes(split.train, context)
    assert model.record()["index"]["fingerprint"] == index.record()["fingerprint"], "the network writes these codes"
    assert tuple(model.model.sizes) == index.table.sizes
    lists = model.recommend(split.test.requests, 10, context)
    assert (lists.lengths == 10).all()
    model.save(tmp_path / "saved")
    repeated = recommender(method, *sets)
    repeated.load(tmp_path / "saved", split.train, context)
    loaded = repeated.recommend(split.test.requests, 10, context)
    np.testing.assert_array_equal(loaded.items, lists.items)
    np.testing.assert_array_equal(loaded.scores, lists.scores)


@pytest.mark.parametrize("kind", ["tree", "spectral"])
def test_codes_are_the_tokenizers_whatever_the_method(kind: str, tmp_path: Path) -> None:
    data, codes = toys.split().train, []
    for method in ("tiger", "lcrec"):
        sets = tokenizer_sets(method, kind, tmp_path)
        sets += [f"{METHODS[method]}.semantic.fields=[title]"]  # the method's section: the tokenizer names no other
        codes.append(recommender(method, *sets).item_codes(data, toys.context(tmp_path)).table.digits)
    np.testing.assert_array_equal(*codes)


def test_tiger_learns_the_pattern_on_other_codes(tmp_path: Path) -> None:
    split = toys.split(toys.cycle(users=24, length=24))
    steps = ("tiger.training.max_steps=150", "tiger.training.choose=last")
    model = recommender("tiger", *tokenizer_sets("tiger", "spectral", tmp_path), *steps, short=False)
    model.fit(split.train, toys.context(tmp_path, split.valid))
    lists = model.recommend(split.test.requests, 10, toys.context(tmp_path))
    assert compute_metrics(lists, split.test.targets)["ndcg@10"] >= 0.5, "chance is 0.2"


def test_sections_that_a_tokenizer_leaves_out_are_the_methods(tmp_path: Path) -> None:
    eager = recommender("eager-llm", "eager.tokenizer.kind=tree", "eager.behavior.dim=6")
    assert eager.method.tokenizer.model_dump()["behavior"]["dim"] == 6
    tiger = recommender("tiger", "tiger.tokenizer.kind=tree", "tiger.semantic.fields=[title]")
    assert tiger.method.tokenizer.model_dump()["semantic"]["fields"] == ("title",)
    local = "tiger.tokenizer.semantic.fields=[brand]"
    tiger = recommender("tiger", "tiger.tokenizer.kind=tree", "tiger.semantic.fields=[title]", local)
    assert tiger.method.tokenizer.model_dump()["semantic"]["fields"] == ("brand",)


@pytest.mark.parametrize("method", METHODS)
def test_what_explain_lists_is_what_fitting_makes(method: str, tmp_path: Path) -> None:
    """The cache entries of a crossed tokenizer, and of the method's own."""
    for sets in ([], tokenizer_sets(method, "tree", tmp_path)):
        model, data, context = recommender(method, *sets), toys.split().train, toys.context(tmp_path / str(len(sets)))
        entries = model.artefacts(data, context)
        assert entries and all(entry.state() != "kept" for entry in entries)
        model.tokenize(data, context)
        assert all(entry.state() == "kept" for entry in entries)
        assert len(list(context.cache.glob("vectors/*.npy"))) == len(entries)


def test_settings_of_a_tokenizer_are_part_of_the_configuration_and_the_default_is_not(tmp_path: Path) -> None:
    plain, crossed = (
        recommender("tiger").config,
        recommender("tiger", *tokenizer_sets("tiger", "tree", tmp_path)).config,
    )
    assert "tokenizer" not in plain.model_dump(mode="json"), "runs from before this setting keep their key"
    stored = crossed.model_dump(mode="json")
    assert stored["tokenizer"]["index"]["k"] == 5
    assert resolve(model_entry("tiger"), "smoke", ConfigFile(None, {}, {"tiger": stored}), ()).model == crossed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tiger.tokenizer.kind=tre", "unknown tokenizer 'tre'; did you mean tree"),
        ("tiger.tokenizer.levels=3", "kind is missing"),
        ("tiger.tokenizer={kind: tree, depth: 3}", "depth"),
        ("tiger.tokenizer={kind: rqvae, levels: 0}", "levels"),
    ],
)
def test_a_wrong_tokenizer_is_one_clear_line(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        recommender("tiger", setting)
    assert "\n" not in str(error.value)
    assert "tokenizer" in str(error.value)


def test_a_tree_that_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    model = recommender("tiger", "tiger.tokenizer.kind=tree", "tiger.tokenizer.index.k=40")
    with pytest.raises(InputError, match=r"fewer than index\.k"):
        model.fit(toys.split().train, toys.context(tmp_path))


def test_released_windows_are_declared_as_a_leak_under_any_method() -> None:
    leaking = recommender("tiger", "tiger.tokenizer.kind=tree", "tiger.tokenizer.behavior.windows=released")
    assert len(leaking.config.leaks()) == 1 and recommender("tiger", "tiger.tokenizer.kind=tree").config.leaks() == ()
