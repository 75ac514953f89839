"""Builds a data set from public raw files by the published steps, and reports each step.

Read the interactions, drop repeats of a user's item, drop items without metadata, 5-core by joint passes, order in time
by a written tie rule, ids by first appearance; then the text of the remaining items. The settings of each release are
in `releases.yaml`.

`Request` has the options of `harness data prepare`; `settings_of` says which of them determine the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import NOT_IN_NAMES, Dataset, ItemText
from harness.data.download import Progress
from harness.data.local_store import StoredDataset, building, find, load, provenance, save_dataset
from harness.data.raw.filters import FILE_RULE, HASH_RULE, FilteredRows, first_of_each, in_order, k_core
from harness.data.raw.interactions import RawLog, instant, read_log
from harness.data.raw.parsing import Metadata, read_metadata
from harness.data.raw.releases import RawSet, resolve
from harness.data.raw.streams import RawFileHandle, download, locate
from harness.data.readers.item_texts import TextMode
from harness.data.readers.times import day
from harness.data.reading import BAD_LINES, PLAIN, Reading
from harness.data.statistics import compared, ties
from harness.errors import InputError

RULES = 1  # of the steps of `prepare`: bumped, with a dated line here, by whatever can change their result
SCHEMA = 1  # of provenance.json
OTHER = "not"
SUSPICIOUS = 0.5  # share of interactions whose loss for want of metadata is worth a warning


@dataclass(frozen=True)
class Request:
    """The options of the command. `tie_seed` None: the release's own tie rule. `since` and `until` are dates that take
    the place of the release's window; `bad_lines` is the share of lines that may be wrong."""

    name: str
    raw: Path | None = None
    tie_seed: int | None = None
    text: TextMode = "clean"
    since: str | None = None
    until: str | None = None
    bad_lines: float = BAD_LINES


def settings_of(data: RawSet, request: Request) -> dict[str, Any]:
    """Everything besides the raw files that determines the result: the release's steps, the tie rule, the text."""
    release = data.release
    seed = _default_seed(data) if request.tie_seed is None else request.tie_seed
    extra = {field for spec in release.metadata for field in spec.extra} if request.text == "clean" else ()
    return {
        "rules": RULES,
        "release": release.key,
        "category": data.category,
        "dedupe": release.dedupe,
        "with_metadata": release.with_metadata,
        "core": release.core,
        "rating_above": release.rating_above,
        "window": _window(data, request),
        "tie_seed": seed,
        "tie_rule": FILE_RULE if seed is None else HASH_RULE.format(seed=seed),
        "text": request.text,
        **({"extra_text": sorted(extra)} if extra else {}),  # appended to the description
    }


def _default_seed(data: RawSet) -> int | None:
    """The tie seed of the release's own tie rule; None where lines decide."""
    return 0 if data.release.ties == "hash" else None


def _window(data: RawSet, request: Request) -> list[str] | None:
    """First and last time of the interactions that are used; None for all. Raises `InputError` for invalid dates, and
    if the first is after the last."""
    release, since, until = data.release, request.since or data.since, request.until or data.until
    if since is None and until is None:
        return list(release.window) if release.window else None
    first, last = since or release.between[0], until or release.between[1]
    for option, text in (("--since", first), ("--until", last)):
        try:
            instant(text)
        except ValueError as error:
            message, hint = f"{text!r} is no date", "write 2018-01-31"
            raise InputError(message, where=option, hint=hint, code="bad-setting") from error
    if len(last) == len("2018-01-31"):
        last = f"{last} 23:59:59"  # the whole of the last day
    if instant(first) > instant(last):
        message, hint = f"{first} lies behind {last}", "give the earlier date first"
        raise InputError(message, where="--since", hint=hint, code="bad-setting")
    return [first, last]


def name_of(data: RawSet, request: Request) -> str:
    """The name of the data set; another tie order or text mode is part of it."""
    name = data.name
    for word, date in (("from", request.since), ("to", request.until)):
        name += f"-{word}-{NOT_IN_NAMES.sub('', date)}" if date else ""
    if request.tie_seed not in (None, _default_seed(data)):
        name += f"-tie{request.tie_seed}"
    return name if request.text == "clean" else f"{name}-{request.text}"


