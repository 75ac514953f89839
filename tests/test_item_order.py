"""Caches that data sets with other item orders share: whatever one has left there, every item has what it would have
with an empty cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.lcrec import LCRec, LCRecConfig
from baselines.letter import P5CID, LetterTiger, LetterTigerConfig, P5CIDConfig
from baselines.rpg import RPG, RPGConfig
from baselines.tiger import Tiger, TigerConfig
from eager.behavior_encoder import BehaviorEmbeddings
from eager.behavior_models import BehaviorConfig
from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.core import timer
from harness.data import local_store
from harness.data.dataset import Dataset, ItemText
from harness.data.export import export
from harness.data.loading import read_folder
from harness.generative.config import SemanticConfig
from harness.generative.tokenizers import embeddings, text_encoder
from harness.generative.tokenizers.embeddings import TextEmbeddings
from harness.protocol.context import Reporter, RunContext, SilentReporter
from harness.protocol.protocol import Protocol
from harness.protocol.split import Split, split
from harness.runs.job import RunOptions, plan
from harness.runs.run import context_of
from tests import toys
from tests.stops import StopAfter

Rows = Iterable[tuple[str, list[str]]]  # raw ids of users, and of their items
TEXT = dict(zip((f"i{n}" for n in range(24)), toys.titles(24), strict=True))


def rows_of(data: Dataset) -> list[tuple[str, list[str]]]:
    return [(user, [data.items[i] for i in row]) for user, row in zip(data.users, data.sequences, strict=True)]


def numbered(rows: Rows, items: Iterable[str] | None = None) -> Dataset:
    """The data set of `rows`; its items in the order of `items`, or of their first appearance."""
    rows = list(rows)
    order = list(dict.fromkeys(items or (item for _, row in rows for item in row)))
    place = {item: number for number, item in enumerate(order)}
    result = toys.dataset([np.array([place[item] for item in row]) for _, row in rows], len(order), None)
    text = tuple(TEXT.get(item, ItemText(title=item)) for item in order)
    return replace(result, users=tuple(user for user, _ in rows), items=tuple(order), text=text)


def base() -> Dataset:
    """The planted cycle, its items in alphabetical order of their raw ids."""
    return numbered(rows_of(toys.cycle()), sorted(TEXT))


def shuffled_lines(data: Dataset, folder: Path) -> Dataset:
    rows = rows_of(data)
    return numbered(rows[number] for number in np.random.default_rng(3).permutation(len(rows)))


def other_layout(data: Dataset, folder: Path) -> Dataset:
    export(data, "lcrec", folder / "layout")
    return read_folder(folder / "layout", "time")


def other_held_out(data: Dataset, folder: Path) -> Dataset:
    """The same training rows; each user's validation and test items are two others."""
    items = sorted(TEXT)
    return numbered((user, [*row[:-2], items[(7 * n) % 24], items[(5 * n + 3) % 24]])
                    for n, (user, row) in enumerate(rows_of(data)))  # fmt: skip


ORDERS = [shuffled_lines, other_layout, other_held_out]
SMALL = {"dim": 8, "epochs": 2, "layers": 1, "negatives": 5, "window": 6}
RQVAE = {"hidden": [16], "latent": 4, "epochs": 3, "batch": 32}


def behaviour(**changes: Any) -> Callable[[Split, RunContext], np.ndarray]:
    config = BehaviorConfig.model_validate({**SMALL, "choose": "last", **changes})
    return lambda value, context: BehaviorEmbeddings(config).fit(value.train, context).values


def text(value: Split, context: RunContext) -> np.ndarray:
    return TextEmbeddings(SemanticConfig()).fit(value.train, context).values


def eager_codes(**index: Any) -> Callable[[Split, RunContext], np.ndarray]:
    smoke = EagerConfig.profiles["smoke"]
    settings = {**smoke, "index": index, "behavior": {**smoke.get("behavior", {}), **SMALL, "choose": "last"}}
    config = EagerConfig.model_validate(settings)
    return lambda value, context: EagerLLM(config).item_codes(value.train, context).table.digits


def tiger_codes(value: Split, context: RunContext) -> np.ndarray:
    config = TigerConfig.model_validate(TigerConfig.profiles["smoke"])
    return Tiger(config).item_codes(value.train, context).table.digits


def letter_codes(value: Split, context: RunContext) -> np.ndarray:
    config = LetterTigerConfig.model_validate(LetterTigerConfig.profiles["smoke"])
    return LetterTiger(config).item_codes(value.train, context).table.digits


def cid_codes(value: Split, context: RunContext) -> np.ndarray:
    config = P5CIDConfig.model_validate(P5CIDConfig.profiles["smoke"])
    return P5CID(config).item_codes(value.train, context).table.digits


def rpg_codes(value: Split, context: RunContext) -> np.ndarray:
    config = RPGConfig.model_validate(RPGConfig.profiles["smoke"])
    return RPG(config).item_codes(value.train, context).table.digits


