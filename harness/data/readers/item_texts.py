"""Texts of items, for all readers: cells of tables and records of raw files as a cleaned `ItemText`, and the texts of
the catalogue.

Of raw metadata `clean` (the default) removes mark-up and truncates long texts; `released` does what the scripts of
LC-Rec and EAGER-LLM do (a forced full stop, no quotes, and texts of 2,000 characters and more are blanked).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal

import orjson

from harness.data.dataset import ItemText, Review
from harness.data.reading import BadLines, WrongLine
from harness.errors import InputError

TextMode = Literal["clean", "released"]

UNUSED = "items that stand only in the item file"
LONGEST = 2000  # characters of a text, in both modes
TAG = re.compile(r"</?\w+[^>]*>")
SCRIPT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
SPACE = re.compile(r"\s+")
DROPPED = re.compile(r'["\n\r]')
BROKEN = "getTime()"  # scraped page code that stands for the title of some items of 2018


class NoText(ValueError):
    """A field is not text; `args[0]` describes the value, `args[1]` names the field."""


def texts_by_item(
    items: Sequence[str], texts: Iterable[ItemText], bad: BadLines, location: Callable[[int], str]
) -> dict[str, ItemText]:
    """The text of each item, from one row an item. An item that stands twice with the same text counts once; with
    another text it is a wrong line, as is a row without an item. `location` names a row, from 0, for messages."""
    described: dict[str, ItemText] = {}
    for row, (item, text) in enumerate(zip(items, texts, strict=True)):
        if not item.strip():
            bad.add(WrongLine("empty item id", where=location(row), hint="give every row one"))
        elif described.setdefault(item, text) != text:
            message, hint = f"item {item!r} stands twice, with two texts", "keep one row an item"
            bad.add(InputError(message, where=location(row), hint=hint, code="duplicate"))
    return described


def catalogue_texts(
    items: Sequence[str], text: Mapping[str, ItemText] | None
) -> tuple[tuple[ItemText, ...] | None, tuple[str, ...], tuple[tuple[str, int], ...], tuple[str, ...]]:
    """The text of each item of the catalogue, notes on what was left over on either side, what was lost, and a warning
    of an item file of which no item is in the interactions."""
    if text is None:
        return None, (), (), ()
    empty = ItemText()
    texts = tuple(text.get(item, empty) for item in items)
    unused = len(text) - sum(item in text for item in items)
    notes, warnings = [], []
    if unused:
        notes.append(f"{unused} items stand only in the item file and are no part of the catalogue")
    if missing := sum(entry.empty for entry in texts):
        notes.append(f"{missing} of {len(items)} items have no text")
    if text and items and unused == len(text):
        example = f"the item file has ids such as {next(iter(text))!r}, the interactions {items[0]!r}"
        warnings.append(f"no item has text: {example}")
    return texts, tuple(notes), ((UNUSED, unused),) if unused else (), tuple(warnings)


def known_reviews(
    placed: Iterable[tuple[str, Review]], users: Iterable[str], items: Iterable[str]
) -> tuple[Review, ...] | None:
    """The non-empty reviews in the order of raw ids, each given with its location; None if there are none. Raises
    `InputError` for users and items of another data set."""
    known_users, known_items = set(users), set(items)
    results = []
    for location, review in placed:
        if review.user not in known_users or review.item not in known_items:
            message = f"the {'item' if review.user in known_users else 'user'} is not in the interactions"
            raise WrongLine(message, where=location, hint="give the reviews of this data set")
        if review.text:
            results.append(review)
    return tuple(sorted(results)) or None


def prose(cell: str) -> str:
    """A cell of text; a JSON list of texts, as JSON lines have it, becomes one."""
    listed = _json_list(cell) if cell.startswith('["') else None
    return cell.strip() if listed is None else " ".join(part.strip() for part in listed)


def extra_prose(cell: str) -> str:
    """A cell of `EXTRA_TEXT`: of a JSON object a sentence for each of its pairs.

    >>> extra_prose('["soft", "light"]'), extra_prose('{"Color": "red", "Size": 4}')
    ('soft light', 'Color: red. Size: 4.')
    """
    return " ".join(sentences(cell, "")).strip() if cell.startswith("{") else prose(cell)


def listed_categories(cell: str, *, bars: bool = False) -> tuple[str, ...]:
    """Categories parted by commas, or, where a name holds a comma, as a JSON list of strings; with `bars` by bars where
    there are any.

    >>> listed_categories("Office, Pens"), listed_categories('["Pens, Ink", "Office"]')
    (('Office', 'Pens'), ('Pens, Ink', 'Office'))
    >>> listed_categories("Drama|Sci-Fi", bars=True)
    ('Drama', 'Sci-Fi')
    """
    listed = _json_list(cell) if cell.startswith("[") else None
    return stripped(cell.split("|" if bars and "|" in cell else ",") if listed is None else listed)


def stripped(parts: Iterable[str | None]) -> tuple[str, ...]:
    """Texts without blanks around them, and without empty ones."""
    return tuple(text for part in parts if part and (text := part.strip()))


def _json_list(cell: str) -> list[str] | None:
    """A JSON list of texts; None for anything else."""
    try:
        listed = first_path(json.loads(cell))
    except (ValueError, RecursionError):
        return None
    return listed if isinstance(listed, list) and all(isinstance(part, str) for part in listed) else None


def first_path(categories: Any) -> Any:
    """The first list where all are lists: paths of categories, as Amazon's releases have them."""
    is_paths = isinstance(categories, list) and categories and all(isinstance(part, list) for part in categories)
    return categories[0] if is_paths else categories


