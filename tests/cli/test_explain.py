"""`harness run --explain` says what a run would reuse and make, and why; it makes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.protocol.context import SilentReporter
from harness.protocol.split import split
from harness.runs import explain as plans
from harness.runs.job import RunOptions, plan
from harness.runs.run import context_of
from harness.store.run_store import Store
from tests import toys
from tests.cli.conftest import Harness
from tests.fakes import Fake

RUN = ("run", "fake", "-d", "toy")
WHOLE = "training, ranking and measuring"


def explained(harness: Harness, *more: str) -> dict[str, Any]:
    done = harness(*RUN, "--explain", "--json", *more)
    assert done.code == 0, done.err
    steps = {step["stage"]: step for step in json.loads(done.out)["steps"]}
    return steps[WHOLE]


def test_nothing_is_made(harness: Harness) -> None:
    step = explained(harness)
    assert (step["state"], step["why"]) == ("to be made", "there is none in the cache")
    assert not Path("results").exists()
    assert set(step["inputs"]) == {"code_version", "data", "protocol", "seed", "configuration"}


def test_what_is_complete_is_reused_and_what_is_not_is_missed_for_a_reason(harness: Harness) -> None:
    document = json.loads(harness(*RUN, "--json").out)
    step = explained(harness)
    assert step["state"] == "reused" and step["key"] == document["run_id"] and "complete since" in step["why"]
    assert (explained(harness, "--fresh")["state"], explained(harness, "--fresh")["why"]) == (
        "to be made",
        "--fresh is set",
    )
    for more, part, stored, requested in (
        (("--set", "fake.size=5"), "configuration.size", 3, 5),
        (("--set", "fake.layer.width=9"), "configuration.layer.width", 4, 9),
        (("--seed", "2"), "seed", 1, 2),
    ):
        step = explained(harness, *more)
        assert step["state"] == "to be made" and step["differs"] == [{"part": part, "kept": stored, "asked": requested}]
        assert part in step["why"]
    text = harness(*RUN, "--explain", "--set", "fake.size=5").out
    assert "to be made" in text and f"{WHOLE}: configuration.size is 5, kept: 3" in text


def test_an_interrupted_run_is_continued(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    assert harness(*RUN).code == 130
    monkeypatch.setattr(Fake, "failure", None)
    assert explained(harness)["state"] == "continued"


@pytest.mark.parametrize("name", ["result.json", "predictions.parquet"])
def test_a_damaged_run_is_made_again(harness: Harness, name: str) -> None:
    document = json.loads(harness(*RUN, "--json").out)
    path = Path(document["path"]) / name
    content = bytearray(path.read_bytes())
    at = content.index(b'"ndcg@10": 0.') + 14 if name == "result.json" else len(content) // 2
    content[at] ^= 1
    path.write_bytes(content)
    step = explained(harness)
    assert step["state"] == "to be made" and "damaged" in step["why"] and name in step["why"]
    repeated = harness(*RUN, "--json")
    assert f"{name}: damaged: it is not what was written; made again" in repeated.err
    assert json.loads(repeated.out)["metrics"] == document["metrics"] and explained(harness)["state"] == "reused"


def test_two_seeds_are_a_list_of_plans(harness: Harness) -> None:
    done = harness(*RUN, "--explain", "--json", "--seed", "1", "--seed", "2")
    assert [each["seed"] for each in json.loads(done.out)] == [1, 2]


def test_the_models_own_artefacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that are kept are reused; another setting of theirs misses them, and is named."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    data = toys.cycle(users=12, items=8)
    monkeypatch.setattr("harness.runs.job.load_dataset", lambda name, order, reading: data)
    store = Store(tmp_path / "results")

    def steps(*sets: str) -> dict[str, plans.Step]:
        (job,) = plan("tiger", RunOptions(dataset="ml-100k", profile="smoke", sets=sets))
        return {step.stage: step for step in plans.explain(job, store).steps}

    first = steps()["semantic vectors"]
    assert (first.state, first.why) == ("to be made", "there is none in the cache")
    (job,) = plan("tiger", RunOptions(dataset="ml-100k", profile="smoke"))
    result = split(data, job.settings.protocol)
    expected, codes = job.recommender().artefacts(result.train, context_of(job, result, SilentReporter()))
    content = expected.manifest.with_suffix(".npy")
    content.parent.mkdir(parents=True)
    content.write_bytes(b"vectors")
    expected.write([content], {})
    stored = steps()["semantic vectors"]
    assert stored.state == "reused" and stored.key == first.key and stored.where == str(expected.manifest)
    codes.write([], {})
    assert steps()["item codes"].state == "reused"
    other = steps("tiger.index.size=16")["item codes"]
    assert [(each.part, each.kept, each.asked) for each in other.differs] == [("settings.size", 8, 16)]
    other = steps("tiger.semantic.max_tokens=9")["semantic vectors"]
    assert [(each.part, each.kept, each.asked) for each in other.differs] == [("settings.max_tokens", 256, 9)]
    content.write_bytes(b"vectorz")
    assert steps()["semantic vectors"].why == "the stored one is corrupt"
