"""TIGER under the contract suite, its variants, and each switch of its configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch

from baselines.tiger import VARIANTS, Tiger, TigerConfig, TigerDecoder, TigerDecoderConfig, Variant
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.tokenizers.base import INDEX_FILE
from harness.protocol.recommender import Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.runs.job import RunOptions, plan
from harness.runs.run import execute
from harness.store.run_store import Store
from harness.testing.contract import RecommenderContract
from tests import toys

SMOKE = TigerConfig.profiles["smoke"]


class TestTiger(RecommenderContract):
    model_class: ClassVar[type[Recommender[Any]]] = Tiger
    settings: ClassVar[dict[str, Any]] = SMOKE
    brief: ClassVar[dict[str, Any]] = {"training": {"max_steps": 4, "choose": "last"}}
    short: ClassVar[dict[str, Any]] = {"training": {"max_steps": 60}}
    pattern_floor: ClassVar[float] = 0.9
    resumable: ClassVar[bool] = True
    interrupt_at: ClassVar[int] = 13  # behind the RQ-VAE's passes and the first look at validation

    def toy(self) -> Dataset:
        """Long enough that training sees histories of 20 items, as the test does: T5 trained on shorter ones tells the
        place in the circle by their first item and their length."""
        return toys.cycle(users=24, length=24)


class TestTigerDecoder(TestTiger):
    model_class: ClassVar[type[Recommender[Any]]] = TigerDecoder
    settings: ClassVar[dict[str, Any]] = TigerDecoderConfig.profiles["smoke"]
    pattern_floor: ClassVar[float] = 0.8


def changed(kind: type[TigerConfig] = TigerConfig, **sections: Any) -> Any:
    """The smoke profile, cut to some steps, with some settings changed."""
    smoke = kind.profiles["smoke"]
    base: dict[str, Any] = {**smoke, "training": {**smoke["training"], "max_steps": 4, "choose": "last"}}
    merged = dict(base)
    for name, section in sections.items():
        merged[name] = {**base.get(name, {}), **section} if isinstance(section, dict) else section
    return kind.model_validate(merged)


def rule(name: str) -> dict[str, Any]:
    """Training and decoding by this normalisation."""
    return {"training": {"normalise": name}, "decode": {"normalise": name}}


def fitted(config: TigerConfig, folder: Path, data: TrainingData | None = None) -> Tiger:
    return toys.fitted(Tiger(config), folder, data, toys.split().valid)


def weights(model: Tiger) -> torch.Tensor:
    return model.model.t5.shared.weight.detach()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tiger:
    """The short smoke model that every switch is compared with."""
    return fitted(changed(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "sections",
    [
        {"user_tokens": 5},
        {"semantic": {"fields": ("title",)}},
        {"index": {"levels": 3}},
        {"index": {"size": 6}},
        {"index": {"rqvae": {"hidden": (16,), "epochs": 1}}},
        {"network": {"layers": 2}},
        {"network": {"dropout": 0.4}},
        {"network": {"separator": True}},
        {"network": {"tied": False}},
        {"network": {"inner_layers": 2}},
        {"training": {"batch": 16}},
        {"training": {"accumulate": 2}},
        {"training": {"max_steps": 3}},
        {"training": {"optimiser": "adam", "weight_decay": 0.1}},
        {"training": {"optimiser": "adafactor"}},
        {"training": {"learning_rate": 1e-3}},
        {"training": {"schedule": "inverse_sqrt"}},
        {"training": {"schedule": "constant"}},
        {"training": {"warmup": 0.7}},
        {"training": {"warmup_steps": 9}},
        {"training": {"weight_decay": 0.5}},
        {"training": {"clip": 1e-3}},
        {"training": {"item_targets": 1}},
        rule("level"),
        rule("vocabulary"),
    ],
    ids=lambda sections: json.dumps(sections),
)
def test_every_switch_does_something(sections: dict[str, Any], plain: Tiger, tmp_path: Path) -> None:
    other = fitted(changed(**sections), tmp_path)
    same_shape = weights(plain).shape == weights(other).shape
    same_size = plain.size() == other.size()
    assert not (same_size and same_shape and torch.equal(weights(plain), weights(other)))


DECODER_SWITCHES: list[dict[str, Any]] = [
    {"network": {"layers": 2}},
    {"network": {"heads": 1}},
    {"network": {"head_width": 8}},
    {"network": {"inner": 32}},
    {"network": {"dropout": 0.4}},
    {"training": {"batch": 16}},
    {"training": {"accumulate": 2}},
    {"training": {"learning_rate": 1e-3}},
    {"training": {"schedule": "inverse_sqrt"}},
    {"training": {"clip": 1e-3}},
    {"training": {"item_targets": 7}},
    rule("level"),
    rule("vocabulary"),
]


@pytest.fixture(scope="module")
def plain_decoder(tmp_path_factory: pytest.TempPathFactory) -> Tiger:
    return fitted(changed(TigerDecoderConfig), tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("sections", DECODER_SWITCHES, ids=lambda sections: json.dumps(sections))
def test_every_switch_of_the_decoder_does_something(
    sections: dict[str, Any], plain_decoder: Tiger, tmp_path: Path
) -> None:
    table, other = plain_decoder.model.code_in, fitted(changed(TigerDecoderConfig, **sections), tmp_path).model.code_in
    assert not torch.equal(table, other)
    assert plain_decoder.record()["network"] == "decoder"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"user_tokens": 3}, "user_tokens is for"),
        ({"network": {"separator": True}}, r"network\.separator is for"),
        ({"network": {"tied": False}}, r"network\.tied is for"),
        ({"network": {"inner_layers": 2}}, r"network\.inner_layers is for"),
        ({"network": {"head_width": 9}}, "must be even"),
        ({"training": {"normalise": "level"}}, "by the same rule"),
        ({"decode": {"normalise": "vocabulary"}}, "by the same rule"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(TigerDecoderConfig, **sections)
    if "rule" in message:
        with pytest.raises(ValueError, match=message):
            changed(**sections)


def test_the_network_is_a_setting_and_in_the_record(tmp_path: Path, plain: Tiger) -> None:
    sections = {"network": {"kind": "decoder", "width": 16, "inner": 16}, "training": {"epochs": 1}}
    model = fitted(changed(**sections), tmp_path)
    assert (model.record()["network"], plain.record()["network"]) == ("decoder", "t5")
    assert "code_in" in model.method.model.parameters() and model.record()["training"]["passes"] > 0
    rows = [model_entry(name).load().config_class().model_dump() for name in ("tiger", "tiger-decoder")]
    assert [row["network"]["kind"] for row in rows] == ["t5", "decoder"]


@pytest.mark.parametrize("decode", [{"exact_users": 3}, {"beams": 24}], ids=str)
def test_a_switch_of_decoding_moves_scores_or_beams(decode: dict[str, Any], plain: Tiger, tmp_path: Path) -> None:
    requests = toys.split().test.requests
    previous = plain.recommend(requests, 5, toys.context(tmp_path))
    other = Tiger(changed(decode=decode))
    plain.save(tmp_path / "saved")
    other.load(tmp_path / "saved", toys.split().train, toys.context(tmp_path))
    updated = other.recommend(requests, 5, toys.context(tmp_path))
    report = other.record()["decode"]["test"]
    assert report["beams"] != 20 or report["lost"]["users"] == 3 or not np.allclose(previous.scores, updated.scores)


def test_the_best_state_on_validation_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.2])
    monkeypatch.setattr(Tiger, "_validate", lambda self, context, users: next(answers))
    one_pass = {"choose": "validation", "every": 1, "epochs": 6, "max_steps": None, "patience": 3, "batch": 32}
    result = fitted(changed(training=one_pass), tmp_path / "chosen").record()["training"]
    assert result["selected_on"] == "valid" and result["valid"] == 0.3
    assert result["chosen_step"] == 2 * result["steps_a_pass"] and result["steps"] == 5 * result["steps_a_pass"]
    last = fitted(changed(training={**one_pass, "choose": "last", "epochs": 2}), tmp_path / "last").record()["training"]
    assert last["selected_on"] == "last" and "looks" not in last


def test_few_users_are_asked_where_the_setting_says_so(tmp_path: Path) -> None:
    requested: list[int] = []

    class Watched(Tiger):
        def _rank(self, requests: Requests, k: int, context: Any, **options: Any) -> Any:
            requested.append(len(requests))
            return super()._rank(requests, k, context, **options)

    model = Watched(changed(training={"choose": "validation", "validation_users": 9}))
    split = toys.split()
    model.fit(split.train, toys.context(tmp_path, split.valid))
    assert requested == [9] * 4  # however short the training is: twice as many as the profile's patience


# What the table of facts says of each: layers and width, dropout, codes, user tokens, optimiser, rate, batch, beams.
FACTS: dict[str, tuple[Any, ...]] = {
    "paper": (4, 128, 0.1, (3, 256, "token"), 2000, "adafactor", 1e-2, 256, 20),
    "letter": (4, 128, 0.1, (4, 256, "none"), 0, "adamw", 5e-4, 1024, 20),
    "grid": (4, 128, 0.15, (3, 256, "token"), 0, "adam", 1e-3, 8192, 10),
    "rqvr": (4, 384, 0.1, (3, 256, "none"), 0, "adamw", 1e-3, 640, 64),
    "rb3": (4, 128, 0.1, (4, 512, "token"), 1, "adamw", 3e-3, 256, 50),
    "cornac": (6, 128, 0.2, (3, 256, "token"), 0, "adamw", 3e-4, 64, 20),
}
RULES = {"paper": "vocabulary", "letter": "vocabulary", "grid": "level", "rqvr": "level", "rb3": "vocabulary"}


def variant(name: Variant, **settings: Any) -> TigerConfig:
    """A variant, with sections of settings above it, as `--set tiger.variant` makes one."""
    return TigerConfig.model_validate({"variant": name, **_over(VARIANTS[name], settings)})


def _over(low: Any, high: Any) -> Any:
    """`high` above `low`, section by section."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return low if high is None else high
    return {key: _over(low.get(key), high.get(key)) for key in {*low, *high}}


