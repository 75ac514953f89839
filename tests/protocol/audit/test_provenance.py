"""An artefact's provenance survives the disk, is bound to its file, and refuses what saw held-out rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.audit.provenance import UNKNOWN, Provenance, read_provenance, sidecar, write_provenance
from tests import toys

DATA = toys.split().train


def leaky() -> Provenance:
    """Of vectors that were trained on everything but the last item."""
    return Provenance.of(replace(DATA, sequences=toys.without_last(toys.cycle().sequences)), "behavior/1")


def test_what_saw_the_training_rows_or_none_may_be_used() -> None:
    for provenance in (Provenance.of(DATA, "behavior/1"), Provenance.of_text("semantic/1"), UNKNOWN):
        provenance.check(DATA, location="x")


def test_vectors_of_held_out_rows_are_refused_and_so_is_an_index_of_them() -> None:
    index = Provenance.joined("index/1", Provenance.of_text("semantic/1"), leaky())
    for provenance in (leaky(), index):
        with pytest.raises(InputError, match=rf"vectors.npy: made from the rows of split {leaky().split}, .*held out"):
            provenance.check(DATA, location="vectors.npy")


def test_validation_rows_must_be_declared() -> None:
    provenance = Provenance.of(DATA, "behavior/1", validation=True)
    with pytest.raises(InputError, match="validation rows"):
        provenance.check(DATA, location="x")
    provenance.check(DATA, location="x", declared=True)


def test_joining_takes_the_widest() -> None:
    training, both = Provenance.of(DATA, "a"), Provenance.of(DATA, "b", validation=True)
    assert Provenance.joined("i", training, Provenance.of_text("t")).rows == "training"
    assert Provenance.joined("i", training, both) == Provenance(rows=both.rows, split=both.split, made_by="i")
    assert Provenance.joined("i", training, UNKNOWN).rows == "unknown"
    assert Provenance.joined("i", both, UNKNOWN).rows == "training+validation"
    assert Provenance.joined("i", leaky(), UNKNOWN).fault(DATA)
    with pytest.raises(InputError, match="different splits"):
        Provenance.joined("i", training, leaky())


def test_the_order_of_users_and_items_does_not_matter_but_any_row_does() -> None:
    users, items = np.arange(DATA.n_users)[::-1], np.arange(DATA.n_items)[::-1]
    rows = DATA.sequences.take(users)
    renamed = RaggedArray(np.argsort(items)[rows.values], rows.offsets)
    turned = replace(DATA, items=tuple(DATA.items[i] for i in items), sequences=renamed)
    assert turned.fingerprint != DATA.fingerprint
    assert turned.rows_fingerprint == DATA.rows_fingerprint
    fewer = replace(DATA, sequences=DATA.sequences.take(np.arange(1, DATA.n_users)))
    assert fewer.rows_fingerprint != DATA.rows_fingerprint


def test_it_survives_the_disk_and_is_bound_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "item.index.json"
    file.write_text("{}")
    assert read_provenance(file) == UNKNOWN
    write_provenance(file, leaky())
    assert read_provenance(file) == leaky()
    file.write_text('{"0": []}')
    with pytest.raises(InputError, match="belongs to another content"):
        read_provenance(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "sha256": "", "rows": "all"}', '{"schema": 9}'])
def test_an_unreadable_provenance_is_an_error_not_an_unknown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "v.npy"
    file.write_text("x")
    sidecar(file).write_text(text)
    with pytest.raises(InputError, match=r"v\.npy\.provenance\.json: .*(readable|version)"):
        read_provenance(file)
