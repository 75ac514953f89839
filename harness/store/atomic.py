"""How the store writes a file: whole or not at all, and a clear line where the disk refuses.

Owns the temporary file, the flush to the disk and the rename. What is in the file is the caller's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import InputError

MEND = "free some space, or choose another folder with --results"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the operating system says of an unwritable folder or a full disk into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror or error}", where=str(path), mend=MEND) from error


def write_atomic(path: Path, fill: Callable[[Path], None]) -> None:
    """`fill` writes a temporary file beside `path`, which then takes its place in one step. Raises `InputError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            fill(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8, whole or not at all."""
    write_atomic(path, lambda temporary: _put(temporary, text))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
