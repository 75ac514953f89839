"""Settings as the `--set` words of a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import InputError

FROM_BASE = "from_base"


@dataclass(frozen=True)
class FromBase:
    """A value that the base's record holds at `path`, such as `cost.train_seconds`."""

    path: str

    def of(self, record: Mapping[str, Any]) -> float:
        """The number there, to a tenth. Raises `InputError` where there is none."""
        value: Any = record
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(f"the base's record has no number at {self.path}")
        return round(float(value), 1)


def line(key: str, value: Any) -> str:
    """`key=value` as `--set` takes it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def flat(table: Mapping[str, Any], above: str = "") -> tuple[tuple[str, Any], ...]:
    """Dotted keys and their values, however the file nests them."""
    results: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict) and set(value) == {FROM_BASE}:
            results.append((name, FromBase(str(value[FROM_BASE]))))
        elif name.endswith(f".{FROM_BASE}"):
            results.append((name.removesuffix(f".{FROM_BASE}"), FromBase(str(value))))
        elif isinstance(value, dict):
            results += flat(value, name)
        else:
            results.append((name, value))
    return tuple(results)
