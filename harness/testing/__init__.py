"""The contract that every recommender keeps, as a test suite for models of one's own; needs pytest.

from harness.testing import RecommenderContract

class TestMine(RecommenderContract):
    model_class = Mine
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("harness.testing.contract")

from harness.testing.contract import RecommenderContract  # noqa: E402

__all__ = ["RecommenderContract"]
