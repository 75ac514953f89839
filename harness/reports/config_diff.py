"""Notes that distinguish rows of one model: settings in which their stored configurations differ.

Settings that more than half of the rows share are omitted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.store.run_store import StoredRun

NOT_THE_MODELS = ("protocol", "tuning", "data")  # sections that describe the split, the study and the files
SHOWN = 3  # settings that a note names before it only counts


def config_differences(groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """One note a group (runs that differ by seed only); empty where its model has no other group, and where all of its
    settings are those of most rows."""
    models: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        models.setdefault(group[0].record.model, []).append(number)
    messages = [""] * len(groups)
    for rivals in models.values():
        if len(rivals) == 1:
            continue
        results = settings([groups[number][0] for number in rivals])
        keys = dict.fromkeys(key for one in results for key in one)
        reference = {key: _usual([one.get(key) for one in results]) for key in keys}
        for number, own in zip(rivals, results, strict=True):
            messages[number] = _note({key: value for key, value in own.items() if value != reference[key]})
    return messages


def _usual(values: Sequence[str | None]) -> str | None:
    """The value of more than half of the rows, if there is one."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _note(telling: dict[str, str]) -> str:
    labels = [f"{key.partition('.')[2] or key}={value}" for key, value in list(telling.items())[:SHOWN]]
    return ", ".join([*labels, f"and {len(telling) - SHOWN} more settings"] if len(telling) > SHOWN else labels)


def settings(runs: Sequence[StoredRun]) -> list[dict[str, str]]:
    """The flattened configuration of each run, as text; empty where it cannot be read."""
    return [
        {"profile": run.record.profile, "code_version": run.record.env.code_version, **flattened(run.settings)}
        for run in runs
    ]


def flattened(configuration: Mapping[str, Any]) -> dict[str, str]:
    """The model's settings in a configuration: `section.key` to the text of its value.

    >>> flattened({"seed": 1, "fake": {"lr_factor": 0.1, "layer": {"width": 4}, "levels": [1, 2], "name": "x"}})
    {'fake.lr_factor': '0.1', 'fake.layer.width': '4', 'fake.levels': '[1, 2]', 'fake.name': 'x'}
    """
    sections = {name: values for name, values in configuration.items() if isinstance(values, Mapping)}
    return {
        name: _text(value)
        for section, values in sections.items()
        if section not in NOT_THE_MODELS
        for name, value in _leaves(values, f"{section}.")
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
