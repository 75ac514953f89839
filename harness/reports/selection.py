"""Selection of stored runs, by id, prefix of an id, folder, model name, or several ids with commas; and notes on the
settings in which the runs of one model differ.

Only the requested records are read. Runs that are not comparable are rejected, with the fields that differ. A note
names settings that distinguish rows, and settings that more than half of the rows do not share.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.catalog import catalogue_entries
from harness.data.dataset import safe_name
from harness.data.loading import folder_dataset
from harness.errors import Code, InputError, unknown_name
from harness.reports.values import grouped
from harness.store.record import Record
from harness.store.run_store import (
    RunFolder,
    Store,
    StoredRun,
    Unreadable,
    read_record,
    warn,
    with_longest_lists,
)

NOT_THE_MODELS = ("protocol", "tuning", "data")  # sections that describe the split, the study and the files
SHOWN = 3  # settings that a note names before it counts the rest; those that distinguish rows are always named
WHOLE = ("protocol.depth",)  # keys that a note shows with their section
KNOWN = 8  # names that a message lists at most


@dataclass(frozen=True)
class RunGroup:
    """One side of a comparison: runs of one model with one configuration, a seed each."""

    label: str
    runs: tuple[StoredRun, ...]

    @property
    def first(self) -> Record:
        return self.runs[0].record

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(run.record.run_id for run in self.runs)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(run.record.seed for run in self.runs)

    @property
    def leaks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for run in self.runs for text in run.record.leaks))

    def values(self, metric: str) -> list[float]:
        """The metric of each run on the test cases."""
        return [run.record.metrics.test[metric] for run in self.runs]


def choose(store: Store, names: Sequence[str], dataset: str | None = None) -> list[RunGroup]:
    """One `RunGroup` for each of `names`. Raises `InputError` for unknown names (with similar ones), for an ambiguous
    prefix of an id, for a model of several configurations or data sets, and for repeated sides."""
    paths = sorted(path.parent for path in store.runs.glob("*/*/*/result.json") if not path.parent.name.startswith("."))
    if not paths:
        hint = "harness run makes some, or say --results"
        raise InputError("no runs are stored here", where=str(store.root), hint=hint, code="no-runs")
    if dataset is not None:
        name = stored_name(store, dataset)
        paths = [path for path in paths if path.parent.name == name]
        if not paths:
            raise InputError(f"no runs on {dataset!r} are stored here", where=str(store.root), code="no-runs")
    sides = [_side(text, paths) for text in names]
    folders = [{run.folder.path for run in runs} for runs in sides]
    for text, runs in zip(names, folders, strict=True):
        if folders.count(runs) > 1:
            raise _refused(f"{text!r} is given twice", "a run does not differ from itself", "duplicate")
    return [RunGroup(label, tuple(runs)) for label, runs in zip(_labels(sides), sides, strict=True)]


def choose_one(store: Store, name: str, dataset: str | None = None) -> StoredRun:
    """The single run of `name`. Raises `InputError` as `choose` does, and for a name of several runs."""
    (group,) = choose(store, [name], dataset)
    first, *rest = group.runs
    if rest:
        raise _refused(f"{name!r} stands for {len(group.runs)} runs", f"name one of {', '.join(group.run_ids)}")
    return first


def check_comparable(groups: Sequence[RunGroup]) -> None:
    """Raises `InputError` if the runs were not measured on the same data under the same protocol."""
    if message := _apart([run.record for side in groups for run in side.runs]):
        hint = "compare runs of one data set under one protocol"
        raise InputError(f"these runs cannot be compared: {message}", hint=hint, code="bad-selection")


def _refused(message: str, hint: str | None = None, code: Code = "bad-selection") -> InputError:
    """The error of a name of runs."""
    return InputError(message, where="RUN", hint=hint, code=code)


def _apart(records: Sequence[Record]) -> str:
    """The fields of data and protocol in which the runs differ; empty if they are comparable."""
    fields = differing_fields(records)
    if not any(name == "fingerprint" for _, name in fields):
        return ""
    texts = {key: dict.fromkeys(str(getattr(getattr(one, key[0]), key[1])) for one in records) for key in fields}
    return "; ".join(f"{part}.{name} is {' or '.join(values)}" for (part, name), values in texts.items())


def differing_fields(compared: Sequence[Any]) -> list[tuple[str, str]]:
    """The fields of data set and protocol in which records or boards differ, as (`dataset` or `protocol`, field)."""
    parts = {part: [getattr(one, part) for one in compared] for part in ("dataset", "protocol")}
    return [
        (part, name)
        for part, infos in parts.items()
        for name in type(infos[0]).model_fields
        if len({getattr(info, name) for info in infos}) > 1
    ]


def _side(text: str, paths: Sequence[Path]) -> list[StoredRun]:
    runs = with_longest_lists([run for part in filter(None, text.split(",")) for run in _runs(part.strip(), paths)])
    if not runs:
        raise _refused(f"{text!r} names no run")
    records = [run.record for run in runs]
    if len({record.model for record in records}) > 1:
        raise _refused(f"{text!r} joins runs of several models", "give each model apart")
    configurations = list(grouped(runs, lambda run: configuration_of(run.record)).values())
    if len(configurations) > 1:
        notes = config_differences(configurations)
        listed = [f"{_ids(group)} ({note})" for group, note in zip(configurations, notes, strict=True)]
        message = "; ".join(listed[:KNOWN]) + ("; …" if len(listed) > KNOWN else "")
        hint = "give run ids, those of one configuration joined by commas"
        raise _refused(f"{text!r} stands for runs of several configurations: {message}", hint)
    if len(names := sorted({record.dataset.name for record in records})) > 1:
        raise _refused(f"{text!r} has runs on {', '.join(names)}", "say which with -d")
    if message := _apart(records):
        alike = grouped(runs, lambda run: (run.record.dataset.fingerprint, run.record.protocol.fingerprint))
        hint = f"give the ids of those that were: {' or '.join(map(_ids, list(alike.values())[:KNOWN]))}"
        raise _refused(f"{text!r} has runs that were not measured alike: {message}", hint)
    if len({record.seed for record in records}) < len(records):
        raise _refused(f"{text!r} has a seed twice", "give each run once", "duplicate")
    return sorted(runs, key=lambda run: run.record.seed or 0)


def configuration_of(record: Record) -> str:
    """What runs share that differ by seed only."""
    return record.details.get("configuration", record.run_id)


def _ids(runs: Sequence[StoredRun]) -> str:
    return ",".join(run.record.run_id for run in runs)


def _runs(text: str, paths: Sequence[Path]) -> list[StoredRun]:
    """The runs of one name."""
    if Path(text, "result.json").is_file():
        return [_read(Path(text))]
    if matches := [path for path in paths if path.name == text]:
        return [_read(path) for path in matches]
    if matches := [path for path in paths if path.parent.parent.name == text.replace(":", "@")]:
        return _readable(matches)
    begun = [path for path in paths if path.name.startswith(text)]
    if len(begun) > 1:
        listed = _first([path.name for path in begun])
        raise _refused(f"{text!r} begins the ids of {len(begun)} runs ({listed})", "give more of it")
    if not begun:
        models = sorted({path.parent.parent.name.replace("@", ":") for path in paths})
        names = [*models, *dict.fromkeys(path.name for path in paths)]
        near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
        hint = f"stored models: {_first(models)}; a run id works too"
        raise _refused(f"unknown run {text!r}", f"did you mean {' or '.join(near)}?" if near else hint, "no-runs")
    return [_read(begun[0])]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:KNOWN]) + (", …" if len(names) > KNOWN else "")


def _read(path: Path) -> StoredRun:
    try:
        return StoredRun(read_record(path / "result.json"), RunFolder(path))
    except Unreadable as error:
        hint = "make the run again with --fresh, or take another one"
        raise InputError(str(error), hint=hint, code="bad-selection") from error


def _readable(paths: Sequence[Path]) -> list[StoredRun]:
    """The runs of one model. Runs with unusable records are skipped with a warning, unless no run is left."""
    results, skipped = [], []
    for path in paths:
        try:
            results.append(_read(path))
        except InputError as error:
            skipped.append(error)
    if not results:
        raise skipped[0]
    for error in skipped:
        warn(f"skipped {error.what}")
    return results


def _labels(sides: Sequence[Sequence[StoredRun]]) -> list[str]:
    """A model's name if that distinguishes the sides, else with the differing settings, else with run ids."""
    names = [runs[0].record.model for runs in sides]
    notes = config_differences(sides)
    labels = [f"{name} ({note})" if note else name for name, note in zip(names, notes, strict=True)]
    return [
        f"{name} {'+'.join(run.record.run_id for run in runs)}" if labels.count(label) > 1 else label
        for name, label, runs in zip(names, labels, sides, strict=True)
    ]


