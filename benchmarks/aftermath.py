"""What is left behind: whether every file under its final name is whole, and what a finished command's folders hold,
without what depends on the clock.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from safetensors import safe_open

from benchmarks.victims import Place
from harness.experiments.trials import read_trials
from harness.store.record import Record
from harness.store.run_store import Store

UNFINISHED = ("model",)  # folders of a run that count for nothing before its `result.json` is there
CLOCK = ("seconds", "duration")
READERS = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".parquet": lambda path: pq.read_table(path),
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".safetensors": lambda path: safe_open(path, framework="np").metadata(),
}


def torn(place: Place) -> list[str]:
    """Files under a final name that cannot be read; to be asked at any moment, also right after a kill."""
    found = []
    for path in _files(place.folder):
        try:
            if path.name == "result.json":
                Record.model_validate_json(path.read_bytes())
            elif path.suffix in READERS:
                READERS[path.suffix](path)
        except Exception as error:
            found.append(f"{path.relative_to(place.folder)}: {type(error).__name__}: {error}")
    return found


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        complete = "result.json" in names
        folders[:] = [name for name in folders if name[0] != "." and (complete or name not in UNFINISHED)]
        if at.endswith("backbones"):
            folders.clear()  # made by transformers, and marked as complete only when it is
        yield from (Path(at, name) for name in names if name[0] != ".")


def litter(place: Place) -> list[str]:
    """What a finished command should not have left: temporary files, checkpoints, half a replacement. (The lease of a
    dead holder stays until somebody wants the lock.)"""
    bad = (".tmp", ".old", ".fresh", ".part", ".part.json", ".new", ".unfinished")
    found = [path for path in place.folder.rglob("*") if path.name.endswith(bad) or path.name == "checkpoint"]
    found += [path for path in place.folder.rglob("unfinished/*") if not path.name.startswith(".")]
    return sorted(str(path.relative_to(place.folder)) for path in found)


def facts(place: Place) -> dict[str, Any]:
    """Everything in the folders that must not depend on whether and where a command was killed."""
    warnings: list[str] = []
    runs = Store(place.results).query(warn=warnings.append)
    return {
        "warnings": warnings,
        "records": {_name(run.folder.path, place): _record(run.record) for run in runs},
        "lists": {_name(run.folder.path, place): _digest_table(run.folder.predictions) for run in runs},
        "events": {_name(run.folder.path, place): _lines(run.folder.log) for run in runs},
        "grids": {_name(path, place): _timeless(json.loads(path.read_text())) for path in _grids(place)},
        "studies": {_name(path, place): _timeless(list(map(asdict, read_trials(path)))) for path in _studies(place)},
        "kept": {_name(path, place): _sha(path) for path in sorted((place.home / "data").glob("*/*.parquet"))},
        "named": {_name(path, place): _sha(path) for path in sorted((place.home / "data").glob("*.json"))},
        "raw": {_name(path, place): _sha(path) for path in sorted((place.home / "raw").rglob("[!.]*.csv"))},
        "index": {_name(path, place): _sha(path) for path in sorted(place.folder.glob("*.index.json"))},
    }


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two documents differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        absent = object()
        return [
            line for key in keys for line in differences(one.get(key, absent), other.get(key, absent), f"{at}/{key}")
        ]
    return [] if one == other else [f"{at}: {str(one)[:80]} ≠ {str(other)[:80]}"]


def _record(record: Record) -> dict[str, Any]:
    document = record.document()
    for key in ("started", "finished", "cost", "env", "seal"):
        document.pop(key)
    document["details"].pop("sessions", None)
    document["details"].pop("peak_device_memory_mb", None)
    return _timeless(document)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(below) for key, below in value.items() if not any(clock in key for clock in CLOCK)}
    return [_timeless(below) for below in value] if isinstance(value, list) else value


def _grids(place: Place) -> list[Path]:
    return sorted(place.results.glob("ablations/*/*/*.json"))


def _studies(place: Place) -> list[Path]:
    return sorted(place.results.glob("tuning/*/*/*/trials.journal"))


def _lines(path: Path) -> bool:
    """Whether every line of a log is a whole event."""
    return all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())


def _digest_table(path: Path) -> str:
    return hashlib.sha256(json.dumps(pq.read_table(path).to_pydict()).encode()).hexdigest()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _name(path: Path, place: Place) -> str:
    return str(path.relative_to(place.folder))
