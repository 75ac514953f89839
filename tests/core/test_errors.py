"""Error codes: a default per class, kept where an error gets another place."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from harness.core.json_files import read_json_object
from harness.data.reading import WrongLine
from harness.errors import Code, InputError, unknown_name


def test_defaults() -> None:
    assert InputError("wrong").code == "invalid-input"
    assert WrongLine("wrong").code == "bad-line"
    assert unknown_name("model", "markow", ["markov"]).code == "unknown-name"
    assert all(code == code.lower() and " " not in code for code in get_args(Code))


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "missing-file"), (b"", "empty-data"), (b"\xff\xfe{", "unreadable-file"), (b"{", "bad-file"),
     (b'{"a": 1, "a": 2}', "duplicate"), (b"[]", "bad-file")],
)  # fmt: skip
def test_codes_of_a_json_file(content: bytes | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json_object(path)
    assert caught.value.code == code


def test_a_hint_lists_forty_names_at_most() -> None:
    few, many = ([f"name-{number:03}" for number in range(count)] for count in (3, 100))
    assert str(unknown_name("run", "zzz", few)) == "unknown run 'zzz'; known: name-000, name-001, name-002"
    text = str(unknown_name("run", "zzz", many))
    assert "name-039, … (100 in all)" in text and "name-040" not in text
