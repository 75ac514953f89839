"""Exports a data set to another layout: lists what the layout cannot hold, and reads the result back.

It is written to a temporary folder and moved into place. `harness.data.readers` reads the same layouts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.core.files import sync_folder, sync_tree
from harness.data.dataset import Dataset, Order
from harness.data.readers.folder import read_folder
from harness.data.writers import LAYOUTS, WITH_REVIEWS
from harness.errors import InputError, unknown_name


@dataclass(frozen=True)
class Exported:
    """Result of an export. `exact`: reading it back gives the same fingerprint. `lost`: what the layout cannot hold;
    `order`: value of `--order` for reading it back."""

    folder: Path
    layout: str
    exact: bool
    dropped: tuple[str, ...]
    order: Order


def export(dataset: Dataset, layout: str, folder: Path) -> Exported:
    """Writes `dataset` to `folder`, which must be new or empty. `layout` is one of `LAYOUTS`.

    Raises `InputError` for an unknown layout, a folder that is not empty, ids that the layout cannot hold, and disk
    errors; the folder is unchanged then.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS, where="--layout")
    with new_folder(folder) as path:
        names = tuple(LAYOUTS[layout](dataset, path))
        if dataset.reviews and layout not in WITH_REVIEWS:
            names = (*names, f"reviews: only {' and '.join(WITH_REVIEWS)} have a place for them")
        if dataset.index_file is not None and layout != "lcrec":
            names = (*names, "the ready-made item index: only lcrec has a place for it")
        order: Order = "time" if layout == "lcrec" else dataset.order
        current_dataset = read_folder(path, order)
    return Exported(folder, layout, current_dataset.fingerprint == dataset.fingerprint, names, order)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces `folder` after the block. Raises `InputError` if `folder` is not empty, and for
    disk errors; nothing is left then."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "there is something already", where=str(folder), hint="choose a new or empty folder", code="already-exists"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield path
            path.chmod(0o755)
            sync_tree(path)
            path.replace(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        hint = "free some space, or choose another folder"
        raise InputError(
            f"cannot write: {error.strerror or error}", where=str(folder), hint=hint, code="cannot-write"
        ) from error
