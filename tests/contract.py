"""The contract suite, which is installed as `harness.testing`; here under the name that this project's tests use."""

from __future__ import annotations

from harness.testing.contract import InterruptingReporter, RecommenderContract, made, same

__all__ = ["InterruptingReporter", "RecommenderContract", "made", "same"]
