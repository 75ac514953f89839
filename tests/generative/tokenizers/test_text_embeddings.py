"""The semantic source: what its vectors are made of, and that its cache can neither miss a change nor lie."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.config import EMBEDDED, SemanticConfig
from harness.generative.tokenizers import embeddings
from harness.generative.tokenizers.embeddings import TextEmbeddings, average, released_text
from harness.generative.tokenizers.text_encoder import encode, encoder_folder, identity, load_encoder
from harness.protocol.split import TrainingData
from tests import toys

TITLES = SemanticConfig(fields=("title",))
TEXT = (
    ItemText("Toy Story (1995)", categories=("Animation", "Comedy")),
    ItemText("Toy Story (1995)", categories=("Horror",)),
    ItemText("A nineteenth century treatise on the differential calculus"),
)


def data(text: tuple[ItemText, ...] = TEXT) -> TrainingData:
    items = tuple(f"i{item}" for item in range(len(text)))
    return TrainingData("toy", items, RaggedArray.of([np.arange(len(text))]), text, 20)


def vectors(config: SemanticConfig, folder: Path, text: tuple[ItemText, ...] = TEXT) -> np.ndarray:
    return TextEmbeddings(config).fit(data(text), toys.context(folder)).values


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A copy of the embedded encoder whose settings a test may change."""
    return Path(shutil.copytree(encoder_folder(EMBEDDED), tmp_path / "encoder"))


def test_equal_fields_give_near_vectors_and_empty_fields_do_not_count(tmp_path: Path) -> None:
    both = vectors(SemanticConfig(fields=("title", "categories")), tmp_path)
    assert both.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    assert both[0] @ both[1] > both[0] @ both[2] + 0.2
    alone = vectors(TITLES, tmp_path)
    np.testing.assert_allclose(alone[2], both[2], atol=1e-5)  # the treatise has no categories
    assert np.abs(alone[0] - both[0]).max() > 0.01


@pytest.mark.parametrize(
    "change",
    [{"pooling": "cls"}, {"pooling": "last"}, {"normalise": False}, {"max_tokens": 4}, {"text": "released"}],
    ids=str,
)
def test_every_switch_does_something(change: dict[str, object], tmp_path: Path) -> None:
    base = {"fields": ("title", "categories"), "normalise": True}
    text = (*TEXT[:2], replace(TEXT[2], description="x"))
    if "normalise" in change:  # MiniLM's own vectors have unit length: pooled by hand they do not
        base["pooling"] = "mean"
        base["encoder"] = str(_bare(tmp_path))
    one = vectors(SemanticConfig.model_validate(base), tmp_path, text)
    other = vectors(SemanticConfig.model_validate({**base, **change}), tmp_path, text)
    assert np.abs(one - other).max() > 1e-3


def _bare(folder: Path) -> Path:
    """The embedded encoder as a plain transformers folder."""
    bare = Path(shutil.copytree(encoder_folder(EMBEDDED), folder / "bare"))
    (bare / "modules.json").unlink()
    return bare


def test_the_cache_hits_what_is_equal_and_misses_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Path
) -> None:
    calls: list[int] = []

    def fake(strings: list[str], *value: object) -> np.ndarray:
        calls.append(len(strings))
        return np.random.default_rng(len(strings)).normal(size=(len(strings), 4))

    monkeypatch.setattr(embeddings, "encode", fake)
    context = toys.context(tmp_path)
    first, repeated = (TextEmbeddings(TITLES).fit(data(), context) for _ in range(2))
    assert len(calls) == 1 and first.key == repeated.key and repeated.provenance.rows == "none"
    np.testing.assert_array_equal(first.values, repeated.values)
    keys = {first.key}
    local = TITLES.model_copy(update={"encoder": str(encoder)})
    assert TextEmbeddings(local).fit(data(), context).key == first.key, "equal weights, wherever they lie"
    (encoder / "config.json").write_text((encoder / "config.json").read_text() + " ")
    for text, config in (
        ((*TEXT[:2], ItemText("Another title")), TITLES),
        (TEXT, local),
        (TEXT, TITLES.model_copy(update={"pooling": "last"})),
        (TEXT, TITLES.model_copy(update={"max_tokens": 9})),
        (TEXT[::-1], TITLES),
    ):
        keys.add(TextEmbeddings(config).fit(data(text), context).key)
    assert len(keys) == len(calls) == 6


