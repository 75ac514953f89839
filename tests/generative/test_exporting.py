"""A tuned model as a Hugging Face folder: the same logits, the same lists by `generate`, and an adapter for peft."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from eager.method import EagerLLM
from harness.errors import InputError
from harness.generative.exporting import ADAPTER, PAGE, export
from harness.generative.models.backbone import Backbone, load_backbone
from harness.generative.models.decoder_lm import CodeLM, code_tokenizer
from harness.generative.models.lora import attach
from harness.generative.tasks.prompts import Prompts
from tests import toys
from tests.eager.test_method import changed
from tests.generative import families, toy_models

CODES = toy_models.table(items=24)


def tuned(kind: str, folder: Path) -> tuple[CodeLM, Backbone]:
    """A model whose every part differs from its backbone's, with an adapter on it."""
    families.saved(kind, folder / kind)
    backbone = load_backbone(str(folder / kind), None, "pretrained", toy_models.context(folder))
    torch.manual_seed(1)
    model = CodeLM(backbone, CODES.sizes).eval()
    local = attach(model.body, rank=3, alpha=6, dropout=0.0, seed=1)
    with torch.no_grad():
        model.scale.mul_(3)
        for parameter in local:
            parameter.normal_(std=0.1)
    return model, backbone


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "phi", "granite", "cohere", "opt", "gpt_neox"])
@torch.no_grad()
def test_transformers_computes_the_same_logits(kind: str, apart: bool, tmp_path: Path) -> None:
    model, backbone = tuned(kind, tmp_path)
    prompts = Prompts(backbone, CODES)
    ids = prompts.history(np.array([3, 5, 7]))
    actual = model.vocabulary_logits(model.states(torch.tensor([ids])))[0]
    export(model, code_tokenizer(backbone, CODES.tokens), tmp_path / "out", {"note": "x"}, is_apart=apart)
    causal: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    if apart:
        previous = causal(torch.tensor([[1, 2, 3]])).logits
        causal = PeftModel.from_pretrained(causal, str(tmp_path / "out" / ADAPTER)).eval()
        assert not torch.allclose(causal(torch.tensor([[1, 2, 3]])).logits, previous, atol=1e-2)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    written = "".join(CODES.tokens[token] for token in CODES.flat[[3, 5, 7]].reshape(-1))
    read = tokenizer(prompts.templates["seqrec"][0] + written, return_tensors="pt").input_ids
    first, codes = len(backbone.tokenizer), len(CODES.tokens)
    expected = [id if id < first else id - model.vocabulary + first for id in ids]
    assert read[0].tolist() == expected and first < model.vocabulary
    reference = causal(read).logits[0]
    torch.testing.assert_close(reference[:, :first], actual[:, :first], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(reference[:, first : first + codes], actual[:, -codes:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(reference.logsumexp(-1), actual.logsumexp(-1), rtol=1e-4, atol=1e-3)


def test_the_page_of_a_folder_gives_our_lists(tmp_path: Path) -> None:
    """What it tells a reader to run, run without anything of this project, for a model trained and loaded again."""
    config = changed(
        backbone={"precision": "float32"}, decode={"beams": 20, "normalise": "vocabulary"},
        annealing={"merge": False}, comprehension={"items": 0},
    )  # fmt: skip
    context, data, model = toys.context(tmp_path), toys.split().train, EagerLLM(config)
    model.fit(data, context)
    model.save(tmp_path / "model")
    repeated = EagerLLM(config)
    repeated.load(tmp_path / "model", data, context)
    requests = toys.split().test.requests.take(np.arange(3))
    actual = repeated.recommend(requests, 20, context)
    repeated.export(tmp_path / "out", data)
    text = (tmp_path / "out" / PAGE).read_text("utf-8")
    code = "\n".join(re.findall(r"^ {4}(.*)$", text.replace("\n\n", "\n    \n"), re.M))
    for row, history in enumerate(requests.histories):
        place: dict[str, Any] = {"DIR": str(tmp_path / "out"), "history": [data.items[item] for item in history]}
        exec(code, place)
        assert place["items"][:10] == [data.items[item] for item in actual.items[row, :10]]


def test_a_tokenizer_of_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    model, backbone = tuned("llama", tmp_path)
    backbone.tokenizer.add_tokens([f"more{number}" for number in range(9)])
    with pytest.raises(InputError, match="265 rows for the 266 tokens"):
        export(model, code_tokenizer(backbone, CODES.tokens), tmp_path / "out", {}, is_apart=False)
