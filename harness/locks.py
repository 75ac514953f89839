"""`holding`: one process at a time, also over machines that share a folder; a dead holder's lock is recognised.

Two locks at once, because neither is enough alone. The kernel's (`flock`) is freed at the very moment at which its
holder dies, and works over NFS where locking is on; a mount with `nolock` keeps it on one machine. The lease beside it
is a file that its holder touches: another process on the same machine sees at once that the holder is dead, one on
another machine after `LEASE` seconds without a touch by its own clock, so that clocks that differ do no harm.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import CACHE_MEND, writing

GRACE = 2.0  # seconds after which a lease without content is that of a holder killed before it wrote its name
LEASE = 60.0  # seconds without a touch after which another machine's holder counts as dead
LEASED = ".lease"
NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # how a file system says that it has no locks


@dataclass
class Hold:
    """A lock that is held. `lost` where another machine has taken it over, because this process stood still for longer
    than the lease: what it guards must not be written any more."""

    lost: bool = False


def _unheard() -> None:
    pass


@contextmanager
def holding(path: Path, waiting: Callable[[], None] = _unheard, mend: str = CACHE_MEND) -> Iterator[Hold]:
    """Holds the lock `path` (and `path` with `.lease`) for the block; calls `waiting` first where another process does.

    Raises `InputError` where the folder cannot be written.
    """
    from filelock import FileLock, SoftFileLease

    hold = Hold()

    def compromised(_: object) -> None:
        hold.lost = True

    with writing(path, mend):
        path.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(path, fallback_to_soft=False)
    lease = SoftFileLease(path.with_name(f"{path.name}{LEASED}"), lease_duration=LEASE, on_compromise=compromised)
    try:
        with writing(path, mend):
            told = _acquired(own, waiting, told=False)
            _acquired(lease, waiting, told=told)
        yield hold
    finally:
        lease.release()
        own.release()


def held(path: Path) -> bool:
    """Whether a process holds the lock `path` right now, as far as the kernel knows; asked without waiting for it."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _acquired(lock: Any, waiting: Callable[[], None], *, told: bool) -> bool:
    """Waits for one lock; whether `waiting` has been called by now."""
    from filelock import Timeout

    timeout, seen = 0.0, None
    while True:
        try:
            lock.acquire(timeout=timeout)
            return told
        except Timeout:
            if not told:
                waiting()
            told, timeout = True, GRACE
            seen = _without_nameless(Path(lock.lock_file), seen) if lock.lock_file.endswith(LEASED) else None
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            return told


def _without_nameless(lease: Path, seen: tuple[int, int] | None) -> tuple[int, int] | None:
    """Removes a lease that has had no content since it was `seen`, a while ago: filelock takes it for that of a living
    holder for ever. Gives what is seen now."""
    try:
        found = lease.stat()
    except OSError:
        return None
    now = (found.st_ino, found.st_mtime_ns) if not found.st_size else None
    if now is not None and now == seen:
        lease.unlink(missing_ok=True)
    return now
