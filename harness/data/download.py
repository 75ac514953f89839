"""Downloads public raw files: several mirrors, HTTP range resume, checks of size and SHA-256.

A file gets its final name when it is complete and verified; until then it is `NAME.part`, which the same command
resumes. pooch downloads to a random temporary name that it deletes on an error, so it cannot resume.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.environment import OFFLINE_VARIABLE, offline
from harness.core.files import sync, sync_folder
from harness.core.json_files import read_json_object
from harness.core.locks import acquire_lock
from harness.errors import InputError

if TYPE_CHECKING:
    import requests

ATTEMPTS = 3  # of one source, before the next one is asked
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 2**14  # bytes: the most that is lost where a connection drops
KIB = 1024
HTML = (b"<!doctype html", b"<html")
HTML_CAME = "an HTML page came instead of the file (it has moved, or asks for a login)"


class Progress(Protocol):
    """What shows bars: any `Reporter` of the protocol room."""

    def open(self, name: str, total: int | None) -> Any: ...

    def close(self, stage: Any) -> None: ...


@contextmanager
def byte_bar(progress: Progress | None, name: str, unit: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar in steps of `unit` bytes; yields a function that takes how many bytes are there."""
    if progress is None:
        yield lambda position: None
        return
    stage, steps_done = progress.open(name, None if total is None else -(-total // unit)), 0

    def reach(position: int) -> None:
        nonlocal steps_done
        if (steps := -(-position // unit) - steps_done) > 0:
            stage.advance(steps)
            steps_done += steps

    try:
        yield reach
    finally:
        progress.close(stage)


@dataclass(frozen=True)
class RemoteFile:
    """A file by its final name, the addresses that have it (tried in order), and what it must be where that is known:
    `size` in bytes, `sha256` in hexadecimal digits."""

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


class _Broken(Exception):
    """The transfer stopped; asking again may continue it."""


class _Wrong(Exception):
    """This source does not have the file."""


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None, *, attempts: int = ATTEMPTS) -> Path:
    """The file in `folder`, downloaded unless it is there. Two processes that ask for it fetch it once.

    Raises `InputError`, with what each source said, where no source gives it whole and right; what has come is kept in
    `NAME.part`, and the next call goes on from there. With `HARNESS_OFFLINE=1` nothing is asked of the network.
    """
    target = folder / file.name
    if target.exists():
        return _held(target, file)
    if offline():
        message = f"not here, and {OFFLINE_VARIABLE}=1 forbids to download it"
        hint = f"unset it, or put the file there yourself (from {' or '.join(file.urls)})"
        raise InputError(message, where=str(target), hint=hint, code="not-available")
    folder.mkdir(parents=True, exist_ok=True)
    with acquire_lock(folder / f".{file.name}.lock"):
        if target.exists():
            return _held(target, file)
        values = []
        for url in file.urls:
            try:
                _from_source(url, file, target, progress, attempts)
                return target
            except (_Broken, _Wrong) as error:
                values.append(f"{url}: {error}")
    part = _part(target)
    arrived = part.stat().st_size if part.exists() else 0
    again = "try the same command again later"
    if arrived:
        again = f"{arrived:,} bytes are kept, and the same command continues"
    hint = f"{again}; or put the file into {folder} yourself"
    raise InputError(f"could not be downloaded ({'; '.join(values)})", where=file.name, hint=hint, code="not-available")


def sha256_of(path: Path) -> str:
    """In hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _held(target: Path, file: RemoteFile) -> Path:
    """The file that is there, if it is the right one. A kill may have left what came before it."""
    if (message := _mismatch(target, file)) is not None:
        hint = "remove it, so that it is downloaded again"
        raise InputError(message, where=str(target), hint=hint, code="wrong-checksum")
    _discard(_part(target))
    return target


def _mismatch(path: Path, file: RemoteFile) -> str | None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes, where {file.size:,} are expected"
    if file.sha256 is not None and (digest := sha256_of(path)) != file.sha256.lower():
        return f"SHA-256 {digest[:16]}…, where {file.sha256[:16].lower()}… is expected"
    return None


def _from_source(url: str, file: RemoteFile, target: Path, progress: Progress | None, attempts: int) -> None:
    """Asks one address until the file is whole; each attempt goes on where the last one stopped."""
    import requests

    part = _part(target)
    with requests.Session() as session:
        for attempts_left in reversed(range(attempts)):
            is_begun = part.exists()
            try:
                _transfer(session, url, file, part, progress)
                if (message := _mismatch(part, file)) is None:
                    break
                _discard(part)
                if not is_begun:
                    raise _Wrong(message)
                raise _Broken(f"{message}; what was kept of an earlier attempt is thrown away")
            except _Broken:
                if not attempts_left:
                    raise
    sync(part)
    os.replace(part, target)
    sync_folder(target.parent)
    _discard(part)


def _transfer(session: requests.Session, url: str, file: RemoteFile, part: Path, progress: Progress | None) -> None:
    """One request, appended to what is there. Raises `_Broken` where the connection fails, `_Wrong` for a response that
    is not the file."""
    import requests

    have, headers = _kept(part, url, file)
    try:
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416 and have and have == (file.size or _total(response, have)):
                return
            have = _accepted(response, have, part)
            total = _total(response, have)
            if file.size is not None and total is not None and total != file.size:
                raise _Wrong(f"it has {total:,} bytes, where {file.size:,} are expected")
            _room(part, (total or 0) - have)
            if not have:
                _discard(part)  # first: bytes of an older response must never stand under the new one's mark
            _note_state(part, url, response)
            with byte_bar(progress, f"{file.name} (KiB)", KIB, total) as reach:
                _write(response, part, have, total, reach)
    except requests.RequestException as error:
        arrived = part.stat().st_size if part.exists() else 0
        raise _Broken(f"the connection failed after {arrived:,} bytes ({type(error).__name__})") from error


def _accepted(response: requests.Response, have: int, part: Path) -> int:
    """How many of the kept bytes the response goes on from: all of them (206) or none (200)."""
    status = response.status_code
    if status == 416 or (status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
        _discard(part)
        raise _Broken("it cannot continue what is kept; begun anew")
    if status >= 500 or status in (408, 429):
        raise _Broken(f"the server says {status} {response.reason}")
    if status not in (200, 206):
        raise _Wrong(f"the server says {status} {response.reason}")
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _Wrong(HTML_CAME)
    return have if status == 206 else 0


def _write(response: requests.Response, part: Path, have: int, total: int | None, reach: Callable[[int], None]) -> None:
    reach(have)
    with part.open("r+b" if part.exists() else "wb") as out:
        out.truncate(have)
        out.seek(have)
        for chunk in response.iter_content(CHUNK):
            if out.tell() == 0 and chunk.lstrip()[:16].lower().startswith(HTML):
                raise _Wrong(HTML_CAME)
            out.write(chunk)
            out.flush()
            reach(out.tell())
        arrived = out.tell()
    if total is not None and arrived < total:
        raise _Broken(f"the connection ended after {arrived:,} of {total:,} bytes")


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    for path in (part, _state(part)):
        path.unlink(missing_ok=True)


def _kept(part: Path, url: str, file: RemoteFile) -> tuple[int, dict[str, str]]:
    """How much may be continued, and the headers that ask for the rest. Where a hash guards the result, any source may
    continue what another began; otherwise only the same source, and only while it has the same content."""
    headers = {"Accept-Encoding": "identity"}
    have = part.stat().st_size if part.exists() else 0
    state: dict[str, str] = {}
    with suppress(OSError, InputError):
        state = {key: text for key, text in read_json_object(_state(part)).items() if isinstance(text, str)}
    unchanged = state.get("url") == url and bool(state.get("validator"))
    if not have or not (unchanged or file.sha256) or (file.size is not None and have > file.size):
        return 0, headers
    headers["Range"] = f"bytes={have}-"
    if unchanged:
        headers["If-Range"] = state["validator"]
    return have, headers


def _note_state(part: Path, url: str, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    validator = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    _state(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _total(response: requests.Response, have: int) -> int | None:
    """The size of the whole file, as the response states it."""
    stated = response.headers.get("Content-Range", "").rpartition("/")[2]
    if stated.isdigit():
        return int(stated)
    length = response.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() and response.status_code in (200, 206) else None


def _room(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size > free:
        message = f"{size:,} bytes are to come, and {free:,} are free"
        hint = "free some space; the same command continues"
        raise InputError(message, where=str(part.parent), hint=hint, code="too-large")
