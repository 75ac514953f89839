"""Builds a data set from public raw files by the published steps, and reports each step.

Read the interactions, drop repeats of a user's item, drop items without metadata, 5-core by joint passes, order in time
by a written tie rule, ids by first appearance; then the text of the remaining items. The settings of each release are
in `releases.yaml`.

Also compares the counts with published ones, and measures how many interactions have equal timestamps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.hashing import fingerprint
from harness.data.dataset import Dataset, ItemText
from harness.data.download import Progress
from harness.data.local_store import StoredDataset, find, load, provenance, save_dataset, staging_dir, unfinished
from harness.data.raw.filters import FilteredRows, Ordered, first_of_each, in_order, k_core
from harness.data.raw.interactions import RawLog, instant, read_log
from harness.data.raw.parsing import Metadata, RequestedItems, read_metadata
from harness.data.raw.releases import Published, RawSet, resolve
from harness.data.raw.request import Request, name_of, settings_of
from harness.data.raw.streams import RawFileHandle, download, locate
from harness.data.raw.text_cleaning import TextMode
from harness.data.readers.times import day
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError

MEAN_DIGITS = 2  # of a published mean length
SCHEMA = 1  # of provenance.json
NOT_IN_METADATA = "without metadata dropped"
OTHER = "not"
SUSPICIOUS = 0.5  # share of interactions whose loss for want of metadata is worth a warning


def compared(dataset: Dataset, published: Sequence[Published]) -> list[dict[str, Any]]:
    """One line a published figure: `what`, `published`, `here`, `difference` (here - published; 0 where the figure was
    rounded and ours rounds to it) and whose figure it is."""
    current = {"users": len(dataset.users), "items": len(dataset.items), "interactions": dataset.interactions}
    mean = dataset.interactions / max(len(dataset.users), 1)
    lines = []
    for entry in published:
        for message, actual in current.items():
            if (stated := getattr(entry, message)) is not None:
                unit = entry.rounded.get(message, 1)
                rounds = abs(actual - stated) <= unit / 2 if unit > 1 else actual == stated
                lines.append(_line(message, stated, actual, 0 if rounds else actual - stated, entry.source))
        if entry.mean_length is not None:
            actual = round(mean, MEAN_DIGITS)
            difference = round(actual - entry.mean_length, MEAN_DIGITS)
            lines.append(_line("mean length", entry.mean_length, actual, difference, entry.source))
    return lines


def _line(message: str, published: float, current: float, difference: float, source: str) -> dict[str, Any]:
    return {"what": message, "published": published, "here": current, "difference": difference, "source": source}


def ties(dataset: Dataset) -> dict[str, Any]:
    """Shares between 0 and 1: interactions with the timestamp of the one before them in their sequence, and test and
    validation items of which that is true (users with 3 or more interactions)."""
    assert dataset.timestamps is not None
    times, offsets = dataset.timestamps, dataset.sequences.offsets
    same = np.zeros(len(times), bool)
    same[1:] = times[1:] == times[:-1]
    same[offsets[:-1]] = False
    ends = offsets[1:][dataset.sequences.lengths >= 3]
    counted = {"interactions": same, "test_items": same[ends - 1], "validation_items": same[ends - 2]}
    return {name: round(float(result.mean()), 6) if len(result) else 0.0 for name, result in counted.items()}


@dataclass(frozen=True)
class Prepared:
    """The stored data set and its provenance; `fresh` is False if it was already stored."""

    kept: StoredDataset
    story: Mapping[str, Any]
    fresh: bool


@dataclass(frozen=True)
class Work:
    """How raw files are read: the progress reporter, the folder of saved rows until the data set is complete, and the
    tolerated share of wrong lines."""

    progress: Progress | None = None
    folder: Path | None = None
    reading: Reading = PLAIN

    def part(self, name: str) -> Path | None:
        """The folder of one file's rows."""
        return self.folder and self.folder / name


def prepare(request: Request, progress: Progress | None = None) -> Prepared:
    """Builds the data set, or returns the stored one of the same raw files; an interrupted build continues.

    Raises `InputError` for an unknown name, missing or broken raw files, files that do not belong together, and an
    empty result; no data set is written then.
    """
    data = resolve(request.name)
    settings = settings_of(data, request)
    name = name_of(data, request)
    entries = {kind: _file(data, kind, request.raw, progress) for kind in ("interactions", "metadata")}
    raw = [file.record() for file in entries.values()]
    made_of = {"settings": settings, "raw": raw, "checksums": _checksums(data, raw)}
    if not unfinished(name) and (previous := _before(name, made_of)) is not None:
        return previous
    with staging_dir(name, fingerprint(SCHEMA, made_of)) as folder:
        if (previous := _before(name, made_of)) is not None:
            return previous
        work = Work(progress, folder, Reading(bad_lines=request.bad_lines))
        dataset, fields = build(data, entries, settings, work)
        dataset = replace(dataset, name=name)
        story = {
            "schema": SCHEMA,
            "name": name,
            **made_of,
            **fields,
            "warnings": [*_others(made_of), *fields["warnings"]],
        }
        stored_dataset = save_dataset(dataset, story, licence=data.release.licence, description=data.title)
    return Prepared(stored_dataset, story, fresh=True)


