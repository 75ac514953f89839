"""`acquire_lock`: one process at a time, also over machines that share a folder; dead holders lose it.

Two locks are taken. The kernel's (`flock`) is freed when its holder dies, and works over NFS where locking is on; with
`nolock` it reaches one machine only. The lease is a file that its holder touches: a process on the same machine sees at
once that the holder is dead, one on another machine after `LEASE` seconds without a touch by its own clock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.files import CACHE_HINT, temporary_name, translate_os_errors

GRACE = 2.0  # seconds after which a lease without content is that of a holder killed before it wrote its name
LEASE = 60.0  # seconds without a touch after which another machine's holder counts as dead
LEASED = ".lease"
LONGEST = 4096  # bytes of a lease
BOOT = Path("/proc/sys/kernel/random/boot_id")
NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # how a file system says that it has no locks
RETRYABLE_ERRNOS = (errno.EPERM, errno.ESTALE)  # how SFTP and NFS say that somebody else was first
TRIES, PAUSE = 20, 0.05  # of what may be haste, and seconds between two


@dataclass
class LockHandle:
    """A lock that is held. `lost` where another machine has taken it over, because this process stood still for longer
    than the lease: what it guards must not be written any more."""

    lost: bool = False


def _unheard() -> None:
    pass


@contextmanager
def acquire_lock(path: Path, waiting: Callable[[], None] = _unheard, hint: str = CACHE_HINT) -> Iterator[LockHandle]:
    """Holds the lock `path` (and `path` with `.lease`) for the block; calls `waiting` first where another process does.

    Raises `InputError` where the folder cannot be written.
    """
    from filelock import FileLock, SoftFileLease

    hold = LockHandle()

    def compromised(_: object) -> None:
        hold.lost = True

    with translate_os_errors(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(path, fallback_to_soft=False)
    lease = SoftFileLease(path.with_name(f"{path.name}{LEASED}"), lease_duration=LEASE, on_compromise=compromised)
    try:
        with translate_os_errors(path, hint):
            is_reported = _acquired(own, waiting, None, is_reported=False)
            _acquired(
                lease,
                waiting,
                StaleLeaseReaper(Path(lease.lock_file), path if own.is_locked else None),
                is_reported=is_reported,
            )
            if own.is_locked:
                _sign(path, lease.token)
        yield hold
    finally:
        lease.release()
        own.release()


def is_locked(path: Path) -> bool:
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


def _acquired(lock: Any, waiting: Callable[[], None], watch: StaleLeaseReaper | None, *, is_reported: bool) -> bool:
    """Waits for one lock; whether `waiting` has been called by now."""
    from filelock import Timeout

    timeout, refused = 0.0, 0
    while True:
        try:
            lock.acquire(timeout=timeout)
            return is_reported
        except Timeout:
            if watch is not None and watch.dead():
                watch.remove()
            elif not is_reported:
                waiting()
                is_reported = True
            timeout = GRACE
        except OSError as error:
            if error.errno in NO_FLOCK:
                return is_reported
            refused += 1
            if error.errno not in RETRYABLE_ERRNOS or refused > TRIES:
                raise
            time.sleep(PAUSE)


@dataclass
class StaleLeaseReaper:
    """Looks after a lease that another holds. filelock takes over a dead holder's by exchanging two names, which NFS,
    SMB and many FUSE file systems refuse, and then waits for ever; so it does with one that has no content.

    `held` is the kernel's lock beside it where this process has that; None where the file system knows no locks.
    """

    lease: Path
    held: Path | None
    _seen: tuple[int, int, bytes] | None = None
    _since: float = 0.0

    def dead(self) -> bool:
        """Whether its holder is known to be dead by now; to be asked again and again."""
        now = self._look()
        if now is None:
            return False
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        content, unchanged = now[2], time.monotonic() - self._since
        if self.held is not None and (token := _signed(self.held)) is not None and token in content:
            return True  # it had the kernel's lock by this very kernel, and has it no more
        return unchanged >= (LEASE + GRACE if content else GRACE)

    def remove(self) -> None:
        """Takes the lease away that was found dead, and no other: one that has come meanwhile is put back."""
        path = temporary_name(self.lease)
        with suppress(OSError):
            os.replace(self.lease, path)
            status = path.stat()
            if self._seen is not None and (status.st_ino, status.st_mtime_ns) != self._seen[:2]:
                os.link(path, self.lease)
            path.unlink()

    def _look(self) -> tuple[int, int, bytes] | None:
        try:
            with self.lease.open("rb") as file:  # opening makes a network file system ask its server
                status = os.fstat(file.fileno())
                return status.st_ino, status.st_mtime_ns, file.read(LONGEST)
        except OSError:
            return None


def _sign(path: Path, token: str | None) -> None:
    """Leaves in the kernel's lock which lease was taken with it, and by which kernel and mount: a later holder there
    knows by it that the lease is a dead one's."""
    with suppress(OSError):
        if (current := _mount(path)) is not None and token is not None:
            path.write_text(f"{current}\n{token}\n", encoding="ascii")


def _signed(path: Path) -> bytes | None:
    """The lease that the last holder took by this kernel and mount; None where it was another's, or none says so."""
    try:
        current, _, token = path.read_text(encoding="ascii").partition("\n")
        return token.strip().encode() or None if current == _mount(path) else None
    except (OSError, ValueError):
        return None


def _mount(path: Path) -> str | None:
    """One name for each mount of each running kernel, as far as its locks reach; None where the system has none."""
    try:
        return f"{BOOT.read_text(encoding='ascii').strip()} {path.stat().st_dev}"
    except (OSError, ValueError):
        return None
