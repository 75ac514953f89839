"""`load_dataset` loads the data set that `-d` names; `harness data import` stores a folder in any supported layout as a
named data set of this machine.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.data import local_store
from harness.data.catalog import catalogue_entries, catalogue_entry
from harness.data.dataset import Dataset, filtered
from harness.data.names import safe_name
from harness.data.ragged import RaggedArray
from harness.data.raw.filters import HASH_RULE, tie_keys
from harness.data.raw.releases import named_sets
from harness.data.readers.folder import check_order, read_file, read_folder
from harness.data.readers.interactions import TIE_RULE
from harness.data.reading import Reading
from harness.errors import InputError


def load_dataset(name_or_path: str, order: str = "time", reading: Reading | None = None) -> Dataset:
    """A registered name, else a folder or file in a supported layout. With `order="file"` the lines of files define the
    order, not their timestamps; `reading` selects columns and rows.

    Raises `InputError` for an unknown name (with similar names), an unknown layout, or invalid files.
    """
    by, reading = check_order(order), reading or Reading()
    path = Path(name_or_path).expanduser()
    registered = catalogue_entries()
    if (
        entry := registered.get(name_or_path) or (None if path.exists() else registered.get(safe_name(name_or_path)))
    ) is not None:
        if by == "file" or reading.of_files:
            option = "--order file" if by == "file" else reading.options()[0]
            has_value = "order" if by == "file" else "columns"
            message = f"{option} is for folders and files: a registered data set has its {has_value} already"
            raise InputError(
                message, where=name_or_path, hint=f"leave {option} out, or give the folder", code="conflicting-options"
            )
        return filtered(entry.load(), reading)
    if name_or_path and path.is_dir():  # "" would be the working directory
        return read_folder(path, by, reading)
    if name_or_path and path.exists():
        return read_file(path, by, reading)
    if "/" in name_or_path or "\\" in name_or_path:
        raise InputError(
            "no such folder", where=name_or_path, hint="check the path, or see harness datasets", code="missing-file"
        )
    return filtered(catalogue_entry(name_or_path).load(), reading)  # raises with similar names


def import_folder(
    folder: Path,
    name: str,
    order: str = "time",
    reading: Reading | None = None,
    *,
    tie_seed: int | None = None,
    repeat: bool = False,
) -> tuple[local_store.StoredDataset, Dataset]:
    """Reads a folder or file and stores its content under `name`; the source is not needed afterwards. `tie_seed`
    orders equal timestamps by a hash instead of by line.

    A name that is not valid as a folder of results is converted (`safe_name`). Equal content under the same name is
    reused; other content needs `repeat`. The name of a public data set is for data with its published numbers of users,
    items and interactions. Raises `InputError` for an invalid or used name, and errors of the readers.
    """
    if not name.strip() or "/" in name or "\\" in name:
        hint = "use letters, digits, blanks and . _ + @ -"
        raise InputError(f"{name!r} is no name for a data set", where="--name", hint=hint, code="bad-setting")
    name = safe_name(name)
    stored_dataset = local_store.find(name)
    if stored_dataset is None and name in catalogue_entries() and name not in named_sets():
        raise InputError(
            f"{name!r} is a registered data set already",
            where="--name",
            hint="choose another name",
            code="already-exists",
        )
    place = folder.expanduser()
    if not place.exists():
        raise InputError("no such folder or file", where=str(folder), hint="check the path", code="missing-file")
    current_dataset = (read_folder if place.is_dir() else read_file)(place, check_order(order), reading)
    current_dataset = current_dataset if tie_seed is None else reorder_ties(current_dataset, tie_seed)
    if stored_dataset is None:
        _check_published_counts(name, current_dataset)
    dataset = replace(
        current_dataset,
        name=name,
        notes=(*current_dataset.notes, f"imported from {current_dataset.name} ({current_dataset.source})"),
    )
    if stored_dataset is not None and stored_dataset.fingerprint != dataset.fingerprint and not repeat:
        raise InputError(
            f"{name!r} is kept already, with another content ({stored_dataset.fingerprint}, not {dataset.fingerprint})",
            where="--name",
            hint="choose another name, or say --replace",
            code="already-exists",
        )
    story = {
        "made_by": "harness data import",
        "files": sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else [place.name],
        "reading": (reading or Reading()).document(),
        "source": current_dataset.source,
        "order": dataset.order,
        "tie_seed": tie_seed,
        "fingerprint": dataset.fingerprint,
        "lost": dict(dataset.lost),
        "notes": list(dataset.notes),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return local_store.save_dataset(
        dataset, story, licence="as its owner says", description=f"imported, {current_dataset.source}"
    ), dataset


def _check_published_counts(name: str, dataset: Dataset) -> None:
    """Raises `InputError` if `name` is a public data set and none of its published counts are those of `dataset`."""
    if name not in named_sets():
        return
    counts = (len(dataset.users), len(dataset.items), dataset.interactions)
    published = [(entry.users, entry.items, entry.interactions) for entry in named_sets()[name].published]
    if counts not in published:
        known = " or ".join(
            f"{users:,}, {items:,}, {rows:,}" for users, items, rows in published if users and items and rows
        )
        raise InputError(
            f"{name!r} is a public data set with {known or 'an unpublished number of'} users, items and interactions; "
            f"these are {counts[0]:,}, {counts[1]:,} and {counts[2]:,}",
            where="--name",
            hint="choose another name",
            code="already-exists",
        )


def reorder_ties(dataset: Dataset, seed: int) -> Dataset:
    """The data set with equal timestamps of a user ordered by a hash, as in `harness data prepare`; ids are unchanged.
    Raises `InputError` without timestamps."""
    if dataset.timestamps is None:
        message = "there are no timestamps, so nothing is tied"
        raise InputError(
            message, where="--tie-seed", hint="leave it out, or give data with timestamps", code="conflicting-options"
        )
    rows, values = dataset.sequences.rows(), dataset.sequences.values
    keys = tie_keys(dataset.users, dataset.items, seed, rows, values)
    order = np.lexsort((keys, dataset.timestamps, rows))
    notes = (HASH_RULE.format(seed=seed), *(note for note in dataset.notes if note != TIE_RULE))
    sequences = RaggedArray(values[order], dataset.sequences.offsets)
    return replace(dataset, sequences=sequences, timestamps=dataset.timestamps[order], notes=notes)
