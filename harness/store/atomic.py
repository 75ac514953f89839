"""What the store writes with: `harness.core.files`, with the mend for a results folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from harness.core import files

MEND = "free some space, or choose another folder with --results"


def writing(path: Path) -> AbstractContextManager[None]:
    """Turns what the operating system says of an unwritable folder or a full disk into an `InputError`."""
    return files.writing(path, MEND)


def write_atomic(path: Path, fill: Callable[[Path], object]) -> None:
    """`fill` writes a temporary file beside `path`, which then takes its place in one step. Raises `InputError`."""
    files.write_whole(path, fill, MEND)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8, whole or not at all."""
    files.write_text(path, text, MEND)
