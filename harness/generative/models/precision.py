"""float64 where a device has it, and on the CPU where it has none."""

from __future__ import annotations

from typing import Literal

import torch

from harness.errors import InputError

WITHOUT = ("mps",)  # kinds of devices that refuse float64: Apple's


def to_float64(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, on the CPU where the tensor's device has none."""
    return (tensor.cpu() if tensor.device.type in WITHOUT else tensor).double()


Precision = Literal["float32", "bfloat16"]


def best_precision(device: str) -> Precision:
    """bfloat16 where the machine computes in it, else float32. Raises `InputError` for a card that is not here, which
    nobody has looked at."""
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            message = "precision auto depends on the card, and this machine has none"
            raise InputError(message, where=f"--device {device}", hint="--set its precision to bfloat16 or float32")
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return "bfloat16" if any(getattr(torch.cpu, flag, bool)() for flag in flags) else "float32"


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Mixed precision for a forward pass: float32 weights, matrix products in `precision`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")
