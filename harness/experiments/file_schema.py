"""What the files of grids and of search spaces have in common: known keys, their kinds, and the model they are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import InputError, unknown_name
from harness.registry import ModelEntry


def check_headings(
    content: Mapping[str, Any], keys: Mapping[str, type], table: str, entry: ModelEntry, where: str
) -> None:
    """Raises `InputError` for a key that is not among `keys`, a value of another kind (`table` says what a table of
    these files holds), and a file that is made for another model than `entry`."""
    for key, value in content.items():
        if key not in keys:
            raise unknown_name("key", key, keys, where=where)
        if not isinstance(value, keys[key]):
            expected = "text" if keys[key] is str else f"a table of {table}"
            raise InputError(f"{key} is {value!r}, expected {expected}", where=where)
    if content.get("model", entry.name) != entry.name:
        raise InputError(f"made for model {content['model']!r}, not {entry.name!r}", where=where)
