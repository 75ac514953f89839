"""Training in several processes that compute each step together.

Each process has the whole model and a share of the step's samples; the losses of the shares sum to the step's loss.
Gradients are summed before clipping, so that the update equals that of a single process. torch's
DistributedDataParallel averages gradients and hooks into one `forward`; a step here calls the backbone several times,
or not at all in a process without samples.

Backbones that exceed the memory of one device are fully sharded (Zhao et al., VLDB 2023): the weights of a transformer
block are gathered for its forward and backward pass, its gradients are reduced to the shards. Embeddings, norms outside
the blocks, code embeddings and heads are replicated. After the stage every process has the complete model again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from harness.generative.models.precision import float64_on_cpu, to_float64
from harness.protocol.context import ProcessGroup


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether this process holds only a shard of the tensor."""
    return hasattr(tensor, "full_tensor")


def split_by_sharding(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Splits replicated and sharded parameters, as no optimizer updates both at once; without empty groups."""
    kinds = [[p for p in parameters if is_sharded(p) == cut] for cut in (False, True)]
    return [kind for kind in kinds if kind]


def any_sharded(module: nn.Module) -> bool:
    """Whether some parameter of the module is sharded."""
    return any(is_sharded(parameter) for parameter in module.parameters())


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The complete tensor; for a sharded one a collective operation."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def shard_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The complete `tensor` of this process, sharded like `like`."""
    from torch.distributed.tensor import distribute_tensor

    target: Any = like
    return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)


class ShardedBlocks:
    """The blocks of a backbone, sharded until `unshard`; unchanged if `world` has no sharding."""

    def __init__(self, body: nn.Module, world: ProcessGroup, device: str) -> None:
        self._cut: list[tuple[nn.Module, str, nn.Module]] = []
        if world.sharding is None or world.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(torch.device(device).type, (world.size,))
        for parent, name, block in list(_blocks(body)):
            world.broadcast([parameter.detach() for parameter in block.parameters()])  # equal weights before sharding
            self._cut.append((parent, name, copy.deepcopy(block).to("meta")))
            sharded: Any = fully_shard(block, mesh=mesh, reshard_after_forward=world.sharding.reshard)
            sharded.set_gradient_divide_factor(1.0)  # losses are shares of one mean: gradients are summed
            sharded.set_force_sum_reduction_for_comms(True)

    def unshard(self) -> None:
        """Replaces the shards by complete blocks in all processes."""
        for parent, name, bare in self._cut:
            block = getattr(parent, name)
            state = {key: full_tensor(value).detach() for key, value in block.state_dict().items()}
            bare.load_state_dict(state, assign=True)
            for key, value in block.named_buffers():
                place, _, leaf = key.rpartition(".")
                bare.get_submodule(place)._buffers[leaf] = value
            bare.train(block.training)
            setattr(parent, name, bare)
        self._cut = []


def clip_sharded(parameters: Sequence[nn.Parameter], limit: float, world: ProcessGroup) -> None:
    """`clip_grad_norm_` for sharded gradients: the norm is over all shards."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local: list[torch.Tensor] = [g.to_local() if is_sharded(g) else g for g in gradients]  # pyright: ignore
    squares = [to_float64(torch.zeros((), device=local[0].device)) for _ in range(2)]
    for gradient, own_rows in zip(gradients, local, strict=True):
        squares[is_sharded(gradient)] += to_float64(own_rows).pow(2).sum().to(squares[0].device)
    world.all_reduce([squares[True]])
    norm = (squares[False] + squares[True]).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for own_rows in local:
        own_rows.mul_(factor.to(own_rows.dtype).to(own_rows.device))


def _blocks(body: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and module of each transformer block, by the model's `_no_split_modules`."""
    kinds = set(getattr(body, "_no_split_modules", None) or ())
    for parent in body.modules():
        for name, child in parent.named_children():
            if type(child).__name__ in kinds:
                yield parent, name, child


BUCKET = 1 << 25  # gradient elements in one all-reduce, which bounds the memory of their copies


class GradientSynchronizer:
    """Gradients of the parameters of one stage in all processes of `world`."""

    def __init__(self, world: ProcessGroup, parameters: Sequence[nn.Parameter]) -> None:
        self.world, self.parameters = world, list(parameters)
        self.stream = (world.rank,) if world.rank else ()  # part of the seed: dropout differs between processes

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
        counted = [parameter for parameter, count in counts if count and not is_sharded(parameter)]  # else by FSDP
        for parameter in counted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets(counted):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            self.world.all_reduce([flat])
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        return float(gathered[0])


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
