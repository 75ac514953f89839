"""Numerical precision: float64 on any device, and mixed precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from harness.errors import InputError

NO_FLOAT64 = ("mps",)  # device types


def to_float64(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float64, on the CPU if its device does not support it."""
    return (tensor.cpu() if tensor.device.type in NO_FLOAT64 else tensor).double()


def float64_on_cpu(values: Sequence[float]) -> torch.Tensor:
    """The numbers as a float64 tensor, shape (n,), which every machine's CPU supports."""
    return torch.tensor(values, dtype=torch.float64)


Precision = Literal["float32", "bfloat16"]


def best_precision(device: str) -> Precision:
    """bfloat16 if the device computes in it, else float32. Raises `InputError` if the requested CUDA device is
    unavailable."""
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            message = "precision auto depends on the CUDA device, and this machine has none"
            raise InputError(message, where=f"--device {device}", hint="--set its precision to bfloat16 or float32")
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, flag, bool)() for flag in flags) else "float32"


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Mixed precision for a forward pass: float32 weights, matrix products in `precision`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")