@dataclass(frozen=True)
class Prepared:
    """The stored data set and its provenance; `fresh` is False if it was already stored."""

    kept: StoredDataset
    story: Mapping[str, Any]
    fresh: bool


def prepare(request: Request, progress: Progress | None = None) -> Prepared:
    """Builds the data set, or returns the stored one of the same raw files.

    Raises `InputError` for an unknown name, missing or broken raw files, files that do not belong together, and an
    empty result; no data set is written then.
    """
    data = resolve(request.name)
    settings = settings_of(data, request)
    name = name_of(data, request)
    folder = request.raw and request.raw.expanduser()
    entries = {
        kind: locate(data, kind, folder) if folder is not None else download(data, kind, progress)
        for kind in ("interactions", "metadata")
    }
    raw = [file.record() for file in entries.values()]
    checksums = _checksums(data, raw)
    made_of = {"settings": settings, "raw": raw, "checksums": checksums}
    if (previous := _before(name, made_of)) is not None:
        return previous
    with building(name):
        if (previous := _before(name, made_of)) is not None:
            return previous
        dataset, fields = build(data, entries, settings, progress, Reading(bad_lines=request.bad_lines))
        dataset = replace(dataset, name=name)
        warnings = [f"{file}: its SHA-256 is {text}" for file, text in checksums.items() if text.startswith(OTHER)]
        warnings += fields.pop("warnings")
        story = {"schema": SCHEMA, "name": name, **made_of, **fields, "warnings": warnings}
        stored_dataset = save_dataset(dataset, story, licence=data.release.licence, description=data.title)
    return Prepared(stored_dataset, story, fresh=True)


