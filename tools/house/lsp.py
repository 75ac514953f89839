"""A small client of basedpyright's language server: renames and hovers over a whole checkout, by types."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any


class Server:
    """`with Server(root) as server:`; files are read from disk, nothing is written."""

    def __init__(self, root: Path, binary: Path, python: Path) -> None:
        self.root, self.python = root, python
        self.process = subprocess.Popen(
            [binary, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=root
        )
        self.number = 0
        self.opened: set[Path] = set()
        self.answers: dict[int, Any] = {}
        self.ready = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Server:
        config = {
            "python": {"pythonPath": str(self.python)},
            "basedpyright": {"analysis": {"diagnosticMode": "openFilesOnly"}},
            "python.analysis": {},
        }
        self.config = config
        self.ask(
            "initialize",
            {
                "processId": None,
                "rootUri": self.root.as_uri(),
                "workspaceFolders": [{"uri": self.root.as_uri(), "name": "house"}],
                "capabilities": {
                    "workspace": {"configuration": True, "workspaceEdit": {"documentChanges": True}},
                    "textDocument": {"rename": {"prepareSupport": False}, "hover": {"contentFormat": ["plaintext"]}},
                },
            },
        )
        self.tell("initialized", {})
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def open(self, path: Path) -> None:
        """Once for each file: one that was closed and opened again may lose its users."""
        if path in self.opened:
            return
        self.opened.add(path)
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": path.read_text("utf-8")}
        self.tell("textDocument/didOpen", {"textDocument": document})

    def rename(self, path: Path, line: int, column: int, new: str, timeout: float = 300) -> dict[str, list[Any]]:
        """File URI → text edits. `line` and `column` from 0."""
        answer = self.ask(
            "textDocument/rename",
            {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": column}, "newName": new},
            timeout,
        )
        if not answer:
            return {}
        edits = dict(answer.get("changes") or {})
        for change in answer.get("documentChanges") or []:
            if "textDocument" in change:
                edits.setdefault(change["textDocument"]["uri"], []).extend(change["edits"])
        return edits

    def hover(self, path: Path, line: int, column: int) -> str:
        where = {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": column}}
        answer = self.ask("textDocument/hover", where, 600)
        contents = (answer or {}).get("contents", "")
        return contents.get("value", "") if isinstance(contents, dict) else str(contents)

    def ask(self, method: str, params: Any, timeout: float = 120) -> Any:
        self.number += 1
        number = self.number
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        with self.ready:
            if not self.ready.wait_for(lambda: number in self.answers, timeout):
                raise TimeoutError(f"{method} {params}")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error'].get('message')}")
        return answer.get("result")

    def tell(self, method: str, params: Any) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _send(self, message: Any) -> None:
        data = json.dumps(message).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def _listen(self) -> None:
        stream = self.process.stdout
        while True:
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            if not length:
                return
            message = json.loads(stream.read(length))
            if "method" in message and "id" in message:  # the server asks
                result: Any = None
                if message["method"] == "workspace/configuration":
                    items = message["params"]["items"]
                    result = [self.config.get(item.get("section") or "", {}) for item in items]
                self._send({"jsonrpc": "2.0", "id": message["id"], "result": result})
            elif "id" in message:
                with self.ready:
                    self.answers[message["id"]] = message
                    self.ready.notify_all()
