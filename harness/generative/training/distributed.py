"""Gradient synchronisation of processes that compute each step together.

Each process has the whole model and a share of the step's samples; the losses of the shares sum to the step's loss.
Gradients are summed before clipping, so that the update equals that of a single process. torch's
DistributedDataParallel averages gradients and hooks into one `forward`; a step here calls the backbone several times,
or not at all in a process without samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from harness.generative.models.fsdp import clip_sharded, is_sharded, shard_like
from harness.generative.models.precision import float64_on_cpu
from harness.generative.training.checkpoint import Checkpointer, Progress, TrainingState
from harness.protocol.context import ProcessGroup

BUCKET = 1 << 25  # gradient elements in one all-reduce, which bounds the memory of their copies


class GradientSynchronizer:
    """Parameters and optimizer of one stage in all processes of `world`."""

    def __init__(
        self, world: ProcessGroup, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self.world, self.parameters, self.optimizer = world, list(parameters), optimizer
        self.stream = (world.rank,) if world.rank else ()  # part of the seed: dropout differs between processes

    def begin(self, state: TrainingState, checkpointer: Checkpointer) -> Progress:
        """Broadcasts the main process's parameters and checkpoint, tensor by tensor: a process stores only its shard of
        a sharded parameter."""
        if self.world.size == 1:
            return state.load(checkpointer)
        if state.callback is not None:
            raise ValueError("a callback with state does not support several processes")
        snapshot = checkpointer.load()
        facts = self.world.broadcast_object(None if snapshot is None else snapshot[0])
        if facts is None:
            self.world.broadcast([p.detach() for p in self.parameters if not is_sharded(p)])
            return Progress()
        entries = state.by_tensor({} if snapshot is None else snapshot[1])
        shapes = self.world.broadcast_object(
            [{name: [list(v.shape), str(v.dtype)] for name, v in tensors.items()} for tensors in entries]
        )
        for number, parameter in enumerate(self.parameters):
            for name, (size, dtype) in shapes[number].items():
                is_main = not self.world.rank
                device = parameter.device
                value = entries[number].pop(name).to(device) if is_main else _empty(size, dtype, device)
                self.world.broadcast([value])
                if is_sharded(parameter) and value.shape == parameter.shape:
                    value = shard_like(value, parameter)
                state.set(number, name, value)
        return state.set_facts(facts)

    def clock(self, seconds: float, due: bool) -> tuple[float, bool]:
        """The main process's seconds and whether a checkpoint is due, so that all processes agree."""
        if self.world.size == 1:
            return seconds, due
        message = self.world.broadcast_object([seconds, due])
        return float(message[0]), bool(message[1])

    def clip(self, limit: float) -> None:
        """Scales all gradients so that their norm is at most `limit`."""
        if any(map(is_sharded, self.parameters)):
            clip_sharded(self.parameters, limit, self.world)
        else:
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            if norm > limit:  # smaller ones would be multiplied by 1
                nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)

    def sum_gradients(self, loss: float) -> float:
        """Sums gradients and loss over all processes. A parameter that no process used in the step has no gradient, as
        in one process."""
        if self.world.size == 1:
            return loss
        gathered = float64_on_cpu([loss, *(p.grad is not None for p in self.parameters)])
        self.world.all_reduce([gathered])
        counts = zip(self.parameters, gathered[1:].tolist(), strict=True)
        used = [parameter for parameter, count in counts if count and not is_sharded(parameter)]  # else by FSDP
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(used):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.world.all_reduce([flat])
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        return float(gathered[0])


def _empty(size: list[int], dtype: str, device: torch.device) -> torch.Tensor:
    """A tensor that receives a broadcast; `dtype` as torch prints it."""
    return torch.empty(size, dtype=getattr(torch, dtype.removeprefix("torch.")), device=device)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[torch.Tensor]]:
    """Consecutive gradients in groups of one dtype and device."""
    bucket: list[torch.Tensor] = []
    for gradient in (parameter.grad for parameter in parameters):
        assert gradient is not None
        alike = bucket and (bucket[0].dtype, bucket[0].device) == (gradient.dtype, gradient.device)
        if bucket and (not alike or sum(g.numel() for g in bucket) + gradient.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
