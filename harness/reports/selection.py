"""Selection of stored runs, by id, prefix of an id, folder, model name, or several ids with commas; and notes on the
settings in which the runs of one model differ.

Only the requested records are read. Runs that are not comparable are rejected, with the fields that differ. A note
names settings that distinguish rows, and settings that more than half of the rows do not share.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, unknown_name
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
        raise InputError(
            "no runs are stored here",
            where=str(store.root),
            hint="harness run makes some, or say --results",
            code="no-runs",
        )
    if dataset is not None:
        name = stored_name(store, dataset)
        paths = [path for path in paths if path.parent.name == name]
        if not paths:
            raise InputError(f"no runs on {dataset!r} are stored here", where=str(store.root), code="no-runs")
    sides = [_side(text, paths) for text in names]
    for text, runs in zip(names, sides, strict=True):
        if sum({run.folder.path for run in runs} == {run.folder.path for run in other} for other in sides) > 1:
            raise InputError(
                f"{text!r} is given twice", where="RUN", hint="a run does not differ from itself", code="duplicate"
            )
    return [RunGroup(label, tuple(runs)) for label, runs in zip(_labels(sides), sides, strict=True)]


def choose_one(store: Store, name: str, dataset: str | None = None) -> StoredRun:
    """The single run of `name`. Raises `InputError` as `choose` does, and for a name of several runs."""
    (group,) = choose(store, [name], dataset)
    first, *rest = group.runs
    if rest:
        ids = ", ".join(run.record.run_id for run in group.runs)
        raise InputError(
            f"{name!r} stands for {len(group.runs)} runs", where="RUN", hint=f"name one of {ids}", code="bad-selection"
        )
    return first


def check_comparable(chosen: Sequence[RunGroup]) -> None:
    """Raises `InputError` if the runs were not measured on the same data under the same protocol."""
    message = _apart([run.record for side in chosen for run in side.runs])
    if message:
        raise InputError(
            f"these runs cannot be compared: {message}",
            hint="compare runs of one data set under one protocol",
            code="bad-selection",
        )


def _apart(records: Sequence[Record]) -> str:
    """The fields of data and protocol in which the runs differ; empty if they are comparable."""
    payload = []
    for part in ("dataset", "protocol"):
        for name in type(getattr(records[0], part)).model_fields:
            values = list(dict.fromkeys(str(getattr(getattr(record, part), name)) for record in records))
            if len(values) > 1:
                payload.append(f"{part}.{name} is {' or '.join(values)}")
    return "; ".join(payload) if any("fingerprint" in line for line in payload) else ""


def _side(text: str, paths: Sequence[Path]) -> list[StoredRun]:
    runs = with_longest_lists([run for part in filter(None, text.split(",")) for run in _runs(part.strip(), paths)])
    if not runs:
        raise InputError(f"{text!r} names no run", where="RUN", code="bad-selection")
    records = [run.record for run in runs]
    if len({record.model for record in records}) > 1:
        raise InputError(
            f"{text!r} joins runs of several models", where="RUN", hint="give each model apart", code="bad-selection"
        )
    if len({run.record.details.get("configuration", run.record.run_id) for run in runs}) > 1:
        raise InputError(
            f"{text!r} stands for runs of several configurations: {_listed(runs)}",
            where="RUN",
            hint="give run ids, those of one configuration joined by commas",
            code="bad-selection",
        )
    if len({record.dataset.name for record in records}) > 1:
        names = ", ".join(sorted({record.dataset.name for record in records}))
        raise InputError(f"{text!r} has runs on {names}", where="RUN", hint="say which with -d", code="bad-selection")
    if message := _apart(records):
        by_data: dict[tuple[str, str], list[str]] = {}
        for record in records:
            by_data.setdefault((record.dataset.fingerprint, record.protocol.fingerprint), []).append(record.run_id)
        label = f"{text!r} has runs that were not measured alike: {message}"
        hint = (
            f"give the ids of those that were: {' or '.join(','.join(ids) for ids in list(by_data.values())[:KNOWN])}"
        )
        raise InputError(label, where="RUN", hint=hint, code="bad-selection")
    seeds = [record.seed for record in records]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{text!r} has a seed twice", where="RUN", hint="give each run once", code="duplicate")
    return sorted(runs, key=lambda run: run.record.seed or 0)


def _runs(text: str, paths: Sequence[Path]) -> list[StoredRun]:
    """The runs of one name."""
    if Path(text, "result.json").is_file():
        return [_read(Path(text))]
    name = [path for path in paths if path.name == text]
    if name:
        return [_read(path) for path in name]
    if name := [path for path in paths if path.parent.parent.name == text.replace(":", "@")]:
        return _readable(name)
    start_time = [path for path in paths if path.name.startswith(text)]
    if len(start_time) > 1:
        listed = ", ".join(path.name for path in start_time[:KNOWN]) + (", …" if len(start_time) > KNOWN else "")
        raise InputError(
            f"{text!r} begins the ids of {len(start_time)} runs ({listed})",
            where="RUN",
            hint="give more of it",
            code="bad-selection",
        )
    if not start_time:
        raise _unknown(text, paths)
    return [_read(start_time[0])]


def _unknown(text: str, paths: Sequence[Path]) -> InputError:
    models = sorted({path.parent.parent.name.replace("@", ":") for path in paths})
    names = [*models, *dict.fromkeys(path.name for path in paths)]
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    listed = ", ".join(models[:KNOWN]) + (", …" if len(models) > KNOWN else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"stored models: {listed}; a run id works too"
    return InputError(f"unknown run {text!r}", where="RUN", hint=hint, code="no-runs")


def _read(path: Path) -> StoredRun:
    try:
        return StoredRun(read_record(path / "result.json"), RunFolder(path))
    except Unreadable as error:
        raise InputError(
            str(error), hint="make the run again with --fresh, or take another one", code="bad-selection"
        ) from error


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


def _listed(runs: Sequence[StoredRun]) -> str:
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        groups.setdefault(run.record.details.get("configuration", run.record.run_id), []).append(run)
    messages = [
        f"{','.join(run.record.run_id for run in group)} ({note})"
        for group, note in zip(groups.values(), config_differences(list(groups.values())), strict=True)
    ]
    return "; ".join(messages[:KNOWN]) + ("; …" if len(messages) > KNOWN else "")


def _labels(sides: Sequence[Sequence[StoredRun]]) -> list[str]:
    """A model's name if that distinguishes the sides, else with the differing settings, else with run ids."""
    names = [runs[0].record.model for runs in sides]
    messages = config_differences(sides)
    lines = [
        f"{name} ({note})" if names.count(name) > 1 and note else name
        for name, note in zip(names, messages, strict=True)
    ]
    return [
        f"{name} {'+'.join(run.record.run_id for run in runs)}" if lines.count(label) > 1 else label
        for name, label, runs in zip(names, lines, sides, strict=True)
    ]


def stored_name(store: Store, dataset: str) -> str:
    """The name under which runs of a data set, given by name or folder, are stored. Raises `InputError` if there are
    none."""
    from harness.data.catalog import catalogue_entries
    from harness.data.dataset import safe_name

    stored = {path.name for path in store.runs.glob("*/*") if path.is_dir()}
    if dataset in stored or dataset in catalogue_entries():
        return dataset
    if dataset and Path(dataset).expanduser().exists():
        from harness.data.loading import folder_dataset

        return folder_dataset(Path(dataset).expanduser())
    if (safe := safe_name(dataset)) in stored or safe in catalogue_entries():
        return safe
    raise unknown_name("data set", dataset, {*stored, *catalogue_entries()}, where=str(store.root))


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
