"""Every field of EAGER-LLM's configuration, by name, with a change that must show.

The table is held against the configuration itself: a new field without a row, or a row without a field, fails. What
must show is what the field is for: vectors and codes, the weights of a model that is fitted, or what its record says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError

from eager.behavior_encoder import BehaviorEmbeddings
from eager.behavior_models import BehaviorConfig
from eager.config import AnnealingConfig, EagerConfig
from eager.method import EagerLLM
from harness.data.dataset import Dataset, ItemFile, ItemText
from harness.errors import InputError
from harness.evaluation.metrics import compute_metrics
from harness.generative.config import SemanticConfig
from harness.generative.decoding import generate
from harness.generative.models import backbone
from harness.generative.models.lora import attached
from harness.generative.models.readers import PromptBatch
from harness.generative.tokenizers.embeddings import TextEmbeddings
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Targets
from harness.runs.job import RunOptions, plan
from tests import toys
from tests.eager.switches import VECTORS, WEIGHTS, Switch, own_backbone
from tests.eager.test_method import changed, fitted
from tests.generative.tokenizers.test_tokenizer_seed import codes


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field by its full name."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from walk(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that vectors are made once."""
    return tmp_path_factory.mktemp("switches")


def configured(place: Path, values: dict[str, Any]) -> EagerConfig:
    """The smoke profile, as short as can be, with these values."""
    short: dict[str, Any] = {
        "behavior.epochs": 2, "comprehension.items": 0, "backbone.precision": "float32", "tuning.max_steps": 2,
        "annealing.max_steps": 2, "behavior.dim": 8,
    }  # fmt: skip
    sections: dict[str, Any] = {}
    for name, value in {**short, **values}.items():
        *path, last = name.split(".")
        within = sections
        for part in path:
            within = within.setdefault(part, {})
        within[last] = value(place) if callable(value) else value
    return changed(**sections)


def shown(place: Path, *, leaks: bool) -> RunContext:
    """A context whose validation may be of some users, as a run's is."""
    fold = toys.split().valid
    context = toys.context(place, fold)
    assert context.validation is not None

    def score(lists: Predictions) -> dict[str, float]:
        requested = np.isin(fold.targets.cases, lists.cases)
        return compute_metrics(lists, Targets(fold.targets.cases[requested], fold.targets.items[requested]))

    value = fold.targets.items if leaks else None
    return replace(context, validation=replace(context.validation, score=score), validation_items=value)


@cache
def vectors_and_codes(config: str, place: Path) -> list[Any]:
    built = EagerConfig.model_validate_json(config)
    vectors, index = EagerLLM(built).tokenize(toys.split().train, shown(place, leaks=bool(built.leaks())))
    messages = [(source, result.values.tolist(), result.details) for source, result in vectors.items()]
    return [messages, index.table.digits.tolist(), index.details]


@cache
def weights(config: str, place: Path) -> list[tuple[str, torch.Tensor]]:
    result = EagerConfig.model_validate_json(config)
    chosen = "validation" in (result.tuning.choose, result.annealing.choose)
    model = fitted(result, place, fold=toys.split().valid if chosen else None)
    stages = model.record()["stages"].items()
    looks = [(f"{name}.looks", torch.tensor(stage["looks"])) for name, stage in stages if stage and "looks" in stage]
    return [*((name, value.detach()) for name, value in model.model.named_parameters()), *looks]


