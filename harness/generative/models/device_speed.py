"""Speed of matrix products on a device: the basis of estimates of training time."""

from __future__ import annotations

import time

import torch

from harness.generative.models.precision import Precision

SIDE = {"cpu": 1024, "cuda": 8192}  # of square matrices: large enough to neglect the launch of a product


def measured_flops(device: str, precision: Precision) -> float:
    """Floating-point operations a second of the best of five matrix products (2 · side³ each)."""
    kind = torch.device(device).type
    side = SIDE.get(kind, 4096)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one = torch.randn(side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):  # the first is a warm-up
        start_time = time.perf_counter()
        torch.mm(one, one)
        if kind == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start_time)
    return 2 * side**3 / best
