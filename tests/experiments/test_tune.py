"""`harness tune`: which trials are made, what they may see, and what a killed study does when it is asked for again."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import InputError
from harness.experiments.trials import read_trials
from harness.experiments.tuning import Search, Study, alone, conduct, study
from harness.protocol.context import SilentReporter
from harness.protocol.protocol import METRICS
from harness.registry import MODELS
from harness.runs.job import RunOptions, plan
from harness.runs.run import execute
from harness.store.run_store import Store
from tests.fakes import Choosy
from tests.folders import FAKE


@pytest.fixture(autouse=True)
def choosy(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the model known, with the space of `fake`."""
    entry = replace(FAKE, target="tests.fakes:Choosy")
    monkeypatch.setattr("harness.registry.MODELS", (*MODELS, entry))
    for name, value in {"fits": [], "fails": {}, "tested": False, "failure": None}.items():
        monkeypatch.setattr(Choosy, name, value)


def go(
    toy: str, store: Store, trials: int, said: list[str] | None = None, *, fresh: bool = False, **requested: Any
) -> Study:
    search = {name: requested.pop(name) for name in ("metric", "timeout", "space") if name in requested}
    result = study("fake", Search(trials, **search), RunOptions(dataset=toy, **requested), store)
    with alone(result, lambda: None, fresh=fresh):
        conduct(result, lambda: nullcontext(SilentReporter()), (said if said is not None else []).append)
    return result


def outcomes(study_result: Study) -> list[Any]:
    return [(trial.values, trial.mark, trial.metrics, trial.state) for trial in study_result.trials]


def test_trials_are_judged_on_validation_and_kept_apart(toy: str, store: Store) -> None:
    result = go(toy, store, 8)
    assert result.best is not None and result.value(result.best) == max(
        trial.metrics["ndcg@10"] for trial in result.trials
    )
    assert result.trials[0].values["fake.rate"] == 0.1 and result.value(result.best) > result.value(result.trials[0])
    assert store.query() == [] and not list(store.root.rglob("predictions.parquet"))
    stored = read_trials(result.journal)
    assert all(set(trial.metrics) == set(METRICS) for trial in stored) and '"test"' not in result.journal.read_text()
    assert stored == result.trials
    assert not list(result.path.rglob("checkpoint")) and len(list(result.path.glob("trials/*/log.jsonl"))) == len(
        Choosy.fits
    )


def test_showing_test_cases_would_fail(toy: str, store: Store) -> None:
    """The guard of the other tests: an ordinary run of this model is stopped."""
    with pytest.raises(AssertionError, match="test cases were shown"):
        execute(plan("fake", RunOptions(dataset=toy))[0], store)


def test_the_same_seed_makes_the_same_trials_and_another_one_others(toy: str, tmp_path: Path, store: Store) -> None:
    first = go(toy, store, 7)
    repeated = go(toy, Store(tmp_path / "elsewhere"), 7)
    other = go(toy, store, 3, seeds=(2,))
    assert outcomes(first) == outcomes(repeated) and first.name == repeated.name
    assert first.name != other.name and outcomes(first)[1:3] != outcomes(other)[1:]


