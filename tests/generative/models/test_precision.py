"""Devices without float64, played by torch's fake tensors: nothing may ask them for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.generative.models.precision import to_float64
from harness.generative.tokenizers.rqvae import RQVAE, RQVAEConfig
from harness.generative.training.checkpoint import state_digest


class WithoutDoubles(TorchDispatchMode):
    """Devices of this kind refuse float64."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64 and result.device.type == self.kind:
            raise TypeError(f"{func}: this device has no float64")
        return result


def test_doubled_goes_to_where_doubles_are() -> None:
    assert to_float64(torch.ones(2)).tolist() == [1.0, 1.0] and to_float64(torch.ones(2)).dtype == torch.float64
    with FakeTensorMode(), WithoutDoubles("mps"):
        value = torch.empty(3, 4, device="mps")
        with pytest.raises(TypeError, match="no float64"):
            value.double()
        assert to_float64(value).device.type == "cpu" and to_float64(value).dtype == torch.float64
        assert to_float64(torch.empty(3, device="cuda")).device.type == "cuda"


def test_codes_used_evenly_come_back_to_their_device() -> None:
    with FakeTensorMode(), WithoutDoubles("mps"):
        model = RQVAE(5, 2, 4, RQVAEConfig(hidden=(8,), latent=3))
        result = model.sinkhorn_assign(torch.empty(6, 4, device="mps"))
    assert (result.shape, result.device.type) == ((6,), "mps")


def float64_uses(source: str) -> Iterator[int]:
    """Lines of a program that make a float64 tensor without `precision`. A key of a table of tolerances makes none."""
    tree = ast.parse(source)
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("float64", "double"):
            dtype = isinstance(node.value, ast.Name) and node.value.id == "torch"
            if id(node) not in keys and (dtype or node.attr == "double"):
                yield node.lineno


@pytest.mark.parametrize(
    "line", ["x.double()", "x.to(torch.float64)", "y = torch.double", "zeros(2, dtype=torch.float64)"]
)
def test_the_scan_sees_each_way(line: str) -> None:
    assert list(float64_uses(f"import torch\n{line}")) == [2]
    assert not list(float64_uses("T = {torch.float64: 1e-6}; np.float64(3); a.astype(np.float64)"))


def test_no_module_goes_round_the_one_way_to_float64() -> None:
    root = Path(__file__).parents[3]
    paths = [path for folder in ("harness", "baselines", "eager") for path in sorted((root / folder).rglob("*.py"))]
    result = [
        f"{path.relative_to(root)}:{line}" for path in paths for line in float64_uses(path.read_text(encoding="utf-8"))
    ]
    assert {place.partition(":")[0] for place in result} == {"harness/generative/models/precision.py"}, result


def kinds() -> torch.nn.Module:
    """Numbers of each kind that a model may hold."""
    module, samples = torch.nn.Module(), torch.randn(701, 3, generator=torch.Generator().manual_seed(3))
    for kind in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.bool, torch.complex64):
        module.register_buffer(str(kind).replace("torch.", "of_"), samples.to(kind))
    module.register_buffer("one", torch.tensor(0.5))
    module.register_buffer("none", torch.empty(0, 4))
    return module


def test_a_mark_needs_no_float64() -> None:
    previous = state_digest(kinds())
    with WithoutDoubles("cpu"):
        assert state_digest(kinds()) == previous


def test_a_mark_is_that_of_the_numbers_wherever_they_lie() -> None:
    """Turned, and at a place of memory where no whole number of eight bytes may begin."""
    turned, moved = kinds(), kinds()
    turned.of_float32 = kinds().get_buffer("of_float32").t().contiguous().t()
    for name, value in kinds().named_buffers():
        setattr(moved, name, torch.cat([value.new_zeros(1), value.flatten()])[1:].view(value.shape))
    assert state_digest(turned) == state_digest(moved) == state_digest(kinds())


@pytest.mark.parametrize("name", [name for name, value in kinds().named_buffers() if value.numel()])
@pytest.mark.parametrize("place", [1, -1])
def test_a_mark_sees_the_last_bit_of_one_number(name: str, place: int) -> None:
    """Of one that is not among those that are looked at singly, and of the last."""
    previous, other = state_digest(kinds()), kinds()
    content = other.get_buffer(name).view(-1).view(torch.uint8)
    content[place * other.get_buffer(name).itemsize if len(content) > 8 else place] ^= 1
    assert state_digest(other) != previous
