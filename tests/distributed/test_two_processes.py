"""Two processes against one: the same steps, the same lists, each user once; a stage by one, by two, and by both in
turns; and what processes say to each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.generative.training.checkpoint import read_snapshot
from harness.protocol.context import SINGLE_PROCESS
from tests.distributed import stages
from tests.distributed.cases import HALF, PIECES, STEPS, USERS, Case, models, started, weights
from tests.distributed.stages import PLAN, STOPPED, UNEVEN, Stage, interrupted
from tests.distributed.stages import found as of_stage
from tests.waiting import PATIENCE

pytestmark = pytest.mark.nightly

NAMES = tuple(models())
LOSS = {HALF: 5e-3}  # relative; 2e-5 in float32. bfloat16 has eight bits: numbers a part in 256 apart
Found = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What one process and two have found of each model. Each computes on one thread: sums in another order would be
    told apart from sums over processes by nobody."""
    result, threads = tmp_path_factory.mktemp("together"), torch.get_num_threads()
    torch.set_num_threads(1)
    for name in models():
        case = Case(name, result / f"{name}-alone", SINGLE_PROCESS)
        model, losses = case.fitted()
        model.save(result / "alone" / name)
        lists = {f"lists{users}": case.lists(case.loaded(result / "alone" / name), users).items for users in (USERS, 1)}
        np.savez(result / f"{name}.npz", losses=losses, **lists)
        torch.save(weights(model), result / f"{name}.pt")
        (result / f"{name}.json").write_text(json.dumps(model.record()))
    interrupted(Stage(SINGLE_PROCESS, result / "by-one"))
    with started("tests.distributed.cases", str(result)) as running:
        for process in running:
            _, message = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, message
    yield result
    torch.set_num_threads(threads)