def stored_name(store: Store, dataset: str) -> str:
    """The name under which runs of a data set, given by name or folder, are stored. Raises `InputError` if there are
    none."""
    stored = {path.name for path in store.runs.glob("*/*") if path.is_dir()}
    if dataset in stored or dataset in catalogue_entries():
        return dataset
    if dataset and Path(dataset).expanduser().exists():
        return folder_dataset(Path(dataset).expanduser())
    if (safe := safe_name(dataset)) in stored or safe in catalogue_entries():
        return safe
    raise unknown_name("data set", dataset, {*stored, *catalogue_entries()}, where=str(store.root))


def config_differences(groups: Sequence[Sequence[StoredRun]]) -> list[str]:
    """One note a group (runs that differ by seed only); empty if its model has no other group. Notes of one model are
    distinct: each names the settings that distinguish its group, or run ids if no setting does."""
    models = grouped(range(len(groups)), lambda number: groups[number][0].record.model)
    notes = [""] * len(groups)
    for rivals in models.values():
        if len(rivals) == 1:
            continue
        runs = [groups[number][0] for number in rivals]
        results = settings(runs)
        if len({tuple(sorted(one.items())) for one in results}) < len(runs):
            results = [{**one, **_elsewhere(run)} for one, run in zip(results, runs, strict=True)]
        keys = list(dict.fromkeys(key for one in results for key in one))
        usual = {key: _usual([one.get(key) for one in results]) for key in keys}
        telling = _telling(results, keys)
        texts = [_note(result, telling, usual) for result in results]
        for number, text in zip(rivals, texts, strict=True):
            ids = [run.record.run_id for run in groups[number]] if texts.count(text) > 1 else []
            notes[number] = ", ".join(filter(None, [text, *ids]))
    return notes


