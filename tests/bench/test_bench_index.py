"""`harness bench index` on a small catalogue: equal codes, and detection of different ones."""

from __future__ import annotations

import numpy as np
import pytest

from eager import bench
from harness.bench import item_codes
from harness.bench.timing import Options
from harness.errors import InputError
from harness.generative.tokenizers.kmeans import assign_with_sizes, balanced_sizes


@pytest.mark.nightly
def test_equal_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = item_codes.measure_index(Options(items=600))
    document = outcome.document()
    assert document["identical"] and document["checks"]["distinct_codes"] == 600
    assert document["checks"]["largest_and_smallest_cluster"] == [3, 2]
    assert document["parts"]["repaired"]["inertia"] > 0.5
    both = document["parts"]["both"]
    assert list(both) == ["600"] and both["600"]["equal_for_equal_seeds"] and len(both["600"]["seconds"]) == 3
    monkeypatch.setattr(bench, "by_turns", lambda distances, sizes: assign_with_sizes(-distances, sizes))
    assert not item_codes.measure_index(Options(items=600)).identical


@pytest.mark.parametrize("n", [40, 41, 300])
def test_reference_assignment_is_stable(n: int) -> None:
    distances, sizes = np.random.default_rng(n).random((n, 7)), balanced_sizes(n, 7)
    result = bench.by_turns(distances, sizes)
    assert (np.bincount(result, minlength=7) == sizes).all()
    local = distances[np.arange(n), result]
    worst = np.array([local[result == cluster].max() for cluster in range(7)])
    assert not ((distances < local[:, None]) & (distances < worst)).any()


def test_too_many_items_are_refused() -> None:
    with pytest.raises(InputError, match="two levels"):
        item_codes.measure_index(Options(items=70_000))


@pytest.mark.nightly
def test_trees_that_differ_between_rounds_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = iter(range(99))
    result = item_codes.import_module

    class Drifting:
        @staticmethod
        def trees(items: int, seed: int) -> bench.Trees:
            return result(item_codes.SUBJECT).trees(items, next(seeds))

    monkeypatch.setattr(item_codes, "import_module", lambda name: Drifting)
    assert not item_codes._both(600, Options())["equal_for_equal_seeds"]
