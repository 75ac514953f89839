"""What may come out of a model's repository: tensors and settings. Its code runs only where the user has said so in the
environment, never because a configuration file says it; its pickles are never read.
"""

from __future__ import annotations

from typing import Any

from harness.core.switches import switch

VARIABLE = "HARNESS_TRUST_REMOTE_CODE"


def trusted() -> bool:
    """Whether the user lets code that model repositories bring along run on this machine. Raises `InputError` for a
    value of the variable that is neither on nor off."""
    return switch(VARIABLE)


def guarded() -> dict[str, Any]:
    """How transformers is called for settings and tokenizers. False, not left out: else transformers asks on the
    terminal and waits."""
    return {"trust_remote_code": trusted()}


def weights_only() -> dict[str, Any]:
    """How transformers is called for weights: safetensors, where it would also take PyTorch's pickles."""
    return {"use_safetensors": True, **guarded()}


def explained(why: str) -> str:
    """The first line of what a loader said; where it asks for trust or for safetensors, what the user can do."""
    first = next((line.strip() for line in why.splitlines() if line.strip()), "unknown")
    if "trust_remote_code" in why:
        return f"it needs code of its repository; set {VARIABLE}=1 if you trust it"
    if "safetensors" in first:
        return f"{first} (PyTorch's own .bin files are pickles, and are not read: convert them to safetensors)"
    return first
