"""What a model measures while it is fitted: not counted as training, its figures at the top of the record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.runs.job import RunOptions, plan
from harness.runs.run import TRAIN, TRAINED, execute
from harness.store.event_log import read_events, seconds_between
from harness.store.run_store import Store
from tests.fakes import Fake

PAUSE = 0.3


@pytest.mark.parametrize("aside", [True, False])
def test_measuring_is_not_counted_as_training(
    toy: str, store: Store, monkeypatch: pytest.MonkeyPatch, aside: bool
) -> None:
    def slow(self: Fake, data: TrainingData, context: RunContext) -> None:
        if aside:
            with context.excluded_from_timing("comprehension"):
                time.sleep(PAUSE)
        else:
            time.sleep(PAUSE)
        self.n = data.n_items

    monkeypatch.setattr(Fake, "_fit", slow)
    (job,) = plan("fake", RunOptions(dataset=toy))
    done = execute(job, store)
    seconds = done.record.cost.train_seconds
    complete = seconds_between(read_events(Path(done.path) / "log.jsonl"), TRAIN, TRAINED)
    assert seconds is not None and complete >= PAUSE
    assert 0 < seconds <= complete - PAUSE + 1e-5 if aside else seconds == pytest.approx(complete)


def test_comprehension_moves_to_the_top_of_the_record(toy: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Any] = {"before": {"plain_text_perplexity": 12.5}}
    monkeypatch.setattr(Fake, "record", lambda self: {"width": 4, "comprehension": figures})
    (job,) = plan("fake", RunOptions(dataset=toy))
    document = execute(job, store).document()
    assert document["comprehension"] == figures and document["details"]["model"] == {"width": 4}
