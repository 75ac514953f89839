"""Loading backbones: the embedded one, folders of any name, and what they may not decide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.models.backbone import EMBEDDED, RANDOM_LLAMA, Backbone, blank_backbone, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.requests import Requests
from tests.generative import toy_models

HOSTILE = {
    "do_sample": True,
    "temperature": 5.0,
    "top_k": 1,
    "num_beams": 3,
    "max_length": 4,
    "eos_token_id": [1, 2, 3],
}


FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gpt2")


def folder(place: Path, kind: str = "llama") -> Path:
    """A small model of two layers saved as a folder, with the tiny tokenizer."""
    tiny = toy_models.backbone(place)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    sizes |= {"n_inner": 96} if kind == "gpt2" else {"intermediate_size": 96, "num_key_value_heads": 2}
    config = AutoConfig.for_model(kind, vocab_size=tiny.vocabulary, bos_token_id=None, eos_token_id=0, **sizes)
    torch.manual_seed(3)
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))
    model.save_pretrained(place / "somewhere")
    tiny.tokenizer.save_pretrained(place / "somewhere")
    return place / "somewhere"


def lists(backbone: Backbone) -> np.ndarray:
    codes = toy_models.table()
    torch.manual_seed(11)
    model = CodeLM(backbone, codes.sizes).eval()
    prompts = torch.randint(1, 250, (4, 7), generator=torch.Generator().manual_seed(1))
    requests = Requests("test", np.arange(4), RaggedArray.of(list(prompts.numpy())))
    how = Decoding(beams=10, batch=4, precision="float32")
    value, _ = recommend(
        Ranker(model, CodeTrie(codes), lambda row: row.tolist()), requests, 10, how, RunContext(1, Path())
    )
    return value.items


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_models_own_generation_settings_and_its_path_change_nothing(kind: str, tmp_path: Path) -> None:
    place, context = folder(tmp_path, kind), toy_models.context(tmp_path)
    plain = load_backbone(str(place), None, "pretrained", context)
    (place / "generation_config.json").write_text(json.dumps(HOSTILE))
    renamed = place.rename(tmp_path / "llama-qwen-gpt2-mistral")
    hostile = load_backbone(str(renamed), None, "pretrained", context)
    np.testing.assert_array_equal(lists(plain), lists(hostile))
    text = " Toy Story (1995), <a_1>"
    assert plain.tokenizer(text)["input_ids"] == hostile.tokenizer(text)["input_ids"]
    assert (plain.eos, plain.context, plain.width) == (hostile.eos, hostile.context, hostile.width) == (0, 64, 48)


@pytest.mark.parametrize("kind", FAMILIES)
def test_layers_are_the_first_ones_and_weights_may_be_drawn_anew(kind: str, tmp_path: Path) -> None:
    place, context = folder(tmp_path, kind), toy_models.context(tmp_path)
    complete, first = (load_backbone(str(place), layers, "pretrained", context) for layers in (None, 1))
    stack = "h" if kind == "gpt2" else "layers"
    assert len(getattr(complete.body, stack)) == 2 and len(getattr(first.body, stack)) == 1
    name = "h.0.mlp.c_fc.weight" if kind == "gpt2" else "layers.0.mlp.up_proj.weight"
    assert torch.equal(complete.body.state_dict()[name], first.body.state_dict()[name])
    samples = load_backbone(str(place), None, "random", context)
    assert not torch.equal(complete.body.state_dict()[name], samples.body.state_dict()[name])
    repeated = load_backbone(str(place), None, "random", context)
    assert torch.equal(samples.body.state_dict()[name], repeated.body.state_dict()[name])
    lists(first)
    with pytest.raises(InputError, match="has 2 layers, 5 are requested"):
        load_backbone(str(place), 5, "pretrained", context)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_backbone_is_held_in_the_storage_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    place, context = folder(tmp_path, kind), toy_models.context(tmp_path)
    for weights in ("pretrained", "random"):
        half = load_backbone(str(place), None, weights, context, storage="bfloat16")
        assert {p.dtype for p in half.body.parameters()} == {half.head.dtype} == {torch.bfloat16}
        assert lists(half).shape == (4, 10)
    assert {p.dtype for p in load_backbone(str(place), None, "pretrained", context).body.parameters()} == {
        torch.float32
    }


def test_an_encoder_is_no_backbone(tmp_path: Path) -> None:
    config = AutoConfig.for_model("t5", d_model=16, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)
    config.save_pretrained(tmp_path / "t5")
    toy_models.backbone(tmp_path).tokenizer.save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match="t5 has an encoder"):
        load_backbone(str(tmp_path / "t5"), None, "random", toy_models.context(tmp_path))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ((), "is no folder"),
        (("m",), "is a file, not the folder of a model"),
        (("m/tokenizer.json",), "has no config.json"),
        (("m/config.json", "m/model.safetensors"), "has no tokenizer"),
    ],
)
def test_a_path_that_is_no_folder_of_a_model(made: tuple[str, ...], says: str, tmp_path: Path) -> None:
    for name in made:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=says):
        load_backbone(str(tmp_path / "m"), None, "random", toy_models.context(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name: f"base.{name}", r"lack \d+ of its weights"),
        (lambda name: None if ".1." in name else name, r"lack \d+ of its weights .*layers\.1"),
        (lambda name: None if name == "lm_head.weight" else name, r"lack 1 of its weights \(lm_head\.weight\)"),
    ],
    ids=["other names", "a layer", "the head"],
)
def test_weights_that_are_missing_are_not_drawn(change: Callable[[str], str | None], says: str, tmp_path: Path) -> None:
    path = folder(tmp_path)
    weights = load_file(path / "model.safetensors")
    kept = {new: value for name, value in weights.items() if (new := change(name)) is not None}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=says):
        load_backbone(str(path), None, "pretrained", toy_models.context(tmp_path))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path)
    config = AutoConfig.from_pretrained(path)
    config.vocab_size = 100
    cast(PreTrainedModel, AutoModelForCausalLM.from_config(config)).save_pretrained(path)
    with pytest.raises(InputError, match=r"tokens up to \d+, and its embedding has 100 rows"):
        load_backbone(str(path), None, "pretrained", toy_models.context(tmp_path))


def test_a_blank_backbone_has_the_shape_of_the_real_one(tmp_path: Path) -> None:
    for kind in FAMILIES:
        place = folder(tmp_path / kind, kind)
        real = load_backbone(str(place), 1, "pretrained", toy_models.context(tmp_path))
        blank = blank_backbone(str(place), 1)
        assert {p.device.type for p in blank.parameters()} == {"meta"}
        assert _shapes(blank.base_model) == _shapes(real.body)
    assert sum(p.numel() for p in blank_backbone("huggyllama/llama-7b", None).parameters()) == 6_738_415_616


def test_the_width_and_depth_of_a_drawn_llama_are_chosen() -> None:
    assert blank_backbone(RANDOM_LLAMA, None).config.hidden_size == 256
    narrow = blank_backbone(RANDOM_LLAMA, 3, 96)
    assert (narrow.config.hidden_size, narrow.config.num_hidden_layers, narrow.config.vocab_size) == (96, 3, 49152)


def _shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def test_code_rows_start_with_logits_of_about_unit_size(tmp_path: Path) -> None:
    codes = toy_models.table()
    torch.manual_seed(0)
    model = CodeLM(load_backbone(str(folder(tmp_path)), None, "pretrained", toy_models.context(tmp_path)), codes.sizes)
    with torch.no_grad():
        states = model.states(torch.randint(1, 250, (64, 5)))
        spread = torch.cat([model.level_logits(states, level) for level in range(3)], dim=-1).std()
    assert 0.3 < float(spread) < 3


@pytest.mark.nightly
def test_the_embedded_backbone_is_unpacked_once(tmp_path: Path) -> None:
    context = toy_models.context(tmp_path)
    first = load_backbone(EMBEDDED, 1, "pretrained", context)
    assert (first.width, first.vocabulary, len(first.body.layers)) == (576, 49152, 1)  # type: ignore[arg-type]
    assert first.tokenizer.decode(first.tokenizer("Toy Story (1995)")["input_ids"]) == "Toy Story (1995)"
    (mark,) = (tmp_path / "backbones").glob("*.json")
    result = mark.stat().st_mtime_ns
    second = load_backbone(EMBEDDED, 1, "pretrained", context)
    assert mark.stat().st_mtime_ns == result
    assert torch.equal(first.head, second.head)
    samples = load_backbone(RANDOM_LLAMA, 2, "pretrained", context, width=64)
    assert (samples.width, samples.vocabulary, samples.eos) == (64, 49152, first.eos)
