"""The functions of `import harness` give what the commands of the same names store and print."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.store.run_store import Store


def test_evaluate_repeats_the_metrics_of_a_run(toy: str, tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = harness.run("markov", toy, results=results)
    assert not isinstance(done, list)
    lists = Path(done.path) / "predictions.parquet"
    measured = harness.evaluate(lists, toy, name="again", seed=3, results=results)
    assert measured.metrics == done.metrics and measured.record.seed == 3 and measured.record.model == "again"
    assert measured.record.command is not None and str(lists) in measured.record.command
    assert harness.evaluate(lists, toy, name="again", seed=3, results=results).reused
    with pytest.raises(InputError, match="unknown option 'seeds'; did you mean seed"):
        harness.evaluate(lists, toy, seeds=3)


def test_compare_is_a_table_of_pairs(toy: str, tmp_path: Path) -> None:
    for model in ("markov", "mostpop", "itemknn"):
        harness.run(model, toy, results=tmp_path)
    table = harness.compare("markov", "mostpop", "itemknn", results=tmp_path)
    assert len(table) == 3 * 2 and set(table["metric"]) == {"ndcg@10", "recall@10"}
    first = table.iloc[0]
    ndcg = {run.record.model: run.record.metrics.test["ndcg@10"] for run in Store(tmp_path).query()}
    assert (
        abs(first["difference"]) == pytest.approx(abs(ndcg["mostpop"] - ndcg["markov"]))
        and first["metric"] == "ndcg@10"
    )
    assert (table["p_corrected"] >= table["p"]).all()
    with pytest.raises(InputError, match="at least two runs"):
        harness.compare("markov", results=tmp_path)
    with pytest.raises(InputError, match="did you mean ndcg@10"):
        harness.compare("markov", "mostpop", metrics=["ndgc@10"], results=tmp_path)


def test_ablate_is_a_table_of_runs(toy: str, tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text("[changes.wide]\nfake.layer.width = 9\n[changes.wrong]\nfake.layer.width = 12\n")
    table = harness.ablate("fake", toy, grid=grid, seed=[1, 2], set={"fake.rate": 0.5}, results=tmp_path / "results")
    assert table["variant"].tolist() == ["base", "base", "wide", "wide", "wrong", "wrong"]
    assert table["seed"].tolist() == [1, 2] * 3 and set(table["state"]) == {"complete"} and set(METRICS) < set(table)
    runs = {run.record.run_id: run for run in Store(tmp_path / "results").query()}
    assert set(table["run_id"]) == set(runs) and len(runs) == 6
    for run_id, ndcg in zip(table["run_id"], table["ndcg@10"], strict=True):
        assert runs[run_id].record.metrics.test["ndcg@10"] == ndcg and runs[run_id].settings["fake"]["rate"] == 0.5
    with pytest.raises(InputError, match="unknown option 'worker'"):
        harness.ablate("fake", toy, worker=2)


def test_tune_finds_settings_that_run_takes(toy: str, tmp_path: Path) -> None:
    study = harness.tune("fake", toy, trials=3, results=tmp_path)
    assert len(study.trials) == 3 and study.best is not None
    assert study.value(study.best) == max(study.value(trial) for trial in study.trials)
    done = harness.run("fake", config=study.best_config, results=tmp_path)
    assert not isinstance(done, list) and done.record.metrics.valid == study.best.metrics
    assert harness.tune("fake", toy, trials=3, results=tmp_path).trials == study.trials


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = "import sys, harness; harness.ablate, harness.tune, harness.evaluate; print('torch' in sys.modules)"
    light = "import sys, harness; print([name for name in ('numpy', 'pandas', 'optuna') if name in sys.modules])"
    output = [subprocess.run([sys.executable, "-c", text], capture_output=True, text=True) for text in (code, light)]
    assert [done.stdout.strip() for done in output] == ["False", "[]"], output
