"""Grids: a base and named changes, or a product of values, as a small YAML file.

    about: what it is for               # optional
    model: eager-llm                    # optional: the only model that it is for
    base: full                          # optional: what the row without changes is called
    settings: {eager.index.k: 64}       # optional: under every row
    changes:
      no annealing:                     # one row
        eager.annealing.enabled: false
    product:                            # a row for every combination
      eager.index.k: [64, 256]

A text is read as with `--set` ("null" is None). `SETTING.from_base: cost.train_seconds` takes the value from the
base's record of the same seed. A model's named grids are files of the package that its registry entry names.
`check_headings` also checks the keys of search spaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from harness.core import config_files
from harness.errors import InputError, unknown_name
from harness.registry import ModelEntry

DEFAULT = "paper"  # the named grid where none is named
ENDINGS = (".yaml", ".yml", ".toml")
MOST = 1000  # cells of a product
FROM_BASE = ".from_base"
FACTORS = ("tokenizer_seed", "model_seed")


def check_headings(
    content: Mapping[str, Any], keys: Mapping[str, type], table: str, entry: ModelEntry, location: str
) -> None:
    """Raises `InputError` for a key that is not among `keys`, a value of another kind (`table` says what a table of
    these files holds), and a file that is made for another model than `entry`."""
    for key, value in content.items():
        if key not in keys:
            raise unknown_name("key", key, keys, where=location)
        if not isinstance(value, keys[key]):
            expected = "text" if keys[key] is str else f"a table of {table}"
            raise InputError(f"{key} is {value!r}, expected {expected}", where=location)
    if content.get("model", entry.name) != entry.name:
        raise InputError(f"made for model {content['model']!r}, not {entry.name!r}", where=location)


KEYS: dict[str, type] = {"about": str, "model": str, "base": str, "settings": dict, "changes": dict, "product": dict}


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


def named_values(table: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Dotted settings of nested tables with their values; `SETTING.from_base` is a `FromBase` of that setting."""
    return tuple(
        (name.removesuffix(FROM_BASE), FromBase(str(value)) if name.endswith(FROM_BASE) else value)
        for name, value in config_files.flatten(table).items()
    )


@dataclass(frozen=True)
class Variant:
    """One row of the table: `changes` are settings and their values, in order."""

    name: str
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def needs_base(self) -> bool:
        """Whether it needs the base's record."""
        return any(isinstance(value, FromBase) for _, value in self.changes)

    def sets(self, record: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """The changes as `--set` takes them. Without a record, a value of the base counts as 60."""
        return tuple(
            line(key, (60.0 if record is None else value.of(record)) if isinstance(value, FromBase) else value)
            for key, value in self.changes
        )

    def text(self) -> str:
        """The changes in one line."""
        labels = [
            line(key, f"base's {value.path}" if isinstance(value, FromBase) else value) for key, value in self.changes
        ]
        return ", ".join(labels)


@dataclass(frozen=True)
class Grid:
    """`cells[0]` is the base. `settings` apply to every cell, below the user's own `--set`."""

    name: str
    where: str
    about: str
    settings: tuple[str, ...]
    cells: tuple[Variant, ...]


def read_grid(requested: str | None, entry: ModelEntry) -> Grid:
    """A file, or a named grid of the model (for None that of its paper). Raises `InputError`."""
    by_name = named_grids(entry)
    if requested is None and DEFAULT not in by_name:
        message = f"{entry.name} has no grid of its own" if not by_name else f"{entry.name} has no grid {DEFAULT}"
        hint = f"choose {', '.join(sorted(by_name))}, or give a file" if by_name else "give a .yaml file"
        raise InputError(message, where="--grid", hint=hint)
    name = requested if requested is not None else DEFAULT
    if name in by_name:
        return _grid(name, f"grid {name}", config_files.parse_mapping(by_name[name], f"grid {name}"), entry)
    path = Path(name).expanduser()
    if path.suffix not in ENDINGS:
        raise unknown_name("grid", name, by_name, where="--grid", otherwise="(a .yaml file works too)")
    return _grid(path.stem, name, config_files.read(path), entry)


def named_grids(entry: ModelEntry) -> dict[str, str]:
    """The text of each named grid of a model."""
    if not entry.grids:
        return {}
    traversables = [file for file in files(entry.grids).iterdir() if file.name.endswith(".yaml")]
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in traversables}