def of(folder: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What one process has found, and each of the two."""
    return dict(np.load(folder / f"{name}.npz")), [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in (0, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_each_step_costs_what_it_costs_alone(name: str, folder: Path) -> None:
    alone, (first, second) = of(folder, name)
    assert len(alone["losses"]) >= 6 and len(set(alone["losses"].round(4))) > 3
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=LOSS.get(name, 2e-5))
    np.testing.assert_array_equal(first["losses"][-len(second["losses"]) :], second["losses"])


def same_weights(folder: Path, name: str, model: str = "eager-llm") -> None:
    """As of the model that one process fitted. In bfloat16, where a gradient near nothing is rounded the other way,
    Adam takes that number's step the other way: there a tensor as a whole is near its like, as no untrained one is."""
    alone, result = torch.load(folder / f"{model}.pt", weights_only=True), load_file(folder / f"{name}.safetensors")
    assert alone.keys() == result.keys()
    for key, value in alone.items():
        assert result[key].dtype == value.dtype, key
        if model == HALF:
            off = (result[key].double() - value.double()).norm() / value.double().norm()
            assert off < 0.3, f"{key}: {off}"
        else:
            torch.testing.assert_close(result[key], value, rtol=2e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_one_process_and_equal_in_both(name: str, folder: Path) -> None:
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in second)
    same_weights(folder, f"{name}-0", name)


@pytest.mark.parametrize("name", NAMES)
def test_lists_are_exactly_those_of_one_process(name: str, folder: Path) -> None:
    alone, both = of(folder, name)
    assert alone[f"lists{USERS}"].shape == (USERS, 10) and len(np.unique(alone[f"lists{USERS}"], axis=0)) > 3
    for result in both:
        np.testing.assert_array_equal(result[f"lists{USERS}"], alone[f"lists{USERS}"])
        np.testing.assert_array_equal(result["lists1"], alone["lists1"])  # more processes than users
        assert result["users"].tolist() == list(range(USERS)), "none dropped, none doubled"
    halves = [-(-USERS // 2), USERS // 2]
    assert [result["shares"][0] for result in both] == halves, "each ranks its own"


@pytest.mark.parametrize("name", NAMES)
def test_the_record_counts_all_users_and_is_the_same(name: str, folder: Path) -> None:
    alone = json.loads((folder / f"{name}.json").read_text())
    both = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
    for fitted, loaded in both:
        for messages in (fitted["decode"]["test"], loaded["decode"]["test"]):
            assert messages["users_scored"] in (USERS, 1) and messages["users_expected"] == messages["users_scored"]
            assert messages["short"] == messages["invalid"] == messages["duplicate"] == 0
        records = [{**one["index"], "seconds": None} for one in (fitted, alone)]
        assert records[0] == records[1]


@pytest.mark.parametrize("name", PIECES)
def test_a_backbone_in_pieces_becomes_what_it_becomes_whole(name: str, folder: Path) -> None:
    alone, (first, second) = of(folder, name)[0], (dict(np.load(folder / f"{name}-pieces-{r}.npz")) for r in (0, 1))
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=LOSS.get(name, 2e-5))
    assert first["losses"].tolist() == second["losses"].tolist()
    np.testing.assert_array_equal(first["items"], second["items"])
    same_weights(folder, f"{name}-pieces-0", name)
    same_weights(folder, f"{name}-pieces-1", name)


@pytest.mark.parametrize("stop", [STEPS - 2, STEPS + 3])
@pytest.mark.parametrize("name", PIECES)
def test_a_stage_in_pieces_is_continued_by_two_and_by_one(name: str, stop: int, folder: Path) -> None:
    """Its weights in the first stage, its adapter in the second: by two to the digit."""
    undisturbed = load_file(folder / f"{name}-pieces-0.safetensors")
    for rank in (0, 1):
        repeated = load_file(folder / f"{name}-again{stop}-{rank}.safetensors")
        assert all(torch.equal(repeated[key], value) for key, value in undisturbed.items())
    model, losses = Case(name, folder / f"{name}-alone", SINGLE_PROCESS).fitted(folder / f"{name}-for-one{stop}")
    assert len(losses) == 2 * STEPS - stop + 1, "it went on from there"
    save_file(weights(model), folder / f"{name}-one{stop}.safetensors")
    same_weights(folder, f"{name}-one{stop}", name)


def test_a_block_in_pieces_holds_two_kinds_of_numbers(folder: Path) -> None:
    """What was tested is a backbone in bfloat16 with an adapter in float32, which learned something."""
    tensors = load_file(folder / f"{HALF}-pieces-0.safetensors")
    block = {key: value for key, value in tensors.items() if key.startswith("body.layers.0.")}
    adapter = {key for key in block if ".lora_" in key}
    assert adapter and {block[key].dtype for key in adapter} == {torch.float32}
    assert {value.dtype for key, value in block.items() if key not in adapter} == {torch.bfloat16}
    assert all(block[key].abs().max() > 0 for key in adapter if ".lora_B." in key), "drawn as zeros"


@pytest.fixture(scope="module")
def both(folder: Path) -> Found:
    first, second = (json.loads((folder / f"stages-{rank}.json").read_text()) for rank in (0, 1))
    return first, second


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["steps"] == other["steps"]
    for actual, reference in zip(one["values"], other["values"], strict=True):
        np.testing.assert_allclose(actual, reference, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
    np.testing.assert_allclose(one["seen"], other["seen"], rtol=1e-5)


def test_two_take_the_steps_of_one(both: Found) -> None:
    alone = of_stage(Stage(SINGLE_PROCESS))
    same(both[0]["whole"], alone)
    assert both[0]["whole"] == both[1]["whole"]
    unused = alone["values"][4:]
    assert both[0]["whole"]["values"][4:] == unused, "what no sample used is not decayed, as alone"


def test_a_process_without_samples_takes_the_same_steps(both: Found) -> None:
    same(both[0]["small"], of_stage(Stage(SINGLE_PROCESS, parts=1)))
    assert both[0]["small"] == both[1]["small"]


def test_parts_of_unequal_size_add_up_to_the_whole_step_in_two_processes(both: Found) -> None:
    """In three parts, one of them a single sample, so that a process has none of it; and at once."""
    at_once = Stage(SINGLE_PROCESS, plan=replace(PLAN, accumulate=1), uneven=(sum(UNEVEN),))
    same(both[0]["uneven"], of_stage(at_once))
    assert both[0]["uneven"] == both[1]["uneven"]


def test_two_continue_what_one_began(both: Found, folder: Path) -> None:
    same(both[0]["continued"], of_stage(Stage(SINGLE_PROCESS)))
    assert both[0]["continued"] == both[1]["continued"] == both[0]["again"] == both[1]["again"]


def test_one_continues_what_two_began(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "by-two", tmp_path / "kept")
    stored = read_snapshot(tmp_path / "kept/stage.safetensors")
    assert stored is not None and stored[0]["step"] == STOPPED
    same(of_stage(Stage(SINGLE_PROCESS, tmp_path / "kept")), of_stage(Stage(SINGLE_PROCESS)))


def test_a_clock_ends_the_stage_everywhere_at_one_step(both: Found) -> None:
    assert 0 < both[0]["clocked"]["steps"] < 100_000
    assert both[0]["clocked"] == both[1]["clocked"]


def test_what_is_said(both: Found) -> None:
    first, second = both[0]["talk"], both[1]["talk"]
    refused = first.pop("refused"), second.pop("refused")
    assert first == second
    assert first == {
        "told": {"rank": 0, "text": "é" * 40},
        "handed": ["int32", [[0, 1, 2], [3, 4, 5]]],
        "empty": [[0, 4], [0, 4]],
        "gathered": [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0, 13.0, 14.0]],
        "nobody": [0, 3],
        "summed": [3.0, 3.0],
        "spread": [[0.0, 0.0], [0.0, 0.0]],
        "agreed": 7,
        "once": 7,
    }
    why = "no such file; name another"
    assert refused[0][:3] == [f"InputError: process 1 of 2: {why}", f"InputError: {why}", f"InputError: {why}"]
    assert refused[0][3].startswith("InputError: process 1 of 2: it would make the run run-1, the first makes run-0")
    assert refused[0][4] == f"InputError: {why}"
    assert [line.partition(":")[0] for line in refused[1]] == ["AbortedByMain"] * 5


def test_alone_is_a_world_of_one() -> None:
    messages = stages.talk(SINGLE_PROCESS)
    assert messages["told"] == {"rank": 0, "text": "é" * 40} and messages["gathered"] == [[0.0, 1.0, 2.0]]
    assert messages["summed"] == [1.0, 1.0] and messages["agreed"] == messages["once"] == 7
