"""`World`: the processes that make one run together. The first keeps and writes; the others compute their share.

What is dealt out is a step's samples and the users that are ranked, by their numbers; everything random is a function
of the seed and the step, so that each process knows what all of them do. Nothing here knows how they talk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from harness.errors import AbortedByMain, InputError, PeerLost

T = TypeVar("T")


@dataclass(frozen=True)
class Sharding:
    """A backbone's blocks lie in pieces while it is tuned. `reshard`: gathered ones are given up between forward and
    backward."""

    reshard: bool = True


class ProcessGroup(Protocol):
    """`rank` of `size` processes; 0 is the first. `sharding`: None where each has the whole model. Each method is
    called by all of them, in one order, and raises `PeerLost` where one is gone."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def sharding(self) -> Sharding | None: ...

    def broadcast_object(self, document: Any = None) -> Any:
        """The first's document (plain JSON), in all; what the others give is not looked at."""
        ...

    def broadcast_array(self, array: np.ndarray | None = None) -> np.ndarray:
        """The first's array, in all."""
        ...

    def all_gather(self, rows: np.ndarray) -> list[np.ndarray]:
        """Everybody's rows, by rank, in all; their number may differ, the rest of the shape may not."""
        ...

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        """Puts the sum over all processes into each of these torch tensors."""
        ...

    def broadcast(self, tensors: Sequence[Any]) -> None:
        """Puts the first's numbers into each of these torch tensors."""
        ...


class SingleProcess:
    """A run's only process."""

    rank, size = 0, 1
    sharding: Sharding | None = None

    def broadcast_object(self, document: Any = None) -> Any:
        return document

    def broadcast_array(self, array: np.ndarray | None = None) -> np.ndarray:
        assert array is not None
        return array

    def all_gather(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows]

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        pass

    def broadcast(self, tensors: Sequence[Any]) -> None:
        pass


SINGLE_PROCESS = SingleProcess()


def shard(world: ProcessGroup, total: int) -> np.ndarray:
    """The numbers below `total` that fall to this process, int64: every `size`-th, none where there are too few.

    >>> shard(SINGLE_PROCESS, 3).tolist()
    [0, 1, 2]
    """
    return np.arange(world.rank, total, world.size)


def run_on_all(world: ProcessGroup, work: Callable[[], T]) -> T:
    """What `work` gives. Where it is refused in any process, all end: the first with the reason, the others without."""
    ts: list[T] = []
    refused: InputError | None = None
    try:
        ts.append(work())
    except InputError as error:
        refused = error
    messages = gather_texts(world, "" if refused is None else str(refused))
    if refused is not None and world.rank == 0:
        raise refused
    if not any(messages):
        return ts[0]
    if world.rank:
        raise AbortedByMain(messages[0])
    rank = next(number for number, line in enumerate(messages) if line)
    raise InputError(messages[rank], where=f"process {rank} of {world.size}")


def assert_equal_on_all(world: ProcessGroup, mark: str) -> None:
    """Raises `InputError` (in the first; the others withdraw) where processes have another `mark` than the first."""
    lines = gather_texts(world, mark)
    other = next((rank for rank, own in enumerate(lines) if own != lines[0]), None)
    if other is None:
        return
    if world.rank:
        raise AbortedByMain(f"{mark} is not {lines[0]}")
    raise InputError(
        f"it would make the run {lines[other]}, the first makes {mark}",
        where=f"process {other} of {world.size}",
        hint="give all the same data, files, version of the program and kind of processor",
    )


def gather_texts(world: ProcessGroup, text: str) -> list[str]:
    """Everybody's text, by rank."""
    payload = world.all_gather(np.frombuffer(text.encode(), dtype=np.uint8))
    return [part.tobytes().decode() for part in payload]


def compute_on_main(
    world: ProcessGroup,
    make: Callable[[], T],
    pack: Callable[[T], tuple[Any, list[np.ndarray]]],
    unpack: Callable[[Any, list[np.ndarray]], T],
) -> T:
    """What the first process makes, handed to all as plain JSON and arrays; where it cannot, the others withdraw."""
    if world.size == 1:
        return make()
    if world.rank:
        message = world.broadcast_object()
        if message is None:
            raise AbortedByMain("the first process cannot go on")
        return unpack(message["document"], [world.broadcast_array() for _ in range(message["arrays"])])
    try:
        result = make()
    except BaseException:
        with suppress(PeerLost):
            world.broadcast_object(None)
        raise
    document, arrays = pack(result)
    world.broadcast_object({"document": document, "arrays": len(arrays)})
    for array in arrays:
        world.broadcast_array(array)
    return result
