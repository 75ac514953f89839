"""LC-Rec under the contract suite; its codes, its switches, and in what its profiles differ from EAGER-LLM's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from baselines.lcrec import LCRec, LCRecConfig
from eager.config import EagerConfig
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.generative.tokenizers.base import INDEX_FILE
from harness.protocol.recommender import Recommender
from harness.testing.contract import RecommenderContract
from tests import toys

SMOKE = LCRecConfig.profiles["smoke"]


@pytest.mark.nightly
class TestLCRec(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = LCRec
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"tuning": {"max_steps": 4}}
    pattern_floor: ClassVar[float] = 0.9
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 40  # in the middle of tuning, behind the 30 passes of the RQ-VAE

    def toy(self) -> Dataset:
        """Longer than the default, so that training sees histories about as long as the test's."""
        return toys.cycle(length=12)


def changed(**sections: dict[str, Any]) -> LCRecConfig:
    """The smoke profile, shorter, with some settings changed and nothing measured on the way."""
    short = {"tuning": {**SMOKE["tuning"], "max_steps": 4}, "comprehension": {"items": 0}}
    base: dict[str, Any] = {**SMOKE, **short}
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    return LCRecConfig.model_validate(merged)


def fitted(config: LCRecConfig, folder: Path) -> LCRec:
    return toys.fitted(LCRec(config), folder)


