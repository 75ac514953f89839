"""The command that makes a stored run again, with nothing in it that its profile says already."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core import config_files
from harness.data.reading import Reading
from harness.errors import InputError
from harness.registry import ModelEntry
from harness.runs.config import ConfigFile, Settings, resolve
from harness.runs.job import entry_of
from harness.store.run_store import StoredRun


def command(runs: Sequence[StoredRun]) -> str:
    """The `harness run` of runs that differ by seed only, settings beyond the profile's as `--set`; for rankings made
    elsewhere the `harness evaluate`. A folder of data stands as the name that its runs are stored under. Empty where
    the settings cannot be told from this version's: the stored `config.yaml` then is the way to the run."""
    record = runs[0].record
    try:
        entry = entry_of(record.model, runs[0].folder.config)
    except InputError:
        return shlex.join(["harness", "evaluate", "PREDICTIONS", "-d", record.dataset.name, "--name", record.model])
    try:
        stored = config_files.read(runs[0].folder.config)
        sets = _sets(entry, record.profile, stored, record.cost.device or "cpu")
    except InputError:
        return ""
    seeds = [part for run in runs for part in ("--seed", str(run.record.seed))]
    order = ["--order", stored["order"]] if stored.get("order", "time") != "time" else []
    reading = Reading.of(stored.get("data")).options()
    changed = [part for text in sets for part in ("--set", text)]
    lines = ["harness", "run", entry.file or record.model, "-d", record.dataset.name, "--profile", record.profile]
    return shlex.join([*lines, *seeds, *order, *reading, *changed])


def _sets(entry: ModelEntry, profile: str, stored: Mapping[str, Any], device: str) -> list[str]:
    """The changes that lead from a profile to stored settings. Raises `InputError` where none do."""
    expected = {section: stored.get(section) or {} for section in ("protocol", entry.section)}
    variant = expected[entry.section].get("variant")
    start = [] if variant is None else [f"{entry.section}.variant={_text(variant)}"]
    plain = _values(resolve(entry, profile, ConfigFile(), ()), entry, device)
    base = _values(resolve(entry, profile, ConfigFile(), start), entry, device)
    start = [] if plain == base else start
    sets = [*start, *(f"{path}={_text(value)}" for path, value in _changes(base, expected, ""))]
    if _values(resolve(entry, profile, ConfigFile(), sets), entry, device) != expected:
        raise InputError("these settings are not of this version", where=entry.name)
    return sets


def _values(settings: Settings, entry: ModelEntry, device: str) -> dict[str, Any]:
    model = settings.model.resolved(device)
    return {"protocol": settings.protocol.model_dump(mode="json"), entry.section: model.model_dump(mode="json")}


def _changes(low: Mapping[str, Any], high: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """The leaves of `high` that are not those of `low`, by dotted path."""
    for key, value in high.items():
        below = low.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            yield from _changes(below, value, f"{above}{key}.")
        elif value != below:
            yield f"{above}{key}", value


def _text(value: Any) -> str:
    """As `--set` reads it: JSON is YAML, and plain words need no quotes."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum():
        return value if config_files.parse(value, "") == value else json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
