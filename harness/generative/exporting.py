"""A tuned `CodeLM` as a plain Hugging Face folder: transformers loads model and tokenizer without this project.

The model is of the backbone's own family, with one embedding and one head over text and code tokens; the tokenizer has
the code tokens, each one token. Logits are those of the `CodeLM`, up to the order in which numbers are added.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import GenerationConfig

from harness.core.files import sync_tree, translate_os_errors
from harness.errors import InputError
from harness.generative.decoding.hf_generate import with_grown_vocabulary
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.lora import attached, merge, save_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADAPTER, ITEMS, PAGE = "adapter", "item.index.json", "README.md"
TEXT = """# {name}

Tuned by `harness`; plain transformers loads model and tokenizer. `{items}` has the tokens of every item.
{adapter}
What comes next in a history, as raw item ids, the likeliest first:

    import json
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(DIR), AutoModelForCausalLM.from_pretrained(DIR)
    index = json.load(open(DIR + "/{items}"))
    prompt = {lead!r} + "".join("".join(index[item]) for item in history)  # the oldest first
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    codes = {{tuple(tokenizer.convert_tokens_to_ids(code)): item for item, code in index.items()}}
    following = {{}}
    for code in codes:
        for depth in range({levels}):
            following.setdefault(code[:depth], set()).add(code[depth])

    def allowed(_, sequence):  # a real code, then the end
        return sorted(following.get(tuple(sequence[ids.shape[1]:].tolist()), {{{eos}}}))

    beams = dict(num_beams=20, num_return_sequences=20, max_new_tokens={levels} + 1, length_penalty=0.0)
    made = model.generate(ids, prefix_allowed_tokens_fn=allowed, do_sample=False, **beams)[:, ids.shape[1] :].tolist()
    items = [codes[tuple(row[:{levels}])] for row in made if tuple(row[:{levels}]) in codes]

These are the lists of a run with `decode.normalise=vocabulary`; other runs compare a code's tokens with fewer others.
"""
APART = "`PeftModel.from_pretrained(model, DIR + '/adapter')` puts the adapter on, which is apart.\n"


def export(
    model: CodeLM, tokenizer: PreTrainedTokenizerBase, folder: Path, texts: Mapping[str, str], *, is_apart: bool
) -> None:
    """Writes `folder`, whole or not at all, where there is none yet or an empty one; `texts` are more files for it.
    `tokenizer` has the code tokens as its last. An adapter on the body is merged first, for good, or with `is_apart`
    written beside the model, in `folder/adapter`.

    Raises `InputError` where the tokenizer has more tokens than the backbone has rows: no model of one family then has
    a row for each token.
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
            folder.rmdir()  # Windows renames onto nothing
        path.rename(folder)


def page(name: str, lead: str, levels: int, eos: int, *, is_apart: bool) -> str:
    """What a person who finds the folder must know. `lead` is the text before a history."""
    return TEXT.format(name=name, lead=lead, levels=levels, eos=eos, items=ITEMS, adapter=APART if is_apart else "")
