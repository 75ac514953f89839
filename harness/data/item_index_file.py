"""The optional item index of a data set (`NAME.index.json`), which is copied with it and not interpreted here."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.data.download import sha256_of
from harness.errors import InputError

ENDING = ".index.json"
PROVENANCE = ".provenance.json"  # of the file beside it: which interactions it was made from


def beside(folder: Path, name: str) -> Path | None:
    """The index of the data set `name` in a folder, None where there is none."""
    path = folder / f"{name}{ENDING}"
    return path if path.is_file() else None


def hashes(path: Path) -> list[str]:
    """SHA-256 of the index and of its provenance, where it has one."""
    return [sha256_of(file) for file in (path, _provenance(path)) if file.is_file()]


def copied(path: Path, folder: Path, name: str) -> None:
    """Puts the index, and the provenance beside it if it has one, into a folder as that of the data set `name`.

    Raises `InputError` where the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), hint="check the path", code="unreadable-file"
        ) from error
    target = folder / f"{name}{ENDING}"
    target.write_bytes(content)
    if _provenance(path).is_file():
        shutil.copyfile(_provenance(path), _provenance(target))


def _provenance(path: Path) -> Path:
    return path.with_name(path.name + PROVENANCE)