@pytest.mark.parametrize("name", FACTS)
def test_a_variant_is_what_its_source_says(name: Variant) -> None:
    config = variant(name)
    network, index, training = config.network, config.index, config.training
    assert config.variant == name and (network.heads, network.head_width, network.inner) == (6, 64, 1024)
    assert FACTS[name] == (
        network.layers,
        network.width,
        network.dropout,
        (index.levels, index.size, index.distinct),
        config.user_tokens,
        training.optimiser,
        training.learning_rate,
        training.batch * training.accumulate,
        config.decode.beams,
    )


def test_all_variants_are_tested_and_selectable() -> None:
    assert set(VARIANTS) == set(get_args(Variant)) == {"ours", *FACTS}
    assert variant("letter", training={"batch": 8}).training.batch == 8
    assert variant("letter", training={"batch": 8}).training.accumulate == 4


def test_a_variant_gives_way_to_the_profile_and_the_profile_to_the_user() -> None:
    entry = model_entry("tiger")

    def resolved(profile: str, *sets: str) -> TigerConfig:
        config = resolve(entry, profile, ConfigFile(), sets).model
        assert isinstance(config, TigerConfig)
        return config

    grid = resolved("cpu", "tiger.variant=grid", "tiger.network.layers=2", "tiger.index.rqvae.latent=7")
    assert (grid.network.dropout, grid.network.layers, grid.training.optimiser) == (0.15, 2, "adam")
    assert grid.training.epochs == TigerConfig.profiles["cpu"]["training"]["epochs"] and grid.network.inner_layers == 2
    assert (grid.index.rqvae.hidden, grid.index.rqvae.latent) == ((256, 128), 7)
    assert resolved("paper").user_tokens == 2000 and resolved("cpu").user_tokens == 0
    repeated = resolve(entry, "cpu", ConfigFile(None, {}, {"tiger": grid.model_dump(mode="json")}), ())
    assert repeated.model == grid
    with pytest.raises(InputError, match="variant"):
        resolved("cpu", "tiger.variant=lettre")


