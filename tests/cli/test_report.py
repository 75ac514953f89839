"""`harness report` from the command line."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from harness.cli.app import main
from tests.cli.conftest import Harness


def test_report(harness: Harness, toy: str, tmp_path: Path) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    done = harness("report", "-d", toy)
    assert done.code == 0 and done.out == "", done.err
    page = tmp_path / "results" / "toy.html"
    assert "written to results/toy.html" in done.err and "MB" in done.err
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") and "markov" in text and page.stat().st_size < 6e6
    other = tmp_path / "other.html"
    assert harness("report", "-d", "toy", "-o", str(other), "--metric", "mrr@10").code == 0
    assert "Rows by mrr@10" in other.read_text() and "Rows by ndcg@10" in text


def test_the_command_on_the_page_repeats_the_run(
    harness: Harness, toy: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    harness("run", "markov", "-d", toy, "--seed", "7", "--results", "kept")
    assert harness("report", "-d", toy, "--results", "kept").code == 0
    (lines,) = re.findall(r'aria-label="Commands">(.*?)</pre>', (tmp_path / "kept" / "toy.html").read_text(), re.S)
    words = shlex.split(unescape(lines))
    assert words[0] == "harness" and main(words[1:]) == 0
    assert len(list((tmp_path / "kept" / "runs").glob("*/*/*/result.json"))) == 1  # the same run, found again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report", "Missing option '-d'"),
        ("report -d nothing", "unknown data set 'nothing'"),
        ("report -d ml-100k", "no runs on 'ml-100k' are stored here"),
        ("report -d ml-100k -o nowhere/x.html", "no such folder"),
        ("report -d ml-100k -o .", "the path is a folder"),
        ("report -d ml-100k --metric ndcg", "unknown metric 'ndcg'"),
    ],
)
def test_wrong_input(harness: Harness, arguments: str, message: str) -> None:
    done = harness(*arguments.split())
    assert done.code == 2 and message in done.err and done.out == ""
    assert done.err.count("\n") == 1 or "Missing option" in message
