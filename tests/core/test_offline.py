"""`HARNESS_OFFLINE=1` keeps this process and what it starts off the public network, whichever library would go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def child(code: str, **environment: str) -> str:
    messages = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HARNESS_", "TRANSFORMERS_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={**messages, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TOLD = "import os, harness; print(*(os.environ.get(n) for n in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')))"


def test_libraries_are_told_before_they_are_imported() -> None:
    assert child(TOLD, HARNESS_OFFLINE="1") == "1 1"
    assert child(TOLD, HARNESS_OFFLINE="0") == child(TOLD) == "None None"
    late = "import huggingface_hub.constants as hub, harness; print(hub.HF_HUB_OFFLINE)"
    assert child(late, HARNESS_OFFLINE="1") == "True" and child(late) == "False"


CONNECT = """
import socket, sys, threading
import harness
from harness.errors import InputError
server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname(), timeout=5):
    print("near", end=" ")
try:
    socket.socket().connect(("8.8.8.8", 9))
except InputError as error:
    print(error)
"""


def test_a_connection_to_the_public_network_is_refused_and_one_to_this_machine_is_not() -> None:
    message = child(CONNECT, HARNESS_OFFLINE="1")
    assert message.startswith("near HARNESS_OFFLINE=1 forbids connecting to 8.8.8.8")


HUB = """
import socket
from pathlib import Path
import harness
from harness.errors import InputError
from harness.generative.models.backbone import load_backbone
from harness.generative.tokenizers.text_encoder import identity
from harness.protocol.context import RunContext
asked = []
def never(*given, **more):
    asked.append(given)
    raise OSError("no network here")
socket.getaddrinfo = never
for what in (lambda: load_backbone("some/model", None, "pretrained", RunContext(1, Path("."))),
             lambda: identity("some/encoder")):
    try:
        what()
    except InputError as error:
        print("refused" if "HARNESS_OFFLINE=1 forbids downloading it" in str(error) else error)
print(len(asked))
"""


def test_a_hub_name_asks_nobody(tmp_path: Path) -> None:
    assert child(HUB, HARNESS_OFFLINE="1", HF_HOME=str(tmp_path)).split() == ["refused", "refused", "0"]


@pytest.mark.parametrize("value", ["", "0"])
def test_without_it_nothing_is_guarded(value: str) -> None:
    code = "import harness.core.environment as o; print(o.offline(), o._guarded)"
    assert child(code, HARNESS_OFFLINE=value) == "False False"
