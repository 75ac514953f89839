"""TOML as the harness reads it: JSON's kinds of values alone, nothing infinite, no nesting without end."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from harness.core.config_files import small_text
from harness.errors import InputError


def parse(text: str, where: str) -> dict[str, Any]:
    """The table that `text` says. Raises `InputError` for text that is not TOML, and for dates and infinite numbers.

    >>> parse("a.b = 1", "grid")
    {'a': {'b': 1}}
    """
    try:
        table = tomllib.loads(text)
        json.dumps(table, allow_nan=False)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML: {error}", where=where) from error
    except RecursionError as error:
        raise InputError("TOML nested too deeply", where=where) from error
    except TypeError as error:
        raise InputError("a date or a time stands in it, and no setting takes one", where=where) from error
    except ValueError as error:  # also where Python reads no whole number of more than 4,300 digits
        raise InputError("a number in it is infinite, none, or of too many digits", where=where) from error
    return table


def read(path: Path) -> dict[str, Any]:
    """A file. Raises `InputError`."""
    return parse(small_text(path, "TOML"), str(path))
