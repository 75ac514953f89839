"""Environment variables: the cache folder, offline mode, trust in remote code, and how switches are read.

`HARNESS_HOME` is the folder of caches: prepared data sets, vectors, dequantised backbones. `HARNESS_OFFLINE=1` forbids
connections to the public network, for libraries too; loopback and private addresses stay reachable. Code of a model
repository runs only with `HARNESS_TRUST_REMOTE_CODE=1`, never because of a configuration file; pickles are never read.
`docs/environment.md` lists all variables.
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
VARIABLE = "HARNESS_HOME"
OFFLINE_VARIABLE = "HARNESS_OFFLINE"
REMOTE_CODE_VARIABLE = "HARNESS_TRUST_REMOTE_CODE"
HF_ENV_VARS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")  # read by the libraries at import

_guarded = False  # whether the audit hook is installed


def switch(name: str) -> bool:
    """Whether the environment variable `name` is on; off if it is not set. Case and blanks are ignored.

    Raises `InputError` for other values, rather than to guess.
    """
    value = os.environ.get(name, "")
    plain = value.strip().lower()
    if plain in ON or plain in OFF:
        return plain in ON
    hint = "write 1, true, yes or on, or 0, false, no or off"
    raise InputError(f"{name}={value!r} is neither on nor off", where="the environment", hint=hint, code="bad-setting")


def check_switches() -> None:
    """Raises `InputError` for the first of the harness's switches with an invalid value."""
    for name in NAMES:
        switch(name)


def cache_dir() -> Path:
    """`$HARNESS_HOME`, or the platform's user cache folder; created if missing.

    Raises `InputError` if it cannot be created.
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
            f"the cache folder cannot be created ({error.strerror})",
            where=folder,
            hint=f"set {VARIABLE} to another folder",
            code="cannot-write",
        ) from error
    return folder.resolve()


def offline() -> bool:
    """Whether offline mode is on. Raises `InputError` for an invalid switch."""
    return switch(OFFLINE_VARIABLE)


def offline_hint() -> str:
    """The start of the hint for a missing model in offline mode; otherwise empty."""
    return f"{OFFLINE_VARIABLE}=1 forbids downloading it: unset it, or " if offline() else ""


def configure_offline() -> None:
    """Sets the offline variables of other libraries before they are imported, and installs the audit hook.

    Called by `import harness`. Without `HARNESS_OFFLINE` it only disables the hub's telemetry. An invalid value counts
    as on here; each command rejects it later.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        if not offline():
            return
    except InputError:
        pass
    for name in HF_ENV_VARS:
        os.environ[name] = "1"
    if (hub := sys.modules.get("huggingface_hub.constants")) is not None:  # imported before
        vars(hub)["HF_HUB_OFFLINE"] = True
    global _guarded
    if not _guarded:
        sys.addaudithook(_watch)
        _guarded = True


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: refuses connections to public addresses in offline mode."""
    if event in ("socket.connect", "socket.sendto") and public(arguments[1]) and offline():
        message = f"{OFFLINE_VARIABLE}=1 forbids connecting to {arguments[1][0]}"
        raise InputError(message, hint="unset it, or use what is on this machine", code="not-available")


def public(address: object) -> bool:
    """Whether the address of a socket is public: no path, loopback or private address.

    >>> public(("127.0.0.1", 80)), public(("10.0.0.7", 80)), public(("8.8.8.8", 80)), public("/run/some.sock")
    (False, False, True, False)
    """
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return False
    host = address[0].partition("%")[0]
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host not in ("", "localhost")  # a name that the system would resolve


def trusted() -> bool:
    """Whether code of model repositories may run. Raises `InputError` for an invalid switch."""
    return switch(REMOTE_CODE_VARIABLE)


def remote_code_options() -> dict[str, Any]:
    """Options for transformers when loading configurations and tokenizers. An explicit False: otherwise transformers
    prompts on the terminal."""
    return {"trust_remote_code": trusted()}


def weights_only() -> dict[str, Any]:
    """Options for transformers when loading weights: safetensors only, no pickles."""
    return {"use_safetensors": True, **remote_code_options()}


def loader_error(reason: str) -> str:
    """First line of a loader's message, or what to do if it needs trust or safetensors."""
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "unknown")
    if "trust_remote_code" in reason:
        return f"it needs code of its repository; set {REMOTE_CODE_VARIABLE}=1 if you trust it"
    if "safetensors" in first:
        return f"{first} (PyTorch's own .bin files are pickles and not read: convert them to safetensors)"
    return first


def package_version() -> str:
    """The installed version of this project; `0+source` in a checkout that is not installed."""
    try:
        return version("eager-harness")
    except PackageNotFoundError:
        return "0+source"
