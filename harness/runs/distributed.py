"""Several processes in one run (`torchrun`, `accelerate launch`): accelerate's state, and the device of each process.

Ranks come from the launcher's environment (`harness.runs.devices`). Objects and tensors on CPUs go over gloo, tensors
on GPUs over NCCL; `harness.protocol.context.ProcessGroup` sends them.

Heartbeat between the processes of a run: detects a process that no longer responds.

A process that dies closes its connections, which the others notice at once; a machine that hangs or loses power closes
nothing, and a collective would wait for days. Each process increments a counter in the launcher's store and reads the
others' counters in one thread. A second thread checks how long ago each counter last changed, and ends this process if
one has not changed, or if the store does not respond. It counts its own checks and not seconds, so that machines that
are all suspended at once can continue.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from harness.core.environment import switch
from harness.errors import InputError, PeerLost
from harness.protocol.context import SINGLE_PROCESS, ProcessGroup, Sharding, peer_errors
from harness.runs.devices import LOCAL, check_address, cuda_available, place, place_here
from harness.runs.job import Job

BEAT = 5.0  # seconds
SILENT = 600.0  # seconds; libraries hold the interpreter lock for less
PATIENCE = timedelta(days=2)  # timeout of collectives, as vectors may take a day; `heartbeat` detects failures


def _end(line: str) -> None:
    """Ends the process: nothing else interrupts a waiting collective. Stored state is valid at any time."""
    print(line, file=sys.stderr, flush=True)
    os._exit(PeerLost.exit_code)


@contextmanager
def heartbeat(store: Any, rank: int, size: int, end: Callable[[str], None] = _end) -> Iterator[None]:
    """Within the block all processes monitor each other over `store`, a key-value store of torch.distributed; a process
    that has left the block is not monitored. `end` gets the error in one line and does not return."""
    monitor = _Heartbeat(store.clone() if hasattr(store, "clone") else store, rank, size)  # with its own connection
    threads = [Thread(target=monitor.exchange, daemon=True), Thread(target=monitor.watch, args=(end,), daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        monitor.over.set()
        threads[1].join(BEAT)
        threads[0].join(BEAT)  # marks this process as ended, if the store still exists


@dataclass
class _Heartbeat:
    store: Any
    rank: int
    size: int
    over: Event = field(default_factory=Event)
    checks: int = 0
    last_change: dict[int, int] = field(default_factory=dict)  # by rank, the check at which its counter last changed
    ended: set[int] = field(default_factory=set)  # ranks that ended normally

    def exchange(self) -> None:
        counts: dict[int, int] = {}
        with suppress(Exception):  # the store has ended: `watch` or the transport reports it
            while not self.over.wait(BEAT):
                self.store.add(f"harness/beat/{self.rank}", 1)
                for other in range(self.size):
                    count = self.store.add(f"harness/beat/{other}", 0)
                    if count != counts.get(other):
                        counts[other], self.last_change[other] = count, self.checks
                    if self.store.add(f"harness/ended/{other}", 0):
                        self.ended.add(other)
            self.store.add(f"harness/ended/{self.rank}", 1)

    def watch(self, end: Callable[[str], None]) -> None:
        while not self.over.wait(BEAT):
            self.checks += 1
            peers = [r for r in range(self.size) if r not in (self.rank, *self.ended)]
            silent = [r for r in peers if (self.checks - self.last_change.get(r, 0)) * BEAT > SILENT]
            if silent and not self.over.is_set():
                owner = f"process {silent[0]} of {self.size}"
                speaker = f"harness, process {self.rank} of {self.size}" if self.rank else "harness"
                message = f"{owner} has not responded for {SILENT:.0f} seconds"
                end(f"{speaker}: {message}; the same command resumes the run")
                return


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The process group of the launcher, for the block; `SINGLE_PROCESS` without a launcher."""
    rank, size = place()
    if size == 1:
        yield SINGLE_PROCESS
        return
    check_address()
    sharding = accelerates_sharding()
    import torch
    from accelerate import PartialState
    from torch.distributed.rendezvous import rendezvous

    os.environ.setdefault(LOCAL, "0")
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # accelerate would choose another number
    cpu = not cuda_available()
    options = {"cpu": cpu, "backend": "gloo" if cpu else "cpu:gloo,cuda:nccl", "rank": rank, "world_size": size}
    with peer_errors():
        store, *_ = next(rendezvous("env://", rank, size, timeout=PATIENCE))
        try:
            state = PartialState(**options, store=store, timeout=PATIENCE)
        except NotImplementedError as error:  # these GPUs need other settings of NCCL, which it names
            raise InputError(str(error), where="the GPUs") from error
    ended = False
    try:
        with heartbeat(store, rank, size):
            yield ProcessGroup(rank, size, sharding)
        ended = True
    finally:
        if ended or cpu:  # NCCL would wait for processes that have ended
            state.destroy_process_group()


def accelerates_sharding() -> Sharding | None:
    """The sharding of the `accelerate launch` configuration: FSDP2 or none.

    Raises `InputError` for other plugins. Precision, accumulation and gradient checkpointing are settings of the run,
    as they determine its results, and are not read from there.
    """
    location = "accelerate's configuration"
    for name, message in (("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")):
        if switch(f"ACCELERATE_USE_{name}"):
            hint = "use FSDP with fsdp_version: 2, which shards the same state"
            raise InputError(f"{message} has its own optimiser and training loop", where=location, hint=hint)
    if not switch("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION") != "2":
        raise InputError("FSDP version 1 is not supported", where=location, hint="set fsdp_version: 2")
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed import fsdp

    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise InputError("FSDP needs a newer torch", where=location, hint="upgrade torch")
    plugin = FullyShardedDataParallelPlugin()
    if switch("FSDP_OFFLOAD_PARAMS"):
        raise InputError("weights cannot be offloaded", where=location, hint="set fsdp_offload_params: false")
    if plugin.activation_checkpointing:
        hint = "set fsdp_activation_checkpointing: false, and backbone.checkpointing=true in the run"
        raise InputError("activation checkpointing is a setting of the run", where=location, hint=hint)
    # otherwise transformers loads empty weights in all but the main process
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return Sharding(reshard=bool(plugin.reshard_after_forward))


def placed(job: Job, world: ProcessGroup) -> Job:
    """The job on this process's device: with several processes on GPUs, each has one.

    Raises `InputError` if there are fewer GPUs than processes, or if all have the same one.
    """
    if world.size == 1 or job.device == "cpu":
        return job
    if job.device != "cuda":
        message = f"{world.size} processes cannot share {job.device!r}"
        raise InputError(message, where="--device", hint="use --device cuda, which gives each its own GPU, or cpu")
    import torch

    number, gpus = place_here(), torch.cuda.device_count()
    if number >= gpus:
        message = f"process {number} on this machine, which has {gpus} GPUs"
        raise InputError(message, where="the launcher", hint="start at most one process for each GPU")
    torch.cuda.set_device(number)
    return replace(job, device=f"cuda:{number}")


def device_named(job: Job, world: ProcessGroup) -> str:
    """For the record: the device, and their number."""
    if world.size == 1:
        return job.device
    kind = job.device.partition(":")[0]
    return f"{world.size} x {kind} ({'gloo' if kind == 'cpu' else 'nccl'})"