def test_released_text_is_blanked_when_it_is_long() -> None:
    assert released_text("a" * 1998) == "a" * 1998 + "." and released_text("a" * 1999) == ""
    assert released_text("") == "" and released_text("no. 5.") == "no. 5."


def test_items_without_text_in_the_chosen_fields_are_named(tmp_path: Path) -> None:
    config = SemanticConfig(fields=("categories",))
    with pytest.raises(InputError, match=r"1 items have no text in categories \(i2"):
        vectors(config, tmp_path)
    assert vectors(config.model_copy(update={"text": "released"}), tmp_path).shape == (3, 384)


def test_an_encoder_that_is_not_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"encoder.*cannot be loaded"):
        vectors(TITLES.model_copy(update={"encoder": str(tmp_path / "nothing")}), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"encoder.*cannot be loaded"):
        vectors(TITLES.model_copy(update={"encoder": str(tmp_path / "empty")}), tmp_path)


def test_an_encoder_whose_files_lack_weights_is_refused(encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(encoder / "model.safetensors")
    for name in [name for name in weights if name.startswith("pooler.")]:
        del weights[name]  # unused by the pooling of token states
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    assert encode(["one"], str(encoder), "auto", 256, toys.context(tmp_path)).shape == (1, 384)
    del weights["encoder.layer.0.attention.self.query.weight"]
    save_file(weights, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"files lack 1 of its weights \(encoder\.layer\.0\.attention"):
        load_encoder(str(encoder), "auto", 256, "cpu")


def test_vectors_are_those_of_transformers_pooled_by_hand(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["a box", "a text that is a good deal longer than the other one"]
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(EMBEDDED))
    model = AutoModel.from_pretrained(encoder_folder(EMBEDDED)).eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    lengths = batch["attention_mask"].sum(1)
    expected = {
        "auto": mean,
        "cls": torch.nn.functional.normalize(states[:, 0], dim=-1),
        "last": torch.nn.functional.normalize(states[torch.arange(2), lengths - 1], dim=-1),
    }
    for pooling, vectors_by_hand in expected.items():
        result = encode(texts, EMBEDDED, pooling, 256, toys.context(tmp_path))  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(result, vectors_by_hand, atol=1e-6)


def test_a_sentence_encoders_own_settings_are_read(encoder: Path, tmp_path: Path) -> None:
    context = toys.context(tmp_path)
    plain = encode(["text: one", "text: two wo"], str(encoder), "cls", 256, context)
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": True,
        "pooling_mode_max_tokens": True,
        "pooling_mode_mean_tokens": False,
    }
    (encoder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (encoder / "sentence_bert_config.json").write_text('{"max_seq_length": 7, "do_lower_case": true}')
    (encoder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"doc": "text: "}, "default_prompt_name": "doc"}'
    )
    result = encode(["One", "TWO wo and much that is cut"], str(encoder), "auto", 256, context)
    assert result.shape == (2, 768)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, atol=1e-5)
    first = result[:, :384] / np.linalg.norm(result[:, :384], axis=1, keepdims=True)
    np.testing.assert_allclose(first[0], plain[0], atol=1e-5)
    assert not np.allclose(first[1], plain[1], atol=1e-3)
    repeated = encode(["TWO wo and more"], str(encoder), "auto", 256, context)
    assert load_encoder(str(encoder), "auto", 256, "cpu").max_seq_length == 7
    np.testing.assert_allclose(result[1], repeated[0], atol=1e-5)  # equal as far as seven tokens go
    (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "colbert", "embedding_dimension": 384}')
    with pytest.raises(InputError, match=r"cannot be loaded: .*colbert"):
        encode(["one"], str(encoder), "auto", 256, context)