def rows(model: LCRec) -> torch.Tensor:
    return model.model.code_in.detach()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LCRec:
    return fitted(changed(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "section",
    [
        {"index": {"levels": 3}},
        {"index": {"k": 16}},
        {"index": {"rqvae": {**SMOKE["index"]["rqvae"], "separate": "none", "sinkhorn": 0}}},
        {"semantic": {"fields": ("title", "description", "categories")}},
        {"backbone": {"codes": "random"}},
        {"tasks": {"item2index": 5.0}},
        {"tuning": {"adapter": True}},
        {"tuning": {"normalise": "children"}, "decode": {"normalise": "children"}},
    ],
    ids=lambda section: json.dumps(section),
)
def test_every_switch_does_something(section: dict[str, Any], plain: LCRec, tmp_path: Path) -> None:
    other = fitted(changed(**section), tmp_path)
    same_shape = rows(plain).shape == rows(other).shape
    assert not (same_shape and torch.equal(rows(plain), rows(other)))


@pytest.mark.parametrize("section", ["tuning", "decode"])
def test_training_and_decoding_by_different_rules_are_refused(section: str) -> None:
    with pytest.raises(ValueError, match="use the same normalisation"):
        changed(**{section: {"normalise": "children"}})


def test_one_stage_no_term_and_the_record_says_what_the_codes_are(plain: LCRec) -> None:
    record = plain.record()
    assert list(record["stages"]) == ["alignment"] and record["comprehension"] is None
    index = record["index"]
    assert (index["kind"], index["rows"], len(index["levels"])) == ("rqvae", "none", 4)
    assert index["collision_rate"] == index["rqvae"]["collisions"] and index["rqvae"]["rounds"] <= 20
    assert list(record["vectors"]) == ["semantic"]


def test_comprehension_is_measured_before_and_after(tmp_path: Path) -> None:
    result = fitted(changed(comprehension={"items": 3}), tmp_path).record()["comprehension"]
    assert list(result) == ["before", "aligned", "measured_on"]
    assert result["before"]["plain_text_drift"] == 0 and result["aligned"]["plain_text_drift"] != 0


def lettered(folder: Path, drop: str | None = None) -> Path:
    """An index file in which items 0 and 1 share a code."""
    index = {f"i{item}": [f"<a_{max(item, 1)}>", f"<b_{max(item, 1) % 5}>"] for item in range(24)}
    index.pop(drop, None)  # type: ignore[arg-type]
    path = folder / "toy.index.json"
    path.write_text(json.dumps(index))
    return path


@pytest.mark.parametrize("codes", ["centroid", "random"])
def test_a_given_index_may_collide_and_shared_codes_are_expanded(codes: str, tmp_path: Path) -> None:
    path = lettered(tmp_path)
    config = changed(index={"kind": "file", "file": str(path)}, backbone={"codes": codes})
    assert config.files(toys.split().train) == (path,)
    model = fitted(config, tmp_path)
    assert json.loads((tmp_path / "run" / INDEX_FILE).read_text()) == json.loads(path.read_text())
    assert model.record()["index"]["collision_rate"] == pytest.approx(2 / 24)
    groups = model.code_groups()
    assert groups is not None and groups.dtype == np.int64 and len(np.unique(groups)) == 23
    assert groups[0] == groups[1]
    predictions = model.recommend(toys.split().test.requests, 24, toys.context(tmp_path))
    assert (predictions.lengths == 24).all(), "every item is listed, those of the shared code too"
    assert ("semantic" in model.record()["vectors"]) == (codes == "centroid")


def test_an_index_that_does_not_cover_the_catalogue_is_one_clear_line(tmp_path: Path) -> None:
    path = lettered(tmp_path, drop="i7")
    with pytest.raises(InputError, match=r"toy\.index\.json: 1 items have no code \(i7\)") as error:
        fitted(changed(index={"kind": "file", "file": str(path)}), tmp_path)
    assert error.value.exit_code == 2 and "\n" not in str(error.value)
    with pytest.raises(InputError, match="comes without an index file"):
        fitted(changed(index={"kind": "file"}), tmp_path)


def test_missing_text_is_one_clear_line(tmp_path: Path) -> None:
    data = toys.dataset(list(toys.cycle().sequences), 24, None)
    with pytest.raises(InputError, match="no item text"):
        LCRec(changed()).fit(toys.split(data).train, toys.context(tmp_path))


def test_codes_do_not_depend_on_the_order_of_items(tmp_path: Path) -> None:
    result = []
    for number, order in enumerate((np.arange(24), np.random.default_rng(3).permutation(24))):
        data, place = toys.cycle(), np.argsort(order)
        texts = toys.titles(24)
        moved = replace(
            data,
            items=tuple(data.items[i] for i in order),
            sequences=type(data.sequences)(place[data.sequences.values], data.sequences.offsets),
            text=tuple(texts[i] for i in order),
        )
        built = LCRec(changed()).item_codes(toys.split(moved).train, toys.context(tmp_path / str(number)))
        result.append(built.table.digits[place])
    np.testing.assert_array_equal(result[0], result[1])


@pytest.mark.parametrize("profile", ["smoke"])
def test_a_profile_gives_both_methods_the_same_backbone_and_budget(profile: str) -> None:
    actual = LCRecConfig.model_validate(LCRecConfig.profiles[profile])
    reference = EagerConfig.model_validate(EagerConfig.profiles[profile])
    assert (actual.backbone, actual.tasks, actual.decode) == (reference.backbone, reference.tasks, reference.decode)
    assert actual.comprehension == reference.comprehension
    assert (
        reference.tuning.max_steps
        and reference.annealing.max_steps
        and reference.annealing.targets == reference.tuning.targets
    )
    added = {"max_steps": reference.tuning.max_steps + reference.annealing.max_steps}
    assert actual.tuning.model_dump() == {**reference.tuning.model_dump(), **added}


def test_the_published_settings() -> None:
    actual = LCRecConfig.model_validate(LCRecConfig.profiles["paper"])
    assert (actual.tuning.epochs, actual.tasks.caps.fusionseqrec, actual.semantic.fields) == (
        4, 20_000, ("title", "description"),
    )  # fmt: skip
    assert (actual.index.levels, actual.index.k, actual.index.rqvae.separate) == (4, 256, "sinkhorn")
    assert (actual.index.rqvae.epochs, actual.index.rqvae.warmup * actual.index.rqvae.epochs) == (10_000, 50)
