"""Raw files: their location, streams of their lines, and errors of damaged ones.

Handles names, folders, gzip and zip; `interactions` and `metadata` parse the lines.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from harness.core.environment import cache_dir
from harness.core.json_files import REFETCH, BoundedDecompressor
from harness.data.download import Progress, RemoteFile, byte_bar, fetch, sha256_of
from harness.data.raw.releases import RawFile, RawSet
from harness.data.reading import BadLines, WrongLine
from harness.errors import InputError

Row = tuple[Any, ...]
Read = Callable[[int, bytes, bool], Row | None]
BUFFER = 1 << 20
LONGEST_LINE = 1 << 24  # bytes; the longest of the public files have some 100,000


@dataclass(frozen=True)
class RawFileHandle:
    """A raw file on this machine; `member` names it inside a zip archive, and is empty where there is none."""

    spec: RawFile
    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def at(self, line: int, field: str | None = None) -> str:
        """The location of an error, for messages."""
        return f"{self.name} line {line}" + (f" field {field!r}" if field else "")

    def record(self) -> dict[str, Any]:
        """The entry of the provenance, without local paths."""
        name = f"{self.path.name}:{self.member}" if self.member else self.path.name
        return {"file": name, "bytes": self.path.stat().st_size, "sha256": sha256_of(self.path)}

    @contextmanager
    def opened(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The content as a stream, and the stream of the file itself (whose position shows how far it is)."""
        with self.path.open("rb", buffering=BUFFER) as file:
            if self.member:
                with zipfile.ZipFile(file) as archive, archive.open(self.member) as content:
                    yield io.BufferedReader(BoundedDecompressor(content, file, self.name), BUFFER), file
            elif self.path.suffix == ".gz":
                with gzip.open(file) as content:
                    yield io.BufferedReader(BoundedDecompressor(content, file, self.name), BUFFER), file
            else:
                yield file, file

    def lines(self, progress: Progress | None = None) -> Iterator[tuple[int, bytes]]:
        """Number (from 1) and content of each line that is not empty.

        Raises `InputError` with the last line read if the archive is damaged or truncated.
        """
        number = 0
        size, bar = self.path.stat().st_size, f"read {self.path.name} (MiB)"
        try:
            with self.opened() as (content, file), byte_bar(progress, bar, 1 << 20, size) as reach:
                for number, line in enumerate(iter(partial(content.readline, LONGEST_LINE + 1), b""), start=1):
                    if len(line) > LONGEST_LINE:
                        message = f"a line of more than {LONGEST_LINE:,} bytes"
                        raise InputError(message, where=self.at(number), hint=REFETCH, code="too-large")
                    if not number & 16383:
                        reach(file.tell())
                    if not line.isspace():
                        yield number, line
                reach(size)
        except EOFError as error:
            message = "the gzip file is cut off here or soon after"
            raise InputError(message, where=self.at(number + 1), hint=REFETCH, code="bad-file") from error
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
            message, location = f"the compressed file is broken ({error})", self.at(number) if number else self.name
            raise InputError(message, where=location, hint=REFETCH, code="bad-file") from error
        except KeyError as error:  # a zip archive without the member
            message = f"the archive has no {self.member}"
            raise InputError(message, where=str(self.path), hint=REFETCH, code="missing-file") from error
        except OSError as error:
            message = f"the file cannot be read ({error.strerror or error})"
            raise InputError(message, where=self.name, code="unreadable-file") from error

    def rows(self, read: Read, bad: BadLines, progress: Progress | None = None) -> Iterator[Row]:
        """What `read` makes of each line: of its number, its content, and whether it is the first that is not empty;
        None for a line without a row. Wrong lines go to `bad`."""
        first, number = True, 0
        for line, content in self.lines(progress):
            try:
                row = read(line, content, first)
            except WrongLine as error:
                number += 1
                bad.add(error, number)
            else:
                if row is not None:
                    number += 1
                    yield row
            first = False


def locate(data: RawSet, kind: str, raw: Path) -> RawFileHandle:
    """The first of a kind's files (`interactions`, `metadata`) that is present in `raw`, compressed or not.

    Raises `InputError` with the file's name and source.
    """
    specs: tuple[RawFile, ...] = getattr(data.release, kind)
    if not raw.is_dir():
        hint = "give the folder that holds the raw files"
        raise InputError("no such folder", where=str(raw), hint=hint, code="missing-file")
    for spec in specs:
        name = spec.file.format(category=data.category)
        other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
        for folder in spec.folders:
            for candidate in (name, other):
                if (path := raw / folder / candidate).is_file():
                    return RawFileHandle(spec, path)
        if spec.archive and (path := raw / spec.archive).is_file():
            return RawFileHandle(spec, path, f"{Path(spec.archive).stem}/{name}")
    names = " or ".join(spec.file.format(category=data.category) for spec in specs)
    folders = sorted({folder for spec in specs for folder in spec.folders if folder})
    inside = f", nor in {'/, '.join(folders)}/" if folders else ""
    hint = f"get it from {data.release.homepage}"
    if specs[0].urls:
        url = specs[0].urls[0].format(category=data.category)
        hint = f"put it there (from {url}), or leave out --raw to download it"
    raise InputError(f"no {names}{inside}", where=str(raw), hint=hint, code="missing-file")


def download(data: RawSet, kind: str, progress: Progress | None) -> RawFileHandle:
    """The first of a kind's files that has an address, downloaded to `$HARNESS_HOME/raw` unless it is present."""
    folder = cache_dir() / "raw" / data.release.key
    specs: tuple[RawFile, ...] = getattr(data.release, kind)
    for spec in specs:
        if spec.urls:
            urls = tuple(url.format(category=data.category) for url in spec.urls)
            name = spec.archive or spec.file.format(category=data.category)
            checksum = data.release.known.get(name)
            stated = (None, None) if checksum is None else (checksum.bytes, checksum.sha256)
            path = fetch(RemoteFile(name, urls, *stated), folder, progress)
            inside = f"{Path(name).stem}/{spec.file.format(category=data.category)}" if spec.archive else ""
            return RawFileHandle(spec, path, inside)
    message = "its files can be had only after accepting terms, so they are not downloaded"
    raise InputError(message, where=data.name, hint=data.how_to_get, code="not-available")
