"""Export of a `CodeLM` to a Hugging Face folder that transformers loads without this project.

The model has the class of its backbone, with one embedding and one head over text and code tokens; each code token is
one token of the tokenizer. Logits equal those of the `CodeLM` up to floating-point rounding.
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
