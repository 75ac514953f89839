"""How a file is written: whole or not at all, also where the machine loses power, with a clear line where the disk
refuses.

A file is filled beside its place, flushed to the disk and moved there in one step; then the folder's entry is flushed
too. A writer that dies leaves a hidden `.NAME.….tmp`, which nobody reads; `sweep` takes such files away. What is in a
file is the caller's business, and so is the mend for a disk that refuses.

What the store writes with: `harness.core.files`, with the mend for a results folder.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from glob import escape
from pathlib import Path

from harness.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


DEAD = 0.1  # seconds; a writer on another machine, where there is no lock, has at least so long


CACHE_HINT = "free some space, or set HARNESS_HOME to another folder; the same command continues"


@contextmanager
def translate_os_errors(path: Path, hint: str = CACHE_HINT) -> Iterator[None]:
    """Turns what the operating system says of an unwritable folder or a full disk into an `InputError`, also where a
    library has put it into its own words."""
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
        label = message or getattr(error, "strerror", None) or error  # Arrow says a whole sentence
        raise InputError(f"cannot write: {label}", where=str(path), hint=hint, code="cannot-write") from error


def write_atomic(path: Path, fill: Callable[[Path], object], hint: str = CACHE_HINT) -> None:
    """`fill` writes a temporary file beside `path`, which then takes its place in one step, for good once this returns.

    The folder is made where it is missing. Raises `InputError`; the old file is left as it was then.
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
    """A hidden name beside `path` that nobody else takes, with the process that does."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _without_dead(own: Path, path: Path) -> None:
    """Removes what writers of `path` that were killed have left: older than `own` by more than `DEAD` seconds of the
    file system's clock, and of a process that is not here. One with this process's number is none of its own: in a
    container every writer may have the same."""
    for other in path.parent.glob(f".{escape(path.name)}.*-*.tmp"):
        with suppress(OSError, ValueError):
            if other != own and own.stat().st_mtime - other.stat().st_mtime > DEAD:
                from psutil import pid_exists

                writer = int(other.name.removeprefix(f".{path.name}.").partition("-")[0])
                if writer == os.getpid() or not pid_exists(writer):
                    other.unlink()


def write_text(path: Path, text: str, hint: str = CACHE_HINT) -> None:
    """`text` as UTF-8, whole or not at all."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), hint)


def sync(path: Path) -> None:
    """Flushes the content of a file to the disk. Writable handle: Windows refuses to flush a read-only one."""
    with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on the disk, where the system can say so."""
    with suppress(OSError):  # Windows and some network file systems open no folder
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
    """Removes what writers of `name` (a glob pattern) that died have left in a folder; for who holds the lock that all
    its writers take."""
    for path in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):
            path.unlink()


RESULTS_HINT = "free some space, or choose another folder with --results"


def writing_results(path: Path) -> AbstractContextManager[None]:
    """Turns what the operating system says of an unwritable folder or a full disk into an `InputError`."""
    return translate_os_errors(path, RESULTS_HINT)


def write_result_file(path: Path, fill: Callable[[Path], object]) -> None:
    """`fill` writes a temporary file beside `path`, which then takes its place in one step. Raises `InputError`."""
    write_atomic(path, fill, RESULTS_HINT)


def write_result_text(path: Path, text: str) -> None:
    """`text` as UTF-8, whole or not at all."""
    write_text(path, text, RESULTS_HINT)
