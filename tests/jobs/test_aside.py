"""What a model measures while it is fitted: not counted as training, its figures at the top of the record."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.jobs.execute import execute
from harness.jobs.job import RunOptions, plan
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.store.runs import Store
from tests.jobs.fakes import Fake

PAUSE = 1.0


@pytest.mark.parametrize("aside", [True, False])
def test_measuring_is_not_counted_as_training(
    toy: str, store: Store, monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    def slow(self: Fake, data: TrainingData, context: RunContext) -> None:
        if aside:
            with context.aside("comprehension"):
                time.sleep(PAUSE)
        else:
            time.sleep(PAUSE)
        self.n = data.n_items

    monkeypatch.setattr(Fake, "_fit", slow)
    (job,) = plan("fake", RunOptions(dataset=toy))
    seconds = execute(job, store).record.cost.train_seconds
    assert seconds is not None and seconds > 0 and (seconds < PAUSE) == aside


def test_comprehension_moves_to_the_top_of_the_record(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {"before": {"plain_text_perplexity": 12.5}}
    monkeypatch.setattr(Fake, "record", lambda self: {"width": 4, "comprehension": figures})
    (job,) = plan("fake", RunOptions(dataset=toy))
    document = execute(job, store).document()
    assert document["comprehension"] == figures and document["details"]["model"] == {"width": 4}
