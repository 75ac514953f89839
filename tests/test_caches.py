"""Caches that cannot lie: of each, everything that decides its content is changed in turn and misses, nothing changed
hits, and what is damaged is made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eager import behavior_encoder
from eager.behavior_encoder import BehaviorEmbeddings
from eager.behavior_models import BehaviorConfig
from harness.data import local_store
from harness.data.dataset import Dataset, ItemText
from harness.errors import InputError
from harness.generative.config import EMBEDDED, SemanticConfig
from harness.generative.models import backbone
from harness.generative.models.backbone import EMBEDDED as SMOLLM
from harness.generative.models.backbone import backbone_artefacts
from harness.generative.tokenizers import embeddings
from harness.generative.tokenizers.embeddings import TextEmbeddings
from harness.generative.tokenizers.item_graph import GraphConfig
from harness.generative.tokenizers.kmeans import RQKMeansTokenizer
from harness.generative.tokenizers.text_encoder import encoder_folder
from harness.protocol.context import RunContext
from harness.protocol.split import Split
from harness.store.record import Outcome
from tests import toys
from tests.core.test_artifact_cache import DAMAGE

Patch = pytest.MonkeyPatch


def texts(**changes: Any) -> Split:
    data = toys.cycle(users=12, items=8)
    assert data.text is not None
    return toys.split(replace(data, text=(replace(data.text[0], **changes), *data.text[1:])))


def text_mark(split: Split, config: SemanticConfig, context: RunContext) -> str:
    (result,) = TextEmbeddings(config).cache_entries(split.train, context)
    return result.key.digest


TEXT_SETTINGS = {
    "pooling": "last",
    "normalise": False,
    "max_tokens": 9,
    "fields": ("title",),
    "text": "released",
}


def test_every_setting_of_text_vectors_is_looked_at() -> None:
    assert set(SemanticConfig.model_fields) == {*TEXT_SETTINGS, "encoder", "vectors", "vectors_rows"}


@pytest.mark.parametrize("name", TEXT_SETTINGS)
def test_text_vectors_of_other_settings(name: str, tmp_path: Path) -> None:
    context, local = toys.context(tmp_path), SemanticConfig()
    other = local.model_copy(update={name: TEXT_SETTINGS[name]})
    assert text_mark(texts(), local, context) == text_mark(texts(), SemanticConfig(), context)
    assert text_mark(texts(), other, context) != text_mark(texts(), local, context)


def test_text_vectors_of_other_texts_weights_code_and_device(tmp_path: Path, monkeypatch: Patch) -> None:
    context, local = toys.context(tmp_path), SemanticConfig()
    folder = Path(shutil.copytree(encoder_folder(EMBEDDED), tmp_path / "encoder"))
    marks = [text_mark(texts(), local, context)]
    same = local.model_copy(update={"encoder": str(folder)})
    assert text_mark(texts(), same, context) == marks[0], "equal weights, wherever they lie"
    marks.append(text_mark(texts(title="another"), local, context))
    marks.append(text_mark(texts(), local, replace(context, device="cuda")))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    marks.append(text_mark(texts(), same, context))
    monkeypatch.setattr(embeddings, "VERSION", "semantic/next")
    marks.append(text_mark(texts(), local, context))
    assert len(set(marks)) == 5


BEHAVIOUR_SETTINGS: dict[str, Any] = {
    "encoder": "sasrec", "windows": "released", "choose": "last", "patience": 4, "validation_users": 9, "dim": 8,
    "epochs": 2, "batch": 8, "learning_rate": 0.1, "weight_decay": 0.5, "dropout": 0.5, "window": 5, "layers": 1,
    "heads": 1, "label_smoothing": 0.1, "negatives": 5, "samples": 7, "graph": GraphConfig(reach=2),
}  # fmt: skip


def behaviour_mark(split: Split, config: BehaviorConfig, context: RunContext) -> str:
    (result,) = BehaviorEmbeddings(config).cache_entries(split.train, context)
    return result.key.digest


def test_every_setting_of_behaviour_vectors_is_looked_at() -> None:
    assert set(BehaviorConfig.model_fields) == {*BEHAVIOUR_SETTINGS, "vectors", "vectors_rows"}


@pytest.mark.parametrize("name", BEHAVIOUR_SETTINGS)
def test_behaviour_vectors_of_other_settings(name: str, tmp_path: Path) -> None:
    split = toys.split()
    locked = np.full(split.train.n_users, -1)
    locked[split.valid.targets.cases] = split.valid.targets.items
    context = replace(toys.context(tmp_path, split.valid), validation_items=locked)
    local = BehaviorConfig()
    assert behaviour_mark(split, local, context) == behaviour_mark(toys.split(), BehaviorConfig(), context)
    other = local.model_copy(update={name: BEHAVIOUR_SETTINGS[name]})
    assert behaviour_mark(split, other, context) != behaviour_mark(split, local, context)


def test_behaviour_vectors_of_other_rows_items_answers_seeds_code_and_device(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    local, split = BehaviorConfig(), toys.split()
    context = toys.context(tmp_path, split.valid)
    assert context.validation is not None
    renamed = replace(split.train, items=tuple(f"x{item}" for item in split.train.items))
    longer = toys.split(toys.cycle(length=9))
    marks = [
        behaviour_mark(split, local, context),
        behaviour_mark(replace(split, train=renamed), local, context),
        behaviour_mark(longer, local, context),
        behaviour_mark(split, local, replace(context, seed=2)),
        behaviour_mark(split, local, replace(context, device="cuda:0")),
        behaviour_mark(split, local, replace(context, validation=replace(context.validation, digest="other answers"))),
    ]
    assert behaviour_mark(split, local, replace(context, device="cuda:1")) == marks[4], "which card is no matter"
    monkeypatch.setattr(behavior_encoder, "VERSION", "behavior/next")
    marks.append(behaviour_mark(split, local, context))
    assert len(set(marks)) == 7


@pytest.mark.parametrize("source", ["semantic", "behavior"])
@pytest.mark.parametrize("how", [*DAMAGE, "nothing"])
def test_damaged_vectors_are_made_again(
    how: str, source: str, tmp_path: Path, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]
) -> None:
    result: list[int] = []

    def encode(strings: list[str], *rest: object) -> np.ndarray:
        result.append(1)
        return np.random.default_rng(1).normal(size=(len(strings), 4))

    def train(*value: Any) -> tuple[Any, dict[str, Any]]:
        result.append(1)
        return real(*value)

    real = behavior_encoder.train
    monkeypatch.setattr(embeddings, "encode", encode)
    monkeypatch.setattr(behavior_encoder, "train", train)
    split = toys.split(toys.cycle(users=12, items=8))
    context = toys.context(tmp_path)
    quick = BehaviorConfig(encoder="sasrec", dim=4, epochs=1, layers=1, choose="last")

    def ask() -> np.ndarray:
        if source == "semantic":
            return TextEmbeddings(SemanticConfig()).fit(split.train, context).values
        return BehaviorEmbeddings(quick).fit(split.train, context).values

    first = ask()
    (file,) = (context.cache / "vectors").glob("*.npy")
    if how != "nothing":
        DAMAGE[how](file)
    np.testing.assert_array_equal(ask(), first)
    assert len(result) == (1 if how == "nothing" else 2)
    assert ("computed again" in capfd.readouterr().err) == (how != "nothing")
    np.testing.assert_array_equal(ask(), first)
    assert len(result) == (1 if how == "nothing" else 2), "what was made again is kept"


CODES: dict[str, Any] = {"levels": 2, "size": 4, "balanced": True, "passes": 9, "stream": "other"}


def codes_mark(split: Split, tokenizer: RQKMeansTokenizer, context: RunContext) -> str:
    *_, last = tokenizer.cache_entries(split.train, context)
    assert last.key.kind == "item codes"
    return last.key.digest


def test_every_setting_of_codes_is_looked_at() -> None:
    assert set(RQKMeansTokenizer.model_fields) == {*CODES, "kind", "semantic", "distinct"}


def test_codes_of_other_settings_vectors_seeds_code_and_device(tmp_path: Path, monkeypatch: Patch) -> None:
    context, local = toys.context(tmp_path), RQKMeansTokenizer(levels=3, size=8)
    marks = [codes_mark(texts(), local, context)]
    assert codes_mark(texts(), local.model_copy(update={"distinct": "token"}), context) == marks[0]
    marks += [codes_mark(texts(), local.model_copy(update={name: value}), context) for name, value in CODES.items()]
    marks.append(codes_mark(texts(), local.model_copy(update={"semantic": SemanticConfig(pooling="last")}), context))
    marks.append(codes_mark(texts(title="another"), local, context))
    marks.append(codes_mark(texts(), local, replace(context, seed=2)))
    marks.append(codes_mark(texts(), local, replace(context, device="cuda:0")))
    monkeypatch.setattr(RQKMeansTokenizer, "version", "next")
    marks.append(codes_mark(texts(), local, context))
    assert len(set(marks)) == len(CODES) + 6


@pytest.mark.parametrize("how", [*DAMAGE, "nothing"])
def test_damaged_codes_are_made_again(
    how: str, tmp_path: Path, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]
) -> None:
    result: list[int] = []

    def quantise(*value: Any) -> tuple[np.ndarray, np.ndarray]:
        result.append(1)
        return real(*value)

    real = RQKMeansTokenizer.quantise
    monkeypatch.setattr(RQKMeansTokenizer, "quantise", quantise)
    split, context, tokenizer = toys.split(toys.cycle(users=12)), toys.context(tmp_path), RQKMeansTokenizer(size=4)

    def ask() -> tuple[np.ndarray, dict[str, Any]]:
        index = tokenizer.fit(split.train, context)[1]
        return index.table.digits, index.record()

    first, record = ask()
    (file,) = (context.cache / "vectors").glob("codes-*.npy")
    if how != "nothing":
        DAMAGE[how](file)
    digits, other = ask()
    np.testing.assert_array_equal(digits, first)
    assert {**other, "seconds": 0} == {**record, "seconds": 0}
    assert len(result) == (1 if how == "nothing" else 2)
    assert ("computed again" in capfd.readouterr().err) == (how != "nothing")


def test_the_unpacked_backbone(tmp_path: Path, monkeypatch: Patch, capfd: pytest.CaptureFixture[str]) -> None:
    unpacked: list[Path] = []

    def unpack(source: Path, folder: Path) -> None:
        unpacked.append(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(source.read_bytes() * 9)

    packed = tmp_path / "weights.gguf"
    packed.write_bytes(b"weights of one kind")
    monkeypatch.setattr(backbone, "_packed", lambda: packed)
    monkeypatch.setattr(backbone, "_unpack", unpack)
    context = toys.context(tmp_path)
    folders = [backbone._embedded_folder(context) for _ in range(2)]
    assert folders[0] == folders[1] and len(unpacked) == 1
    for number, how in enumerate(DAMAGE, start=2):
        DAMAGE[how](folders[0] / "model.safetensors")
        backbone._embedded_folder(context)
        assert len(unpacked) == number and "computed again" in capfd.readouterr().err
        assert (folders[0] / "model.safetensors").read_bytes() == packed.read_bytes() * 9
    packed.write_bytes(b"weights of one sort")  # of the same length
    assert backbone._embedded_folder(context) != folders[0]
    local_path = backbone._embedded_folder(context)
    monkeypatch.setattr(backbone, "version", lambda package: "next")
    assert backbone._embedded_folder(context) != local_path
    assert not backbone_artefacts("tiny-random", context) and backbone_artefacts(SMOLLM, context)


OUTCOME = Outcome("eager-llm", {"a": {"b": 1}}, 2, "data", "protocol", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "lcrec"},
        {"configuration": {"a": {"b": 2}}},
        {"configuration": {"a": {"b": 1}, "c": None}},
        {"code_version": 3},
        {"data": "other"},
        {"protocol": "other"},
        {"seed": 2},
    ],
    ids=str,
)
def test_every_part_of_a_runs_key(change: dict[str, Any]) -> None:
    assert replace(OUTCOME).run_id == OUTCOME.run_id
    assert replace(OUTCOME, **change).run_id != OUTCOME.run_id


def _data(**changes: Any) -> Dataset:
    data = replace(toys.cycle(users=12, items=8), timestamps=np.arange(96.0))
    return replace(data, **changes)


def _marks(monkeypatch: Patch, folder: Path) -> Callable[[Dataset], str]:
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    return lambda data: local_store.save_dataset(data, {}).folder


def test_every_part_of_a_kept_data_set(tmp_path: Path, monkeypatch: Patch) -> None:
    keep, data = _marks(monkeypatch, tmp_path), _data()
    index = tmp_path / "given.index.json"
    index.write_text('{"i0": ["<a_0>"]}')
    other = [
        _data(timestamps=np.arange(96.0) + 1),
        _data(users=(*data.users[1:], data.users[0])),
        _data(text=(ItemText("other"), *(data.text or ())[1:])),
        _data(index_file=index),
        _data(sequences=toys.cycle(users=12, items=8, length=8).sequences.take(np.arange(12)[::-1])),
    ]
    assert keep(data) == keep(_data())
    marks = {keep(each) for each in (data, *other)}
    index.write_text('{"i0": ["<a_1>"]}')
    marks.add(keep(other[3]))
    assert len(marks) == 7


@pytest.mark.parametrize("how", [*DAMAGE, "nothing"])
@pytest.mark.parametrize("file", ["interactions.parquet", "items.parquet"])
def test_a_damaged_data_set_is_refused_and_kept_anew(how: str, file: str, tmp_path: Path, monkeypatch: Patch) -> None:
    keep, data = _marks(monkeypatch, tmp_path), _data()
    folder = tmp_path / "data" / keep(data)
    if how == "nothing":
        assert local_store.load("toy").fingerprint == data.fingerprint
        return
    DAMAGE[how](folder / file)
    try:  # a bit of what no reader looks at may be lost without a loss
        loaded = local_store.load("toy")
        assert how == "a bit" and f"toy-{local_store._key(loaded)}" == folder.name
    except InputError as error:
        assert "a file in it was changed" in str(error) and "import it again" in str(error)
    keep(data)
    assert local_store.load("toy").fingerprint == data.fingerprint
