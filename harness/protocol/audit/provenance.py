"""`Provenance`: the interactions that an artefact (item vectors, an index file) was computed from, in a sidecar file.

Item vectors and codes carry information, so that one computed from held-out rows leaks targets into a run. The producer
of an artefact states the rows; its consumer calls `check`, which rejects held-out rows. A file of unknown provenance is
accepted, and the record states `unknown`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.core.files import write_text
from harness.core.hashing import file_sha256
from harness.core.json_files import read_json_object
from harness.data.readers.lcrec import INDEX_PROVENANCE as ENDING
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.protocol.split import TrainingData

SCHEMA = 1
MEND = "free some space, or choose another folder"

Rows = Literal["none", "training", "training+validation", "unknown"]
_WIDEST: tuple[Rows, ...] = ("none", "training", "unknown", "training+validation")  # a known leak outweighs a doubt


class Provenance(BaseModel):
    """What an artefact saw.

    `rows`: `none` (item text alone), `training`, `training+validation`, or `unknown`. `split` is the
    `TrainingData.rows_fingerprint` of the training part that it belongs to, empty where no rows were seen or nothing is
    known. `made_by` names the maker and its version (`behavior/1`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Rows
    split: str = ""
    made_by: str = ""

    @classmethod
    def of_text(cls, made_by: str) -> Provenance:
        """Made from item text alone."""
        return cls(rows="none", made_by=made_by)

    @classmethod
    def of(cls, data: TrainingData, made_by: str, *, validation: bool = False) -> Provenance:
        """Made from the training part, with `validation` from the validation items too."""
        return cls(
            rows="training+validation" if validation else "training", split=data.rows_fingerprint, made_by=made_by
        )

    @classmethod
    def joined(cls, made_by: str, *parts: Provenance) -> Provenance:
        """Of what is made from several artefacts: it has seen what any of them saw.

        Raises `InputError` where the parts come from different splits.
        """
        splits = sorted({part.split for part in parts if part.split})
        if len(splits) > 1:
            raise InputError(f"made from artefacts of different splits ({', '.join(splits)})", where=made_by)
        rows = max((_WIDEST.index(part.rows) for part in parts), default=0)
        return cls(rows=_WIDEST[rows], split="".join(splits), made_by=made_by)

    def fault(self, data: TrainingData, *, declared: bool = False) -> str | None:
        """Why a run that trains on `data` must not use it, or None. `declared`: the configuration says openly that it
        shows validation rows (`ModelConfig.leaks`). Unknown origin is no fault: there is nothing to hold it to."""
        if self.rows == "none" or (self.rows == "unknown" and not self.split):
            return None
        if self.split != data.rows_fingerprint:
            return (
                f"made from the rows of split {self.split}, where this run trains on {data.rows_fingerprint}: "
                "rows held out here may be among them"
            )
        if self.rows == "training+validation" and not declared:
            return "made from validation rows as well as training rows"
        return None

    def check(self, data: TrainingData, *, location: str, declared: bool = False) -> None:
        """Raises `InputError` for an artefact that saw held-out rows."""
        if (message := self.fault(data, declared=declared)) is not None:
            raise InputError(message, where=location, hint="make it again from this data set's training part")


UNKNOWN = Provenance(rows="unknown")


def sidecar(path: Path) -> Path:
    """Where the provenance of the file `path` is kept.

    >>> sidecar(Path("item.index.json")).name
    'item.index.json.provenance.json'
    """
    return path.with_name(path.name + ENDING)


def write_provenance(path: Path, provenance: Provenance) -> None:
    """Puts the provenance of the finished file `path` beside it, bound to its content."""
    document = {"schema": SCHEMA, "sha256": file_sha256(path), **provenance.model_dump()}
    write_text(sidecar(path), json.dumps(document, indent=2) + "\n", MEND)


def read_provenance(path: Path) -> Provenance:
    """What is known of the file `path`; `UNKNOWN` where nothing is kept beside it.

    Raises `InputError` where what is kept cannot be read, or belongs to another content of the file.
    """
    neighbours = sidecar(path)
    if not neighbours.exists():
        return UNKNOWN
    hint = "make the artefact again, or remove this file to use it as one of unknown origin"
    try:
        document = read_json_object(neighbours)
        schema, digest = document.pop("schema"), document.pop("sha256")
        provenance = None if schema != SCHEMA else Provenance.model_validate(document)
    except (InputError, KeyError, ValidationError) as error:
        raise InputError("not a readable provenance", where=neighbours, hint=hint) from error
    if provenance is None:
        raise InputError("of another version of this program", where=neighbours, hint=hint)
    if digest != file_sha256(path):
        raise InputError(f"belongs to another content of {path.name}", where=neighbours, hint=hint)
    return provenance
