"""LETTER-TIGER and LETTER-LC-Rec: contract suite, canary of held-out rows, settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from baselines.letter import P5CID, LetterLCRec, LetterLCRecConfig, LetterTiger, LetterTigerConfig, P5CIDConfig
from harness.data.dataset import Dataset
from harness.generative.recommender import GenerativeRecommender
from harness.generative.tokenizers.letter import LetterTokenizer
from harness.protocol.protocol import Protocol
from harness.protocol.recommender import Recommender
from harness.protocol.split import split
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.testing.contract import RecommenderContract
from tests import toys
from tests.eager.test_tree_tokenizer import planted

SMOKE = LetterTigerConfig.profiles["smoke"]


@pytest.mark.nightly
class TestLetterTiger(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = LetterTiger
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"training": {"max_steps": 4, "choose": "last"}}
    pattern_floor: ClassVar[float] = 0.8
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 16  # behind the RQ-VAE's passes

    def toy(self) -> Dataset:
        """Long enough that training sees histories of 20 items, as the test does."""
        return toys.cycle(users=24, length=24)


@pytest.mark.nightly
class TestLetterLCRec(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = LetterLCRec
    settings: ClassVar[dict[str, Any]] = LetterLCRecConfig.profiles["smoke"]
    brief: ClassVar[dict[str, Any]] = {"tuning": {"max_steps": 4}}
    pattern_floor: ClassVar[float] = 0.8
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 40

    def toy(self) -> Dataset:
        """As LC-Rec's."""
        return toys.cycle(length=12)


def short(**index: Any) -> LetterTigerConfig:
    """The smoke profile with two steps and other codes."""
    training = {**SMOKE["training"], "max_steps": 2, "choose": "last"}
    return LetterTigerConfig.model_validate({**SMOKE, "training": training, "index": {**SMOKE["index"], **index}})


MODELS: dict[str, GenerativeRecommender[Any]] = {
    "letter-tiger": LetterTiger(short()),
    "letter-lcrec": LetterLCRec(LetterLCRecConfig.model_validate({"index": SMOKE["index"]})),
    "p5-cid": P5CID(P5CIDConfig.model_validate(P5CIDConfig.profiles["smoke"])),
}


@pytest.mark.parametrize("name", MODELS)
def test_other_held_out_items_change_no_code(name: str, tmp_path: Path) -> None:
    """The canary: two data sets with equal training parts, whose items the readers number differently."""
    result = []
    for answers in (1, 2):
        data = split(planted(answers), Protocol())
        index = MODELS[name].item_codes(data.train, toys.context(tmp_path / str(answers), data.valid))
        order = sorted(range(24), key=data.train.items.__getitem__)
        result.append((data.train.items, index.table.digits[order], index.provenance))
    assert result[0][0] != result[1][0]
    np.testing.assert_array_equal(result[0][1], result[1][1])
    assert result[0][2] == result[1][2]


def test_the_record_has_both_vectors_collisions_and_use(tmp_path: Path) -> None:
    model = LetterTiger(short())
    model.fit(toys.split().train, toys.context(tmp_path))
    record = model.record()
    assert set(record["vectors"]) == {"semantic", "collaborative"}
    index = record["index"]
    assert index["kind"] == "letter" and index["rows"] != "none"
    assert 0 <= index["collision_rate"] <= index["rqvae"]["collisions_first"] <= 1
    assert [level["size"] for level in index["levels"]] == [8, 8]
    json.dumps(record)


@pytest.mark.parametrize(
    "index",
    [
        {"levels": 3},
        {"size": 6},
        {"distinct": "token"},
        {"losses": {"clusters": 3, "alignment": 1.0}},
        {"collaborative": {"graph": {"reach": 1}}, "losses": {"clusters": 3, "alignment": 1.0}},
    ],
    ids=json.dumps,
)
def test_settings_of_the_index_change_the_codes(index: dict[str, Any], tmp_path: Path) -> None:
    data, base = toys.split().train, {"losses": {"clusters": 3, "alignment": 1.0}} if "collaborative" in index else {}
    one, other = (
        LetterTiger(config).item_codes(data, toys.context(tmp_path)) for config in (short(**base), short(**index))
    )
    assert one.record()["rqvae"]["loss"] != other.record()["rqvae"]["loss"] or one.table.sizes != other.table.sizes


def test_settings_of_the_authors() -> None:
    tiger = resolve(model_entry("letter-tiger"), "paper", ConfigFile(), ()).model
    assert isinstance(tiger, LetterTigerConfig) and tiger.variant == "released"
    assert (tiger.index.losses.alignment, tiger.index.losses.diversity, tiger.index.rqvae.epochs) == (
        0.01,
        1e-4,
        20_000,
    )
    assert (tiger.training.learning_rate, tiger.training.batch * tiger.training.accumulate) == (5e-4, 1024)
    lcrec = resolve(model_entry("letter-lcrec"), "paper", ConfigFile(), ()).model
    assert isinstance(lcrec, LetterLCRecConfig) and list(lcrec.tasks.weights()) == ["seqrec"]
    assert lcrec.tuning.adapter and (lcrec.tuning.rank, lcrec.tuning.alpha) == (8, 32)
    assert isinstance(lcrec.item_tokenizer(), LetterTokenizer)


def test_both_take_ready_codes_and_other_tokenizers() -> None:
    for name, section in (("letter-tiger", "letter_tiger"), ("letter-lcrec", "letter_lcrec")):
        entry = model_entry(name)
        for sets, kind in (((f"{section}.index.kind=file",), "file"), ((f"{section}.tokenizer.kind=cid",), "cid")):
            config: Any = resolve(entry, "cpu", ConfigFile(), sets).model
            assert config.item_tokenizer().kind == kind
