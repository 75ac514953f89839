"""Settings as `--set` assignments of a command line, and the command that repeats stored runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core import config_files
from harness.errors import InputError
from harness.store.run_store import StoredRun

FROM_BASE = "from_base"


@dataclass(frozen=True)
class FromBase:
    """A value at `path` of the base run's record, such as `cost.train_seconds`."""

    path: str

    def of(self, record: Mapping[str, Any]) -> float:
        """The number, rounded to a tenth. Raises `InputError` if there is none."""
        value: Any = record
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(f"the base's record has no number at {self.path}")
        return round(float(value), 1)


def line(key: str, value: Any) -> str:
    """`key=value` for `--set`."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def assignments(values: Mapping[str, Any], base: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The leaves of nested `values` that differ from `base`, as `key=value`, which `--set` parses.

    >>> list(assignments({"a": {"b": 1.0, "c": "1", "d": None}}, {"a": {"d": None}}))
    ['a.b=1', 'a.c="1"']
    """
    for key, value in values.items():
        default = base.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            yield from assignments(value, default, f"{prefix}{key}.")
        elif isinstance(value, Mapping) and value:
            yield from assignments(value, {}, f"{prefix}{key}.")
        elif key not in base or value != default:
            yield f"{prefix}{key}={_argument(value)}"


def _argument(value: Any) -> str:
    """JSON, which is YAML; plain words without quotes."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum():
        return value if config_files.parse(value, "") == value else json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def flat(table: Mapping[str, Any], above: str = "") -> tuple[tuple[str, Any], ...]:
    """Dotted keys and values of nested tables."""
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


def command(runs: Sequence[StoredRun]) -> str:
    """The shell command of runs that differ by seed only. A data folder is given by its stored name, a ranking file by
    its name. For a record of schema 1 the stored `config.yaml` is used."""
    record = runs[0].record
    words = record.command
    if not words and record.seed is None:
        words = ["harness", "evaluate", "PREDICTIONS", "-d", record.dataset.name, "--name", record.model]
    elif not words:
        folder = runs[0].folder
        words = ["harness", "run", record.model, "-d", "", "--config", str(folder.config), "--seed", str(record.seed)]
    else:
        words = list(words)
    if words[1] == "evaluate":
        words[2] = Path(words[2]).name
    words[words.index("-d") + 1] = record.dataset.name
    if "--seed" in words:
        place = words.index("--seed")
        words[place : place + 2] = [word for run in runs for word in ("--seed", str(run.record.seed))]
    return shlex.join(words)
