"""Every reader refuses what is malformed with one line, hangs at nothing and takes no memory for what is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.malformed.readers import READERS, Reader
from tests.malformed.trying import Bench, Case

ROOT = Path(__file__).parents[2]
EACH = 30  # files that hypothesis draws for a reader
SECONDS = 10.0  # of the processor, for one file
TRIED: dict[str, Case] = {}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = os.environ.get("HARNESS_HOME")
    os.environ["HARNESS_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield Bench(tmp_path_factory.mktemp("malformed"))
    os.environ.pop("HARNESS_HOME")
    if home is not None:
        os.environ["HARNESS_HOME"] = home


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_malformed_files_are_refused(reader: Reader, bench: Bench) -> None:
    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind=st.sampled_from(sorted(reader.kinds)), seed=st.integers(0, 2**32))
    def tried(kind: str, seed: int) -> None:
        case = bench.attempt(reader, kind, seed)
        assert case.outcome != "fault", f"{kind}, {seed}: {case.said}"
        assert case.seconds < SECONDS, f"{kind}, {seed}: {case.seconds} s"
        TRIED[case.digest] = case

    tried()


def test_at_least_500_distinct_ones_were_refused() -> None:
    """Of those that hypothesis drew above; what could be read all the same (a title with other letters) is none."""
    if len({case.reader for case in TRIED.values()}) < len(READERS):
        pytest.skip("only some of the readers were asked")
    refused = [case for case in TRIED.values() if case.outcome in ("refused", "set aside")]
    assert len(refused) >= 500
    assert len({case.kind for case in refused}) >= 30


WORST = ("bomb", "far more rows than bytes", "aliases without end", "another header", "long line", "another value")


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_no_malformed_file_takes_a_gib(tmp_path: Path) -> None:
    """The worst kinds, in a process that may not have more than 1 GiB above what its imports took."""
    messages = tmp_path / "told.json"
    command = [sys.executable, "-m", "benchmarks.malformed", "--each", "2", "--json", str(messages), "--bound"]
    command += [part for kind in WORST for part in ("--kind", kind)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document = json.loads(messages.read_text())
    assert document["tried"] >= 60 and "fault" not in document["all"] and document["grown_mib"] < 1024


@pytest.mark.parametrize("name", ["configuration", "NAME.inter.json"])
def test_a_reader_that_forgets_a_fault_is_found_out(name: str, bench: Bench) -> None:
    """The test itself: what escapes a reader counts as a fault."""
    (expected,) = (reader for reader in READERS if reader.name == name)

    def forgetful(folder: Path) -> None:
        (folder / expected.target).read_text(encoding="utf-8").encode("ascii")

    requested = Reader(f"{name}, forgetful", expected.target, expected.kinds, expected.lay, forgetful)
    assert bench.attempt(requested, "not UTF-8", 1).outcome == "fault"