def equal(one: list[tuple[str, torch.Tensor]], other: list[tuple[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and a[1].dtype == b[1].dtype and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


def both(place: Path, name: str, switch: Switch) -> tuple[str, str]:
    """The base and the changed configuration, which must be two."""
    base, other = configured(place, switch.given), configured(place, {**switch.given, name: switch.to})
    assert base != other, "the change is the base's own value"
    return base.model_dump_json(), other.model_dump_json()


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_and_codes_read(name: str, place: Path) -> None:
    base, other = both(place, name, VECTORS[name])
    assert vectors_and_codes(base, place) != vectors_and_codes(other, place)


DAILY = {
    "backbone.codes", "tasks.item2index", "walks.share", "contrast.semantic", "annealing.enabled", "tuning.average",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in DAILY else pytest.param(name, marks=pytest.mark.nightly) for name in WEIGHTS]
)
def test_training_reads(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "_embedded_folder", lambda context: own_backbone(place))  # random-llama's tokenizer
    base, other = both(place, name, WEIGHTS[name])
    assert not equal(weights(base, place), weights(other, place))


def test_without_a_change_nothing_differs(place: Path, tmp_path: Path) -> None:
    """What the tables are worth: a second fit, in a folder without a cache, gives the same bits."""
    base = configured(place, {}).model_dump_json()
    assert equal(weights(base, place), weights(base, tmp_path))
    assert vectors_and_codes(base, place) == vectors_and_codes(base, tmp_path)


# -- what neither vectors nor weights show


@pytest.fixture(scope="module")
def ranking(place: Path) -> EagerLLM:
    return fitted(configured(place, {}), place)


def ranked(model: EagerLLM, place: Path, **decode: Any) -> tuple[Predictions, dict[str, Any]]:
    trained = {"tuning.normalise": "children", "annealing.normalise": "children"}
    stages = trained if decode.get("normalise") == "children" else {}
    config = configured(place, {**stages, **{f"decode.{name}": value for name, value in decode.items()}})
    model.method = replace(model.method, decoding=config.decode)
    lists = model.recommend(toys.split().test.requests, 5, toys.context(place))
    return lists, model.record()["decode"]["test"]


def test_beams_are_read(ranking: EagerLLM, place: Path) -> None:
    narrow, wide, every = (ranked(ranking, place, beams=beams) for beams in (5, 24, "all"))
    assert [result["beams"] for _, result in (narrow, wide, every)] == [5, 24, "all"]
    assert (narrow[0].items != wide[0].items).any(), "a narrow beam loses items"
    np.testing.assert_array_equal(wide[0].items, every[0].items)


def test_the_batch_is_read(ranking: EagerLLM, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    search = generate.beam_search

    def seen(how: Any, prompts: PromptBatch, *more: Any) -> Any:
        sizes.append(len(prompts.ids))
        return search(how, prompts, *more)

    monkeypatch.setattr(generate, "beam_search", seen)
    for batch in (7, 20):
        sizes.clear()
        ranked(ranking, place, batch=batch)
        assert max(sizes) == batch and sum(sizes) == 60


def test_what_a_score_is_among_is_read(ranking: EagerLLM, place: Path) -> None:
    scores = [ranked(ranking, place, normalise=how)[0].scores for how in ("level", "children", "vocabulary")]
    assert (scores[0] < scores[1]).all(), "fewer to be among"
    assert (scores[2] < scores[0]).all(), "more to be among, and the end to be said"


@pytest.mark.parametrize("name", ["tuning.normalise", "annealing.normalise", "decode.normalise"])
def test_training_and_decoding_by_different_rules_are_refused(name: str, place: Path) -> None:
    with pytest.raises(ValidationError, match="same normalisation"):
        configured(place, {name: "children"})


def test_what_beams_lost_is_told_where_it_is_asked(ranking: EagerLLM, place: Path) -> None:
    wide, narrow = (ranked(ranking, place, beams=beams, exact_users=9) for beams in (24, 5))
    assert wide[1]["lost"] == {"users": 9, "missed_of_10_mean": 0.0, "missed_of_10_most": 0}
    every = ranked(ranking, place, beams="all", exact_users=9)
    assert every[1]["lost"] is None is ranked(ranking, place)[1]["lost"], "nothing to lose, or nothing asked"
    rows = np.linspace(0, 59, 9).astype(int)
    pairs = zip(narrow[0].items[rows].tolist(), every[0].items[rows].tolist(), strict=True)
    missing = [len(set(best) - set(value)) for value, best in pairs]
    assert narrow[1]["lost"] == {"users": 9, "missed_of_10_mean": np.mean(missing), "missed_of_10_most": max(missing)}
    assert max(missing) > 0
    assert "exact_users" not in EagerConfig().model_dump()["decode"], "the key of a run that does not ask stays"


@pytest.mark.parametrize("repeated", [False, True])
def test_viewed_items_are_left_out_where_training_never_repeats_one(repeated: bool, place: Path) -> None:
    rows = [np.arange(user, user + 6) % 12 for user in range(12)]
    rows[0] = rows[0][[0, 1, 0, 2, 3, 4]] if repeated else rows[0]
    split = toys.split(toys.dataset(rows, 24, toys.titles(24)))
    model, context = EagerLLM(configured(place, {"decode.filter_viewed": "auto"})), toys.context(place)
    model.fit(split.train, context)
    lists = model.recommend(split.test.requests, 10, context)
    named = any(
        np.isin(items, row).any() for items, row in zip(lists.items, split.test.requests.histories, strict=True)
    )
    assert named == repeated == (not model.record()["filter_viewed"])


@pytest.mark.parametrize("merge", [True, False])
def test_merging_is_read(merge: bool, place: Path) -> None:
    assert attached(fitted(configured(place, {"annealing.merge": merge}), place).model.body) != merge


def test_rows_of_annealing_are_refused() -> None:
    """They would do nothing: it has sequence steps alone. Stored configurations hold the default."""
    with pytest.raises(ValidationError, match="has no text tasks"):
        AnnealingConfig(rows=8)
    assert AnnealingConfig(rows=AnnealingConfig().rows) == AnnealingConfig()


@pytest.mark.parametrize("items", [3, 5])
def test_the_number_of_items_asked_for_is_read(items: int, place: Path) -> None:
    record = fitted(configured(place, {"comprehension.items": items}), place).record()
    assert record["comprehension"]["measured_on"]["items"] == items


def test_rows_by_the_item_file_are_read(tmp_path: Path) -> None:
    train = toys.split(toys.cycle()).train
    turned = tuple(reversed(train.items))
    train = replace(train, item_file=ItemFile(tmp_path / "items.csv", turned))
    values = np.random.default_rng(1).normal(size=(24, 4)).astype(np.float32)
    np.save(tmp_path / "bare.npy", values)
    sections: tuple[tuple[Any, Any], ...] = ((SemanticConfig, TextEmbeddings), (BehaviorConfig, BehaviorEmbeddings))
    for section, source in sections:
        with pytest.raises(InputError, match=r"name no items.*vectors_rows=item-file"):
            source(section(vectors=tmp_path / "bare.npy")).fit(train, toys.context(tmp_path))
        config = section(vectors=tmp_path / "bare.npy", vectors_rows="item-file")
        assert np.array_equal(source(config).fit(train, toys.context(tmp_path)).values, values[::-1])


def test_missing_text_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toys.cycle()
    assert data.text is not None
    bare = replace(data, text=(ItemText(), *data.text[1:]))
    monkeypatch.setattr("harness.runs.job.load_dataset", lambda name, order, reading: bare)

    def seen(*sets: str) -> Dataset:
        (job,) = plan("eager-llm", RunOptions(dataset="ml-100k", profile="smoke", sets=sets))
        return job.data()

    with pytest.raises(InputError, match=r"1 of 24 items have no text \(i0\).*eager\.missing_text=drop"):
        seen()
    assert "i0" not in seen("eager.missing_text=drop").items
    filled = seen("eager.missing_text=empty")
    assert filled.fingerprint == bare.fingerprint
    assert toys.split(filled).train.text == (ItemText("unknown item"), *data.text[1:])


def test_the_tokenizer_seed_is_read(tmp_path: Path) -> None:
    assert (codes(tmp_path, 1, "eager.tokenizer_seed=2") != codes(tmp_path, 1)).any()


ELSEWHERE: dict[str, Callable[..., Any]] = {
    "decode.beams": test_beams_are_read,
    "decode.batch": test_the_batch_is_read,
    "decode.normalise": test_what_a_score_is_among_is_read,
    "decode.exact_users": test_what_beams_lost_is_told_where_it_is_asked,
    "decode.filter_viewed": test_viewed_items_are_left_out_where_training_never_repeats_one,
    "semantic.vectors_rows": test_rows_by_the_item_file_are_read,
    "behavior.vectors_rows": test_rows_by_the_item_file_are_read,
    "missing_text": test_missing_text_is_read,
    "tokenizer_seed": test_the_tokenizer_seed_is_read,
    "annealing.merge": test_merging_is_read,
    "annealing.rows": test_rows_of_annealing_are_refused,
    "comprehension.items": test_the_number_of_items_asked_for_is_read,
}


def test_every_field_has_a_row() -> None:
    named = [*VECTORS, *WEIGHTS, *ELSEWHERE]
    assert sorted(named) == sorted(walk(EagerConfig)), "no field without a row, none in two, no row without a field"
