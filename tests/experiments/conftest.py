"""The fixtures of tests of single runs."""

from tests.runs.conftest import store, toy

__all__ = ["store", "toy"]
