"""An index's health, counted by hand on small tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.generative.item_codes import CodeTable, inspect, warnings

# items 0 and 3 share a code; prefixes 0 → {0, 1}, 1 → {0}
TABLE = CodeTable(np.array([[0, 0], [0, 1], [1, 0], [0, 0]]), (2, 4))


def test_counts_of_a_small_table() -> None:
    result = inspect(TABLE, targets=np.array([0, 1, 2, 2, 3]))
    assert (result["items"], result["codes"], result["groups"], result["biggest_group"]) == (4, 3, 1, 2)
    assert result["collision_rate"] == 0.5 and result["affected_targets"] == pytest.approx(2 / 5)
    first, second = result["levels"]
    assert (first["size"], first["used"], first["prefixes"], first["fanout"]) == (2, 2, 2, {"mean": 2.0, "most": 2})
    assert (second["size"], second["used"], second["prefixes"], second["fanout"]) == (4, 2, 3, {"mean": 1.5, "most": 2})
    assert first["entropy"] == pytest.approx(0.8112781) and second["entropy"] == pytest.approx(0.8112781)
    assert json.loads(json.dumps(result)) == result


def test_nothing_is_said_of_targets_that_are_not_given() -> None:
    assert "affected_targets" not in inspect(TABLE)


def test_collisions_and_dead_levels_are_warned_of() -> None:
    lines = warnings(inspect(TABLE))
    assert len(lines) == 1 and "50.0%" in lines[0] and "biggest group has 2" in lines[0]
    clean = CodeTable(np.array([[0, 0], [0, 1], [0, 2]]), (2, 4))
    assert warnings(inspect(clean)) == ["level 1 has the same token for all items"]
    assert warnings(inspect(CodeTable(np.array([[0], [1]]), (2,)))) == []


@pytest.mark.realdata
def test_the_published_index_of_instruments() -> None:
    """LETTER's index of Amazon Instruments: 23 shared codes, 48 items in them."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "instruments"
    if not folder.is_dir():
        pytest.skip("no real data here")
    items = list(json.loads((folder / "instruments.index.json").read_text()))
    result = inspect(CodeTable.read(folder / "instruments.index.json", items))
    assert (result["items"], result["codes"], result["groups"], result["biggest_group"]) == (9922, 9897, 23, 3)
    assert result["collision_rate"] == pytest.approx(48 / 9922) and warnings(result) == []
