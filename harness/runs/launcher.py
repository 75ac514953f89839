"""Rank and world size from the environment of a launcher (`torchrun`, `accelerate launch`)."""

from __future__ import annotations

import os

from harness.errors import InputError

RANK, SIZE, LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_HINT = "start it with torchrun or accelerate launch"


def place() -> tuple[int, int]:
    """Rank and world size; (0, 1) without a launcher.

    Raises `InputError` for a contradictory environment.
    """
    size = _number(SIZE, 1)
    if size < 2 or RANK not in os.environ:
        return 0, 1
    rank = _number(RANK, 0)
    if rank >= size:
        raise InputError(f"{RANK}={rank} of {SIZE}={size}", where="the environment", hint=_HINT)
    return rank, size


def place_here() -> int:
    """The local rank."""
    return _number(LOCAL, 0)


def first_here() -> bool:
    """Whether this process is the first on its machine."""
    return os.environ.get(SIZE, "1") == "1" or os.environ.get(LOCAL, "0") == "0"


def check_address() -> None:
    """Raises `InputError` if the master address is missing."""
    for name in ADDRESS:
        if name not in os.environ:
            raise InputError(f"{SIZE} without {name}", where="the environment", hint=_HINT)


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, str(otherwise))
    if not value.isdecimal():
        raise InputError(f"{name}={value!r} is not a number", where="the environment", hint=_HINT)
    return int(value)
