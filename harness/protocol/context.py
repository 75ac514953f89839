"""`RunContext`: everything a recommender may use besides its data: seed, device, progress, files, validation, and the
`ProcessGroup` that makes one run together.

Of a group the first process writes; the others compute their share. Sharded are the samples of a step and the users
that are ranked, by their numbers. Everything random is a function of the seed and the step, so that each process can
compute what all of them do. `harness.runs.distributed` starts the transport.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from harness.errors import AbortedByMain, InputError, PeerLost
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH
from harness.protocol.requests import Requests

T = TypeVar("T")
ASIDE, BACK = "aside", "back"  # the events between which the training clock stops


@dataclass(frozen=True)
class Sharding:
    """The blocks of a backbone are sharded during training. `reshard`: gathered parameters are freed between forward
    and backward."""

    reshard: bool = True


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turns errors of the transport about a missing process into `PeerLost`."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        reason = "another process of this run has ended; the same command resumes the run"
        message = re.sub(r"\[/\S+:\d+\] ", "", str(error).splitlines()[0])  # without the transport's source location
        raise PeerLost(f"{reason} ({message[:120]})") from error


@dataclass(frozen=True)
class ProcessGroup:
    """`rank` of `size` processes that make a run together; 0 is the main process. `sharding`: None where each has the
    full model. Each method is one of accelerate's collectives: all processes call it, in the same order. It raises
    `PeerLost` where one of them has ended. A single process communicates with nobody and loads no library."""

    rank: int = 0
    size: int = 1
    sharding: Sharding | None = None

    def broadcast_object(self, value: Any = None) -> Any:
        """The main process's value, in all; the values of the others are ignored."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        with peer_errors():
            return broadcast_object_list([value])[0]

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank, in all."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        with peer_errors():
            return gather_object([value])

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        """Sums each of these torch tensors over all processes, in place."""
        if self.size > 1:
            from accelerate.utils import reduce

            with peer_errors():
                for tensor in tensors:
                    tensor.copy_(reduce(tensor, "sum"))

    def broadcast(self, tensors: Sequence[Any]) -> None:
        """Copies the main process's numbers into each of these torch tensors."""
        if self.size > 1:
            from accelerate.utils import broadcast

            with peer_errors():
                for tensor in tensors:
                    tensor.copy_(broadcast(tensor.contiguous()))


SINGLE_PROCESS = ProcessGroup()


def shard(world: ProcessGroup, total: int) -> np.ndarray:
    """The numbers below `total` of this process, int64: every `size`-th, none where there are too few.

    >>> shard(SINGLE_PROCESS, 3).tolist()
    [0, 1, 2]
    """
    return np.arange(world.rank, total, world.size)


def run_on_all(world: ProcessGroup, work: Callable[[], T]) -> T:
    """The result of `work`. Where it raises `InputError` in any process, all end: the main process with the reason, the
    others with `AbortedByMain`."""
    results: list[T] = []
    refused: InputError | None = None
    try:
        results.append(work())
    except InputError as error:
        refused = error
    reasons = world.all_gather("" if refused is None else str(refused))
    if refused is not None and world.rank == 0:
        raise refused
    if not any(reasons):
        return results[0]
    if world.rank:
        raise AbortedByMain(reasons[0])
    rank = next(number for number, reason in enumerate(reasons) if reason)
    raise InputError(reasons[rank], where=f"process {rank} of {world.size}")


def assert_equal_on_all(world: ProcessGroup, digest: str) -> None:
    """Raises `InputError` (in the main process; the others end) where a process has another `digest` than it."""
    digests = world.all_gather(digest)
    other = next((rank for rank, reported in enumerate(digests) if reported != digests[0]), None)
    if other is None:
        return
    if world.rank:
        raise AbortedByMain(f"{digest} is not {digests[0]}")
    raise InputError(
        f"it would make the run {digests[other]}, the first makes {digest}",
        where=f"process {other} of {world.size}",
        hint="give all the same data, files, version of the program and kind of processor",
    )


def compute_on_main(world: ProcessGroup, make: Callable[[], T]) -> T:
    """What the main process makes, in all; where it raises, the others end with `AbortedByMain`."""
    if world.rank:
        message = world.broadcast_object()
        if message is None:
            raise AbortedByMain("the first process cannot go on")
        return message[0]
    try:
        result = make()
    except BaseException:
        with suppress(PeerLost):
            world.broadcast_object(None)
        raise
    world.broadcast_object((result,))
    return result


class Stage(Protocol):
    """One bar of progress."""

    def advance(self, steps: int = 1, **text: float | str) -> None:
        """Advances the bar by `steps`; `text` is shown beside it (loss, metric)."""


class Reporter(Protocol):
    """Receives progress and log events."""

    def open(self, name: str, total: int | None) -> Stage: ...

    def close(self, stage: Stage) -> None: ...

    def event(self, **fields: Any) -> None:
        """One line of `log.jsonl`: stage, step, loss, learning rate, validation metric, seconds."""


class SilentReporter:
    """Reports nothing."""

    def open(self, name: str, total: int | None) -> Stage:
        return self

    def close(self, stage: Stage) -> None:
        pass

    def advance(self, steps: int = 1, **text: float | str) -> None:
        pass

    def event(self, **fields: Any) -> None:
        pass


@dataclass(frozen=True)
class Validation:
    """The validation requests, and `score(predictions)`, which computes the metrics without showing the targets.
    `digest` is a hash of the targets by their raw item ids, for the cache keys of artefacts that are chosen by them.
    `depth`: the length of the lists, so that enough items are left where the protocol excludes the history."""

    requests: Requests
    score: Callable[[Predictions], dict[str, float]]
    digest: str = ""
    depth: int = DEPTH


@dataclass(frozen=True)
class RunContext:
    """`seed`: derive every stream from it (`harness.core.seeding`). `device`: a torch device name. `cache`: a folder
    shared between runs, for artefacts keyed by their content. `run_dir`: a folder for files that stay with the run (an
    index file), or None. `checkpoint`: this run's folder for checkpoints (safetensors and JSON only), or None where
    none are written. `validation`: None where the caller offers none.
    `validation_items`: the held-out validation item of each user, int64 (n_users,), -1 where there is none; given only
    to a model whose configuration declares that it leaks (`ModelConfig.leaks`), else None. `world`: the processes that
    make the run together, for a model that is `distributed`; only the main one has folders.
    """

    seed: int
    cache: Path
    device: str = "cpu"
    checkpoint: Path | None = None
    validation: Validation | None = None
    reporter: Reporter = field(default_factory=SilentReporter)
    run_dir: Path | None = None
    validation_items: np.ndarray | None = None
    world: ProcessGroup = SINGLE_PROCESS

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """A progress bar for the block."""
        stage = self.reporter.open(name, total)
        try:
            yield stage
        finally:
            self.reporter.close(stage)

    @contextmanager
    def excluded_from_timing(self, message: str) -> Iterator[None]:
        """Measurements during `fit`: the seconds of the block do not count as training time."""
        self.event(event=ASIDE, what=message)
        try:
            yield
        finally:
            self.event(event=BACK, what=message)

    def event(self, **fields: Any) -> None:
        """One line of the run's log."""
        self.reporter.event(**fields)
