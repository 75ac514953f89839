"""`ItemIndex`: the codes of a whole catalogue with what they were made from; and ready ones, read from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.generative.index_statistics import inspect
from harness.generative.item_codes import CodeTable
from harness.protocol.audit.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.split import TrainingData

INDEX_FILE = "item.index.json"  # in a run's folder


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemIndex:
    """The codes of all items. `details` is what their making measured, JSON-able."""

    table: CodeTable
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path, data: TrainingData) -> None:
        """An LC-Rec-style index file, its provenance beside it."""
        self.table.write(path, data.items)
        write_provenance(path, self.provenance)

    def record(self) -> dict[str, Any]:
        """What a run's record says of it: its health, what it saw, what its making measured."""
        return {**inspect(self.table), **self.provenance.model_dump(), **self.details}


def index_file(named: Path | None, data: TrainingData, setting: str) -> Path:
    """The file that `setting` names, or the one that the data set comes with. Raises `InputError` where there is
    neither."""
    if named is not None:
        return named
    if data.index_file is None:
        raise InputError(
            "this data set comes without an index file", where=data.dataset, mend=f"name one with {setting}"
        )
    return data.index_file


def ready_index(path: Path, data: TrainingData, *, declared: bool) -> ItemIndex:
    """Codes from an index file. Raises `InputError` for one that is wrong or does not cover the catalogue, and for one
    that saw held-out rows (unless that leak is `declared`)."""
    table, provenance = CodeTable.read(path, data.items), read_provenance(path)
    provenance.check(data, where=str(path), declared=declared)
    return ItemIndex(table=table, provenance=provenance, details={"kind": "file", "file": path.name})
