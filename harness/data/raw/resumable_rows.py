"""What a pass over the lines of a raw file has read, kept in parts while it goes on: a killed one reads only the rest.

A part is a Parquet file that appears whole and says up to which line it goes. Parts hold rows that were checked
already, so that a resumed pass and an undisturbed one see the same. What a row means is the pass's own business.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import write_whole
from harness.core.timer import Pace
from harness.data.download import Progress
from harness.data.raw.streams import Found
from harness.data.readers.parquet_tables import read_parquet
from harness.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[Any, ...]
Read = Callable[[int, bytes, bool], Row | None]

MOST = 500_000  # rows that wait in memory for their part, whatever the time
LINE, WHOLE = b"line", b"whole"


@dataclass
class Parts:
    """Parts of one pass in `folder` (None: nowhere), a column for each value of a row, of these Arrow types.

    `rows` gives each row of the file once: those that are kept, then those that `read` makes of the lines behind them
    (None for a line without a row; its third argument is true for the file's first line that is not blank). Whoever
    uses it holds the lock of the folder, which is named by all that decides the rows.
    """

    folder: Path | None
    types: Sequence[pa.DataType]
    _waiting: list[Row] = field(default_factory=list)
    _number: int = 0
    _pace: Pace = field(default_factory=Pace)

    def rows(self, found: Found, read: Read, progress: Progress | None = None) -> Iterator[Row]:
        """Raises `InputError` for the first wrong line, after which nothing is kept, and where the disk refuses, after
        which what is there stays."""
        reached, whole = 0, False
        for path in self._paths():
            if (part := self._part(path)) is None:
                break
            table, reached, whole = part
            self._number += 1
            yield from zip(*(column.to_pylist() for column in table.columns), strict=True)
        for path in self._paths()[self._number :]:
            path.unlink()  # damaged, or behind one that is
        if whole:
            return
        line = reached
        for line, row in self._rest(found, read, reached, progress):
            yield row
            if self.folder is not None:
                self._waiting.append(row)
                if len(self._waiting) >= MOST or self._pace.due:
                    self._write(line, whole=False)
        if self._number:
            self._write(line, whole=True)

    def _rest(self, found: Found, read: Read, reached: int, progress: Progress | None) -> Iterator[tuple[int, Row]]:
        first = not reached
        try:
            for line, content in found.lines(progress):
                if line > reached:
                    row, first = read(line, content, first), False
                    if row is not None:
                        yield line, row
        except InputError:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _paths(self) -> list[Path]:
        return [] if self.folder is None else sorted(self.folder.glob("[0-9]*.parquet"))

    def _part(self, path: Path) -> tuple[pa.Table, int, bool] | None:
        """Rows, the line up to which they go, and whether that is the last; None where it is not what was written."""
        try:
            table = read_parquet(path)
            about = table.schema.metadata or {}
            fits = table.schema.types == list(self.types) and path.stem == f"{self._number:06d}"
            return (table, int(about[LINE]), about[WHOLE] == b"1") if fits else None
        except (InputError, KeyError, ValueError):
            return None

    def _write(self, line: int, *, whole: bool) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.folder is not None
        columns = list(zip(*self._waiting, strict=True)) or [()] * len(self.types)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self.types, strict=True)]
        about = {LINE: str(line).encode(), WHOLE: b"1" if whole else b"0"}
        table = pa.table(arrays, [f"{n}" for n in range(len(arrays))]).replace_schema_metadata(about)
        path = self.folder / f"{self._number:06d}.parquet"
        options = {"compression": "zstd", "write_page_checksum": True}
        with self._pace.keeping():
            write_whole(path, lambda temporary: pq.write_table(table, temporary, **options))
        self._number += 1
        self._waiting.clear()
