"""A backbone whose blocks lie in pieces on all processes while a stage is tuned: fully sharded data parallel (Zhao et
al., VLDB 2023), for backbones that one card does not hold with their gradients and moments.

Each block's weights are gathered when it is read and their gradients are summed into the pieces; embeddings, norms
outside the blocks, code rows and heads stay whole. Behind the stage all processes have the whole model again, so that
adapters are merged, users ranked and checkpoints read as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from harness.protocol.distributed import ProcessGroup


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether this process holds a piece of the tensor only."""
    return hasattr(tensor, "full_tensor")


def split_by_sharding(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those that are whole, and those in pieces: no optimiser updates both together. A kind without any is left out."""
    kinds = [[p for p in parameters if is_sharded(p) == cut] for cut in (False, True)]
    return [kind for kind in kinds if kind]


def any_sharded(module: nn.Module) -> bool:
    """Whether some block of it lies in pieces."""
    return any(is_sharded(parameter) for parameter in module.parameters())


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor; where it lies in pieces all processes ask for it together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def shard_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole `tensor` of this process, cut as `like` is."""
    from torch.distributed.tensor import distribute_tensor

    cut: Any = like
    return distribute_tensor(tensor, cut.device_mesh, cut.placements, src_data_rank=None)


class ShardedBlocks:
    """The blocks of a body, cut up until `join`. Does nothing where the world wants none in pieces."""

    def __init__(self, body: nn.Module, world: ProcessGroup, device: str) -> None:
        self._cut: list[tuple[nn.Module, str, nn.Module]] = []
        if world.sharding is None or world.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(torch.device(device).type, (world.size,))
        for parent, name, block in list(_blocks(body)):
            world.broadcast([parameter.detach() for parameter in block.parameters()])  # pieces of one model
            self._cut.append((parent, name, _bare(block)))
            result: Any = fully_shard(block, mesh=mesh, reshard_after_forward=world.sharding.reshard)
            result.set_gradient_divide_factor(1.0)  # losses are shares of one mean: gradients add up
            result.set_force_sum_reduction_for_comms(True)

    def unshard(self) -> None:
        """Puts whole blocks into the body again, in all processes."""
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
    """`clip_grad_norm_` where some gradients lie in pieces: the norm is over all of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    local: list[torch.Tensor] = [g.to_local() if is_sharded(g) else g for g in gradients]  # pyright: ignore
    squares = [torch.zeros((), dtype=torch.float64, device=local[0].device) for _ in range(2)]
    for gradient, own_rows in zip(gradients, local, strict=True):
        squares[is_sharded(gradient)] += own_rows.double().pow(2).sum().to(squares[0].device)
    world.all_reduce([squares[True]])
    norm = (squares[False] + squares[True]).sqrt()
    for own_rows in local:
        own_rows.mul_((limit / (norm + 1e-6)).clamp(max=1.0).to(own_rows))


def _blocks(body: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and module of each block, as the model's library names what must not be split."""
    kinds = set(getattr(body, "_no_split_modules", None) or ())
    for parent in body.modules():
        for name, child in parent.named_children():
            if type(child).__name__ in kinds:
                yield parent, name, child


def _bare(block: nn.Module) -> nn.Module:
    """A copy of a block without its numbers."""
    return copy.deepcopy(block).to("meta")
