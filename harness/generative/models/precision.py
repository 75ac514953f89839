"""Numbers of a device: precision of computations, random masks of dropout, and throughput."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.errors import InputError

NO_FLOAT64 = ("mps",)  # device types
ATTENTION_WEIGHTS = 1 << 25  # elements
SIDE = {"cpu": 1024, "cuda": 8192}  # of square matrices: large enough to neglect the launch of a product
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "feed_forward", "ffn")
STEPS = 1 << 16  # resolution of a probability: 16 random bits an element


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


def attention_kernel(states: torch.Tensor, config: Any, training: bool) -> AbstractContextManager[object]:
    """The kernel of scaled dot-product attention on `states` (rows, length, width): in training on the CPU the flash
    kernel's backward pass in bfloat16 takes 6 to 10 times as long as that with explicit attention weights (torch 2.13,
    12 to 80 tokens), which is chosen where the weights of all layers have at most `ATTENTION_WEIGHTS` elements."""
    if not training or states.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return nullcontext()
    heads, layers = (getattr(config, name, 0) for name in ("num_attention_heads", "num_hidden_layers"))  # Mamba: none
    rows, length, _ = states.shape
    explicit = rows * length**2 * heads * layers <= ATTENTION_WEIGHTS
    return sdpa_kernel([SDPBackend.MATH]) if explicit else nullcontext()


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


def dropout(values: torch.Tensor, probability: float, training: bool = True) -> torch.Tensor:
    """`values` with elements zeroed at random and the others scaled by 1 / (1 - probability), as torch's dropout.

    On the CPU the mask takes 16 random bits an element, a third of the time of `bernoulli_`.
    """
    if not training or probability == 0:
        return values
    if values.device.type != "cpu":
        return functional.dropout(values, probability, training)
    bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    bits.random_(-(1 << 63), (1 << 63) - 1)
    samples = bits.view(torch.int16)[: values.numel()].view(values.shape)
    cut = round(probability * STEPS)
    mask = (samples >= cut - STEPS // 2).to(values.dtype).mul_(STEPS / (STEPS - cut))
    return values * mask


def add_residual_dropout(body: nn.Module, probability: float) -> int:
    """Adds dropout to the output of each attention and MLP module of `body`, in training mode only.

    Modules are recognised by their names in transformers. Returns their number; raises `ValueError` if there are none.
    """
    branches = [module for name, module in body.named_modules() if name.rpartition(".")[2] in (*ATTENTION, *MLP)]
    if not branches:
        raise ValueError(f"{type(body).__name__} has no attention or MLP modules with a known name")

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (dropout(output[0], probability, module.training), *output[1:])
        return dropout(output, probability, module.training)

    for branch in branches:
        branch.register_forward_hook(drop)
    return len(branches)
