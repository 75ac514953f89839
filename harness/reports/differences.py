"""What tells rows of one model apart: the settings in which their stored configurations differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from harness.store.runs import StoredRun

SHOWN = 3  # settings that a note names before it only counts


def notes(groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """One note a group (runs that differ by seed only); empty where its model has no other group."""
    said = []
    for group in groups:
        model = group[0].record.model
        rivals = [other for other in groups if other[0].record.model == model]
        said.append(_note(group, rivals) if len(rivals) > 1 else "")
    return said


def _note(group: Sequence[StoredRun], rivals: Sequence[Sequence[StoredRun]]) -> str:
    mine = _settings(group[0])
    others = [_settings(rival[0]) for rival in rivals]
    keys = [key for key in mine if len({repr(other.get(key)) for other in others}) > 1]
    shown = [f"{key.rpartition('.')[2]}={mine[key]}" for key in keys[:SHOWN]]
    return ", ".join([*shown, f"and {len(keys) - SHOWN} more settings"] if len(keys) > SHOWN else shown)


def _settings(run: StoredRun) -> dict[str, Any]:
    """The flattened configuration of a run; what cannot be read is left out."""
    flat: dict[str, Any] = {"profile": run.record.profile, "code_version": run.record.env.code_version}
    try:
        content = yaml.safe_load(run.folder.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return flat
    for section, values in (content or {}).items():
        if isinstance(values, Mapping) and section != "protocol":
            flat.update(_flatten(section, values))
    return flat


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat.update(_flatten(name, value) if isinstance(value, Mapping) else {name: value})
    return flat
