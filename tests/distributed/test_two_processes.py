"""Two processes against one: the same steps, the same lists, each user once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.protocol.world import ALONE
from tests.distributed.cases import USERS, Case, models, started, weights

NAMES = ("eager-llm", "lcrec", "tiger")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two have found of each model."""
    found = tmp_path_factory.mktemp("together")
    for name in models():
        case = Case(name, found / f"{name}-alone", ALONE)
        model, losses = case.fitted()
        model.save(found / "alone" / name)
        lists = {f"lists{users}": case.lists(case.loaded(found / "alone" / name), users).items for users in (USERS, 1)}
        np.savez(found / f"{name}.npz", losses=losses, **lists)
        torch.save(weights(model), found / f"{name}.pt")
        (found / f"{name}.json").write_text(json.dumps(model.record()))
    with started("tests.distributed.cases", str(found)) as running:
        for process in running:
            _, said = process.communicate(timeout=170)
            assert process.returncode == 0, said
    return found


def of(folder: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process has found, and each of the two."""
    return dict(np.load(folder / f"{name}.npz")), [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in (0, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_each_step_costs_what_it_costs_alone(name: str, folder: Path) -> None:
    alone, (first, second) = of(folder, name)
    assert len(alone["losses"]) >= 6 and len(set(alone["losses"].round(4))) > 3
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=2e-5)
    np.testing.assert_array_equal(first["losses"][-len(second["losses"]) :], second["losses"])


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_one_process_and_equal_in_both(name: str, folder: Path) -> None:
    alone = torch.load(folder / f"{name}.pt", weights_only=True)
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert alone.keys() == first.keys() == second.keys()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=2e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_lists_are_exactly_those_of_one_process(name: str, folder: Path) -> None:
    alone, both = of(folder, name)
    assert alone[f"lists{USERS}"].shape == (USERS, 10) and len(np.unique(alone[f"lists{USERS}"], axis=0)) > 3
    for found in both:
        np.testing.assert_array_equal(found[f"lists{USERS}"], alone[f"lists{USERS}"])
        np.testing.assert_array_equal(found["lists1"], alone["lists1"])  # more processes than users
        assert found["users"].tolist() == list(range(USERS)), "none dropped, none doubled"
    halves = [-(-USERS // 2), USERS // 2]
    assert [found["shares"][0] for found in both] == halves, "each ranks its own"


@pytest.mark.parametrize("name", NAMES)
def test_the_record_counts_all_users_and_is_the_same(name: str, folder: Path) -> None:
    alone = json.loads((folder / f"{name}.json").read_text())
    both = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
    for fitted, loaded in both:
        for told in (fitted["decode"]["test"], loaded["decode"]["test"]):
            assert told["users_scored"] in (USERS, 1) and told["users_expected"] == told["users_scored"]
            assert told["short"] == told["invalid"] == told["duplicate"] == 0
        assert fitted["index"] == alone["index"]