def build(
    data: RawSet,
    entries: Mapping[str, RawFileHandle],
    settings: Mapping[str, Any],
    progress: Progress | None = None,
    reading: Reading = PLAIN,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set from its two raw files, and what was done."""
    log = read_log(entries["interactions"], data.release, progress, reading)
    rows = _published_start(FilteredRows.of(log), data, settings["window"])
    metadata = _metadata(entries, data, rows, settings["text"], progress, reading)
    warnings = [*log.left_out, *metadata.left_out]
    if data.release.with_metadata:
        before = len(rows.kept)
        rows = rows.keep(metadata.known[rows.items], "items without metadata dropped")
        if (dropped := 1 - len(rows.kept) / max(before, 1)) > SUSPICIOUS:
            doubt = "of the interactions are with items without metadata: do the files belong together?"
            warnings.append(f"{dropped:.0%} {doubt}")
    rows = k_core(rows, data.release.core)
    _not_empty(rows, data, entries["interactions"])
    dataset = in_order(rows, data.name, settings["tie_seed"])
    _in_time(dataset, entries["interactions"])
    dropped = {kind: int(rows.history[0][kind]) - int(rows.history[-1][kind]) for kind in ("users", "items")}
    reason = "of the raw file that the steps took away (see provenance.json)"
    dataset = replace(
        dataset,
        text=tuple(metadata.texts.get(item, ItemText()) for item in dataset.items),
        source=f"{data.title}, prepared from its raw files",
        notes=(settings["tie_rule"],),
        lost=tuple((f"{kind} {reason}", count) for kind, count in dropped.items() if count),
    )
    return dataset, {"warnings": warnings, **_story(data, rows, metadata, dataset)}


def _checksums(data: RawSet, raw: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each raw file whether its checksum is the published one. A difference is no error: it may be a newer file."""
    entries = {}
    for entry in raw:
        file, _, _ = str(entry["file"]).partition(":")
        checksum = data.release.known.get(file)
        if checksum is None:
            entries[file] = "held to nothing: none is known"
        elif entry["sha256"] == checksum.sha256:
            entries[file] = "the published one"
        else:
            entries[file] = f"{OTHER} {checksum.sha256[:16]}…, that of the published file"
    return entries


def _before(name: str, made_of: Mapping[str, Any]) -> Prepared | None:
    """The stored result of the same raw files and settings, if it is complete."""
    try:
        entry, fields = find(name), provenance(name)
        if entry is None or fields is None or any(fields.get(key) != value for key, value in made_of.items()):
            return None
        load(name)
    except InputError:
        return None
    return Prepared(entry, fields, fresh=False)


def _published_start(rows: FilteredRows, data: RawSet, window: Sequence[str] | None) -> FilteredRows:
    """The steps without metadata: the release's window and ratings, then repeats."""
    log, release = rows.log, data.release
    if window is not None:
        first, last = map(instant, window)
        rows = rows.keep((log.times[rows.kept] >= first) & (log.times[rows.kept] <= last), "outside the window dropped")
    if release.rating_above is not None:
        step = f"rated {release.rating_above:g} or less dropped"
        rows = rows.keep(log.ratings[rows.kept] > release.rating_above, step)
    if release.dedupe:
        rows = rows.keep(first_of_each(log, rows.kept), "repeats of a user's item dropped (the first stays)")
    return rows


def _metadata(
    entries: Mapping[str, RawFileHandle],
    data: RawSet,
    rows: FilteredRows,
    text: TextMode,
    progress: Progress | None,
    reading: Reading,
) -> Metadata:
    """Reads the metadata, with the texts of items that have enough interactions before the k-core."""
    log: RawLog = rows.log
    frequent = rows.counts()[1] >= data.release.core
    metadata = read_metadata(entries["metadata"], data.release, log.items, frequent, text, progress, reading)
    if not metadata.known.any():
        message = f"it describes none of the {len(log.items):,} items of {entries['interactions'].name}"
        nobody = np.zeros(len(log.users), bool)
        if read_metadata(entries["metadata"], data.release, log.users, nobody, reading=reading).known.any():
            message += " (its columns of users and items may have changed places, as in the release of 2014)"
        hint = "give two files of the same release and category"
        raise InputError(message, where=entries["metadata"].name, hint=hint, code="empty-data")
    return metadata


def _not_empty(rows: FilteredRows, data: RawSet, file_handle: RawFileHandle) -> None:
    if not len(rows.kept):
        remaining = ", ".join(f"{entry['interactions']:,} {entry['step']}" for entry in rows.history)
        message = f"nothing is left after the steps of {data.title} (interactions: {remaining})"
        hint = "give the whole public file"
        if any("outside the window" in str(entry["step"]) for entry in rows.history):
            reach = f"from {day(rows.log.times.min())} to {day(rows.log.times.max())}"
            hint += f", or another window with --since and --until (the file reaches {reach})"
        raise InputError(message, where=file_handle.name, hint=hint, code="empty-data")


def _in_time(dataset: Dataset, file_handle: RawFileHandle) -> None:
    """Raises `InputError` if timestamps never differ within a user: no tie rule gives an order in time then."""
    users, times = dataset.sequences.rows(), dataset.timestamps
    assert times is not None
    if not ((users[1:] == users[:-1]) & (times[1:] != times[:-1])).any():
        message = "the timestamps never differ within any user: they state no order in time"
        location = f"{file_handle.name} field {file_handle.spec.field_name('time')!r}"
        hint = "give the file with the true times, as it was published"
        raise InputError(message, where=location, hint=hint, code="no-time-order")


def _story(data: RawSet, rows: FilteredRows, metadata: Metadata, dataset: Dataset) -> dict[str, Any]:
    """The steps and their results, for `provenance.json`."""
    return {
        "title": data.title,
        "licence": data.release.licence,
        "homepage": data.release.homepage,
        "steps": rows.history,
        "text": {
            "records": metadata.lines,
            "records_of_items_without_interactions": metadata.unrated,
            "items_with_several_texts": metadata.twice,
            "items_without_text": sum(text.empty for text in dataset.text or ()),
        },
        "ties": ties(dataset),
        "result": {
            "users": len(dataset.users),
            "items": len(dataset.items),
            "interactions": dataset.interactions,
            "mean_length": round(dataset.interactions / len(dataset.users), 4),
            "fingerprint": dataset.fingerprint,
        },
        "published": compared(dataset, data.published),
    }
