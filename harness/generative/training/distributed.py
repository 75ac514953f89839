"""`Team`: what the tuning loop does where several processes make each step together.

Each has the whole model and a share of the step's samples, whose losses add up to the step's loss; gradients are summed
before they are clipped, so that every process takes the step that one alone would. The sums are made here and not by
torch's DistributedDataParallel: it averages where we add, and hooks into one `forward`, where a step of ours reads the
body several times or, on a process without samples, for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from harness.generative.models.fsdp import clip_sharded, is_sharded, shard_like
from harness.generative.training.checkpoint import Checkpointer
from harness.generative.training.early_stopping import EarlyStopping
from harness.protocol.distributed import ProcessGroup

BUCKET = 1 << 25  # numbers that are sent at once: what the copies of gradients may take besides

StageState = tuple[int, list[float], float]


class GradientSynchronizer:
    """One stage's parameters and optimiser in all processes of `world`."""

    def __init__(
        self, world: ProcessGroup, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self.world, self.parameters, self.optimizer = world, list(parameters), optimizer
        self.stream = (world.rank,) if world.rank else ()  # dropout: each process draws its own

    def begin(self, keeper: Checkpointer) -> StageState:
        """All take the first's weights, and what it has kept of the stage: (steps, losses, seconds)."""
        if self.world.size > 1 and any(map(is_sharded, self.parameters)):
            return self._begin_in_pieces(keeper)
        pair = keeper.restore()
        if self.world.size == 1:
            return pair
        step, losses, seconds = self.world.broadcast_object(pair)
        self.world.broadcast([parameter.detach() for parameter in self.parameters])
        self._share_moments()
        if keeper.choice is not None:
            self._share_choice(keeper.choice)
        return int(step), list(losses), float(seconds)

    def clock(self, seconds: float, due: bool) -> tuple[float, bool]:
        """The first's seconds, and whether it is time to keep: what ends a stage must end it everywhere."""
        if self.world.size == 1:
            return seconds, due
        message = self.world.broadcast_object([seconds, due])
        return float(message[0]), bool(message[1])

    def clip(self, limit: float) -> None:
        """Scales all gradients down where their norm is above `limit`."""
        if any(map(is_sharded, self.parameters)):
            clip_sharded(self.parameters, limit, self.world)
        else:
            nn.utils.clip_grad_norm_(self.parameters, limit)

    def sum_gradients(self, loss: float) -> float:
        """Sums the gradients and the loss over all processes. A parameter that had no part in the step anywhere keeps
        no gradient, as it would in one process."""
        if self.world.size == 1:
            return loss
        gathered = torch.tensor([loss, *(p.grad is not None for p in self.parameters)], dtype=torch.float64)
        self.world.all_reduce([gathered])
        counts = zip(self.parameters, gathered[1:].tolist(), strict=True)
        used = [
            parameter for parameter, count in counts if count and not is_sharded(parameter)
        ]  # the others are summed
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(used):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.world.all_reduce([flat])
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        return float(gathered[0])

    def _begin_in_pieces(self, keeper: Checkpointer) -> StageState:
        """Tensor by tensor, so that no process holds the whole stage: each takes its piece of what the first reads."""
        pair = keeper.read()
        facts = self.world.broadcast_object(None if pair is None else pair[0])
        own: list[dict[str, torch.Tensor]] = [{} for _ in self.parameters] if pair is None else pair[1]
        shapes = self.world.broadcast_object(
            [{name: [list(v.shape), str(v.dtype)] for name, v in s.items()} for s in own]
        )
        for number, parameter in enumerate(self.parameters):
            for name, (size, kind) in shapes[number].items():
                value = own[number].pop(name).to(parameter.device) if not self.world.rank else None
                value = _blank(size, kind, parameter.device) if value is None else value
                self.world.broadcast([value])
                if is_sharded(parameter) and value.shape == parameter.shape:
                    value = shard_like(value, parameter)
                if name == "value":
                    parameter.detach().copy_(value)
                else:
                    self.optimizer.state[parameter][name] = value
        if facts is None:
            self.world.broadcast([p.detach() for p in self.parameters if not is_sharded(p)])
            return 0, [], 0.0
        return int(facts["step"]), list(facts["losses"]), float(facts["seconds"])

    def _share_moments(self) -> None:
        """The optimiser's state, for those that have read no checkpoint."""
        states = [self.optimizer.state[parameter] for parameter in self.parameters]
        shapes = [{name: (list(v.shape), str(v.dtype), v.device.type) for name, v in s.items()} for s in states]
        for state, shape, parameter in zip(states, self.world.broadcast_object(shapes), self.parameters, strict=True):
            for name, (size, kind, place) in shape.items():
                if self.world.rank:
                    device = parameter.device if place == parameter.device.type else place
                    state[name] = _blank(size, kind, device)
                self.world.broadcast([state[name]])

    def _share_choice(self, choice: EarlyStopping) -> None:
        fields: dict[str, Any] = self.world.broadcast_object({"seen": choice.history, "values": len(choice.values)})
        choice.history = [(int(step), float(value)) for step, value in fields["seen"]]
        if self.world.rank:
            choice.values = [torch.empty_like(parameter) for parameter in self.parameters[: fields["values"]]]
        self.world.broadcast(choice.values)


def _blank(size: list[int], kind: str, device: torch.device | str) -> torch.Tensor:
    """A tensor to be filled; `kind` as torch writes a dtype."""
    return torch.empty(size, dtype=getattr(torch, kind.removeprefix("torch.")), device=device)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[torch.Tensor]]:
    """Gradients of one kind and device, in order, some at a time."""
    bucket: list[torch.Tensor] = []
    for gradient in (parameter.grad for parameter in parameters):
        assert gradient is not None
        values = bucket and (bucket[0].dtype, bucket[0].device) == (gradient.dtype, gradient.device)
        if bucket and (not values or sum(g.numel() for g in bucket) + gradient.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
