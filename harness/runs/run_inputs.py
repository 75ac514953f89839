"""What a run is about before it is made: its data, their split, and the key that all processes agree on."""

from __future__ import annotations

from harness.data.dataset import Dataset
from harness.protocol.distributed import World, agreed, alike
from harness.protocol.split import Split
from harness.protocol.split import split as split_by
from harness.runs.job import Job
from harness.store.run_key import RunKey


def prepared(job: Job, world: World) -> tuple[Dataset, Split, RunKey]:
    """Data, split and key of the run. Raises `InputError` where processes do not see the same ones."""

    def prepare() -> tuple[Dataset, Split, RunKey]:
        dataset = job.data()
        split = split_by(dataset, job.settings.protocol)
        return dataset, split, RunKey(job.entry.name, dataset.name, job.outcome(dataset, split).run_id)

    found = agreed(world, prepare)
    alike(world, found[2].run_id)
    return found
