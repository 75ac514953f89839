"""P5-CID under the contract suite, and its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from baselines.letter import P5CID, P5CIDConfig
from harness.data.dataset import Dataset
from harness.generative.tokenizers.base import FileTokenizer
from harness.protocol.recommender import Recommender
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.testing.contract import RecommenderContract
from tests import toys

SMOKE = P5CIDConfig.profiles["smoke"]


@pytest.mark.nightly
class TestP5CID(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = P5CID
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"training": {"max_steps": 4, "choose": "last"}}
    pattern_floor: ClassVar[float] = 0.8
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 4

    def toy(self) -> Dataset:
        """Long enough that training sees histories of 20 items, as the test does."""
        return toys.cycle(users=24, length=24)


def short(**index: Any) -> P5CIDConfig:
    """The smoke profile with two steps and other codes."""
    training = {**SMOKE["training"], "max_steps": 2, "choose": "last"}
    return P5CIDConfig.model_validate({**SMOKE, "training": training, "index": {**SMOKE["index"], **index}})


def test_no_item_text_is_read(tmp_path: Path) -> None:
    split, model = toys.split(), P5CID(short())
    model.fit(replace(split.train, text=None), toys.context(tmp_path))
    record = model.record()
    assert not model.config.reads_text() and record["vectors"] == {} and record["network"] == "decoder"
    assert record["index"]["kind"] == "cid" and record["index"]["collision_rate"] == 0
    assert record["index"]["rows"] != "none", "the provenance says which training rows the codes have seen"


def test_initial_embeddings_may_come_from_collaborative_vectors(tmp_path: Path) -> None:
    base = short().model_dump()
    model = P5CID(P5CIDConfig.model_validate({**base, "network": {**base["network"], "codes": "centroid"}}))
    model.fit(toys.split().train, toys.context(tmp_path))
    assert list(model.record()["vectors"]) == ["collaborative"]


@pytest.mark.parametrize(
    "index", [{"branches": 2}, {"leaf": 12}, {"assignment": "kmeans"}, {"leaf_tokens": "shared"}], ids=str
)
def test_settings_of_the_index_change_the_codes(index: dict[str, Any], tmp_path: Path) -> None:
    data = toys.split().train
    one, other = (P5CID(config).item_codes(data, toys.context(tmp_path)) for config in (short(), short(**index)))
    assert not np.array_equal(one.table.digits, other.table.digits)


def test_profiles_and_a_ready_index() -> None:
    entry = model_entry("p5-cid")
    paper = resolve(entry, "paper", ConfigFile(), ()).model
    assert isinstance(paper, P5CIDConfig) and (paper.network.kind, paper.network.width) == ("t5", 512)
    ready = resolve(entry, "cpu", ConfigFile(), ("p5cid.index.kind=file",)).model
    assert isinstance(ready, P5CIDConfig) and isinstance(ready.item_tokenizer(), FileTokenizer)
    assert ready.network.kind == "decoder"
