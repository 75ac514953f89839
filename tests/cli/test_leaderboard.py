"""`harness leaderboard` from the command line."""

from __future__ import annotations

import pytest

from harness.reports.leads import DAGGER
from tests.cli.conftest import Harness


@pytest.mark.parametrize(
    ("options", "tested"), [(["-d", "toy"], True), ([], False), (["--test"], True), (["-d", "toy", "--no-test"], False)]
)
def test_leads_are_tested_with_a_data_set(harness: Harness, toy: str, options: list[str], tested: bool) -> None:
    for model in ("markov", "mostpop"):
        harness("run", model, "-d", toy)
    options = [toy if option == "toy" else option for option in options]
    done = harness("leaderboard", *options, "--format", "markdown")
    assert done.code == 0 and (DAGGER in done.out) == tested, done.err
