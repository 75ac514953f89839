"""The guard that keeps tests off the network does something."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from tests.data.server import BODY, serving


def test_a_connection_beyond_this_machine_is_refused() -> None:
    with socket.socket() as asking, pytest.raises(RuntimeError, match=r"connection to \('192\.0\.2\.1', 80\)"):
        asking.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"look-up of data\.example"):
        socket.create_connection(("data.example", 80), timeout=1)


def test_this_machine_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server, urllib.request.urlopen(server.url()) as answer:
        assert answer.read() == BODY
