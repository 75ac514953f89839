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

from harness.generative.choosing import Choice
from harness.protocol.world import World

BUCKET = 1 << 25  # numbers that are sent at once: what the copies of gradients may take besides

Kept = tuple[int, list[float], float]


class Team:
    """One stage's parameters and optimiser in all processes of `world`."""

    def __init__(self, world: World, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        self.world, self.parameters, self.optimizer = world, list(parameters), optimizer
        self.stream = (world.rank,) if world.rank else ()  # dropout: each process draws its own

    def begin(self, kept: Kept, choice: Choice | None) -> Kept:
        """All take the first's weights, and what it has kept of the stage: (steps, losses, seconds)."""
        if self.world.size == 1:
            return kept
        step, losses, seconds = self.world.tell(kept)
        self.world.spread([parameter.detach() for parameter in self.parameters])
        self._share_moments()
        if choice is not None:
            self._share_choice(choice)
        return int(step), list(losses), float(seconds)

    def clock(self, seconds: float) -> float:
        """The first's seconds: what ends a stage must end it everywhere."""
        return seconds if self.world.size == 1 else float(self.world.tell(seconds))

    def add(self, loss: float) -> float:
        """Sums the gradients and the loss over all processes. A parameter that had no part in the step anywhere keeps
        no gradient, as it would in one process."""
        if self.world.size == 1:
            return loss
        told = torch.tensor([loss, *(p.grad is not None for p in self.parameters)], dtype=torch.float64)
        self.world.add([told])
        used = [p for p, count in zip(self.parameters, told[1:].tolist(), strict=True) if count]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(used):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.world.add([flat])
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        return float(told[0])

    def _share_moments(self) -> None:
        """The optimiser's state, for those that have read no checkpoint."""
        states = [self.optimizer.state[parameter] for parameter in self.parameters]
        shapes = [{name: (list(v.shape), str(v.dtype), v.device.type) for name, v in s.items()} for s in states]
        for state, shape, parameter in zip(states, self.world.tell(shapes), self.parameters, strict=True):
            for name, (size, kind, place) in shape.items():
                if self.world.rank:
                    device = parameter.device if place == parameter.device.type else place
                    state[name] = torch.empty(size, dtype=getattr(torch, kind.removeprefix("torch.")), device=device)
                self.world.spread([state[name]])

    def _share_choice(self, choice: Choice) -> None:
        told: dict[str, Any] = self.world.tell({"seen": choice.seen, "values": len(choice.values)})
        choice.seen = [(int(step), float(value)) for step, value in told["seen"]]
        if self.world.rank:
            choice.values = [torch.empty_like(parameter) for parameter in self.parameters[: told["values"]]]
        self.world.spread(choice.values)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[torch.Tensor]]:
    """Gradients of one kind and device, in order, some at a time."""
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
