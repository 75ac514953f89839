"""A local web server that behaves badly on request: what the tests of downloads talk to. Nothing leaves the machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(BODY).hexdigest()
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Server:
    """`faults` is what happens to the next requests, one each, then all is well: `drop` (the connection ends half way
    through), `page`, `plain page` (HTML under another type), `other` (as long, other bytes), `short` (a shorter file),
    `404`, `503`. `ranges` off ignores Range. `seen` lists each request's Range header. `files` are served by their
    names, anything else is `BODY`."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.ranges, self.tag = True, '"one"'
        self.seen: list[str | None] = []
        self.sent = 0
        self.files: dict[str, bytes] = {}
        self.address = ""

    def url(self, name: str = "raw.csv") -> str:
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port for as long as the block runs."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, state: Server) -> None:
    requested = handler.headers.get("Range")
    state.seen.append(requested)
    fault = state.faults.pop(0) if state.faults else ""
    if fault.isdigit():
        handler.send_error(int(fault))
        return
    complete = state.files.get(handler.path.removeprefix("/"), BODY)
    body = {"page": PAGE, "plain page": PAGE, "other": complete[::-1], "short": complete[:1000]}.get(fault, complete)
    begin = int(requested.removeprefix("bytes=").rstrip("-")) if requested and state.ranges else 0
    if handler.headers.get("If-Range") not in (None, state.tag):
        begin = 0
    handler.send_response(206 if begin else 200)
    handler.send_header("Content-Type", "text/html" if fault == "page" else "application/octet-stream")
    handler.send_header("Content-Length", str(len(body) - begin))
    handler.send_header("ETag", state.tag)
    if begin:
        handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
    handler.end_headers()
    rest = body[begin:]
    rest = rest[: len(rest) // 2] if fault == "drop" else rest
    state.sent += len(rest)  # before they can be there: who has them all may look at once
    handler.wfile.write(rest)
