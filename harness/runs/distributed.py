"""One run made by many processes, as `torchrun` and `accelerate launch` start them: how they join and talk, and which
device each computes on.

The launcher says in the environment who is who (`harness.runs.launcher`); torch carries the numbers, over gloo
between processors, over NCCL between graphics cards. What is said is plain numbers and JSON: nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from harness.errors import InputError, PeerLost
from harness.protocol.distributed import SINGLE_PROCESS, ProcessGroup, Sharding
from harness.runs.devices import cuda_available
from harness.runs.heartbeat import heartbeat
from harness.runs.job import Job
from harness.runs.launcher import check_address, place, place_here

PATIENCE = timedelta(days=2)  # the first may make vectors for a day; one that ends is noticed at once, or by its pulse


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The processes that the launcher has started, for the block; `ALONE` without one."""
    rank, size = place()
    if size == 1:
        yield SINGLE_PROCESS
        return
    check_address()
    sharding = accelerates_sharding()
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if cuda_available() else "gloo"
    with _losing():
        store, *_ = next(rendezvous("env://", rank, size, timeout=PATIENCE))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    text = False
    try:
        with heartbeat(store, rank, size):
            yield Processes(rank, size, sharding)
        text = True
    finally:
        if text or backend == "gloo":  # NCCL would wait for those that are gone
            dist.destroy_process_group()


@dataclass(frozen=True)
class Processes:
    """A `World` over torch.distributed's default group."""

    rank: int
    size: int
    sharding: Sharding | None = None

    def broadcast_object(self, document: Any = None) -> Any:
        content = b"" if self.rank else json.dumps(document).encode()
        return json.loads(self.broadcast_array(np.frombuffer(content, dtype=np.uint8)).tobytes())

    def broadcast_array(self, array: np.ndarray | None = None) -> np.ndarray:
        import torch

        head = np.zeros(64, np.uint8)  # dtype and shape, as text
        if not self.rank:
            assert array is not None
            text = json.dumps([array.dtype.str, *array.shape]).encode()
            head[: len(text)] = np.frombuffer(text, np.uint8)
        gathered = torch.from_numpy(head)
        self.broadcast([gathered])
        kind, *shape = json.loads(gathered.numpy().tobytes().rstrip(b"\0"))
        body = np.empty(shape, kind) if array is None or self.rank else np.ascontiguousarray(array).copy()
        if body.size:
            self.broadcast([torch.from_numpy(body.reshape(-1).view(np.uint8))])
        return body

    def all_gather(self, rows: np.ndarray) -> list[np.ndarray]:
        import torch
        import torch.distributed as dist

        own_rows = torch.tensor([len(rows)])
        lengths = [torch.zeros_like(own_rows) for _ in range(self.size)]
        with _losing():
            dist.all_gather(lengths, own_rows)
        limit = max(1, *map(int, lengths))
        padded = np.zeros((limit, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        sent = torch.from_numpy(padded.reshape(-1).view(np.uint8))
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        with _losing():
            dist.all_gather(parts, sent)
        values = [part.numpy().view(rows.dtype).reshape(padded.shape) for part in parts]
        return [part[: int(length)] for part, length in zip(values, lengths, strict=True)]

    def all_reduce(self, tensors: Sequence[Any]) -> None:
        import torch.distributed as dist

        with _losing():
            for tensor in tensors:
                dist.all_reduce(tensor)

    def broadcast(self, tensors: Sequence[Any]) -> None:
        import torch.distributed as dist

        with _losing():
            for tensor in tensors:
                total = tensor.contiguous()
                dist.broadcast(total, src=0)
                if total is not tensor:
                    tensor.copy_(total)


def accelerates_sharding() -> Sharding | None:
    """What `accelerate launch` was configured to, of what a run here can do: FSDP in its second version.

    Raises `InputError` for what it cannot. Precision, accumulation and recomputing are settings of the run, which
    decide its numbers: they are not taken from there.
    """
    location = "accelerate's configuration"
    for name, message in (("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")):
        if _on(f"ACCELERATE_USE_{name}"):
            hint = "take FSDP with fsdp_version: 2, which shards the same things"
            raise InputError(f"{message} brings an optimiser and a loop of its own", where=location, hint=hint)
    if not _on("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION") != "2":
        raise InputError("FSDP of the first version", where=location, hint="set fsdp_version: 2")
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed import fsdp

    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise InputError("FSDP asks for a newer torch than this one", where=location, hint="install the newest torch")
    plugin = FullyShardedDataParallelPlugin()
    if _on("FSDP_OFFLOAD_PARAMS"):
        raise InputError("weights cannot be offloaded", where=location, hint="set fsdp_offload_params: false")
    if plugin.activation_checkpointing:
        hint = "set fsdp_activation_checkpointing: false, and backbone.checkpointing=true in the run"
        raise InputError("recomputing is a setting of the run", where=location, hint=hint)
    # else transformers would give all but the first process a backbone without numbers
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return Sharding(reshard=bool(plugin.reshard_after_forward))


def _on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def placed(job: Job, world: ProcessGroup) -> Job:
    """The job on this process's own device: with several processes on graphics cards, each has one.

    Raises `InputError` where there are fewer cards than processes, or all were told to take one.
    """
    if world.size == 1 or job.device == "cpu":
        return job
    if job.device != "cuda":
        message = f"{world.size} processes cannot share {job.device!r}"
        raise InputError(message, where="--device", hint="give --device cuda, each takes a card of its own, or cpu")
    import torch

    number, cards = place_here(), torch.cuda.device_count()
    if number >= cards:
        message = f"process {number} on this machine, which has {cards} graphics cards"
        raise InputError(message, where="the launcher", hint="start as many processes a machine as it has cards")
    torch.cuda.set_device(number)
    return replace(job, device=f"cuda:{number}")


def device_named(job: Job, world: ProcessGroup) -> str:
    """For the record: the device, and how many of them."""
    if world.size == 1:
        return job.device
    kind = job.device.partition(":")[0]
    return f"{world.size} x {kind} ({'gloo' if kind == 'cpu' else 'nccl'})"


@contextmanager
def _losing() -> Iterator[None]:
    """Turns what the transport says of a missing peer into words."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        label = "another process of this run has ended; what was done is kept, and the same command continues it"
        message = re.sub(r"\[/\S+:\d+\] ", "", str(error).splitlines()[0])  # where in its source the transport says it
        raise PeerLost(f"{label} ({message[:120]})") from error