@pytest.mark.parametrize("name", FACTS)
def test_a_variant_trains_and_ranks(name: Variant, tmp_path: Path) -> None:
    small: dict[str, Any] = {
        "index": {"size": 16, "rqvae": {"hidden": (16,), "latent": 4, "epochs": 1}},
        "network": {"layers": 1, "width": 16, "heads": 2, "head_width": 8, "inner": 16},
        "training": {"batch": 16, "max_steps": 2, "epochs": 1, "warmup_steps": 1, "precision": "float32"},
    }
    config = variant(name, **small)
    model = fitted(config, tmp_path)
    predictions = model.recommend(toys.split().test.requests, 10, toys.context(tmp_path))
    assert (predictions.lengths == 10).all()
    assert model.model.sizes[: config.index.levels] == (16,) * config.index.levels
    assert (len(model.model.sizes) > config.index.levels) == (config.index.distinct == "token")
    assert model.record()["decode"]["test"]["normalise"] == RULES.get(name, "vocabulary")


def test_the_index_stays_with_the_run_and_serves_as_a_ready_one(tmp_path: Path) -> None:
    first = fitted(changed(), tmp_path)
    record = first.record()["index"]
    assert record["collision_rate"] == 0 < record["collisions_before"] == record["rqvae"]["collisions"]
    assert record["levels"][-1]["size"] > 1 and record["rows"] == "none"
    path = tmp_path / "run" / INDEX_FILE
    data = replace(toys.split().train, text=None)
    repeated = fitted(changed(index={"kind": "file", "file": str(path)}), tmp_path / "again", data)
    assert repeated.record()["index"]["fingerprint"] == record["fingerprint"]
    assert repeated.config.files(data) == (path,)
    extra = replace(data, index_file=path)
    assert fitted(changed(index={"kind": "file"}), tmp_path / "beside", extra).record()["index"]["file"] == path.name


