"""Notes that distinguish rows of one model: settings in which their stored configurations differ.

Beside these, a note names settings that more than half of the rows do not share.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.store.run_store import StoredRun

NOT_THE_MODELS = ("protocol", "tuning", "data")  # sections that describe the split, the study and the files
SHOWN = 3  # settings that a note names before it counts the rest; those that distinguish rows are always named
WHOLE = ("protocol.depth",)  # keys that a note shows with their section


def config_differences(groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """One note a group (runs that differ by seed only); empty if its model has no other group. Notes of one model are
    distinct: each names the settings that distinguish its group, or run ids if no setting does."""
    models: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        models.setdefault(group[0].record.model, []).append(number)
    messages = [""] * len(groups)
    for rivals in models.values():
        if len(rivals) == 1:
            continue
        runs = [groups[number][0] for number in rivals]
        results = settings(runs)
        if len({tuple(sorted(one.items())) for one in results}) < len(runs):
            results = [{**one, **_elsewhere(run)} for one, run in zip(results, runs, strict=True)]
        keys = dict.fromkeys(key for one in results for key in one)
        reference = {key: _usual([one.get(key) for one in results]) for key in keys}
        telling = _telling(results, keys)
        for number, result in zip(rivals, results, strict=True):
            listed = {key: result[key] for key in telling if key in result}
            messages[number] = _note(listed, {key: value for key, value in result.items() if value != reference[key]})
        _add_run_ids(messages, rivals, groups)
    return messages


def _telling(results: Sequence[Mapping[str, str]], keys: Iterable[str]) -> list[str]:
    """A small set of settings, in the order of `keys`, that distinguishes any two different rows."""
    ordered = list(keys)
    counts = {key: len({one.get(key) for one in results}) for key in ordered}
    total, chosen = len({tuple(map(one.get, ordered)) for one in results}), []
    for key in sorted((key for key in ordered if counts[key] > 1), key=lambda key: -counts[key]):
        if len({tuple(map(one.get, chosen)) for one in results}) == total:
            break
        chosen.append(key)
    return [key for key in ordered if key in chosen]


def _elsewhere(run: StoredRun) -> dict[str, str]:
    """Other differences between runs of equal settings: files, how they were read, and the length of lists."""
    fields = {key: run.settings[key] for key in ("dataset", "order", "data") if key in run.settings}
    return {key: _text(value) for key, value in _leaves({**fields, "protocol.depth": run.record.protocol.depth}, "")}


def _add_run_ids(messages: list[str], rivals: Sequence[int], groups: Sequence[Sequence[StoredRun]]) -> None:
    counts = Counter(messages[number] for number in rivals)
    for number in rivals:
        if counts[messages[number]] > 1:
            ids = ", ".join(run.record.run_id for run in groups[number])
            messages[number] = ", ".join(filter(None, (messages[number], ids)))


def _usual(values: Sequence[str | None]) -> str | None:
    """The value of more than half of the rows, if there is one."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _note(telling: Mapping[str, str], unusual: Mapping[str, str]) -> str:
    """All of `telling`, and of `unusual` as many as fit into `SHOWN`."""
    rest = [key for key in unusual if key not in telling]
    room = max(0, SHOWN - len(telling))
    named = {**telling, **{key: unusual[key] for key in rest[:room]}}
    labels = [f"{key if key in WHOLE else key.partition('.')[2] or key}={value}" for key, value in named.items()]
    return ", ".join([*labels, *([f"and {len(rest) - room} more settings"] if len(rest) > room else [])])


def settings(runs: Sequence[StoredRun]) -> list[dict[str, str]]:
    """The flattened configuration of each run, as text; empty if it is unreadable."""
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
