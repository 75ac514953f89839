"""The fast steps equal the slow reference on random small sets, through the files and back."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

from harness.data.dataset import Dataset
from harness.data.local_store import load
from harness.data.raw.prepare import Request, build, prepare, settings_of
from harness.data.raw.releases import resolve
from harness.data.raw.streams import locate
from harness.errors import InputError
from tests.data.raw import files, reference

SEEDS = st.integers(0, 2**32)
EXAMPLES = settings(  # no shrinking: a set of 60 lines takes minutes to shrink, and is small enough to be read
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.target],
)


def sequences(data: Dataset) -> dict[str, list[tuple[str, int]]]:
    """Users in order, each with (raw item, time)."""
    assert data.timestamps is not None
    bounds = data.sequences.offsets
    return {
        user: [
            (data.items[item], int(time))
            for item, time in zip(row, data.timestamps[bounds[u] : bounds[u + 1]], strict=True)
        ]
        for u, (user, row) in enumerate(zip(data.users, data.sequences, strict=True))
    }


def built(name: str, raw: Path, tie_seed: int | None = None) -> tuple[Dataset, dict[str, Any]]:
    """Prepared from its files, and not yet kept."""
    data = resolve(name)
    result = {kind: locate(data, kind, raw) for kind in ("interactions", "metadata")}
    return build(data, result, settings_of(data, Request(name, raw, tie_seed)))


def agrees(name: str, raw: Path, expected: reference.Expected, tie_seed: int | None) -> None:
    """Compares with the reference: users, items, sequences, times and texts, in order."""
    if not expected.sequences:
        with pytest.raises(InputError, match="nothing is left"):
            built(name, raw, tie_seed)
        event("nothing left")
        return
    data, story = built(name, raw, tie_seed)
    event(f"{sum('-core' in step['step'] for step in story['steps'])} passes of the k-core")
    assert sequences(data) == expected.sequences
    assert list(data.users) == list(expected.sequences)
    assert list(data.items) == expected.items
    assert data.text is not None and all(item in text.title for item, text in zip(data.items, data.text, strict=True))


@EXAMPLES
@given(SEEDS, st.sampled_from([None, 0, 7]))
def test_amazon_2018_equals_the_reference(seed: int, tie_seed: int | None) -> None:
    rows, described = files.random_set(seed)
    with tempfile.TemporaryDirectory() as folder:
        files.ratings_2018(Path(folder), rows)
        files.metadata_2018(Path(folder), sorted(described))
        expected = reference.prepared(rows, described, tie_seed=tie_seed or 0)
        agrees("instruments", Path(folder), expected, tie_seed)


@EXAMPLES
@given(SEEDS, st.sampled_from([None, 3]))
def test_amazon_2014_equals_the_reference(seed: int, tie_seed: int | None) -> None:
    rows, described = files.random_set(seed)
    with tempfile.TemporaryDirectory() as folder:
        files.reviews_2014(Path(folder), rows)
        files.metadata_2014(Path(folder), sorted(described))
        agrees("beauty", Path(folder), reference.prepared(rows, described, tie_seed=tie_seed), tie_seed)


def test_a_chain_of_passes(tmp_path: Path) -> None:
    """Each pass takes away what the one before it made too rare: U9 falls, then I9, then U8; the core stays."""
    rows = files.core_rows(6, 6)
    rows += [("U9", item, 5.0, files.START) for item in ("I0", "I1", "I2", "I9")]
    rows += [("U8", item, 5.0, files.START) for item in ("I0", "I1", "I2", "I3", "I9")]
    rows += [(f"U{n}", "I9", 5.0, files.START + 9 * files.DAY) for n in range(3)]
    done = prepare(Request("instruments", files.set_2018(tmp_path / "raw", rows)))
    steps = [(step["step"], step["users"], step["items"]) for step in done.story["steps"]]
    assert [step for step in steps if "-core" in step[0]] == [
        ("5-core, pass 1", 7, 7),
        ("5-core, pass 2", 7, 6),
        ("5-core, pass 3", 6, 6),
    ]
    assert done.story["result"]["interactions"] == 36


@EXAMPLES
@given(SEEDS)
def test_shuffled_lines_have_the_same_fingerprint(seed: int) -> None:
    rows, described = files.random_set(seed)
    assume(reference.prepared(rows, described, tie_seed=0).sequences)
    listed = sorted(described)
    records = [{"asin": item, "title": f"{item} {place % 3}"} for place, item in enumerate([*listed, *listed[:4]])]
    marks = []
    for turn in range(2):  # four items stand twice, with other texts
        random.Random(seed + turn).shuffle(rows)
        random.Random(seed + turn).shuffle(records)
        with tempfile.TemporaryDirectory() as folder:
            files.ratings_2018(Path(folder), rows)
            files.put(Path(folder) / "meta_Musical_Instruments.json.gz", files.json_lines(records))
            data, _ = built("instruments", Path(folder))
            marks.append((data.fingerprint, data.users, data.items))
    assert marks[0] == marks[1]


def test_another_tie_seed_is_another_order_of_the_same_interactions(tmp_path: Path) -> None:
    rows = [
        (user, item, rating, files.START + files.DAY * (n % 2))
        for n, (user, item, rating, _) in enumerate(files.core_rows(8, 8))
    ]
    raw = files.set_2018(tmp_path / "raw", rows)
    one, same, other = (load(prepare(Request("instruments", raw, seed)).kept.name) for seed in (None, 0, 1))
    assert (one.name, other.name) == ("instruments", "instruments-tie1")
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert {u: sorted(row) for u, row in sequences(one).items()} == {
        u: sorted(row) for u, row in sequences(other).items()
    }
    orders = {tuple(item for item, time in row if time == files.START) for row in sequences(one).values()}
    assert len(orders) > 1  # users do not share one order of the same things