def _grid(name: str, location: str, content: Mapping[str, Any], entry: ModelEntry) -> Grid:
    check_headings(content, KEYS, "names and values", entry, location)
    cells = [Variant(content.get("base", "base"))]
    for cell, changes in content.get("changes", {}).items():
        if not isinstance(changes, dict) or not changes:
            raise InputError(f"changes.{cell} names no setting", where=location, hint="give it SECTION.KEY: VALUE")
        cells.append(Variant(str(cell), named_values(changes)))
    cells += _product(named_values(content.get("product", {})), location)
    _check(cells, location)
    settings = tuple(line(key, value) for key, value in named_values(content.get("settings", {})))
    return Grid(name, location, content.get("about", ""), settings, tuple(cells))


def seed_grid(factors: str, entry: ModelEntry, seeds: Sequence[int]) -> Grid:
    """One row a tokenizer seed, for `--factor tokenizer_seed,model_seed`; a single one for `model_seed`, whose seeds
    are the runs' own. Raises `InputError` for other factors, fewer than two seeds, and a model without a tokenizer."""
    names = tuple(part.strip() for part in factors.split(","))
    if names not in (FACTORS, FACTORS[1:]):
        hint = f"write {','.join(FACTORS)}, or {FACTORS[1]} alone"
        raise InputError(f"{factors!r} are no factors", where="--factor", hint=hint)
    if len(set(seeds)) < 2:
        raise InputError("one seed has no variance", where="--seeds", hint="give two or more, such as --seeds 1,2,3")
    if names == FACTORS[1:]:
        return Grid("model-seeds", "--factor", "", (), (Variant("all"),))
    if FACTORS[0] not in entry.load().config_class.model_fields:
        raise InputError(f"{entry.name} has no tokenizer", where="--factor", hint=f"write --factor {FACTORS[1]}")
    key = f"{entry.section}.{FACTORS[0]}"
    cells = tuple(Variant(f"{FACTORS[0]} {seed}", ((key, seed),)) for seed in dict.fromkeys(seeds))
    return Grid("crossed-seeds", "--factor", "", (), cells)


def _check(cells: Sequence[Variant], location: str) -> None:
    if len(cells) < 2:
        raise InputError("changes nothing", where=location, hint="give it changes or a product")
    names = [cell.name for cell in cells]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two rows are called {duplicates[0]!r}", where=location)
    for cell in cells:
        if rules := [key for key, _ in cell.changes if key.partition(".")[0] == "protocol"]:
            message = f"{cell.name}: {rules[0]} would measure this row under other rules"
            raise InputError(message, where=location, hint="put it into settings, which hold for all rows")


def _product(values: Sequence[tuple[str, Any]], location: str) -> list[Variant]:
    if not values:
        return []
    size = 1
    for key, listed in values:
        if not isinstance(listed, list) or not listed:
            raise InputError(f"product.{key} is {listed!r}, expected a list of values", where=location)
        size *= len(listed)
    if size > MOST:
        raise InputError(f"the product has {size} rows, at most {MOST} can be run", where=location)
    keys = [key for key, _ in values]
    results = []
    for combination in product(*(listed for _, listed in values)):
        name = ", ".join(line(short, value) for short, value in zip(short_names(keys), combination, strict=True))
        results.append(Variant(name, tuple(zip(keys, combination, strict=True))))
    return results


def short_names(keys: Sequence[str]) -> list[str]:
    """Column headings of dotted keys: their last parts, or the full key where these are not unique.

    >>> short_names(["a.rate", "b.rate", "b.size"])
    ['a.rate', 'b.rate', 'size']
    """
    last = [key.rpartition(".")[2] for key in keys]
    return [part if last.count(part) == 1 else key for key, part in zip(keys, last, strict=True)]