def item_text(
    record: Mapping[str, Any], fields: Mapping[str, str], mode: TextMode, extra: Iterable[str] = ()
) -> ItemText:
    """The text of one record whose fields go by the names `fields`; a field that is missing or null is empty. The
    fields `extra` are appended to the description, except in mode `released`, whose scripts do not read them."""
    raw = {canonical: record.get(column) for canonical, column in fields.items()}
    if mode == "released":
        return _released(raw, fields)
    names = [part for field in extra for part in sentences(record.get(field), field)]
    if names:
        described = fields.get("description", "description")
        raw["description"] = [*_strings(raw.get("description"), described), *names]
    return _clean(raw, fields)


def sentences(value: Any, field: str) -> list[str]:
    """A field of lists, or of names and values, as sentences; JSON text is parsed.

    >>> sentences({"Brand": "Pen & Co", "Best Sellers Rank": {"Office": 5}}, "details")
    ['Brand: Pen & Co.']
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = orjson.loads(value)
        except ValueError:
            return [value]
    if isinstance(value, Mapping):
        plain = ((name, text) for name, text in value.items() if isinstance(text, str | int | float))
        return [f"{name}: {text}." for name, text in plain if str(text).strip()]
    return _strings(value, field)


def fuller(one: ItemText, other: ItemText) -> ItemText:
    """Of two texts of the same item the one that says more; of two equally long ones the later by alphabet, so that
    the order of lines does not decide."""
    return max(one, other, key=lambda text: (_size(text), text.title, text.description, text.brand, text.categories))


def _size(text: ItemText) -> int:
    return len(text.title) + len(text.description) + len(text.brand) + sum(map(len, text.categories))


def _clean(raw: Mapping[str, Any], fields: Mapping[str, str]) -> ItemText:
    title, description, brand = (
        _plain(_strings(raw.get(f), fields.get(f, f))) for f in ("title", "description", "brand")
    )
    return ItemText(
        title="" if BROKEN in title else _cut(title),
        description=_cut(description),
        brand=brand.removeprefix("by ").strip(),
        categories=tuple(filter(None, (_plain([part]) for part in _categories(raw, fields)))),
    )


def _plain(parts: Iterable[str]) -> str:
    """Without mark-up, with single blanks."""
    joined = " ".join(parts)
    if "<" in joined or "&" in joined:
        joined = TAG.sub(" ", SCRIPT.sub(" ", html.unescape(joined)))
    return SPACE.sub(" ", joined).strip()


def _cut(text: str) -> str:
    """At most `LONGEST` characters, up to the end of a word where there is one in the last tenth."""
    if len(text) <= LONGEST:
        return text
    end = text.rfind(" ", LONGEST * 9 // 10, LONGEST + 1)
    return text[: end if end > 0 else LONGEST].rstrip()


def _categories(raw: Mapping[str, Any], fields: Mapping[str, str]) -> list[str]:
    """The first list where there are several; up to the first that holds page code, as published."""
    value = raw.get("categories")
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if isinstance(value, str):
        value = re.split(r"[,|]", value)
    names = _strings(value, fields.get("categories", "categories"))
    return list(takewhile(lambda name: "</span>" not in name, names))


def _strings(value: Any, field: str) -> list[str]:
    """A field as a list of strings: text, a number, a list of them, or nothing."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, (int, float)):
        return [str(value)]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part, field)]
    raise NoText(f"text is needed, not {type(value).__name__}", field)


def _released(raw: Mapping[str, Any], fields: Mapping[str, str]) -> ItemText:
    """As the published scripts: see `docs/data.md`."""
    brand = raw.get("brand")
    listed = ",".join(part.strip() for part in _categories(raw, fields))
    return ItemText(
        title=_released_text(raw.get("title")),
        description=_released_text(raw.get("description")),
        brand=brand.replace("by\n", "").strip() if isinstance(brand, str) else "",
        categories=tuple(part.strip() for part in listed.split(",") if part.strip()),
    )


def _released_text(value: Any) -> str:
    """One field of the published files. An absent field stays empty; an empty one becomes a full stop.

    >>> _released_text('A 5&quot; <b>pen</b>..'), _released_text(["one", "two "]), _released_text("x" * 2000)
    ('A 5 pen.', 'one two.', '')
    """
    if value is None:
        return ""
    if isinstance(value, list):
        text = " ".join(_released_part(str(part)).strip() for part in value)
    else:
        total = str(value)[1:-1] if isinstance(value, dict) else str(value)
        text = _released_part(total.strip())
    text = text[:1] + text[1:].rstrip(".") + "."  # dots at the end become one, but the first character always stays
    return "" if len(text) >= LONGEST else text


def _released_part(text: str) -> str:
    return DROPPED.sub("", TAG.sub("", html.unescape(text)))
