"""`load_dataset`: loads the data set that `-d` names."""

from __future__ import annotations

from pathlib import Path

from harness.data.catalog import catalogue_entries, catalogue_entry
from harness.data.dataset import Dataset, filtered
from harness.data.names import safe_name
from harness.data.readers.folder import check_order, read_file, read_folder
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
