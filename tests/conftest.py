"""What holds for all tests: none asks the network, none hears of whoever started it, and each is the same every time.

A test that asks the network is told so, and fails; this machine's own servers may be asked. Examples that hypothesis
draws are the same at each run, and may take their time; `pytest --hypothesis-profile default` draws new ones.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

LOCAL = ("localhost", "")
OURS = ("HARNESS_", "ACCELERATE_", "FSDP_", "MLFLOW_", "WANDB_")  # how variables begin that change what we do
ANYBODYS = {
    *("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"),  # a launcher's
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "GITHUB_ACTIONS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
}

settings.register_profile(
    "suite", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """Forgets what the environment says, and takes a cache folder of the session's own, one for all its workers: never
    the user's. Ctrl-C is heard by what tests start, though a suite in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # workers inherit it
        for name in list(os.environ):
            if name.startswith(OURS) or name.upper() in ANYBODYS:
                del os.environ[name]
        os.environ["HARNESS_HOME"] = tempfile.mkdtemp(prefix="harness-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["HARNESS_HOME"], ignore_errors=True)


def pytest_collectstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: a pass of the garbage collector over them takes a third of a second
    and frees nothing."""
    gc.freeze()
    gc.enable()


class NetworkAsked(RuntimeError):
    """A test has tried to leave the machine."""


def _is_local(address: object) -> bool:
    """Whether a socket's address is this machine's: a path (Unix sockets), or a loopback host."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return host in LOCAL or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses names and connections beyond this machine, in this process; libraries in processes that it starts are
    told by the environment to stay offline."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise NetworkAsked(f"connection to {address}")
        connect(self, address)

    def resolved(host: Any, *rest: Any, **more: Any) -> Any:
        if not _is_local((host.decode() if isinstance(host, bytes) else host or "",)):
            raise NetworkAsked(f"look-up of {host}")
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
