"""Atomic file writes that survive a crash or power loss; operating system errors become `InputError`.

A file is written to a temporary name in the same folder, flushed, renamed, and the folder is flushed. A killed writer
leaves a hidden `.NAME.….tmp`, which `remove_stale_temp_files` deletes.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path

from harness.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

DEAD = 0.1  # minimal age in seconds of another writer's temporary file, if there is no lock
CACHE_HINT = "free some space, or set HARNESS_HOME to another folder; the same command continues"
RESULTS_HINT = "free some space, or choose another folder with --results"


@contextmanager
def translate_os_errors(path: Path, hint: str = CACHE_HINT) -> Iterator[None]:
    """Turns the operating system's error for an unwritable folder or a full disk into an `InputError`, also if a
    library wraps it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        message = next(
            (os.strerror(code) for code in (*NO_ROOM, errno.EACCES) if os.strerror(code) in str(error)), None
        )
        if message is None and not isinstance(error, OSError):
            raise
        label = message or getattr(error, "strerror", None) or error  # Arrow's message is a sentence
        raise InputError(f"cannot write: {label}", where=path, hint=hint, code="cannot-write") from error


def write_atomic(path: Path, fill: Callable[[Path], object], hint: str = CACHE_HINT) -> None:
    """`fill` writes a temporary file, which then replaces `path` atomically and durably. Creates the folder.

    Raises `InputError`; the old file is unchanged then.
    """
    temporary = temporary_name(path)
    try:
        with translate_os_errors(path, hint):
            path.parent.mkdir(parents=True, exist_ok=True)
            fill(temporary)
            sync(temporary)
            _without_dead(temporary, path)
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A unique hidden name in the folder of `path`, with the process id."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _without_dead(current: Path, path: Path) -> None:
    """Removes temporary files of killed writers of `path`: older than `own` by more than `DEAD` seconds of the file
    system's clock, of a process that does not run. A file with this process's id is of another container."""
    for other in path.parent.glob(f".{escape(path.name)}.*-*.tmp"):
        with suppress(OSError, ValueError):
            if other != current and current.stat().st_mtime - other.stat().st_mtime > DEAD:
                from psutil import pid_exists

                writer = int(other.name.removeprefix(f".{path.name}.").partition("-")[0])
                if writer == os.getpid() or not pid_exists(writer):
                    other.unlink()


def write_text(path: Path, text: str, hint: str = CACHE_HINT) -> None:
    """Writes `text` as UTF-8, atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), hint)


def sync(path: Path) -> None:
    """Flushes a file to disk. The handle is writable: Windows does not flush read-only handles."""
    with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes the entries of a folder, if the system supports it."""
    with suppress(OSError):  # Windows and some network file systems cannot open folders
        lock = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(lock)
        finally:
            os.close(lock)


def sync_tree(folder: Path) -> None:
    """`sync` of every file below a folder, and of the folders."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(Path(place, name))
        sync_folder(Path(place))


def remove_stale_temp_files(folder: Path, name: str = "*") -> None:
    """Removes temporary files of `name` (a glob pattern) in a folder. The caller holds the lock of all writers."""
    for path in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):
            path.unlink()


# The same with the hint for a results folder.
writing_results = partial(translate_os_errors, hint=RESULTS_HINT)
write_result_file = partial(write_atomic, hint=RESULTS_HINT)
write_result_text = partial(write_text, hint=RESULTS_HINT)
