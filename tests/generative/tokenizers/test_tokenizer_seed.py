"""`tokenizer_seed` moves the item codes alone, and leaves no trace in configurations that do not set it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.experiments.grid import FACTORS, seed_grid
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from tests import toys

RANDOM = "eager.tokenizer={kind: random}"
METHODS = ("eager-llm", "lcrec", "rpg", "tiger")


def codes(folder: Path, seed: int, *sets: str) -> np.ndarray:
    entry = model_entry("eager-llm")
    recommender = entry.load()(resolve(entry, "smoke", ConfigFile(), (RANDOM, *sets)).model)
    data = toys.split().train
    return recommender.item_codes(data, replace(toys.context(folder), seed=seed)).table.digits


def test_the_codes_follow_their_own_seed(tmp_path: Path) -> None:
    first, second = codes(tmp_path, 1), codes(tmp_path, 2)
    assert (first != second).any()
    assert (codes(tmp_path, 1, "eager.tokenizer_seed=2") == second).all()
    assert (codes(tmp_path, 2, "eager.tokenizer_seed=1") == first).all()


@pytest.mark.parametrize("name", METHODS)
def test_configurations_without_it_keep_their_key(name: str) -> None:
    entry = model_entry(name)
    plain = resolve(entry, "smoke", ConfigFile(), ()).model.model_dump(mode="json")
    assert "tokenizer_seed" not in plain
    local = resolve(entry, "smoke", ConfigFile(), (f"{entry.section}.tokenizer_seed=3",)).model.model_dump(mode="json")
    assert local == {**plain, "tokenizer_seed": 3}


@pytest.mark.parametrize("name", METHODS)
def test_crossed_seeds_are_a_row_each(name: str) -> None:
    grid = seed_grid(",".join(FACTORS), model_entry(name), (1, 2, 2))
    section = model_entry(name).section
    assert [cell.sets() for cell in grid.cells] == [(f"{section}.tokenizer_seed={seed}",) for seed in (1, 2)]
    assert [cell.sets() for cell in seed_grid("model_seed", model_entry(name), (1, 2)).cells] == [()]


@pytest.mark.parametrize(
    ("factors", "seeds", "model", "kind"),
    [
        ("users", (1, 2), "tiger", "are no factors"),
        ("model_seed", (1,), "tiger", "one seed has no variance"),
        ("tokenizer_seed,model_seed", (1, 2), "sasrec", "sasrec has no tokenizer"),
    ],
)
def test_factors_that_make_no_sense(factors: str, seeds: tuple[int, ...], model: str, kind: str) -> None:
    with pytest.raises(InputError, match=kind):
        seed_grid(factors, model_entry(model), seeds)