def lcrec_codes(value: Split, context: RunContext) -> np.ndarray:
    config = LCRecConfig.model_validate(LCRecConfig.profiles["smoke"])
    return LCRec(config).item_codes(value.train, context).table.digits


CACHES: dict[str, Callable[[Split, RunContext], np.ndarray]] = {
    "text vectors": text,
    "sasrec": behaviour(encoder="sasrec"),
    "din": behaviour(encoder="din"),
    "sasrec chosen on validation": behaviour(encoder="sasrec", choose="validation"),
    "tree codes": eager_codes(),
    "rqvae codes": eager_codes(kind="rqvae", k=5, rqvae=RQVAE),
    "tiger codes": tiger_codes,
    "rpg codes": rpg_codes,
    "lcrec codes": lcrec_codes,
    "letter codes": letter_codes,
    "collaborative codes": cid_codes,
}


def encoded(strings: list[str], *rest: object) -> np.ndarray:
    """Stands in for the text encoder: a vector of its own for each text."""
    seeds = [int.from_bytes(hashlib.sha256(string.encode()).digest()[:8], "big") for string in strings]
    return np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds]).astype(np.float32)


def context_for(value: Split, folder: Path, reporter: Reporter | None = None) -> RunContext:
    """As a run has it, with `folder` for its cache and its checkpoint."""
    (job,) = plan("eager-llm", RunOptions())
    context = context_of(job, value, reporter or SilentReporter())
    return replace(context, cache=folder / "cache", checkpoint=folder / "checkpoint", device="cpu")


def by_raw_id(value: Split, rows: np.ndarray) -> dict[str, list[float]]:
    assert len(rows) == value.train.n_items
    return dict(zip(value.train.items, rows.tolist(), strict=True))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("other", ORDERS, ids=lambda built: built.__name__)
def test_another_item_order_on_one_cache(
    cache: str, other: Callable[[Dataset, Path], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "encode", encoded)
    one, two = split(base(), Protocol()), split(other(base(), tmp_path), Protocol())
    assert set(one.train.items) == set(two.train.items) and one.train.items != two.train.items
    assert one.train.rows_fingerprint == two.train.rows_fingerprint
    make, shared = CACHES[cache], tmp_path / "shared"
    first = by_raw_id(one, make(one, context_for(one, shared)))
    result = by_raw_id(two, make(two, context_for(two, shared)))
    assert result == by_raw_id(two, make(two, context_for(two, tmp_path / "fresh")))
    assert by_raw_id(one, make(one, context_for(one, shared))) == first
    if "validation" not in cache:  # what is chosen on validation depends on its answers and its users
        assert result == first
        built = sorted(path.name.partition("-")[0] for path in (shared / "cache" / "vectors").glob("*.npy"))
        assert len(built) == len(set(built)), "one entry serves both orders"


@pytest.mark.parametrize("source", ["text vectors", "sasrec", "din"])
def test_what_an_interrupted_run_has_left_serves_another_item_order(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(text_encoder, "BATCH", 8)
    one, two = split(base(), Protocol()), split(shuffled_lines(base(), tmp_path), Protocol())
    make, shared, counted, rest = CACHES[source], tmp_path / "shared", StopAfter(), StopAfter()
    fresh = by_raw_id(two, make(two, context_for(two, tmp_path / "fresh", counted)))
    stop = counted.calls * 2 // 3
    with pytest.raises(KeyboardInterrupt):
        make(one, context_for(one, shared, StopAfter(stop)))
    assert by_raw_id(two, make(two, context_for(two, shared, rest))) == fresh
    assert rest.calls <= counted.calls - stop + 3, "it started anew"


def test_equal_places_of_other_validation_items_are_other_answers(tmp_path: Path) -> None:
    """Two data sets with one numbering of validation answers, but other items behind the numbers."""
    marks = set()
    for items in (("a", "b", "c", "d"), ("b", "a", "c", "d")):
        data = replace(toys.dataset([np.array([2, 3, 2, 0, 3])] * 3, 4, None), items=items)
        value = split(data, Protocol())
        assert value.valid.targets.items.tolist() == [0, 0, 0]
        validation = context_for(value, tmp_path).validation
        assert validation is not None
        marks.add(validation.digest)
    assert len(marks) == 2


def test_what_is_stored_in_a_data_sets_own_order_is_keyed_by_that_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs with their checkpoints and models, RecBole's states (by the training data) and imported data sets."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    (job,) = plan("eager-llm", RunOptions())
    one = base()
    two = numbered(rows_of(one), reversed(one.items))
    assert one.fingerprint == two.fingerprint and one.items != two.items
    splits = [split(data, Protocol()) for data in (one, two)]
    assert len({value.train.fingerprint for value in splits}) == 2
    assert len({job.outcome(data, value).run_id for data, value in zip((one, two), splits, strict=True)}) == 2
    timed = [replace(data, timestamps=np.arange(float(data.interactions))) for data in (one, two)]
    assert len({local_store.save_dataset(data, {}).folder for data in timed}) == 2
