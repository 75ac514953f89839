"""The code tokens as a tokenizer sees them: each exactly one token, or the backbone is refused before any training.

Prompts and search put code tokens in by number and never ask a tokenizer. But a model is to be used elsewhere too, by
text, and there a tokenizer that splits a code, changes its spelling or already means something else by it would give
other answers. What a tokenizer does is found out by asking it, never by the name or the path that it comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from harness.errors import InputError
from harness.generative.models.backbone import Backbone

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def code_tokenizer(backbone: Backbone, names: Sequence[str]) -> PreTrainedTokenizerBase:
    """A copy of the backbone's tokenizer with the code tokens `names` behind its own, in their order.

    Raises `InputError` where it has such a token already, or where a code token, alone or beside another, does not come
    back as that one token.
    """
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(backbone.tokenizer)
    known = tokenizer.get_vocab()
    if taken := [name for name in names if name in known]:
        raise _refused(backbone, f"has {len(taken)} of the code tokens already ({taken[0]})")
    first = len(tokenizer)
    added: list[str | AddedToken] = [AddedToken(name, normalized=False, special=False) for name in names]
    tokenizer.add_tokens(added)  # type: ignore[arg-type]
    alone = cast(list[list[int]], tokenizer(list(names), add_special_tokens=False)["input_ids"])
    for number, (name, ids) in enumerate(zip(names, alone, strict=True)):
        if ids != [first + number]:
            raise _refused(
                backbone, f"makes {len(ids)} other tokens ({tokenizer.convert_ids_to_tokens(ids)}) of {name}"
            )
    together = cast(list[int], tokenizer("".join(names), add_special_tokens=False)["input_ids"])
    if together != list(range(first, first + len(names))):
        raise _refused(backbone, "does not keep code tokens apart that follow each other")
    return tokenizer


def _refused(backbone: Backbone, why: str) -> InputError:
    return InputError(
        f"the tokenizer of the backbone {backbone.name!r} {why}",
        where="backbone.name",
        mend="each code must be exactly one token: choose another backbone",
    )
