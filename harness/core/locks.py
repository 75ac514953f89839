"""`acquire_lock`: mutual exclusion of processes, also on machines that share a folder; dead holders lose the lock.

Two locks are taken. The kernel's (`flock`) is released when its holder dies, and works over NFS if locking is enabled;
with `nolock` it covers one machine only. The lease is a file that its holder touches: a process on the same machine
sees at once that the holder is dead, one on another machine after `LEASE` seconds without a touch by its own clock.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.core.files import CACHE_HINT, temporary_name, translate_os_errors

GRACE = 2.0  # seconds after which an empty lease counts as that of a killed holder
LEASE = 60.0  # seconds without a touch after which a holder on another machine counts as dead
LEASED = ".lease"
MAX_LEASE_BYTES = 4096  # bytes of a lease
BOOT = Path("/proc/sys/kernel/random/boot_id")
NO_FLOCK = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # errors of file systems without locks
RETRYABLE_ERRNOS = (errno.EPERM, errno.ESTALE)  # errors of SFTP and NFS if another process was first
TRIES, PAUSE = 20, 0.05  # attempts for retryable errors, and seconds between them


@dataclass
class LockHandle:
    """A held lock. `lost`: another machine has taken it over, because this process was suspended for longer than the
    lease; then the protected files must not be written."""

    lost: bool = False


@contextmanager
def acquire_lock(
    path: Path, waiting: Callable[[], None] = lambda: None, hint: str = CACHE_HINT
) -> Iterator[LockHandle]:
    """Holds the lock `path` (and `path` with `.lease`) for the block. Calls `waiting` once if another process holds it.

    Raises `InputError` if the folder is not writable.
    """
    from filelock import FileLock, SoftFileLease

    handle, report = LockHandle(), cache(waiting)

    def compromised(_: object) -> None:
        handle.lost = True

    with translate_os_errors(path, hint):
        path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(path, fallback_to_soft=False)
    lease = SoftFileLease(path.with_name(f"{path.name}{LEASED}"), lease_duration=LEASE, on_compromise=compromised)
    try:
        with translate_os_errors(path, hint):
            _acquire(file_lock, report)
            _acquire(lease, report, StaleLeaseReaper(Path(lease.lock_file), path if file_lock.is_locked else None))
            if file_lock.is_locked:
                _sign(path, lease.token)
        yield handle
    finally:
        lease.release()
        file_lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock `path`, by the kernel's lock; does not wait."""
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


def _acquire(lock: Any, waiting: Callable[[], None], watch: StaleLeaseReaper | None = None) -> None:
    """Waits for one lock, or goes on without it where the file system has none."""
    from filelock import Timeout

    timeout, refused = 0.0, 0
    while True:
        try:
            lock.acquire(timeout=timeout)
            return
        except Timeout:
            if watch is not None and watch.dead():
                watch.remove()
            else:
                waiting()
            timeout = GRACE
        except OSError as error:
            if error.errno in NO_FLOCK:
                return
            refused += 1
            if error.errno not in RETRYABLE_ERRNOS or refused > TRIES:
                raise
            time.sleep(PAUSE)


@dataclass
class StaleLeaseReaper:
    """Removes the stale lease of another process. filelock replaces a dead holder's lease by exchanging two names,
    which NFS, SMB and many FUSE file systems do not support, and then waits forever; likewise for an empty lease.

    `held`: the kernel's lock of the same path if this process has it; None if the file system has no locks.
    """

    lease: Path
    held: Path | None
    _seen: tuple[int, int, bytes] | None = None
    _since: float = 0.0

    def dead(self) -> bool:
        """Whether the holder is known to be dead; to be polled."""
        now = self._look()
        if now is None:
            return False
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        content, unchanged = now[2], time.monotonic() - self._since
        if self.held is not None and (token := _signed(self.held)) is not None and token in content:
            return True  # its kernel lock on this kernel is released
        return unchanged >= (LEASE + GRACE if content else GRACE)

    def remove(self) -> None:
        """Removes the stale lease and no other: a lease that has replaced it meanwhile is restored."""
        path = temporary_name(self.lease)
        with suppress(OSError):
            os.replace(self.lease, path)
            status = path.stat()
            if self._seen is not None and (status.st_ino, status.st_mtime_ns) != self._seen[:2]:
                os.link(path, self.lease)
            path.unlink()

    def _look(self) -> tuple[int, int, bytes] | None:
        try:
            with self.lease.open("rb") as file:  # opening refreshes attributes on network file systems
                status = os.fstat(file.fileno())
                return status.st_ino, status.st_mtime_ns, file.read(MAX_LEASE_BYTES)
        except OSError:
            return None


def _sign(path: Path, token: str | None) -> None:
    """Stores in the kernel's lock which lease was taken with it, and by which kernel and mount, so that a later holder
    there can recognise the lease of a dead one."""
    with suppress(OSError):
        if (current := _mount(path)) is not None and token is not None:
            path.write_text(f"{current}\n{token}\n", encoding="ascii")


def _signed(path: Path) -> bytes | None:
    """The lease that the last holder took by this kernel and mount; None if unknown or of another."""
    try:
        current, _, token = path.read_text(encoding="ascii").partition("\n")
        return token.strip().encode() or None if current == _mount(path) else None
    except (OSError, ValueError):
        return None


def _mount(path: Path) -> str | None:
    """An identifier of the mount and the running kernel, the scope of its locks; None if the system has none."""
    try:
        return f"{BOOT.read_text(encoding='ascii').strip()} {path.stat().st_dev}"
    except (OSError, ValueError):
        return None