@pytest.mark.parametrize("number", [0, 6])
def test_a_killed_study_goes_on_as_if_nothing_had_been(toy: str, tmp_path: Path, store: Store, number: int) -> None:
    complete = go(toy, Store(tmp_path / "undisturbed"), 8)
    Choosy.fits.clear()
    Choosy.resumed.clear()
    Choosy.fails = {number: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(toy, store, 8)
    Choosy.fails = {}
    (torn,) = [path.parent / ".config.yaml.1-ab.tmp" for path in store.root.rglob(f"trials/{number:04d}-*/config.yaml")]
    torn.touch()  # as a kill in the middle of a write leaves it
    resumed = go(toy, store, 8)
    assert not torn.exists()
    assert outcomes(resumed) == outcomes(complete) and resumed.best_config.read_text() != ""
    assert Choosy.resumed.count(True) == 1  # the interrupted trial went on from its checkpoint
    longer = go(toy, store, 9)
    assert outcomes(longer)[:8] == outcomes(complete) and len(longer.trials) == 9


def test_a_complete_study_makes_nothing_and_fresh_makes_all(toy: str, store: Store) -> None:
    go(toy, store, 3)
    done = len(Choosy.fits)
    assert len(go(toy, store, 2).trials) == 3 and len(Choosy.fits) == done
    go(toy, store, 3, fresh=True)
    assert len(Choosy.fits) == 2 * done


def test_a_failed_trial_does_not_stop_the_rest(toy: str, store: Store) -> None:
    message: list[str] = []
    Choosy.fails = {1: InputError("the sizes do not fit"), 2: RuntimeError("no memory")}
    result = go(toy, store, 5, message)
    assert [trial.state for trial in result.trials] == ["complete", "failed", "failed", "complete", "complete"]
    assert result.trials[1].reason == "the sizes do not fit" and "no memory" in result.trials[2].trace
    assert "failed: RuntimeError: no memory" in message[2]
    effort = result.effort()
    assert (effort.trials, effort.failed) == (3, 2) and effort.seconds == pytest.approx(result.seconds, abs=1e-3)


def test_a_study_in_which_all_fails_says_why(toy: str, store: Store) -> None:
    Choosy.fails = dict.fromkeys(range(9), InputError("no rows"))
    with pytest.raises(InputError, match="no trial of this study gave a score: no rows"):
        go(toy, store, 2)


def test_the_same_settings_are_tried_once(toy: str, tmp_path: Path, store: Store) -> None:
    space = tmp_path / "two.toml"
    space.write_text('[space]\nfake.kind = { choices = ["a", "b"] }\n')
    result = go(toy, store, 6, space=space)
    assert len(result.trials) == 6 and len(Choosy.fits) == 2 == result.effort().trials
    assert {trial.repeats for trial in result.trials[2:]} <= {0, 1, None}


def test_time_bounds_the_study_over_all_its_sessions(toy: str, store: Store) -> None:
    message: list[str] = []
    result = go(toy, store, 50, message, timeout=1e-6)
    assert len(result.trials) == 1 and "seconds are spent after 1 trials" in message[-1]
    assert len(go(toy, store, 50, timeout=1e-6).trials) == 1 and result.effort().timeout == 1e-6


def test_the_metric_decides_the_best_and_names_another_study(toy: str, store: Store) -> None:
    by = go(toy, store, 4, metric="recall@1")
    assert by.best is not None and by.value(by.best) == by.best.metrics["recall@1"]
    assert by.name != go(toy, store, 4).name
    with pytest.raises(InputError, match=r"did you mean ndcg@10"):
        go(toy, store, 4, metric="ndgc@10")


def test_the_best_settings_run_and_their_record_tells_the_effort(toy: str, store: Store) -> None:
    result = go(toy, store, 6)
    Choosy.tested = True
    untuned = execute(plan("fake", RunOptions(dataset=toy))[0], store).record
    assert untuned.effort is not None and (untuned.effort.trials, untuned.effort.study) == (1, None)
    options = RunOptions(config=result.best_config)
    done = execute(plan("fake", options)[0], store)
    assert result.best is not None and done.record.metrics.valid == result.best.metrics  # the study's seed
    effort = done.record.effort
    assert effort == result.effort() and effort is not None and effort.trials == 6 and not effort.changed
    assert effort.space["fake.layer.width"] == "2 to 16, step 2"
    repeated = execute(plan("fake", RunOptions(config=Path(done.path) / "config.yaml"))[0], store)
    assert repeated.reused and repeated.record.effort == effort
    changed = execute(plan("fake", replace(options, sets=("fake.size=9",)))[0], store).record.effort
    assert changed is not None and changed.changed and changed.trials == 6


def test_effort_is_no_part_of_the_key_and_a_stored_run_gets_to_know_it(toy: str, store: Store) -> None:
    result = go(toy, store, 6)
    best = result.best_job()
    Choosy.tested = True
    alone_job = replace(best, effort=plan("fake", RunOptions(dataset=toy))[0].effort)
    previous = execute(alone_job, store)
    message: list[str] = []
    updated = execute(best, store, note=message.append)
    assert updated.reused and updated.path == previous.path and updated.record.effort == result.effort()
    same = {"effort": previous.record.effort, "seal": previous.record.seal}
    assert updated.record.model_copy(update=same) == previous.record
    assert "its record now has 6 trials as tuning effort" in message[0]
    assert yaml.safe_load((Path(updated.path) / "config.yaml").read_text())["tuning"]["trials"] == 6
    assert '"event": "effort", "before": 1' in (Path(updated.path) / "log.jsonl").read_text()
    (stored,) = store.query()
    assert stored.record == updated.record
    silent: list[str] = []
    assert execute(alone_job, store, note=silent.append).record == updated.record and silent == []  # never less


def test_a_model_without_settings_tried_nothing(toy: str, store: Store) -> None:
    record = execute(plan("markov", RunOptions(dataset=toy))[0], store).record
    assert record.effort is not None and record.effort.trials == 0
    with pytest.raises(InputError, match="markov has no settings, so there is nothing to tune"):
        study("markov", Search(), RunOptions(dataset=toy), store)


def test_a_broken_tuning_section_is_wrong_input(toy: str, store: Store) -> None:
    result = go(toy, store, 2)
    content = yaml.safe_load(result.best_config.read_text())
    content["tuning"]["trials"] = "many"
    result.best_config.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"tuning: trials: .*; do not edit this section"):
        plan("fake", RunOptions(config=result.best_config))


def test_a_model_of_recbole_has_a_folder_that_every_system_knows(toy: str, store: Store) -> None:
    result = study("recbole:SHAN", Search(1), RunOptions(dataset=toy, profile="smoke"), store)
    assert result.path.parent == store.root / "tuning" / "recbole@SHAN" / "toy"
