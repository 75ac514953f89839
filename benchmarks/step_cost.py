"""Measures what it costs to know which samples a training step sees, pass by pass, beside the model's own work.

    python benchmarks/step_cost.py DATA [--targets 160] [--window 21] [--passes 0,5,19]

prints one JSON document with processor milliseconds: of building a pass, of a step in each of the passes (steps walked
in order from the first), of the first step of a run that is resumed in the last of them; for the windows of instruction
tuning and for TIGER's samples (batches of 64). DATA is a data set's name or folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.bench.timing import machine
from harness.data.loading import load_dataset
from harness.data.ragged import RaggedArray
from harness.generative.config import StageConfig
from harness.generative.tasks.batching import Batches, Samples
from harness.protocol.protocol import Protocol
from harness.protocol.split import split

Step = Callable[[int], Any]


def milliseconds(work: Callable[[], Any]) -> float:
    """Processor time of `work`."""
    begun = time.process_time()
    work()
    return 1000 * (time.process_time() - begun)


def measured(make: Callable[[], tuple[Step, int]], passes: Sequence[int]) -> dict[str, Any]:
    """Of steps that `make` gives, with the number of steps in a pass: mean cost of a step in each pass, the building of
    that pass included."""
    (step, each), costs = make(), {}
    for turn in range(max(passes) + 1):
        cost = milliseconds(lambda turn=turn, step=step: [step(turn * each + n) for n in range(each)])
        if turn in passes:
            costs[str(turn)] = cost / each
    fresh, late = make()[0], max(passes) * each + each // 2
    return {"steps_a_pass": each, "step_ms": costs, "resumed_first_step_ms": milliseconds(lambda: fresh(late))}


def windows(rows: RaggedArray, window: int, targets: int, passes: int) -> tuple[Step, int]:
    """Of sequence steps in instruction tuning."""
    made = Batches(rows, window, StageConfig(targets=targets, epochs=passes), {"seqrec": 1.0}, (1, "steps"))
    return made.windows, made.steps // passes


def samples(rows: RaggedArray, window: int) -> tuple[Step, int]:
    """Of TIGER's steps."""
    made = Samples(rows, window - 1, 64, 1, 1)
    return lambda step: made.part(step, 0), made.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--targets", type=int, default=160)
    parser.add_argument("--window", type=int, default=21)
    parser.add_argument("--passes", default="0,5,19")
    given = parser.parse_args()
    passes = [int(number) for number in given.passes.split(",")]
    rows = split(load_dataset(given.data), Protocol()).train.sequences
    found = {
        "windows": measured(lambda: windows(rows, given.window, given.targets, max(passes) + 2), passes),
        "tiger": measured(lambda: samples(rows, given.window), passes),
    }
    print(json.dumps({"data": given.data, "machine": machine(), **found}, indent=1))


if __name__ == "__main__":
    main()
