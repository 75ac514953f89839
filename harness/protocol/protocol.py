"""`Protocol`: the rules under which every model is measured, as one frozen value with a version.

What can move a number bumps the version, with one dated line here saying why.
leave-one-out/1 (2026-11-23): first version.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

METRICS = (*(f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (1, 5, 10, 20)), "mrr@10")
MAIN_METRIC = "ndcg@10"
DEPTH = 20  # items a user that are measured and stored


class Protocol(BaseModel):
    """Leave-one-out: the last item of a user is the test, the one before it the validation, the rest the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="leave-one-out/1", pattern="^leave-one-out/1$")
    max_history: int = Field(default=20, ge=1, description="a history keeps its latest items")
    exclude_history: bool = Field(default=False, description="take items of the history out of every model's list")

    @property
    def depth_asked(self) -> int:
        """How long a list a model is asked for: enough that `DEPTH` are left once the history is taken out."""
        return DEPTH + (self.max_history if self.exclude_history else 0)
