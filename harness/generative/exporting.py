"""A `CodeLM` as a transformers model: its export to a Hugging Face folder that transformers loads without this project,
and the reference decoder, transformers' `generate` with beams and a constraint in Python.

An exported model has the class of its backbone, with one embedding and one head over text and code tokens; each code
token is one token of the tokenizer. Logits equal those of the `CodeLM` up to floating-point rounding. The engine is
tested and benchmarked against the reference: the constraint is the trie of item codes, batches are padded on the left
with an attention mask, the cache is on, the model's generation settings are ignored, and scores are sums (no length
penalty).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from harness.core.files import sync_tree, translate_os_errors
from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.lora import attached, merge, plain_name, save_adapter
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch
from harness.protocol.predictions import NO_ITEM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def with_grown_vocabulary(model: CodeLM, first: int | None = None, dtype: torch.dtype | None = None) -> Any:
    """The model as a transformers model of its backbone's class: one embedding and one head over text and code tokens.
    The ids of code tokens begin at `first` (None: after all rows of the text vocabulary); rows there without a token
    follow them. An adapter is not included: the base weights are used."""
    config = model.body.config.__class__.from_dict(model.body.config.to_dict())
    config.vocab_size = model.vocabulary + len(model.code_in)
    config.tie_word_embeddings = False
    causal = AutoModelForCausalLM.from_config(config, dtype=dtype or model.code_in.dtype)

    def grown(text: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        begin = len(text) if first is None else first
        return torch.cat([text[:begin], codes.to(text.dtype), text[begin:]]).detach()

    state = {plain_name(name): value for name, value in model.body.state_dict().items()}
    embedding = grown(model.embedding.weight, model.code_in)
    state[next(name for name, value in model.body.named_parameters() if value is model.embedding.weight)] = embedding
    causal.base_model.load_state_dict({name: value for name, value in state.items() if name is not None})
    head = causal.get_output_embeddings()
    rows = grown(model.text_head, model.code_out * (model.scale / model.head.scale))
    head.weight.data = rows.to(head.weight.dtype)
    if model.text_bias is not None:
        head.bias.data = grown(model.text_bias, model.text_bias.new_zeros(len(model.code_in))).to(head.bias.dtype)
    return causal.to(model.code_in.device).eval().requires_grad_(False)


class PrefixTree:
    """The tokens that may follow a prefix of an existing code, for `prefix_allowed_tokens_fn`."""

    def __init__(self, table: CodeTable, vocabulary: int, eos: int) -> None:
        self.item: dict[tuple[int, ...], int] = {}
        following: dict[tuple[int, ...], set[int]] = {}
        for item, code in enumerate((table.flat + vocabulary).tolist()):
            self.item.setdefault(tuple(code), item)
            for depth, token in enumerate(code):
                following.setdefault(tuple(code[:depth]), set()).add(token)
            following[tuple(code)] = {eos}
        self._following = {prefix: sorted(tokens) for prefix, tokens in following.items()}
        self.eos = eos

    def allowed(self, generated: Sequence[int]) -> list[int]:
        """Allowed tokens after `generated`; beams outside the trie (more beams than codes) can only end."""
        return self._following.get(tuple(generated), [self.eos])


@torch.inference_mode()
def generate(
    causal: Any, tree: PrefixTree, prompts: Sequence[Sequence[int]], beams: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items (batch, beams) best first and their scores, as `beam_search` gives them in the mode `vocabulary`."""
    device = causal.device
    batch = PromptBatch.of(prompts, device, side="left")
    ids = torch.where(batch.real, batch.ids, tree.eos)
    levels = len(next(iter(tree.item)))
    begin = 1 if causal.config.is_encoder_decoder else ids.shape[1]

    def allowed(_: int, sequence: torch.Tensor) -> list[int]:
        return tree.allowed(sequence[begin:].tolist())

    settings = GenerationConfig(
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=levels + 1,
        do_sample=False,
        length_penalty=0.0,
        early_stopping=False,
        eos_token_id=tree.eos,
        pad_token_id=tree.eos,
        bos_token_id=None,
        decoder_start_token_id=getattr(causal.config, "decoder_start_token_id", None),
        return_dict_in_generate=True,
        output_scores=True,
    )
    causal.generation_config = GenerationConfig()
    output = causal.generate(
        input_ids=ids, attention_mask=batch.real.long(), generation_config=settings, prefix_allowed_tokens_fn=allowed
    )
    codes = output.sequences[:, begin : begin + levels].tolist()
    items = np.array([tree.item.get(tuple(code), NO_ITEM) for code in codes]).reshape(len(prompts), beams)
    scores = to_float64(output.sequences_scores).cpu().numpy().reshape(len(prompts), beams)
    return items, np.where(items == NO_ITEM, 0.0, scores)


