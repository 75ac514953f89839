"""Texts of intentions and preferences that somebody generated elsewhere, read in place of the rule's.

    {"items": {"<raw item id>": "what somebody who will choose it asks for"},
     "users": {"<raw user id>": {"long": "lasting preferences", "short": "recent ones"}}}

Either part may be left out (the rule writes it then); a part that is there covers the whole catalogue, or all users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from harness.core.json_files import read_json_object
from harness.errors import InputError, unknown_name
from harness.generative.tasks.intentions import Span
from harness.protocol.split import TrainingData

PARTS = ("items", "users")
SPANS: tuple[Span, ...] = get_args(Span)


def read_texts(path: Path, data: TrainingData) -> tuple[list[str] | None, Mapping[Span, list[str]] | None]:
    """An intention an item and, by span, a preference a user, in the order of `data`; None for a part that the file
    leaves out. Raises `InputError` for another catalogue, missing or unknown ids, and anything that is no text."""
    content = read_json_object(path)
    for part, value in content.items():
        if part not in PARTS:
            raise unknown_name("part", part, PARTS, where=str(path))
        if not isinstance(value, dict):
            raise InputError(
                f"{part!r} is no object of id: text", where=str(path), mend="see docs/method.md, section 4"
            )
    items: list[str] | None = None
    users: dict[Span, list[str]] | None = None
    if "items" in content:
        listed = _complete(content["items"], data.items, "item", path)
        items = [_text(text, f"item {item!r}", path) for item, text in zip(data.items, listed, strict=True)]
    if "users" in content:
        listed = _complete(content["users"], data.users, "user", path)
        users = {span: _of_span(span, listed, data.users, path) for span in SPANS}
    return items, users


def _complete(given: Mapping[str, Any], ids: Sequence[str], kind: str, path: Path) -> list[Any]:
    """The values in the order of `ids`, which must be the very keys."""
    known = set(ids)
    missing, extra = [name for name in ids if name not in given], [name for name in given if name not in known]
    if missing or extra:
        words = []
        if missing:
            words.append(f"{len(missing)} of {len(ids)} {kind}s are missing ({missing[0]!r}, …)")
        if extra:
            words.append(f"{len(extra)} are not in this data set ({extra[0]!r}, …)")
        mend = "give the file that was generated for this data set"
        raise InputError(" and ".join(words), where=f"{path} {kind}s", mend=mend)
    return [given[name] for name in ids]


def _of_span(span: Span, listed: Sequence[Any], users: Sequence[str], path: Path) -> list[str]:
    texts = []
    for user, value in zip(users, listed, strict=True):
        if not isinstance(value, dict) or set(value) != set(SPANS):
            mend = 'write {"long": "…", "short": "…"}'
            raise InputError("an object of two texts is needed", where=f"{path} user {user!r}", mend=mend)
        texts.append(_text(value[span], f"user {user!r} {span}", path))
    return texts


def _text(value: Any, whose: str, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("a text is needed", where=f"{path} {whose}", mend="write a string that is not empty")
    return " ".join(value.split())
