"""YAML as the harness reads and writes it: `1e-3` is a number, and nothing but plain values comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import InputError


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes `1e-3` for text and `2020-01-01` for a date; here the one is a number, the other text."""


_Loader.yaml_implicit_resolvers = {  # its own table: the class it inherits from keeps what it had
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.|"
    r"\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(text: str, where: str) -> Any:
    """The value that `text` says. Raises `InputError` for text that is not YAML.

    >>> parse("1e-3", "--set"), parse("[1, 2]", "--set"), parse("true", "--set"), parse("bf16", "--set")
    (0.001, [1, 2], True, 'bf16')
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where} line {mark.line + 1}" if mark else where
        raise InputError(f"not YAML: {getattr(error, 'problem', None) or error}", where=place) from error


def read(path: Path) -> dict[str, Any]:
    """A file that holds a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"cannot be read: {reason}", where=str(path), mend="give a YAML file") from error
    content = parse(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError("holds no mapping of names to values", where=str(path), mend="begin with `section:`")
    return content


def write(content: dict[str, Any]) -> str:
    """A mapping as YAML, in its own order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
