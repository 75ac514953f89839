"""Configuration files: YAML (plain values, `1e-3` is a number), TOML (deprecated), and paths that settings name.

Paths become absolute when they are read, so that a stored configuration works from any folder.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, model_validator

from harness.core.json_files import SMALL, read_text
from harness.core.plugins import warn
from harness.errors import InputError

MAX_VALUES = 100_000  # values of a document, with aliases expanded
LONGEST_NUMBER = 100  # characters

# A packaged name, a hub name, or a folder, which alone begins with ~.
UserName = Annotated[str, AfterValidator(lambda name: os.path.expanduser(name) if name.startswith("~") else name)]
UserFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.?(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.|"
    r"\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-3` as text, `2020-01-01` as a date, `010` as 8 and `1:30` as 90; here the first is a number
    and the others are text."""


_Loader.yaml_implicit_resolvers = {  # a copy: the base class keeps its resolvers
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))


def parse(text: str, location: str) -> Any:
    """Parses a YAML text. Raises `InputError` for invalid YAML, for a repeated key (YAML would take the last), and for
    aliases that expand without end.

    >>> parse("1e-3", "--set"), parse("[1, 2]", "--set"), parse("true", "--set"), parse("bf16", "--set")
    (0.001, [1, 2], True, 'bf16')
    >>> parse("[010, 1:30, 0x10, 0, -7, 1_000]", "--set")
    ['010', '1:30', 16, 0, -7, 1000]
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _unfolded(node, {}) > MAX_VALUES:
            raise InputError(
                f"more than {MAX_VALUES:,} values", where=location, hint="write it without aliases", code="too-large"
            )
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{location} line {mark.line + 1}" if mark else location
        message = f"not YAML: {getattr(error, 'problem', None) or error}"
        raise InputError(message, where=place, code="bad-file") from error
    except RecursionError as error:
        raise InputError("YAML nested too deeply", where=location, code="bad-file") from error
    except ValueError as error:
        raise InputError(f"not YAML: {error}", where=location, code="bad-file") from error
    except (TypeError, AttributeError, LookupError, OverflowError) as error:  # for example `!!timestamp soon`
        raise InputError("not YAML: a value does not match its tag", where=location, code="bad-file") from error


def _unfolded(node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
    """Number of values of a node with aliases expanded; each node is visited once. Raises `ValueError` for an alias
    that contains itself, a repeated key, and a number that is too long."""
    if node in sizes:
        if sizes[node] < 0:
            raise ValueError("an alias that contains itself")
        return sizes[node]
    sizes[node], total = -1, 1
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names and key.value != "<<":
                raise ValueError(f"key {key.value!r} is repeated (line {key.start_mark.line + 1})")
            names.add(str(key.value))
        total += sum(_unfolded(key, sizes) + _unfolded(value, sizes) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_unfolded(value, sizes) for value in node.value)
    elif node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
        raise ValueError("a number of too many digits")
    sizes[node] = total
    return total


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; {} for an empty file. A `.toml` file is read too, with a deprecation notice.

    Raises `InputError`.
    """
    is_toml = path.suffix.lower() == ".toml"
    try:
        text = read_text(path, SMALL)
    except InputError as error:
        if error.code == "empty-data":
            return {}
        message, hint = f"cannot be read: {error.what}", error.hint or f"give a {'TOML' if is_toml else 'YAML'} file"
        raise InputError(message, where=error.where, hint=hint, code="unreadable-file") from error
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


def relative_to_file(name: str, path: Path) -> str:
    """A name or path in the configuration file `path`: relative to the file's folder if that exists, else unchanged (a
    registered name, an absolute path).

    >>> relative_to_file("ml-100k", Path("run.yaml"))
    'ml-100k'
    """
    place = path.expanduser().absolute().parent / Path(name).expanduser()
    return str(place) if name and place.exists() else name


def write(content: dict[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def flatten(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values of nested mappings by dotted names; an empty mapping has none.

    >>> flatten({"a": {"b": 1, "c": {}}, "d": [2]})
    {'a.b': 1, 'd': [2]}
    """
    entries: dict[str, Any] = {}
    for key, value in table.items():
        entries |= flatten(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return entries


def parse_toml(text: str, location: str) -> dict[str, Any]:
    """Parses a TOML text. Raises `InputError` for invalid TOML, dates and infinite numbers.

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
            "it has a date or a time, which no setting accepts", where=location, code="bad-setting"
        ) from error
    except ValueError as error:  # also for integers of more than 4,300 digits
        raise InputError("a number is infinite, NaN or too long", where=location, code="bad-file") from error
    return table


class ReadyIndex(BaseModel):
    """Base of the sections `index` with a `kind`; `kind="file"` reads existing codes from `file`."""

    file: UserFile | None = Field(
        default=None, description="kind=file: the index file; null: NAME.index.json in the data set's folder"
    )

    @model_validator(mode="after")
    def _file_is_read(self) -> Self:
        kind = getattr(self, "kind", None)
        if self.file is not None and kind != "file":
            raise ValueError(f"kind={kind} reads no file; set kind=file to read {self.file.name}")
        return self
