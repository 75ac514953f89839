"""Item codes of each kind, what is refused before training, and the canary of held-out rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eager.behavior_models import LEAK
from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.data.dataset import Dataset
from harness.data.loading import read_folder
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.tokenizers.base import ItemIndex, code_directions
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.protocol.audit.provenance import UNKNOWN, Provenance, write_provenance
from harness.protocol.protocol import Protocol
from harness.protocol.split import Split, split
from tests import toys

RQVAE = {"hidden": [16], "latent": 4, "epochs": 3, "batch": 32}


def config(**index: Any) -> EagerConfig:
    return EagerConfig.model_validate({**EagerConfig.profiles["smoke"], "index": index})


def index(folder: Path, data: Split | None = None, seed: int = 1, **settings: Any) -> ItemIndex:
    value = data or toys.split()
    return EagerLLM(config(**settings)).item_codes(value.train, toys.context(folder, value.valid, seed=seed))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "random"}, {"kind": "rqvae", "k": 5, "rqvae": RQVAE}, {"sources": ("semantic",)},
        {"sources": ("behavior",)}, {"sources": ("behavior", "semantic")}, {"order": "released"}, {"k": 7},
        {"height": 3},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_gives_other_codes(change: dict[str, Any], tmp_path: Path) -> None:
    plain, other = index(tmp_path), index(tmp_path, **change)
    assert plain.table.fingerprint != other.table.fingerprint
    assert sum(levels for _, levels in other.blocks) == other.table.levels


@pytest.mark.parametrize(
    "settings", [{}, {"kind": "random"}, {"kind": "rqvae", "k": 5, "rqvae": RQVAE}], ids=["tree", "random", "rqvae"]
)
def test_seeds_are_read_and_equal_seeds_give_equal_codes(settings: dict[str, Any], tmp_path: Path) -> None:
    one, repeated, other = (
        index(tmp_path / str(number), seed=seed, **settings) for number, seed in enumerate((1, 1, 2))
    )
    np.testing.assert_array_equal(one.table.digits, repeated.table.digits)
    assert one.table.fingerprint != other.table.fingerprint


@pytest.mark.parametrize("settings", [{}, {"kind": "random"}, {"levels": ("behavior", "semantic")}], ids=str)
def test_a_token_of_its_own_for_each_leaf(settings: dict[str, Any], tmp_path: Path) -> None:
    settings = {"k": 5, **settings}
    shared, own = index(tmp_path, **settings).table, index(tmp_path, leaf_tokens="own", **settings).table
    trees = 1 if "levels" in settings else 2
    n, k = shared.n_items, shared.sizes[0]
    assert own.sizes == (k, n) * trees
    for level in range(own.levels):
        if level % 2:
            assert sorted(own.digits[:, level]) == list(range(n))
        else:
            assert np.array_equal(own.digits[:, level], shared.digits[:, level])


def test_codes_without_a_tree_have_no_leaf_tokens(tmp_path: Path) -> None:
    settings = {"kind": "rqvae", "k": 5, "rqvae": RQVAE}
    shared, own = index(tmp_path, **settings), index(tmp_path, leaf_tokens="own", **settings)
    assert shared.table.fingerprint == own.table.fingerprint


def test_trees_and_random_codes_are_unique_and_say_what_they_saw(tmp_path: Path) -> None:
    observed = {}
    for kind, sources in (("tree", ("semantic",)), ("tree", ("semantic", "behavior")), ("random", ("semantic",))):
        result = index(tmp_path, kind=kind, sources=sources)
        assert result.record()["collision_rate"] == 0
        observed[kind, len(sources)] = result.provenance.rows
    assert observed == {("tree", 1): "none", ("tree", 2): "training", ("random", 1): "none"}
    rqvae = index(tmp_path, kind="rqvae", k=5, rqvae=RQVAE).record()
    assert [entry["source"] for entry in rqvae["rqvae"]] == ["semantic", "behavior"]
    assert 0 <= rqvae["collision_rate"] <= 1 and rqvae["rqvae"][0]["rounds"] >= 0


def test_an_index_file_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, path, data = index(tmp_path), tmp_path / "own.index.json", toys.split()
    built.write(path, data.train)
    ready = index(tmp_path, kind="file", file=str(path))
    np.testing.assert_array_equal(ready.table.digits, built.table.digits)
    assert ready.provenance == built.provenance and ready.blocks == (("semantic", 4),)
    monkeypatch.chdir(tmp_path)
    assert config(kind="file", file=path.name).files(data.train) == (path,), (
        "a stored configuration works from anywhere"
    )


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows.pop("i3"), "1 items have no code"),
        (lambda rows: rows.update(new=["<a_0>"] * 4), "1 unknown items"),
        (lambda rows: rows.update(i3=["<a_0>"]), "unequal length"),
    ],
)
def test_a_wrong_index_file_is_refused_before_anything_is_trained(
    edit: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {f"i{item}": [f"<a_{item}>", "<b_0>", "<c_0>", "<d_0>"] for item in range(24)}
    edit(rows)
    path = tmp_path / "own.index.json"
    path.write_text(json.dumps(rows))
    monkeypatch.setattr("eager.behavior_encoder.BehaviorEmbeddings.fit", lambda *value: pytest.fail("trained"))
    monkeypatch.setattr(
        "harness.generative.tokenizers.embeddings.TextEmbeddings.fit", lambda *value: pytest.fail("encoded")
    )
    with pytest.raises(InputError, match=message):
        index(tmp_path, kind="file", file=str(path))
    with pytest.raises(InputError, match=r"fewer than index\.k"):
        index(tmp_path, k=40)
    with pytest.raises(InputError, match="comes without an index file"):
        index(tmp_path, kind="file")


def test_a_shipped_index_is_found_in_the_folder(tmp_path: Path) -> None:
    rows = {f"u{user}": [f"i{(user + step) % 9}" for step in range(5)] for user in range(9)}
    (tmp_path / "toy.inter.json").write_text(json.dumps(rows))
    assert read_folder(tmp_path).index_file is None
    shipped = {f"i{item}": [f"<a_{item // 3}>", f"<b_{item % 3}>"] for item in range(9)}
    (tmp_path / "toy.index.json").write_text(json.dumps(shipped))
    data = split(read_folder(tmp_path), Protocol())
    ready = index(tmp_path, data, kind="file")
    assert [ready.table.tokens[token] for token in ready.table.flat[data.train.items.index("i5")]] == ["<a_1>", "<b_2>"]
    assert ready.provenance == UNKNOWN


def test_an_index_that_saw_validation_rows_needs_a_declared_leak(tmp_path: Path) -> None:
    built, path, data = index(tmp_path), tmp_path / "own.index.json", toys.split()
    built.write(path, data.train)
    write_provenance(path, Provenance.of(data.train, "a test", validation=True))
    with pytest.raises(InputError, match="validation rows"):
        index(tmp_path, kind="file", file=str(path))
    settings = {**EagerConfig.profiles["smoke"], "index": {"kind": "file", "file": str(path)}}
    settings["behavior"] = {**settings["behavior"], "windows": "released"}
    leaking = EagerConfig.model_validate(settings)
    assert leaking.leaks() == (LEAK,) and EagerLLM(leaking).item_codes(data.train, toys.context(tmp_path))
    settings["index"] = {"sources": ("semantic",)}
    assert EagerConfig.model_validate({**settings, "contrast": {"behavior": 0.0}}).leaks() == (), "no behaviour vectors"
    assert config().leaks() == ()


def test_code_rows_stand_for_their_items_or_are_noise(tmp_path: Path) -> None:
    result = index(tmp_path, k=12)
    values = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)
    vectors = {"semantic": ItemVectors(values, "", UNKNOWN), "behavior": ItemVectors(values, "", UNKNOWN)}
    rows = code_directions(result, vectors, 16, 1)  # pyright: ignore[reportArgumentType]
    blind = code_directions(replace(result, blocks=((None, 4),)), vectors, 16, 1)  # pyright: ignore[reportArgumentType]
    assert rows.shape == blind.shape == (48, 16) and not np.allclose(rows, blind)
    assert abs(float(blind.mean())) < 0.2 and 0.8 < float(blind.std()) < 1.2


# -- the canary


def planted(answers: int) -> Dataset:
    """Training parts of the cycle, with two held-out items of `answers`' choosing appended to each raw sequence; items
    are numbered by first appearance, as readers do, so that what is appended moves the numbering too."""
    rng = np.random.default_rng(answers)
    rows = {
        f"u{user}": [*(f"i{(7 * user + step) % 24}" for step in range(6)), *(f"i{n}" for n in rng.integers(24, size=2))]
        for user in range(60)
    }
    items = list(dict.fromkeys(item for row in rows.values() for item in row))
    number = {item: place for place, item in enumerate(items)}
    texts = toys.titles(24)
    return Dataset(
        name="canary",
        users=tuple(rows),
        items=tuple(items),
        sequences=RaggedArray.of([np.array([number[item] for item in row]) for row in rows.values()]),
        text=tuple(texts[int(item[1:])] for item in items),
    )


@pytest.mark.parametrize("encoder", ["sasrec", "din"])
def test_appending_test_interactions_changes_neither_vectors_nor_index(encoder: str, tmp_path: Path) -> None:
    result = []
    for answers in (1, 2):
        data = split(planted(answers), Protocol())
        settings = {**EagerConfig.profiles["smoke"]}
        settings["behavior"] = {**settings["behavior"], "encoder": encoder, "epochs": 2, "negatives": 5}
        model, context = (
            EagerLLM(EagerConfig.model_validate(settings)),
            toys.context(tmp_path / str(answers), data.valid),
        )
        vectors, built = model.tokenize(data.train, context)
        order = sorted(range(24), key=data.train.items.__getitem__)
        result.append((data.train.items, vectors["behavior"].values[order], built.table.digits[order]))
    assert result[0][0] != result[1][0], "the readers number the items differently"
    np.testing.assert_array_equal(result[0][1], result[1][1])
    np.testing.assert_array_equal(result[0][2], result[1][2])


@pytest.mark.parametrize("encoder", ["sasrec", "din"])
def test_rows_appended_behind_a_global_cut_change_nothing(encoder: str, tmp_path: Path) -> None:
    """Raw files, the second with more purchases after the test date, by users who had none there and by a new one; the
    pass is chosen on validation, which both share."""
    result = []
    late = [f"u{user},i{(3 * user) % 24},{9000 + user}" for user in range(0, 60, 2)] + ["new,i4,9100", "new,i5,9101"]
    for name, more in (("raw", []), ("appended", late)):
        rows = [f"u{u},i{(7 * u + step) % 24},{1000 * step + u}" for u in range(60) for step in range(7 + u % 2)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows, *more]))
        data = split(
            read_folder(tmp_path / name), Protocol.model_validate({"name": "global-time", "cut": (6000, 7000)})
        )
        settings = {**EagerConfig.profiles["smoke"], "index": {"sources": ("behavior",)}, "contrast": {"semantic": 0.0}}
        settings["behavior"] = {**settings["behavior"], "encoder": encoder, "epochs": 3, "choose": "validation"}
        context = toys.context(tmp_path / name, data.valid)
        vectors, built = EagerLLM(EagerConfig.model_validate(settings)).tokenize(data.train, context)
        result.append((len(data.test.requests), vectors["behavior"].values, built.table.digits))
    assert result[0][0] < result[1][0], "there is more to test on"
    np.testing.assert_array_equal(result[0][1], result[1][1])
    np.testing.assert_array_equal(result[0][2], result[1][2])


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """With the released windows the same held-out items do change the vectors."""
    result = []
    for answers in (1, 2):
        data = split(planted(answers), Protocol())
        settings = {**EagerConfig.profiles["smoke"]}
        settings["behavior"] = {**settings["behavior"], "epochs": 2, "windows": "released"}
        context = replace(toys.context(tmp_path / str(answers)), validation_items=data.valid.targets.items)
        vectors, _ = EagerLLM(EagerConfig.model_validate(settings)).tokenize(data.train, context)
        result.append(vectors["behavior"].values[sorted(range(24), key=data.train.items.__getitem__)])
    assert np.abs(result[0] - result[1]).max() > 1e-6
