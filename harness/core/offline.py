"""`HARNESS_OFFLINE=1`: nothing of this process goes out to the public network, whichever library would do it.

Owns the variable, what other libraries are told, and the guard that holds them to it. Loopback, files of a hub's local
cache and the private addresses of a cluster stay reachable.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

from harness.core.switches import switch
from harness.errors import InputError

VARIABLE = "HARNESS_OFFLINE"
TOLD = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")  # read by their libraries when imported
_guarded = False


def offline() -> bool:
    """Whether the user has said so. Raises `InputError` for a value that is neither on nor off."""
    return switch(VARIABLE)


def forbidden() -> str:
    """How the mend begins for a model that is not on this machine, where it may not be downloaded; else nothing."""
    return f"{VARIABLE}=1 forbids to download it: unset it, or " if offline() else ""


def settle() -> None:
    """Tells libraries and child processes before they are imported or started, and sets the guard. `import harness`
    calls it; without the variable it only turns the hub's telemetry off. A value that is neither on nor off counts as
    on here, where no error can be shown: each command refuses it before it does anything."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        if not offline():
            return
    except InputError:
        pass
    for name in TOLD:
        os.environ[name] = "1"
    if (hub := sys.modules.get("huggingface_hub.constants")) is not None:  # it came before us and has read its variable
        vars(hub)["HF_HUB_OFFLINE"] = True
    global _guarded
    if not _guarded:
        sys.addaudithook(_watch)
        _guarded = True


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Python calls it before each connection, and lets what it raises pass to who wanted to connect."""
    if event in ("socket.connect", "socket.sendto") and public(arguments[1]) and offline():
        what = f"{VARIABLE}=1 forbids to connect to {arguments[1][0]}"
        raise InputError(what, mend="unset it, or use what is on this machine")


def public(address: object) -> bool:
    """Whether a socket's address lies on the public network: not a path, not loopback, not a private address.

    >>> public(("127.0.0.1", 80)), public(("10.0.0.7", 80)), public(("8.8.8.8", 80)), public("/run/some.sock")
    (False, False, True, False)
    """
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return False
    host = address[0].partition("%")[0]
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host not in ("", "localhost")  # a name that the system would look up
