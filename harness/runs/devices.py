"""The device of a run, and rank and world size from the environment of a launcher (`torchrun`, `accelerate launch`).
Imports torch only if the machine may have a GPU.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from harness.errors import InputError

# device files of GPUs on Linux: NVIDIA, NVIDIA Jetson, AMD, WSL
_LINUX_CARDS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl", "/dev/kfd", "/dev/dxg")
RANK, SIZE, LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_HINT = "start it with torchrun or accelerate launch"


def cuda_available() -> bool:
    """Whether torch sees a CUDA device, without importing torch if there is no GPU."""
    if find_spec("torch") is None:
        return False
    if sys.platform == "linux" and not any(Path(card).exists() for card in _LINUX_CARDS):
        return False
    import torch

    return torch.cuda.is_available()


def resolve_device(device: str | None, profile: str, *, is_elsewhere: bool = False) -> str:
    """The user's device, checked; by default `cuda` for the profiles `gpu` and `paper`, else `cpu`. `is_elsewhere`: the
    device is on another machine and need not exist here."""
    name = device or ("cuda" if profile in ("gpu", "paper") else "cpu")
    if name == "cpu":
        return name
    if not re.fullmatch(r"cuda(:\d+)?|mps", name):
        raise InputError(f"unknown device {name!r}", where="--device", hint="choose cpu, cuda, cuda:N or mps")
    if not is_elsewhere and not _present(name):
        location = "--device" if device else f"--profile {profile}"
        raise InputError(
            f"device {name!r} is not available", where=location, hint="choose --device cpu; harness doctor lists them"
        )
    return name


def _present(name: str) -> bool:
    if name == "mps":
        import torch

        return torch.backends.mps.is_available()
    if not cuda_available():
        return False
    import torch

    return int(name.partition(":")[2] or 0) < torch.cuda.device_count()


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
