"""Environment variables that are switches: what counts as on, what as off, and the error for anything else."""

from __future__ import annotations

import os

from harness.errors import InputError

NAMES = ("HARNESS_OFFLINE", "HARNESS_TRUST_REMOTE_CODE", "HARNESS_DEBUG")
ON = ("1", "true", "yes", "on", "y", "t")
OFF = ("", "0", "false", "no", "off", "n", "f")


def switch(name: str) -> bool:
    """Whether the environment variable `name` is on; off where it is not set. Case and blanks do not count.

    Raises `InputError` for a value that is neither on nor off: a guess could turn on what was meant to be off.
    """
    value = os.environ.get(name, "")
    plain = value.strip().lower()
    if plain in ON or plain in OFF:
        return plain in ON
    mend = "write 1, true, yes or on, or 0, false, no or off"
    raise InputError(f"{name}={value!r} is neither on nor off", where="the environment", mend=mend)


def check_switches() -> None:
    """Raises `InputError` for the first of the program's own switches that is neither on nor off."""
    for name in NAMES:
        switch(name)
