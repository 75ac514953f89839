"""float64 where a device has it, and on the CPU where it has none."""

from __future__ import annotations

import torch

WITHOUT = ("mps",)  # kinds of devices that refuse float64: Apple's


def doubled(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, on the CPU where the tensor's device has none."""
    return (tensor.cpu() if tensor.device.type in WITHOUT else tensor).double()
