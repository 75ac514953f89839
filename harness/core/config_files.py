"""YAML as the harness reads and writes it: `1e-3` is a number, and nothing but plain values comes out.

TOML as the harness reads it: JSON's kinds of values alone, nothing infinite, no nesting without end.

Files that settings name: made absolute where they are read, so that a stored configuration works from anywhere.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, model_validator

from harness.core.json_files import SMALL, read_text
from harness.core.plugins import warn
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


MOST = 100_000  # values of a document, each alias counted with all that it stands for


LONGEST_NUMBER = 100  # characters; also where YAML has a base in which Python would read more


def parse(text: str, location: str) -> Any:
    """The value that `text` says. Raises `InputError` for text that is not YAML, for a key that stands twice (YAML
    would quietly keep the last), and for aliases that unfold without end.

    >>> parse("1e-3", "--set"), parse("[1, 2]", "--set"), parse("true", "--set"), parse("bf16", "--set")
    (0.001, [1, 2], True, 'bf16')
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _unfolded(node, {}) > MOST:
            raise InputError(
                f"more than {MOST:,} values", where=location, hint="write it without aliases", code="too-large"
            )
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{location} line {mark.line + 1}" if mark else location
        raise InputError(
            f"not YAML: {getattr(error, 'problem', None) or error}", where=place, code="bad-file"
        ) from error
    except RecursionError as error:
        raise InputError("YAML nested too deeply", where=location, code="bad-file") from error
    except ValueError as error:
        raise InputError(f"not YAML: {error}", where=location, code="bad-file") from error
    except (TypeError, AttributeError, LookupError, OverflowError) as error:  # such as `!!timestamp soon`
        raise InputError("not YAML: a value is not what its tag says", where=location, code="bad-file") from error


def _unfolded(node: yaml.Node, known_by_name: dict[yaml.Node, int]) -> int:
    """How many values a node stands for once its aliases are written out; each node is looked at once. Raises
    `ValueError` for an alias to what it stands in, for a key that stands twice and for a number without end."""
    if node in known_by_name:
        if known_by_name[node] < 0:
            raise ValueError("an alias to what it stands in itself")
        return known_by_name[node]
    known_by_name[node], total = -1, 1
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names and key.value != "<<":
                raise ValueError(f"key {key.value!r} stands twice")
            names.add(str(key.value))
        total += sum(_unfolded(key, known_by_name) + _unfolded(value, known_by_name) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_unfolded(value, known_by_name) for value in node.value)
    elif node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
        raise ValueError("a number of too many digits")
    known_by_name[node] = total
    return total


def small_text(path: Path, kind: str) -> str:
    """A configuration's text; nothing for an empty file. Raises `InputError` where it cannot be read or is large."""
    try:
        return read_text(path, SMALL)
    except InputError as error:
        if error.code == "empty-data":
            return ""
        raise InputError(
            f"cannot be read: {error.what}", where=error.where, hint=f"give a {kind} file", code="unreadable-file"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; {} for an empty file. A `.toml` file is read too, with a deprecation notice.

    Raises `InputError`.
    """
    is_toml = path.suffix == ".toml"
    text = small_text(path, "TOML" if is_toml else "YAML")
    if is_toml:
        warn(f"{path}: TOML is read for one more version; write YAML (docs/tuning.md)")
    return (parse_toml if is_toml else parse_mapping)(text, str(path))


def parse_mapping(text: str, location: str) -> dict[str, Any]:
    """The mapping in a YAML text; {} for an empty one. Raises `InputError`."""
    content = parse(text, location)
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(
            "not a mapping of names to values", where=location, hint="begin with `section:`", code="bad-file"
        )
    return content


def write(content: dict[str, Any]) -> str:
    """A mapping as YAML, in its own order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def parse_toml(text: str, location: str) -> dict[str, Any]:
    """The table that `text` says. Raises `InputError` for text that is not TOML, and for dates and infinite numbers.

    >>> parse_toml("a.b = 1", "grid")
    {'a': {'b': 1}}
    """
    try:
        table = tomllib.loads(text)
        json.dumps(table, allow_nan=False)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML: {error}", where=location, code="bad-file") from error
    except RecursionError as error:
        raise InputError("TOML nested too deeply", where=location, code="bad-file") from error
    except TypeError as error:
        raise InputError(
            "a date or a time stands in it, and no setting takes one", where=location, code="bad-setting"
        ) from error
    except ValueError as error:  # also where Python reads no whole number of more than 4,300 digits
        raise InputError(
            "a number in it is infinite, none, or of too many digits", where=location, code="bad-file"
        ) from error
    return table


# A built-in name, a hub name, or a folder, which alone begins with ~.
UserName = Annotated[str, AfterValidator(lambda name: os.path.expanduser(name) if name.startswith("~") else name)]


UserFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class ReadyIndex(BaseModel):
    """Base of the sections that say how codes are made: a `kind`, and with `kind="file"` the `file` of ready ones."""

    @model_validator(mode="after")
    def _file_is_read(self) -> Self:
        kind, file = getattr(self, "kind", None), getattr(self, "file", None)
        if file is not None and kind != "file":
            raise ValueError(f"kind={kind} makes codes and reads no file; say kind=file for those of {file.name}")
        return self
