"""Raw files: where they lie, how their lines are read as a stream, and what is said of one that is broken.

Owns names and folders, gzip and zip, and bytes to lines. What a line means is the business of `interactions` and
`texts`.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from harness.core.environment import home
from harness.core.json_files import AGAIN, Unfolding
from harness.data.download import Progress, RemoteFile, fetch, sha256_of
from harness.data.raw.releases import RawFile, RawSet
from harness.errors import InputError

TOLD = 1 << 22  # bytes of a file between two steps of its bar
BUFFER = 1 << 20
LONGEST_LINE = 1 << 24  # bytes; the longest of the public files have some 100,000


class Silent:
    """Shows no progress."""

    def open(self, name: str, total: int | None) -> Silent:
        return self

    def close(self, stage: Any) -> None:
        pass

    def advance(self, steps: int = 1, **shown: float | str) -> None:
        pass


@dataclass(frozen=True)
class Found:
    """A raw file on this machine; `member` names it inside a zip archive, and is empty where there is none."""

    spec: RawFile
    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """As it stands in messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def at(self, line: int, field: str | None = None) -> str:
        """The place of a fault, in words."""
        return f"{self.name} line {line}" + (f" field {field!r}" if field else "")

    def record(self) -> dict[str, Any]:
        """For the provenance: no path of this machine."""
        name = f"{self.path.name}:{self.member}" if self.member else self.path.name
        return {"file": name, "bytes": self.path.stat().st_size, "sha256": sha256_of(self.path)}

    @contextmanager
    def opened(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The content as a stream, and the stream of the file itself (whose position shows how far it is)."""
        with self.path.open("rb", buffering=BUFFER) as file:
            if self.member:
                with zipfile.ZipFile(file) as archive, archive.open(self.member) as content:
                    yield io.BufferedReader(Unfolding(content, file, self.name), BUFFER), file
            elif self.path.suffix == ".gz":
                with gzip.open(file) as content:
                    yield io.BufferedReader(Unfolding(content, file, self.name), BUFFER), file
            else:
                yield file, file

    def lines(self, progress: Progress | None = None) -> Iterator[tuple[int, bytes]]:
        """Line by line with its number, from 1; empty lines are passed over.

        Raises `InputError` where the archive is broken or cut off, with the line that was reached.
        """
        number = 0
        with _translated(self, lambda: number), self.opened() as (content, file), _shown(self, progress) as show:
            for number, line in enumerate(iter(partial(content.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise InputError(f"a line of more than {LONGEST_LINE:,} bytes", where=self.at(number), mend=AGAIN)
                if not number & 16383:
                    show(file.tell())
                if not line.isspace():
                    yield number, line


class _Line(Protocol):
    def __call__(self) -> int: ...


@contextmanager
def _translated(found: Found, line: _Line) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        what = "the gzip file is cut off here or soon after"
        raise InputError(what, where=found.at(line() + 1), mend=AGAIN) from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        where = found.at(line()) if line() else found.name
        raise InputError(f"the compressed file is broken ({error})", where=where, mend=AGAIN) from error
    except KeyError as error:  # a zip archive without the member
        raise InputError(f"the archive has no {found.member}", where=str(found.path), mend=AGAIN) from error
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror or error})", where=found.name) from error


@contextmanager
def _shown(found: Found, progress: Progress | None) -> Iterator[Any]:
    """Hands out a function that takes the position in the file and moves the bar."""
    shown = progress or Silent()
    stage = shown.open(f"read {found.path.name} (MiB)", -(-found.path.stat().st_size >> 20))
    done = 0

    def reach(position: int) -> None:
        nonlocal done
        if (now := position >> 20) > done:
            stage.advance(now - done)
            done = now

    try:
        yield reach
        reach(found.path.stat().st_size)
    finally:
        shown.close(stage)


def locate(data: RawSet, kind: str, raw: Path) -> Found:
    """The first of a kind's files (`interactions`, `metadata`) that lies in `raw`, as it is or (un)compressed.

    Raises `InputError` that names the file, and where it can be had.
    """
    specs: tuple[RawFile, ...] = getattr(data.release, kind)
    if not raw.is_dir():
        raise InputError("no such folder", where=str(raw), mend="give the folder that holds the raw files")
    for spec in specs:
        name = spec.file.format(category=data.category)
        other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
        for folder in spec.folders:
            for candidate in (name, other):
                if (path := raw / folder / candidate).is_file():
                    return Found(spec, path)
        if spec.archive and (path := raw / spec.archive).is_file():
            return Found(spec, path, f"{Path(spec.archive).stem}/{name}")
    names = " or ".join(spec.file.format(category=data.category) for spec in specs)
    folders = sorted({folder for spec in specs for folder in spec.folders if folder})
    inside = f", nor in {'/, '.join(folders)}/" if folders else ""
    raise InputError(f"no {names}{inside}", where=str(raw), mend=_source(data, specs[0]))


def download(data: RawSet, kind: str, progress: Progress | None) -> Found:
    """The first of a kind's files that has an address, fetched into `$HARNESS_HOME/raw` unless it is there."""
    folder = home() / "raw" / data.release.key
    specs: tuple[RawFile, ...] = getattr(data.release, kind)
    for spec in specs:
        if spec.urls:
            urls = tuple(url.format(category=data.category) for url in spec.urls)
            name = spec.archive or spec.file.format(category=data.category)
            known = data.release.known.get(name)
            stated = (None, None) if known is None else (known.bytes, known.sha256)
            path = fetch(RemoteFile(name, urls, *stated), folder, progress)
            inside = f"{Path(name).stem}/{spec.file.format(category=data.category)}" if spec.archive else ""
            return Found(spec, path, inside)
    what = "its files can be had only after accepting terms, so they are not downloaded"
    raise InputError(what, where=data.name, mend=data.how_to_get)


def _source(data: RawSet, spec: RawFile) -> str:
    if not spec.urls:
        return f"get it from {data.release.homepage}"
    url = spec.urls[0].format(category=data.category)
    return f"put it there (from {url}), or leave out --raw to download it"
