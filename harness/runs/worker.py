"""A run as each process but the first goes through it: in step with `harness.runs.run`, keeping nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.protocol.context import SilentReporter
from harness.protocol.distributed import World
from harness.runs.job import Job
from harness.runs.run import context_of, ranked
from harness.runs.run_inputs import prepared
from harness.store.resources import MemoryWatch


def assist(job: Job, world: World) -> None:
    """What each process but the first does for a run: its share of training and ranking. It keeps nothing."""
    _, split, _ = prepared(job, world)
    if not world.tell():
        return
    recommender, context = job.recommender(), replace(context_of(job, split, SilentReporter()), world=world)
    with MemoryWatch() as memory:
        recommender.fit(split.train, context)
        for fold in (split.valid, split.test):
            ranked(recommender, fold.requests, context, split.protocol)
    world.gather(np.array([memory.peak_mb]))
