"""Loading backbones: the embedded one, folders of any name, and what they may not decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.errors import InputError
from harness.generative.backbone import EMBEDDED, Backbone, load_backbone
from harness.generative.beam import beam_search
from harness.generative.code_lm import CodeLM
from harness.generative.trie import CodeTrie
from tests.generative import models

HOSTILE = {
    "do_sample": True,
    "temperature": 5.0,
    "top_k": 1,
    "num_beams": 3,
    "max_length": 4,
    "eos_token_id": [1, 2, 3],
}


def folder(place: Path, kind: str = "llama") -> Path:
    """A small model of two layers saved as a folder, with the tiny tokenizer."""
    tiny = models.backbone(place)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, vocab_size=tiny.vocabulary, max_position_embeddings=64, eos_token_id=0, **sizes)
    torch.manual_seed(3)
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))
    model.save_pretrained(place / "somewhere")
    tiny.tokenizer.save_pretrained(place / "somewhere")
    return place / "somewhere"


def lists(backbone: Backbone) -> np.ndarray:
    codes = models.table()
    torch.manual_seed(11)
    model = CodeLM(backbone, codes.sizes).eval()
    prompts = torch.randint(1, 250, (4, 7), generator=torch.Generator().manual_seed(1))
    return beam_search(model, CodeTrie(codes), prompts, 10, 10)[0]


def test_a_models_own_generation_settings_change_nothing(tmp_path: Path) -> None:
    place, context = folder(tmp_path), models.context(tmp_path)
    plain = lists(load_backbone(str(place), None, "pretrained", context))
    (place / "generation_config.json").write_text(json.dumps(HOSTILE))
    np.testing.assert_array_equal(plain, lists(load_backbone(str(place), None, "pretrained", context)))


def test_the_name_of_a_folder_changes_nothing(tmp_path: Path) -> None:
    place, context = folder(tmp_path), models.context(tmp_path)
    plain = lists(load_backbone(str(place), None, "pretrained", context))
    renamed = place.rename(tmp_path / "llama-qwen-gpt2")
    np.testing.assert_array_equal(plain, lists(load_backbone(str(renamed), None, "pretrained", context)))


def test_layers_are_the_first_ones_and_weights_may_be_drawn_anew(tmp_path: Path) -> None:
    place, context = folder(tmp_path), models.context(tmp_path)
    whole, first = (load_backbone(str(place), layers, "pretrained", context) for layers in (None, 1))
    assert len(whole.body.layers) == 2 and len(first.body.layers) == 1  # type: ignore[arg-type]
    name = "layers.0.mlp.up_proj.weight"
    assert torch.equal(whole.body.state_dict()[name], first.body.state_dict()[name])
    drawn = load_backbone(str(place), None, "random", context)
    assert not torch.equal(whole.body.state_dict()[name], drawn.body.state_dict()[name])
    again = load_backbone(str(place), None, "random", context)
    assert torch.equal(drawn.body.state_dict()[name], again.body.state_dict()[name])
    with pytest.raises(InputError, match="has 2 layers, 5 are asked for"):
        load_backbone(str(place), 5, "pretrained", context)


def test_code_rows_start_with_logits_of_about_unit_size(tmp_path: Path) -> None:
    codes = models.table()
    torch.manual_seed(0)
    model = CodeLM(load_backbone(str(folder(tmp_path)), None, "pretrained", models.context(tmp_path)), codes.sizes)
    with torch.no_grad():
        states = model.states(torch.randint(1, 250, (64, 5)))
        spread = torch.cat([model.level_logits(states, level) for level in range(3)], dim=-1).std()
    assert 0.3 < float(spread) < 3


@pytest.mark.slow
def test_the_embedded_backbone_is_unpacked_once(tmp_path: Path) -> None:
    context = models.context(tmp_path)
    first = load_backbone(EMBEDDED, 1, "pretrained", context)
    assert (first.width, first.vocabulary, len(first.body.layers)) == (576, 49152, 1)  # type: ignore[arg-type]
    assert first.tokenizer.decode(first.tokenizer("Toy Story (1995)")["input_ids"]) == "Toy Story (1995)"
    (mark,) = (tmp_path / "backbones").rglob("complete.json")
    made = mark.stat().st_mtime_ns
    second = load_backbone(EMBEDDED, 1, "pretrained", context)
    assert mark.stat().st_mtime_ns == made
    assert torch.equal(first.head, second.head)
