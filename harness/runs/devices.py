"""The device of a run. Imports torch only if the machine may have a GPU."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

from harness.errors import InputError

# device files of GPUs on Linux: NVIDIA, NVIDIA Jetson, AMD, WSL
_LINUX_CARDS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl", "/dev/kfd", "/dev/dxg")


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