def build(
    data: RawSet,
    entries: Mapping[str, RawFileHandle],
    settings: Mapping[str, Any],
    work: Work | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set from its two raw files, and what was done."""
    work = work or Work()
    log = read_log(entries["interactions"], data.release, work.progress, work.part("interactions"), work.reading)
    rows = _published_start(FilteredRows.of(log), data, settings["window"])
    metadata = _metadata(entries, data, rows, settings["text"], work)
    rows = _published_end(rows, data, metadata)
    _not_empty(rows, data, entries["interactions"])
    ordered = in_order(rows, settings["tie_seed"])
    _in_time(ordered, entries["interactions"])
    dataset = _dataset(data, ordered, metadata, rows.history)
    dataset = replace(dataset, notes=(settings["tie_rule"],))
    return dataset, _story(data, rows, metadata, dataset)


def _checksums(data: RawSet, raw: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """For each raw file whether its checksum is the published one. A difference is no error: it may be a newer file."""
    entries = {}
    for entry in raw:
        file, _, _ = str(entry["file"]).partition(":")
        checksum = data.release.known.get(file)
        if checksum is None:
            entries[file] = "held to nothing: none is known"
        else:
            same = entry["sha256"] == checksum.sha256
            entries[file] = (
                "the published one" if same else f"{OTHER} {checksum.sha256[:16]}…, that of the published file"
            )
    return entries


def _others(made_of: Mapping[str, Any]) -> list[str]:
    checksums: Mapping[str, str] = made_of["checksums"]
    return [f"{file}: its SHA-256 is {message}" for file, message in checksums.items() if message.startswith(OTHER)]


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


def _file(data: RawSet, kind: str, raw: Path | None, progress: Progress | None) -> RawFileHandle:
    return locate(data, kind, raw.expanduser()) if raw is not None else download(data, kind, progress)


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
    work: Work,
) -> Metadata:
    """Reads the metadata, with the texts of items that have enough interactions before the k-core."""
    log: RawLog = rows.log
    mask = rows.counts()[1] >= data.release.core
    requested_items = RequestedItems(log.items, mask, text)
    metadata = read_metadata(
        entries["metadata"], data.release, requested_items, work.progress, work.part("metadata"), work.reading
    )
    if not metadata.known.any():
        message = entries["interactions"].name
        swapped = " (its columns of users and items may have changed places, as in the release of 2014)"
        label = f"it describes none of the {len(log.items):,} items of {message}"
        users = RequestedItems(log.users, np.zeros(len(log.users), bool))
        swap = read_metadata(entries["metadata"], data.release, users, reading=work.reading)
        label += swapped if swap.known.any() else ""
        hint = "give two files of the same release and category"
        raise InputError(label, where=entries["metadata"].name, hint=hint, code="empty-data")
    return metadata


def _published_end(rows: FilteredRows, data: RawSet, metadata: Metadata) -> FilteredRows:
    if data.release.with_metadata:
        rows = rows.keep(metadata.known[rows.items], f"items {NOT_IN_METADATA}")
    return k_core(rows, data.release.core)


def _not_empty(rows: FilteredRows, data: RawSet, file_handle: RawFileHandle) -> None:
    if not len(rows.kept):
        remaining = ", ".join(f"{entry['interactions']:,} {entry['step']}" for entry in rows.history)
        message = f"nothing is left after the steps of {data.title} (interactions: {remaining})"
        hint = "give the whole public file"
        if any("outside the window" in str(entry["step"]) for entry in rows.history):
            reach = f"from {day(rows.log.times.min())} to {day(rows.log.times.max())}"
            hint += f", or another window with --since and --until (the file reaches {reach})"
        raise InputError(message, where=file_handle.name, hint=hint, code="empty-data")


def _in_time(ordered: Ordered, file_handle: RawFileHandle) -> None:
    """Raises `InputError` if timestamps never differ within a user: no tie rule gives an order in time then."""
    users = ordered.sequences.rows()
    if not ((users[1:] == users[:-1]) & (ordered.times[1:] != ordered.times[:-1])).any():
        message = "the timestamps never differ within any user: they state no order in time"
        hint = "give the file with the true times, as it was published"
        raise InputError(
            message,
            where=f"{file_handle.name} field {file_handle.spec.fields.get('time', 'time')!r}",
            hint=hint,
            code="no-time-order",
        )


def _warnings(rows: FilteredRows) -> list[str]:
    counts = {str(entry["step"]): int(entry["interactions"]) for entry in rows.history}
    steps = list(counts)
    for previous, step in pairwise(steps):
        dropped = 1 - counts[step] / max(counts[previous], 1)
        if step.endswith(NOT_IN_METADATA) and dropped > SUSPICIOUS:
            return [f"{dropped:.0%} of the interactions are with items without metadata: do the files belong together?"]
    return []


def _dataset(data: RawSet, ordered: Ordered, metadata: Metadata, history: Sequence[Mapping[str, Any]]) -> Dataset:
    values = [
        (f"{kind} of the raw file that the steps took away (see provenance.json)", history[0][kind] - history[-1][kind])
        for kind in ("users", "items")
    ]
    return Dataset(
        name=data.name,
        users=ordered.users,
        items=ordered.items,
        sequences=ordered.sequences,
        timestamps=ordered.times,
        text=tuple(metadata.texts.get(item, ItemText()) for item in ordered.items),
        source=f"{data.title}, prepared from its raw files",
        lost=tuple((reason, count) for reason, count in values if count),
    )


def _story(data: RawSet, rows: FilteredRows, metadata: Metadata, dataset: Dataset) -> dict[str, Any]:
    """The steps and their results, for `provenance.json`."""
    return {
        "title": data.title,
        "licence": data.release.licence,
        "homepage": data.release.homepage,
        "steps": rows.history,
        "warnings": [*rows.log.left_out, *metadata.left_out, *_warnings(rows)],
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
