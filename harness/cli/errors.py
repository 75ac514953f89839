"""Converts exceptions to one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.cli.output import log
from harness.core.environment import switch
from harness.core.files import NO_ROOM
from harness.errors import AbortedByMain, InputError, PeerLost
from harness.runs.devices import first_here, place

DEBUG = "HARNESS_DEBUG"
INTERRUPTED = 130


def report_error(error: Exception) -> int:
    """Prints the error in one line and returns the exit code. The traceback of an internal error is written to a file,
    or to stderr with `HARNESS_DEBUG=1`. In a run with several processes, the first of each machine prints input errors.
    """
    if isinstance(error, AbortedByMain):
        return error.exit_code
    if isinstance(error, InputError):
        if first_here():
            log(f"{_speaker()}: {error}")
        return error.exit_code
    if isinstance(error, PeerLost):
        log(f"{_speaker()}: {error}")
        return error.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of Typer's
        log(f"harness: {_usage(error)}")
        return InputError.exit_code
    if (refused := _disk_refused(error)) is not None:
        log(f"harness: cannot write: {_one_line(refused)}; free some space, and run the same command again")
        return InputError.exit_code
    if switch(DEBUG):
        traceback.print_exception(error)
        return 1
    message = f"{type(error).__name__}: {_one_line(error)}"
    log(f"{_speaker()}: internal error: {message}; {_traceback_location(error)}")
    return 1


def interrupted() -> int:
    """After Ctrl-C, which all processes of a run receive: the first of each machine prints it."""
    exec("")  # after Ctrl-C inside an exec, Python would exit by the signal instead of the exit code
    if first_here():
        log("harness: interrupted; the same command resumes the run")
    return INTERRUPTED


def _speaker() -> str:
    """Prefix of the message: the program, or one of its processes."""
    with suppress(InputError):
        rank, size = place()
        if rank:
            return f"harness, process {rank} of {size}"
    return "harness"


def _usage(error: Exception) -> str:
    message = _one_line(error.format_message()).rstrip(".")  # pyright: ignore[reportAttributeAccessIssue]
    context = getattr(error, "ctx", None)
    return f"{message}; see {context.command_path if context else 'harness'} --help"


def _disk_refused(error: BaseException) -> BaseException | None:
    """The error in the chain for a full or unwritable disk, also if a library wraps it."""
    for link in _chain(error):
        if (isinstance(link, OSError) and link.errno in NO_ROOM) or os.strerror(errno.ENOSPC) in str(link):
            return link
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _traceback_location(error: Exception) -> str:
    """Writes the traceback; its location in words."""
    from harness.core.environment import cache_dir

    try:
        folder = Path(cache_dir()) / "logs"
        folder.mkdir(exist_ok=True)
        path = folder / f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except (OSError, InputError):
        return f"set {DEBUG}=1 to see the traceback"
    return f"the traceback is in {path}"
