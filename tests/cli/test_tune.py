"""`harness tune` from the command line: table, JSON, the runs that follow, resumption after a kill, and wrong input."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from harness.cli.experiments import _conclude
from harness.experiments.trials import Trial, read_trials
from harness.experiments.tuning import Search, study
from harness.protocol.protocol import METRICS
from harness.runs.job import RunOptions
from harness.store.run_store import Store
from tests.cli.conftest import Harness, start
from tests.folders import lcrec_folder
from tests.waiting import PATIENCE, wait_for


def test_tune_then_run(harness: Harness, toy: str) -> None:
    done = harness("tune", "fake", "-d", toy, "--trials", "3")
    assert done.code == 0 and "a library that prints" not in done.out, done.err
    assert "fake.rate: 0.001 to 1, log" in done.err and "trial 0 of 3 (as it stands): valid ndcg@10" in done.err
    assert done.out.count("best") == 1 and not Path("results/runs").exists()
    message = done.err.splitlines()[-1].removeprefix("harness ").split()
    assert message[:2] == ["run", "fake"] and harness(*message).code == 0  # the last line is a command that works
    repeated = harness("tune", "fake", "-d", toy, "--trials", "3", "--run", "--seeds", "1,2", "--json")
    document = json.loads(repeated.out)
    assert "3 of them stored" in repeated.err and len(document["trials"]) == 3 and document["effort"]["trials"] == 3
    assert [run["seed"] for run in document["runs"]] == [1, 2] and "is complete already" not in repeated.out
    assert {run["effort"]["study"] for run in document["runs"]} == {document["study"]}
    board = harness("leaderboard", "--columns", "effort")
    assert "trials" in board.out and "search s" in board.out and "unequal" not in board.out
    assert harness("run", "itemknn", "-d", toy).code == 0
    assert "§ unequal effort: fake had 3 trials (" in harness("leaderboard", "--format", "markdown").out


def test_settings_of_one_name_have_a_column_each(
    harness: Harness, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = RunOptions(dataset=str(lcrec_folder(tmp_path / "words")), profile="smoke")
    result = study("eager-llm", Search(1), options, Store(tmp_path / "elsewhere"))
    values = {"eager.tuning.learning_rate": 0.125, "eager.annealing.learning_rate": 0.0625}
    result.trials = [Trial(0, values, "m", "complete", dict.fromkeys(METRICS, 0.5))]
    _conclude(result, [], as_json=False)
    message = capfd.readouterr()
    assert "0.125" in message.out and "0.0625" in message.out and "eager.tuning.learning_rate" in message.out
    assert message.err.splitlines()[-1].endswith(f"best.yaml --results {tmp_path / 'elsewhere'}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tune fake --trials 3", "Missing option"),
        ("tune fake -d toy --trials 0", "--trials: 0 trials are none; give 1 or more"),
        ("tune fake -d toy --trials many", "Invalid value for '--trials'"),
        ("tune fake -d toy --timeout 0", "--timeout: 0.0 is no time; give seconds above 0"),
        ("tune fake -d toy --metric ndgc@10", "--metric: unknown metric 'ndgc@10'; did you mean ndcg@10"),
        ("tune fake -d toy --space none.toml", "none.toml: cannot be read"),
        ("tune fake -d toy --seeds 1,2", "--seeds: are for the runs with the best settings; add --run"),
        ("tune fake -d toy --run --seeds 1,b", "'1,b' is not a list of integers"),
        ("tune fake -d toy --seed -1", "-1 is not a seed"),
        ("tune markov -d toy", "markov has no settings, so there is nothing to tune; harness run markov"),
        ("tune fakee -d toy", "unknown model 'fakee'"),
    ],
)
def test_wrong_input(harness: Harness, arguments: str, message: str) -> None:
    done = harness(*arguments.split())
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1 and done.out == ""
    assert not Path("results").exists()


CODE = """
import os, time
import harness.registry
from tests.folders import FAKE
from tests.fakes import Fake
from harness.__main__ import main
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
harness.registry.MODELS = (*harness.registry.MODELS, FAKE)
fit = Fake._fit
def slow(self, data, context):
    open("fits", "a").write("fit\\n")
    if os.path.exists("slow") and open("fits").read().count("fit") == 2:
        (context.checkpoint / "half").touch()
        open("began", "w").close()
        time.sleep(120)
    fit(self, data, context)
Fake._fit = slow
sys.exit(main())
"""


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_a_trial_then_asked_again(toy: str, tmp_path: Path, kill: signal.Signals) -> None:
    arguments = ("tune", "fake", "-d", toy, "--trials", "4", "--json", "--results")
    Path("slow").touch()
    process = start(*arguments, "killed", code=CODE)
    wait_for(lambda: Path("began").exists() or process.poll() is not None, "the second trial")
    assert process.poll() is None, process.communicate()
    process.send_signal(kill)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-9 if kill == signal.SIGKILL else 130) and "Traceback" not in err, err
    (journal,) = Path("killed").rglob("trials.journal")
    assert len(read_trials(journal)) == 1 and len(list(Path("killed").rglob("half"))) == 1
    Path("slow").unlink()
    resumed = json.loads(start(*arguments, "killed", code=CODE).communicate(timeout=PATIENCE)[0])
    complete = json.loads(start(*arguments, "whole", code=CODE).communicate(timeout=PATIENCE)[0])
    same = [[(t["values"], t["metrics"]) for t in document["trials"]] for document in (resumed, complete)]
    assert same[0] == same[1] and len(same[0]) == 4 and resumed["best"] == complete["best"]
    assert Path("fits").read_text().count("fit") == 2 + 3 + 4  # the first trial was not made again
