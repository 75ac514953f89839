"""From public raw files to a data set of this machine: the published order of steps, told step by step.

Read the interactions, drop repeats of a user's item, drop items without metadata, 5-core by joint passes, order in time
by a written tie rule, ids by first appearance; then the text of the items that stay. What each release wants is in
`releases.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset, ItemText
from harness.data.download import Progress
from harness.data.library import Kept, find, keep, load, making, provenance, unfinished
from harness.data.raw.catalogue import RawSet, resolve
from harness.data.raw.compare import compared, ties
from harness.data.raw.files import Found, download, locate
from harness.data.raw.log import RawLog, instant, read_log
from harness.data.raw.metadata import Metadata, Wanted, read_metadata
from harness.data.raw.steps import FILE_RULE, HASH_RULE, Ordered, Rows, first_of_each, in_order, k_core
from harness.data.raw.text import TextMode
from harness.errors import InputError
from harness.fingerprint import fingerprint

RULES = 1  # of the steps below: bumped, with a dated line here, by whatever can change their result
SCHEMA = 1  # of provenance.json
NOT_IN_METADATA = "without metadata dropped"
OTHER = "not"
SUSPICIOUS = 0.5  # share of interactions whose loss for want of metadata is worth a warning


@dataclass(frozen=True)
class Request:
    """What the user asked for. `tie_seed` None: the release's own tie rule."""

    name: str
    raw: Path | None = None
    tie_seed: int | None = None
    text: TextMode = "clean"


@dataclass(frozen=True)
class Prepared:
    """The data set on this machine and its story; `fresh` is False where it was there already."""

    kept: Kept
    story: Mapping[str, Any]
    fresh: bool


def prepare(request: Request, progress: Progress | None = None) -> Prepared:
    """Builds the data set, or finds that the same raw files gave it before; goes on where a killed one was.

    Raises `InputError` for an unknown name, missing or broken raw files, files that do not belong together, and an
    empty result; no data set is written then.
    """
    data = resolve(request.name)
    settings = settings_of(data, request)
    name = _name(data, request)
    found = {kind: _file(data, kind, request.raw, progress) for kind in ("interactions", "metadata")}
    raw = [file.record() for file in found.values()]
    made_of = {"settings": settings, "raw": raw, "checksums": _checksums(data, raw)}
    if not unfinished(name) and (before := _before(name, made_of)) is not None:
        return before
    with making(name, fingerprint(SCHEMA, made_of)) as folder:
        if (before := _before(name, made_of)) is not None:
            return before
        dataset, told = build(data, found, settings, progress, folder)
        dataset = replace(dataset, name=name)
        story = {"schema": SCHEMA, "name": name, **made_of, **told, "warnings": [*_others(made_of), *told["warnings"]]}
        kept = keep(dataset, story, licence=data.release.licence, description=data.title)
    return Prepared(kept, story, fresh=True)


def build(
    data: RawSet,
    found: Mapping[str, Found],
    settings: Mapping[str, Any],
    progress: Progress | None = None,
    folder: Path | None = None,
) -> tuple[Dataset, dict[str, Any]]:
    """The data set from its two raw files, and what was done; what is read is kept in `folder` until then."""
    log = read_log(found["interactions"], data.release, progress, folder and folder / "interactions")
    rows = _published_start(Rows.of(log), data)
    metadata = _metadata(found, data, rows, settings["text"], progress, folder and folder / "metadata")
    rows = _published_end(rows, data, metadata)
    _not_empty(rows, data, found["interactions"])
    ordered = in_order(rows, settings["tie_seed"])
    _in_time(ordered, found["interactions"])
    dataset = _dataset(data, ordered, metadata, rows.history)
    dataset = replace(dataset, notes=(settings["tie_rule"],))
    return dataset, _story(data, rows, metadata, dataset)


