"""Raw files: their location, streams of their lines, and errors of damaged ones.

Handles names, folders, gzip and zip; `interactions` and `metadata` parse the lines.

`ResumableRows` saves the rows of a pass over a raw file in parts, so that an interrupted pass reads only the rest.

A part is a Parquet file that is written atomically and states its last line. Its rows are checked, so that a resumed
pass and an uninterrupted one give the same rows.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.core.environment import cache_dir
from harness.core.files import write_atomic
from harness.core.json_files import REFETCH, BoundedDecompressor
from harness.core.timer import CheckpointTimer
from harness.data.download import Progress, RemoteFile, byte_bar, fetch, sha256_of
from harness.data.raw.releases import RawFile, RawSet
from harness.data.readers.parquet_tables import read_parquet
from harness.data.reading import BadLines, WrongLine
from harness.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


BUFFER = 1 << 20
LONGEST_LINE = 1 << 24  # bytes; the longest of the public files have some 100,000
MOST = 500_000  # rows that wait in memory for their part, whatever the time
LINE, WHOLE = b"line", b"whole"


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
        with (
            _translated(self, lambda: number),
            self.opened() as (content, file),
            byte_bar(progress, bar, 1 << 20, size) as reach,
        ):
            for number, line in enumerate(iter(partial(content.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    message = f"a line of more than {LONGEST_LINE:,} bytes"
                    raise InputError(message, where=self.at(number), hint=REFETCH, code="too-large")
                if not number & 16383:
                    reach(file.tell())
                if not line.isspace():
                    yield number, line
            reach(size)


@contextmanager
def _translated(file_handle: RawFileHandle, line: Callable[[], int]) -> Iterator[None]:
    """Errors of a damaged archive, with the number of the last line that was read."""
    try:
        yield
    except EOFError as error:
        message = "the gzip file is cut off here or soon after"
        raise InputError(message, where=file_handle.at(line() + 1), hint=REFETCH, code="bad-file") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        location = file_handle.at(line()) if line() else file_handle.name
        message = f"the compressed file is broken ({error})"
        raise InputError(message, where=location, hint=REFETCH, code="bad-file") from error
    except KeyError as error:  # a zip archive without the member
        message, location = f"the archive has no {file_handle.member}", str(file_handle.path)
        raise InputError(message, where=location, hint=REFETCH, code="missing-file") from error
    except OSError as error:
        message = f"the file cannot be read ({error.strerror or error})"
        raise InputError(message, where=file_handle.name, code="unreadable-file") from error


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


Row = tuple[Any, ...]
Read = Callable[[int, bytes, bool], Row | None]


def packed(error: InputError) -> str:
    """A line's error as one text, which `unpacked` reverses."""
    return json.dumps([error.what, error.where, error.hint, error.code])


def unpacked(text: str) -> InputError:
    """The error that `packed` has written."""
    what, location, hint, code = json.loads(text)
    return WrongLine(what, where=location, hint=hint, code=code)


@dataclass
class ResumableRows:
    """Parts of one pass in `folder` (None: nowhere), a column for each value of a row, of these Arrow types; the first
    value is never None, the first two are text.

    `rows` yields each row of the file once: the saved ones, then those that `read` parses from the following lines
    (None for a line without a row; its third argument is true for the file's first line that is not blank). Wrong lines
    go to `bad`; they are saved too, as a row of None and the error, so that a resumed pass counts them. The caller
    holds the lock of the folder, whose name depends on everything that determines the rows.
    """

    folder: Path | None
    types: Sequence[pa.DataType]
    bad: BadLines
    _waiting: list[Row] = field(default_factory=list)
    _number: int = 0
    _pace: CheckpointTimer = field(default_factory=CheckpointTimer)

    def rows(self, file_handle: RawFileHandle, read: Read, progress: Progress | None = None) -> Iterator[Row]:
        """Raises `InputError` where more lines are wrong than may be and for a file of another release (saved parts are
        deleted), and for errors of the disk (parts remain)."""
        for number, row in enumerate(self._saved_and_rest(file_handle, read, progress), start=1):
            if row[0] is None:
                self.bad.add(unpacked(row[1]), number)
            else:
                yield row

    def _saved_and_rest(self, file_handle: RawFileHandle, read: Read, progress: Progress | None) -> Iterator[Row]:
        last, is_whole = 0, False
        for path in self._paths():
            if (part := self._part(path)) is None:
                break
            table, last, is_whole = part
            self._number += 1
            yield from zip(*(column.to_pylist() for column in table.columns), strict=True)
        for path in self._paths()[self._number :]:
            path.unlink()  # damaged, or behind one that is
        if is_whole:
            return
        rest = self._rest(file_handle, read, last, progress)
        for last, row in rest:
            yield row
            if self.folder is not None:
                self._waiting.append(row)
                if len(self._waiting) >= MOST or self._pace.due:
                    self._write(last, is_whole=False)
        if self._number:
            self._write(last, is_whole=True)

    def _rest(
        self, file_handle: RawFileHandle, read: Read, number: int, progress: Progress | None
    ) -> Iterator[tuple[int, Row]]:
        first = not number
        try:
            for line, content in file_handle.lines(progress):
                if line <= number:
                    continue
                try:
                    row = read(line, content, first)
                except WrongLine as error:
                    if not self.bad.reading.bad_lines:
                        raise
                    row = (None, packed(error), *[None] * (len(self.types) - 2))
                first = False
                if row is not None:
                    yield line, row
        except InputError:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _paths(self) -> list[Path]:
        return [] if self.folder is None else sorted(self.folder.glob("[0-9]*.parquet"))

    def _part(self, path: Path) -> tuple[pa.Table, int, bool] | None:
        """Rows, their last line, and whether the file ends there; None if the part is damaged."""
        try:
            table = read_parquet(path)
            description = table.schema.metadata or {}
            is_valid = table.schema.types == list(self.types) and path.stem == f"{self._number:06d}"
            return (table, int(description[LINE]), description[WHOLE] == b"1") if is_valid else None
        except (InputError, KeyError, ValueError):
            return None

    def _write(self, line: int, *, is_whole: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.folder is not None
        columns = list(zip(*self._waiting, strict=True)) or [()] * len(self.types)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self.types, strict=True)]
        metadata = {LINE: str(line).encode(), WHOLE: b"1" if is_whole else b"0"}
        table = pa.table(arrays, [f"{n}" for n in range(len(arrays))]).replace_schema_metadata(metadata)
        path = self.folder / f"{self._number:06d}.parquet"
        options = {"compression": "zstd", "write_page_checksum": True}
        with self._pace.timed():
            write_atomic(path, lambda temporary: pq.write_table(table, temporary, **options))
        self._number += 1
        self._waiting.clear()
