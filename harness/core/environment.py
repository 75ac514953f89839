"""Where the harness keeps what it can make again: prepared data sets, vectors, dequantised backbones.

`HARNESS_OFFLINE=1`: nothing of this process goes out to the public network, whichever library would do it.

Owns the variable, what other libraries are told, and the guard that holds them to it. Loopback, files of a hub's local
cache and the private addresses of a cluster stay reachable.

What may come out of a model's repository: tensors and settings. Its code runs only where the user has said so in the
environment, never because a configuration file says it; its pickles are never read.

Environment variables that are switches: what counts as on, what as off, and the error for anything else.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.errors import InputError

NAMES = ("HARNESS_OFFLINE", "HARNESS_TRUST_REMOTE_CODE", "HARNESS_DEBUG")


ON = ("1", "true", "yes", "on", "y", "t")


OFF = ("", "0", "false", "no", "off", "n", "f")


def switch(name: str) -> bool:
    """Whether the environment variable `name` is on; off where it is not set. Case and blanks do not count.

    Raises `InputError` for a value that is neither on nor off: a guess could turn on what was meant to be off.
    """
    value = os.environ.get(name, "")
    plain = value.strip().lower()
    if plain in ON or plain in OFF:
        return plain in ON
    hint = "write 1, true, yes or on, or 0, false, no or off"
    raise InputError(f"{name}={value!r} is neither on nor off", where="the environment", hint=hint, code="bad-setting")


def check_switches() -> None:
    """Raises `InputError` for the first of the program's own switches that is neither on nor off."""
    for name in NAMES:
        switch(name)


VARIABLE = "HARNESS_HOME"


def cache_dir() -> Path:
    """`$HARNESS_HOME`, or the user's cache folder by the platform's convention; made where it is missing.

    Raises `InputError` where it cannot be made.
    """
    name = os.environ.get(VARIABLE)
    if name:
        folder = Path(name).expanduser()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("harness")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache folder cannot be made ({error.strerror})",
            where=str(folder),
            hint=f"set {VARIABLE} to another",
            code="cannot-write",
        ) from error
    return folder.resolve()


OFFLINE_VARIABLE = "HARNESS_OFFLINE"


HF_ENV_VARS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")  # read by their libraries when imported


_guarded = False


def offline() -> bool:
    """Whether the user has said so. Raises `InputError` for a value that is neither on nor off."""
    return switch(OFFLINE_VARIABLE)


def offline_hint() -> str:
    """How the mend begins for a model that is not on this machine, where it may not be downloaded; else nothing."""
    return f"{OFFLINE_VARIABLE}=1 forbids to download it: unset it, or " if offline() else ""


def configure_offline() -> None:
    """Tells libraries and child processes before they are imported or started, and sets the guard. `import harness`
    calls it; without the variable it only turns the hub's telemetry off. A value that is neither on nor off counts as
    on here, where no error can be shown: each command refuses it before it does anything."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        if not offline():
            return
    except InputError:
        pass
    for name in HF_ENV_VARS:
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
        message = f"{OFFLINE_VARIABLE}=1 forbids to connect to {arguments[1][0]}"
        raise InputError(message, hint="unset it, or use what is on this machine", code="not-available")


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


REMOTE_CODE_VARIABLE = "HARNESS_TRUST_REMOTE_CODE"


def trusted() -> bool:
    """Whether the user lets code that model repositories bring along run on this machine. Raises `InputError` for a
    value of the variable that is neither on nor off."""
    return switch(REMOTE_CODE_VARIABLE)


def remote_code_options() -> dict[str, Any]:
    """How transformers is called for settings and tokenizers. False, not left out: else transformers asks on the
    terminal and waits."""
    return {"trust_remote_code": trusted()}


def weights_only() -> dict[str, Any]:
    """How transformers is called for weights: safetensors, where it would also take PyTorch's pickles."""
    return {"use_safetensors": True, **remote_code_options()}


def loader_error(reason: str) -> str:
    """The first line of what a loader said; where it asks for trust or for safetensors, what the user can do."""
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "unknown")
    if "trust_remote_code" in reason:
        return f"it needs code of its repository; set {REMOTE_CODE_VARIABLE}=1 if you trust it"
    if "safetensors" in first:
        return f"{first} (PyTorch's own .bin files are pickles, and are not read: convert them to safetensors)"
    return first


def package_version() -> str:
    """The installed version of this project; `0+source` in a checkout that was never installed."""
    try:
        return version("eager-harness")
    except PackageNotFoundError:
        return "0+source"