def _telling(results: Sequence[Mapping[str, str]], keys: Sequence[str]) -> list[str]:
    """A small set of settings, in the order of `keys`, that distinguishes any two different rows."""
    counts = {key: len({one.get(key) for one in results}) for key in keys}
    total, selected = len({tuple(map(one.get, keys)) for one in results}), []
    for key in sorted((key for key in keys if counts[key] > 1), key=lambda key: -counts[key]):
        if len({tuple(map(one.get, selected)) for one in results}) == total:
            break
        selected.append(key)
    return [key for key in keys if key in selected]


def _elsewhere(run: StoredRun) -> dict[str, str]:
    """Other differences between runs of equal settings: files, how they were read, and the length of lists."""
    fields = {key: run.settings[key] for key in ("dataset", "order", "data") if key in run.settings}
    return {key: _text(value) for key, value in leaves({**fields, "protocol.depth": run.record.protocol.depth})}


def _usual(values: Sequence[str | None]) -> str | None:
    """The value of more than half of the rows, if there is one."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _note(result: Mapping[str, str], telling: Sequence[str], usual: Mapping[str, str | None]) -> str:
    """All `telling` settings, and of those that are not `usual` as many as fit into `SHOWN`."""
    named = [key for key in telling if key in result]
    rest = [key for key, value in result.items() if value != usual[key] and key not in named]
    room = max(0, SHOWN - len(named))
    keys = [*named, *rest[:room]]
    labels = [f"{key if key in WHOLE else key.partition('.')[2] or key}={result[key]}" for key in keys]
    return ", ".join([*labels, *([f"and {len(rest) - room} more settings"] if len(rest) > room else [])])


def settings(runs: Sequence[StoredRun]) -> list[dict[str, str]]:
    """The flattened configuration of each run, as text, with its profile and code version."""
    return [
        {"profile": run.record.profile, "code_version": run.record.env.code_version, **flattened(run.settings)}
        for run in runs
    ]


def flattened(configuration: Mapping[str, Any]) -> dict[str, str]:
    """The model's settings in a configuration: `section.key` to the text of its value.

    >>> flattened({"seed": 1, "fake": {"lr_factor": 0.1, "layer": {"width": 4}, "levels": [1, 2], "name": "x"}})
    {'fake.lr_factor': '0.1', 'fake.layer.width': '4', 'fake.levels': '[1, 2]', 'fake.name': 'x'}
    """
    sections = {
        name: values
        for name, values in configuration.items()
        if isinstance(values, Mapping) and name not in NOT_THE_MODELS
    }
    return {name: _text(value) for name, value in leaves(sections)}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values below nested mappings, with their keys joined by dots."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
