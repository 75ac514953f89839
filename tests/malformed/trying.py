"""Gives a reader one malformed file, and says what came of it."""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import InputError
from harness.store.run_store import Unreadable
from tests.malformed.mutations import mutated
from tests.malformed.readers import Reader

Outcome = Literal["refused", "set aside", "read", "unchanged", "fault"]
HANGS = 60  # seconds of wall time after which a reader counts as hanging
LONGEST = 4_000  # characters of an error's one line


@dataclass(frozen=True)
class Case:
    """One malformed file. `digest` tells it from others; `seconds` are of the processor."""

    reader: str
    kind: str
    seed: int
    outcome: Outcome
    digest: str
    seconds: float
    said: str


class Bench:
    """Valid files of each reader, laid once under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def attempt(self, reader: Reader, kind: str, seed: int) -> Case:
        """What `reader` makes of the file that `kind` and `seed` stand for. A refusal is one line; anything else that
        is raised is a fault, and so is a reader that hangs."""
        folder = self._laid(reader)
        path = folder / reader.target
        valid = path.read_bytes()
        raw = mutated(valid, reader.kinds, kind, seed)
        digest = hashlib.sha256(f"{reader.name}/{kind}".encode() + raw).hexdigest()
        if raw == valid:
            return Case(reader.name, kind, seed, "unchanged", digest, 0.0, "")
        path.write_bytes(raw)
        begun = time.process_time()
        try:
            outcome, message = self._outcome(reader, folder)
        finally:
            path.write_bytes(valid)
        return Case(reader.name, kind, seed, outcome, digest, time.process_time() - begun, message)

    def _laid(self, reader: Reader) -> Path:
        folder = self.root / "".join(c if c.isalnum() else "-" for c in reader.name)
        if not folder.exists():
            result = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(result, ignore_errors=True)
            result.mkdir(parents=True)
            reader.lay(result)
            result.rename(folder)
            reader.read(folder)  # it is valid
        return folder

    def _outcome(self, reader: Reader, folder: Path) -> tuple[Outcome, str]:
        try:
            with _alarm(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = reader.read(folder)
        except (InputError, Unreadable) as error:
            message = str(error)
            plain = "\n" not in message and len(message) < LONGEST
            return (
                ("refused", message)
                if plain
                else ("fault", f"no one line of {len(message)} characters: {message[:200]}")
            )
        except Exception:
            return "fault", traceback.format_exc()
        return ("set aside" if result is None else "read"), ""


@contextmanager
def _alarm() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise TimeoutError(f"it hangs for {HANGS} seconds")

    previous = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