def test_a_dense_layer_is_applied(encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    modules = json.loads((encoder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (encoder / "modules.json").write_text(json.dumps([*modules[:2], dense]))
    (encoder / "2_Dense").mkdir()
    weight = torch.zeros(2, 384)
    weight[0, 3] = weight[1, 5] = 1
    save_file({"linear.weight": weight, "linear.bias": torch.zeros(2)}, encoder / "2_Dense" / "model.safetensors")
    settings = {"in_features": 384, "out_features": 2, "activation_function": "torch.nn.modules.activation.Tanh"}
    (encoder / "2_Dense" / "config.json").write_text(json.dumps(settings))
    context = toys.context(tmp_path)
    result = encode(["a box"], str(encoder), "auto", 256, context)
    (encoder / "modules.json").write_text(json.dumps(modules[:2]))
    plain = encode(["a box"], str(encoder), "auto", 256, context)
    np.testing.assert_allclose(result, np.tanh(plain[:, [3, 5]]), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_decoder_llm_is_an_encoder_too(pooling: str, tmp_path: Path) -> None:
    """A minute Llama in a folder; texts of unlike length give the same vectors alone and in a batch."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    folder = tmp_path / "llm"
    AutoTokenizer.from_pretrained(encoder_folder(EMBEDDED)).save_pretrained(folder)
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=30522, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaModel(shape).save_pretrained(folder)
    context = toys.context(tmp_path)
    texts = ["a short one", "a text that is a good deal longer than the other one"]
    both = encode(texts, str(folder), pooling, 64, context)  # pyright: ignore[reportArgumentType]
    alone = [encode([text], str(folder), pooling, 64, context)[0] for text in texts]  # pyright: ignore
    np.testing.assert_allclose(both, alone, atol=1e-5)
    assert both.shape == (2, 16) and identity(str(folder)) != identity(EMBEDDED)


def test_given_vectors_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "own.npy"
    config = SemanticConfig(vectors=file)
    np.save(file, np.arange(6.0).reshape(3, 2))
    (tmp_path / "own.ids.txt").write_text("\n".join(data().items))
    result = TextEmbeddings(config).fit(data(), toys.context(tmp_path))
    np.testing.assert_array_equal(result.values, np.arange(6.0).reshape(3, 2))
    assert result.provenance.rows == "unknown"
    for wrong, message in (
        (np.zeros((2, 2)), "2 vectors and 3 ids"),
        (np.array([[1.0], [np.nan], [0.0]]), r"NaN or infinite values \(row 1 first\)"),
        (np.zeros(3), "not a table"),
    ):
        np.save(file, wrong)
        with pytest.raises(InputError, match=message):
            TextEmbeddings(config).fit(data(), toys.context(tmp_path))
    file.write_text("words")
    with pytest.raises(InputError, match="no vectors can be read"):
        TextEmbeddings(config).fit(data(), toys.context(tmp_path))


@pytest.mark.parametrize("normalise", [True, False])
def test_fields_are_averaged_part_by_part_to_the_same_digits(monkeypatch: pytest.MonkeyPatch, normalise: bool) -> None:
    rng = np.random.default_rng(1)
    encoded = rng.normal(size=(20, 6)).astype(np.float32)
    places, rows = rng.integers(20, size=50), np.concatenate([np.arange(15), rng.integers(15, size=35)])
    at_once = average(encoded, places, rows, 15, normalise)
    monkeypatch.setattr("harness.generative.tokenizers.embeddings.PART", 7)
    assert np.array_equal(average(encoded, places, rows, 15, normalise), at_once)
    lengths = np.linalg.norm(encoded, axis=1, keepdims=True) if normalise else 1.0
    sums = [(encoded / lengths)[places[rows == item]].sum(axis=0) for item in range(15)]
    expected = [total / np.linalg.norm(total) for total in sums]
    assert np.allclose(at_once, expected, atol=1e-6)