def test_ready_codes_need_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LETTER's files: sequences and an index beside them, no word about any item."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "bare"
    folder.mkdir()
    rows = {f"u{user}": [f"i{(user + step) % 12}" for step in range(6)] for user in range(12)}
    (folder / "bare.inter.json").write_text(json.dumps(rows))
    index = {f"i{item}": [f"<a_{item // 4}>", f"<b_{item % 4 // 2}>"] for item in range(12)}  # two items a code
    (folder / "bare.index.json").write_text(json.dumps(index))
    options = RunOptions(str(folder), "smoke", sets=("tiger.index.kind=file", "tiger.training.max_steps=2"))
    (job,) = plan("tiger", options)
    record = execute(job, Store(tmp_path / "results")).record
    assert record.codes is not None and record.codes["collision_rate"] == record.codes["affected_targets"] == 1.0
    assert record.codes["code_level_delta"]["recall@1"] >= 0 and record.integrity.short == 12  # 12 items are no 20
    (job,) = plan("tiger", RunOptions(str(folder), "smoke"))
    with pytest.raises(InputError, match="no item text"):
        execute(job, Store(tmp_path / "results"))


def test_without_the_token_items_share_their_code(tmp_path: Path) -> None:
    model = fitted(changed(index={"distinct": "none"}), tmp_path)
    groups = model.code_groups()
    assert groups.shape == (24,) and 1 < groups.max() + 1 < 24
    result = model.record()["index"]
    assert (
        result["collision_rate"] == pytest.approx(result["collisions_before"], abs=1e-6)
        and result["collision_rate"] > 0
    )
    assert len(np.unique(fitted(changed(), tmp_path / "token").code_groups())) == 24


def test_a_user_token_is_read(tmp_path: Path) -> None:
    model, history = fitted(changed(user_tokens=7), tmp_path), RaggedArray.of([[3, 4]] * 20)
    predictions = model.recommend(Requests("test", np.arange(20), history), 10, toys.context(tmp_path))
    assert len({scores.tobytes() for scores in predictions.scores}) > 1
    plain = fitted(changed(), tmp_path / "plain")
    predictions = plain.recommend(Requests("test", np.arange(20), history), 10, toys.context(tmp_path))
    np.testing.assert_allclose(predictions.scores, np.tile(predictions.scores[0], (20, 1)), rtol=1e-4)


def test_missing_text_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no item text"):
        fitted(changed(), tmp_path, replace(toys.split().train, text=None))


def test_sequences_of_one_item_teach_nothing(tmp_path: Path) -> None:
    data = toys.split().train
    short = replace(data, sequences=data.sequences.first(np.ones(data.n_users, np.int64)))
    with pytest.raises(InputError, match="no training sequence has two items"):
        fitted(changed(), tmp_path, short)


def test_an_index_that_does_not_cover_the_catalogue_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.index.json"
    path.write_text(json.dumps({f"i{item}": ["<a_0>", f"<b_{item}>"] for item in range(23)}))
    with pytest.raises(InputError, match=r"1 items have no code \(i23\)") as caught:
        fitted(changed(index={"kind": "file", "file": str(path)}), tmp_path)
    assert "toy.index.json" in str(caught.value)
    with pytest.raises(InputError, match=r"without an index file.*tiger\.index\.file"):
        fitted(changed(index={"kind": "file"}), tmp_path)