ADAPTER, ITEMS, PAGE = "adapter", "item.index.json", "README.md"
TEXT = """# {name}

Fine-tuned with `harness`; transformers loads model and tokenizer. `{items}` has the code tokens of every item.
{adapter}
Next items of a history, as raw item ids, best first:

    import json
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(DIR), AutoModelForCausalLM.from_pretrained(DIR)
    index = json.load(open(DIR + "/{items}"))
    prompt = {lead!r} + "".join("".join(index[item]) for item in history)  # oldest first
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    codes = {{tuple(tokenizer.convert_tokens_to_ids(code)): item for item, code in index.items()}}
    following = {{}}
    for code in codes:
        for depth in range({levels}):
            following.setdefault(code[:depth], set()).add(code[depth])

    def allowed(_, sequence):  # an existing code, then the end-of-sequence token
        return sorted(following.get(tuple(sequence[ids.shape[1]:].tolist()), {{{eos}}}))

    beams = dict(num_beams=20, num_return_sequences=20, max_new_tokens={levels} + 1, length_penalty=0.0)
    lists = model.generate(ids, prefix_allowed_tokens_fn=allowed, do_sample=False, **beams)[:, ids.shape[1] :].tolist()
    items = [codes[tuple(row[:{levels}])] for row in lists if tuple(row[:{levels}]) in codes]

The lists equal those of a run with `decode.normalise=vocabulary`; other settings normalise over fewer tokens.
"""
APART = "`PeftModel.from_pretrained(model, DIR + '/adapter')` loads the adapter, which is saved separately.\n"


def export(
    model: CodeLM, tokenizer: PreTrainedTokenizerBase, folder: Path, texts: Mapping[str, str], *, is_apart: bool
) -> None:
    """Writes `folder` atomically; it must be missing or empty. `texts`: additional files by name. The code tokens are
    the last of `tokenizer`. An adapter on the backbone is merged (in place), or with `is_apart` saved in
    `folder/adapter`.

    Raises `InputError` if the tokenizer has more tokens than the backbone's embedding has rows: no model of its class
    has a row for each token.
    """
    first = len(tokenizer) - len(model.code_in)
    if first > model.vocabulary:
        raise InputError(
            f"the backbone has {model.vocabulary} rows for the {first} tokens of its tokenizer",
            where="the stored run",
            hint="train on a backbone with a row for each token",
        )
    if not is_apart:
        merge(model.body)
    causal = with_grown_vocabulary(model, first, model.embedding.weight.dtype)
    pad = model.eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    causal.generation_config = GenerationConfig(eos_token_id=model.eos, pad_token_id=pad)
    path = folder.with_name(f".{folder.name}.tmp")
    with translate_os_errors(folder):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        causal.save_pretrained(path)
        tokenizer.save_pretrained(path)
        if attached(model.body):
            save_adapter(model.body, path / ADAPTER, str(folder.resolve()))
        for name, text in texts.items():
            (path / name).write_text(text, encoding="utf-8")
        sync_tree(path)
        if folder.is_dir():
            folder.rmdir()  # Windows does not rename onto a folder
        path.rename(folder)


def page(name: str, lead: str, levels: int, eos: int, *, is_apart: bool) -> str:
    """The model card. `lead`: the text before a history in the prompt."""
    return TEXT.format(name=name, lead=lead, levels=levels, eos=eos, items=ITEMS, adapter=APART if is_apart else "")
