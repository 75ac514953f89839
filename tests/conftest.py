"""No test asks the network: whatever tries is told so, and fails. This machine's own servers may be asked."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

LOCAL = ("localhost", "")


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
