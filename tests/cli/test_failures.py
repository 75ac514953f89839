"""Exit codes, and one line on stderr: what, where, and the mend."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from harness.errors import InvalidPredictions
from tests.cli.conftest import Harness, start
from tests.fakes import Fake
from tests.waiting import PATIENCE, wait_for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run markof", "unknown model 'markof'; did you mean markov?"),
        ("run markov -d ml-10k", "unknown data set 'ml-10k'; did you mean ml-100k or ml-1m?"),
        ("run fake --dataset=", "unknown data set ''"),
        ("leaderboard --dataset=", "unknown data set ''"),
        ("run markov -d nowhere/toy", "nowhere/toy: no such folder"),
        ("run fake -d toy --set fake.sise=1", "unknown setting 'fake.sise'; did you mean size?"),
        ("run fake -d toy --set fake.size=big", "fake.size is 'big', expected a valid integer"),
        ("run fake -d toy --set fake.layer=2", "fake.layer is 2, expected settings below it: width"),
        ("run fake -d toy --set fake.levels=2", "fake.levels is 2, expected a list, such as [2]"),
        ("run fake -d toy --set feke.size=2", "unknown section 'feke'; did you mean fake?"),
        ("run markov --set markov.a=1", "unknown setting 'markov.a'; this section has no settings"),
        ("run fake -d toy --profile smoky", "did you mean smoke?"),
        ("run fake -d toy --device tpu", "unknown device 'tpu'"),
        ("run fake -d toy --config none.yaml", "none.yaml: cannot be read"),
        ("run fake -d toy --seed one", "Invalid value for '--seed'"),
        ("run fake -d toy --seed -1", "-1 is not a seed"),
        ("run fake -d toy --seed 9223372036854775808", "is not a seed; give an integer from 0, below 2^63"),
        ("evaluate toy/interactions.csv -d toy --seed -1", "-1 is not a seed"),
        ("run fake -d toy --results toy/interactions.csv", "cannot write"),
        ("run fake -d toy --sed 1", "No such option: --sed"),
        ("run", "Missing argument"),
        ("rum", "No such command 'rum'"),
        ("leaderboard --metric ndcg", "'ndcg' says no K; write ndcg@10"),
        ("leaderboard --format htm", "unknown format 'htm'; did you mean html?"),
        ("leaderboard --columns costs", "unknown column set 'costs'; did you mean cost?"),
        ("leaderboard -o toy", "toy: the path is a folder; name a file in it"),
        ("leaderboard --protocols -o toy", "toy: the path is a folder; name a file in it"),
        ("ablate fake -d toy -o toy", "toy: the path is a folder; name a file in it"),
        ("leaderboard -d nothing", "unknown data set 'nothing'"),
        ("evaluate none.csv -d toy", "none.csv: the file is missing"),
        ("data stats ml-10k", "did you mean ml-100k or ml-1m?"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(harness: Harness, arguments: str, message: str) -> None:
    done = harness(*arguments.split())
    assert done.code == 2 and done.out == "" and message in done.err
    assert done.err.count("\n") == 1 and done.err.startswith("harness: ") and "Traceback" not in done.err
    assert not list(Path("results").glob("**/result.json"))


@pytest.mark.parametrize("failure", [RuntimeError("it\nbroke"), InvalidPredictions("a missing user")])
def test_a_fault_is_one_line_and_keeps_its_traceback(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(Fake, "failure", failure)
    done = harness("run", "fake", "-d", "toy")
    assert done.code == 1 and done.err.count("\n") == 1 and "internal error" in done.err
    (stored,) = (tmp_path / "home" / "logs").iterdir()
    assert (
        str(stored) in done.err and "Traceback" in stored.read_text() and type(failure).__name__ in stored.read_text()
    )
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    assert "Traceback" in harness("run", "fake", "-d", "toy").err


def test_a_full_disk_in_any_words(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "failure", RuntimeError("I/O error: No space left on device (os error 28)"))
    done = harness("run", "fake", "-d", "toy")
    assert done.code == 2 and done.err.count("\n") == 1 and "free some space" in done.err


def test_interrupted_then_continued(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fake, "failure", KeyboardInterrupt())
    done = harness("run", "fake", "-d", "toy")
    assert done.code == 130 and "interrupted; the same command resumes the run" in done.err
    assert not list(Path("results").glob("**/result.json"))
    monkeypatch.setattr(Fake, "failure", None)
    repeated = harness("run", "fake", "-d", "toy")
    assert repeated.code == 0 and "resuming the unfinished run" in repeated.err


SLOW = """
import time
import harness.registry
from tests.folders import FAKE
from tests.fakes import Fake
from harness.__main__ import main
harness.registry.MODELS = (*harness.registry.MODELS, FAKE)
fit = Fake._fit
def slow(self, data, context):
    with open("fits", "a") as file:
        file.write("fit\\n")
    time.sleep({seconds})
    fit(self, data, context)
Fake._fit = slow
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c(toy: str, tmp_path: Path) -> None:
    # A shell's background job ignores SIGINT and its children inherit that: who started the tests must not matter.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = start("run", "fake", "-d", toy, code=listen + SLOW.format(seconds=60))
    wait_for((tmp_path / "fits").exists, "the training")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "") and "Traceback" not in err
    assert list(Path("results").glob("runs/fake/toy/*/checkpoint")) and not list(Path("results").glob("**/result.json"))


def test_two_processes_make_one_run(toy: str, tmp_path: Path) -> None:
    both = [start("run", "fake", "-d", toy, code=SLOW.format(seconds=2)) for _ in range(2)]
    messages = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert (tmp_path / "fits").read_text() == "fit\n"
    assert sum("is complete already" in err for _, err in messages) == 1
    assert messages[0][0] == messages[1][0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_no_room_for_the_predictions(toy: str) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500));"
    process = start("run", "markov", "-d", toy, code=f"{limit} from harness.__main__ import main; sys.exit(main())")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and out == "" and "cannot write" in err and "Traceback" not in err
    assert not list(Path("results").glob("**/result.json"))


def test_a_reader_that_goes_away(toy: str) -> None:
    read, write = os.pipe()
    os.close(read)
    process = start("models", out=write)
    os.close(write)
    _, err = process.communicate(timeout=PATIENCE)
    assert err == "" and process.returncode == 1