def _checksums(data: RawSet, raw: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of each raw file, in words, whether it is the published one. Another one is no error: it may be a newer one."""
    found = {}
    for entry in raw:
        file, _, _ = str(entry["file"]).partition(":")
        known = data.release.known.get(file)
        if known is None:
            found[file] = "held to nothing: none is known"
        else:
            same = entry["sha256"] == known.sha256
            found[file] = "the published one" if same else f"{OTHER} {known.sha256[:16]}…, that of the published file"
    return found


def _others(made_of: Mapping[str, Any]) -> list[str]:
    checksums: Mapping[str, str] = made_of["checksums"]
    return [f"{file}: its SHA-256 is {said}" for file, said in checksums.items() if said.startswith(OTHER)]


def _before(name: str, made_of: Mapping[str, Any]) -> Prepared | None:
    """What the same raw files and settings gave before, if it is still whole."""
    try:
        entry, told = find(name), provenance(name)
        if entry is None or told is None or any(told.get(key) != value for key, value in made_of.items()):
            return None
        load(name)
    except InputError:
        return None
    return Prepared(entry, told, fresh=False)


def settings_of(data: RawSet, request: Request) -> dict[str, Any]:
    """Everything besides the raw files that decides the result: the release's steps, the tie rule, the text."""
    release = data.release
    seed = request.tie_seed if request.tie_seed is not None else (0 if release.ties == "hash" else None)
    return {
        "rules": RULES,
        "release": release.key,
        "category": data.category,
        "dedupe": release.dedupe,
        "with_metadata": release.with_metadata,
        "core": release.core,
        "rating_above": release.rating_above,
        "window": list(release.window) if release.window else None,
        "tie_seed": seed,
        "tie_rule": FILE_RULE if seed is None else HASH_RULE.format(seed=seed),
        "text": request.text,
    }


def _name(data: RawSet, request: Request) -> str:
    """Another tie order or another text is another data set, with a name that says so."""
    own = 0 if data.release.ties == "hash" else None
    tied = "" if request.tie_seed in (None, own) else f"-tie{request.tie_seed}"
    return f"{data.name}{tied}{'' if request.text == 'clean' else f'-{request.text}'}"


def _file(data: RawSet, kind: str, raw: Path | None, progress: Progress | None) -> Found:
    return locate(data, kind, raw.expanduser()) if raw is not None else download(data, kind, progress)


def _published_start(rows: Rows, data: RawSet) -> Rows:
    """What needs no metadata: the release's window and ratings, then repeats."""
    log, release = rows.log, data.release
    if release.window is not None:
        first, last = map(instant, release.window)
        rows = rows.keep((log.times[rows.kept] >= first) & (log.times[rows.kept] <= last), "outside the window dropped")
    if release.rating_above is not None:
        step = f"rated {release.rating_above:g} or less dropped"
        rows = rows.keep(log.ratings[rows.kept] > release.rating_above, step)
    if release.dedupe:
        rows = rows.keep(first_of_each(log, rows.kept), "repeats of a user's item dropped (the first stays)")
    return rows


def _metadata(
    found: Mapping[str, Found],
    data: RawSet,
    rows: Rows,
    text: TextMode,
    progress: Progress | None,
    kept: Path | None,
) -> Metadata:
    """Reads it, with the texts of the items that may survive: those with enough interactions before the k-core."""
    log: RawLog = rows.log
    wanted = rows.counts()[1] >= data.release.core
    metadata = read_metadata(found["metadata"], data.release, Wanted(log.items, wanted, text), progress, kept)
    if not metadata.known.any():
        said = found["interactions"].name
        swapped = " (its columns of users and items may have changed places, as in the release of 2014)"
        what = f"it describes none of the {len(log.items):,} items of {said}"
        users = Wanted(log.users, np.zeros(len(log.users), bool))
        what += swapped if read_metadata(found["metadata"], data.release, users).known.any() else ""
        mend = "give two files of the same release and category"
        raise InputError(what, where=found["metadata"].name, mend=mend)
    return metadata


def _published_end(rows: Rows, data: RawSet, metadata: Metadata) -> Rows:
    if data.release.with_metadata:
        rows = rows.keep(metadata.known[rows.items], f"items {NOT_IN_METADATA}")
    return k_core(rows, data.release.core)


def _not_empty(rows: Rows, data: RawSet, found: Found) -> None:
    if not len(rows.kept):
        left = ", ".join(f"{entry['interactions']:,} {entry['step']}" for entry in rows.history)
        what = f"nothing is left after the steps of {data.title} (interactions: {left})"
        raise InputError(what, where=found.name, mend="give the whole public file")


def _in_time(ordered: Ordered, found: Found) -> None:
    """Refuses timestamps that never differ within a user: no tie rule makes an order in time of them."""
    users = ordered.sequences.rows()
    if not ((users[1:] == users[:-1]) & (ordered.times[1:] != ordered.times[:-1])).any():
        what = "the timestamps never differ within any user: they state no order in time"
        mend = "give the file with the true times, as it was published"
        raise InputError(what, where=f"{found.name} field {found.spec.fields.get('time', 'time')!r}", mend=mend)


def _warnings(rows: Rows) -> list[str]:
    counts = {str(entry["step"]): int(entry["interactions"]) for entry in rows.history}
    steps = list(counts)
    for before, step in pairwise(steps):
        lost = 1 - counts[step] / max(counts[before], 1)
        if step.endswith(NOT_IN_METADATA) and lost > SUSPICIOUS:
            return [f"{lost:.0%} of the interactions are with items without metadata: do the files belong together?"]
    return []


def _dataset(data: RawSet, ordered: Ordered, metadata: Metadata, history: Sequence[Mapping[str, Any]]) -> Dataset:
    lost = [
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
        lost=tuple((reason, count) for reason, count in lost if count),
    )


def _story(data: RawSet, rows: Rows, metadata: Metadata, dataset: Dataset) -> dict[str, Any]:
    """What was done and what came of it, for `provenance.json`."""
    return {
        "title": data.title,
        "licence": data.release.licence,
        "homepage": data.release.homepage,
        "steps": rows.history,
        "warnings": _warnings(rows),
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
