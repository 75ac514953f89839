"""The head of a causal LM: the computation of logits from its last hidden states, and the log Σ exp over a vocabulary.

A head is one matrix and in some families a bias, a factor or a soft cap. Its settings are read from the configuration
and verified: on a few tokens and over the range of logits, the logits must equal those of the model's forward pass. A
model with another head is rejected. `products` with sampled rows computes a few logits a state, for item codes whose
last level has a token an item.

`text_logsumexp` is exact, without all logits in memory at once. The gradient with respect to a state is the mean of the
head's rows under the softmax. With a frozen head it is computed in the forward pass from the same logits, so that the
backward pass recomputes nothing and stores one vector a state, as in fused losses (Hsu et al., *Liger Kernel*, 2024). A
trained head, or one with a bias or a soft cap, recomputes the logits in the backward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from harness.errors import InputError

SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")  # keys; some families divide by the value
CAPS = ("final_logit_softcapping", "logits_soft_cap")
TOKENS = 8  # number of tokens of the verification
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}  # relative to the largest logit
COARSE = 3e-2  # tolerance in half precision
RANGE = 100.0  # largest logit of the second test, which reveals a soft cap or a factor
CHUNK = 256  # states whose logits are in memory together: 50 MB of float32 for 49,152 tokens


@dataclass(frozen=True, eq=False)
class Head:
    """logits = cap · tanh(scale · (W h + bias) / cap), with the head's matrix W and a state h after the final norm.

    `cap` None: no tanh. `bias`: float32 (vocabulary,), or None. Code tokens have their own rows and scale and no bias,
    and the same cap.
    """

    scale: float = 1.0
    cap: float | None = None
    bias: torch.Tensor | None = None

    @property
    def linear(self) -> bool:
        """Whether logits are the products times a constant."""
        return self.cap is None and self.bias is None

    @property
    def plain(self) -> bool:
        """Whether logits equal the products."""
        return self.linear and self.scale == 1

    def logits(self, states: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """Logits of all rows of `matrix` (vocabulary, width), float32 (*states.shape[:-1], vocabulary)."""
        return self.finish(functional.linear(states, matrix.to(states.dtype)).float())

    def finish(self, products: torch.Tensor, rows: Any = None) -> torch.Tensor:
        """Logits from float32 products of states and rows of the matrix; `rows`: indices of these rows if not all."""
        if self.bias is not None:
            products = products + (self.bias if rows is None else self.bias[rows])
        return self.capped(products if self.scale == 1 else products * self.scale)

    def capped(self, logits: torch.Tensor) -> torch.Tensor:
        """Applies the soft cap only."""
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


PLAIN = Head()


class LevelLogits(Protocol):
    """Logits of the tokens of one level of item codes: of all, or of those sampled for each state."""

    def __call__(self, states: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class SampledRows:
    """The rows of a matrix that each state is multiplied with, in the CSR format: those of state `n` are
    `rows[begins[n] : begins[n + 1]]`, ascending; int64."""

    begins: torch.Tensor
    rows: torch.Tensor


def products(states: torch.Tensor, matrix: torch.Tensor, sampled: SampledRows | None = None) -> torch.Tensor:
    """Float32 products of `states` (n, width) with all rows of `matrix` (rows, width), shape (n, rows); or with each
    state's `sampled` rows, flat in their order."""
    if sampled is None:
        return functional.linear(states, matrix.to(states.dtype)).float()
    return _SampledProducts.apply(states, matrix, sampled.begins, sampled.rows)


class _SampledProducts(torch.autograd.Function):
    """A sampled dense-dense product; time and memory follow the number of sampled rows. Products are in the precision
    of the matrix."""

    @staticmethod
    def forward(
        context: Any, states: torch.Tensor, matrix: torch.Tensor, begins: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        values = states.to(matrix.dtype)
        context.save_for_backward(values, matrix, begins, rows)
        context.kind = states.dtype
        pattern = _csr(begins, rows, values.new_zeros(len(rows)), (len(values), len(matrix)))
        return torch.sparse.sampled_addmm(pattern, values, matrix.T, beta=0).values()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        values, matrix, begins, rows = context.saved_tensors
        gradient = gradient.to(matrix.dtype).contiguous()
        to_states = _csr(begins, rows, gradient, (len(values), len(matrix))) @ matrix
        order = rows.argsort(stable=True)
        unique_rows, counts = rows[order].unique_consecutive(return_counts=True)
        owner = torch.repeat_interleave(torch.arange(len(values), device=rows.device), begins.diff())
        ends = functional.pad(counts.cumsum(0), (1, 0))
        to_used = _csr(ends, owner[order], gradient[order], (len(unique_rows), len(values))) @ values
        return to_states.to(context.kind), torch.zeros_like(matrix).index_copy_(0, unique_rows, to_used), None, None


def _csr(begins: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A sparse matrix. torch warns that the format is a beta feature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(begins, columns, values, size, check_invariants=False)


@torch.no_grad()
def head_of(model: Any, name: str) -> tuple[torch.Tensor, Head]:
    """The head's matrix (vocabulary, width) and its other operations, verified against the forward pass of `model`.

    Raises `InputError` if the model's logits are not of this form, if embeddings and states differ in width, or if the
    transformer does not accept embeddings in place of token ids.
    """
    output, rows = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(output, nn.Linear) or not isinstance(rows, nn.Embedding) or model.base_model is model:
        raise _refused(name, "its embedding or its head is not a matrix")
    if output.weight.shape != rows.weight.shape:
        sizes = f"{tuple(rows.weight.shape)} and {tuple(output.weight.shape)}"
        raise _refused(name, f"its embedding and its head differ in shape, {sizes}")
    training = model.training
    model.eval()
    try:
        ids = torch.arange(2, 2 + TOKENS)[None] * 7 % len(rows.weight)
        return output.weight.detach().clone(), _checked(model, name, ids, output)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError, KeyError, NotImplementedError) as error:
        raise _refused(name, f"it does not read embeddings ({type(error).__name__}: {error})") from error
    finally:
        model.train(training)


def embedding_scale(rows: nn.Embedding) -> float:
    """Factor that an embedding module applies to its rows (√width in some families), 1 if none. It applies to code
    embeddings too."""
    scale = float(getattr(rows, "embed_scale", None) or 1.0)
    return float(torch.tensor(scale).to(rows.weight.dtype))  # rounded as in the module


def final_norm_size(body: nn.Module) -> float:
    """Root mean square of the last hidden states that results from the weight of the final norm; 1 if the norm is
    unknown. Norms that multiply by 1 + weight are recognised by their output on a vector of ±1."""
    for name in ("norm", "ln_f"):
        norm = getattr(body, name, None)
        weight = getattr(norm, "weight", None)
        if isinstance(weight, nn.Parameter):
            assert isinstance(norm, nn.Module)
            unit = torch.ones_like(weight)
            unit[1::2] = -1
            scaled = norm(unit) * unit
            shifted = (scaled - weight - 1).norm() < (scaled - weight).norm()
            size = (weight + 1 if shifted else weight).float().pow(2).mean().sqrt().item()
            return size or 1.0
    return 1.0


def _checked(model: Any, name: str, ids: torch.Tensor, output: nn.Linear) -> Head:
    """The first candidate head whose logits equal the model's."""
    rows = model.get_input_embeddings()
    embedded = functional.embedding(ids, rows.weight) * embedding_scale(rows)
    states = model.base_model(inputs_embeds=embedded.to(rows.weight.dtype), use_cache=False).last_hidden_state
    largest = float(functional.linear(states, output.weight).abs().max().float().clamp(min=1e-6))
    values = [(states * factor, _own(model, ids, factor)) for factor in (1.0, RANGE / largest)]
    allowed, closest = TOLERANCE.get(states.dtype, COARSE), float("inf")
    for head in _possible(model.config, output.bias):
        errors = [(head.logits(at, output.weight) - logits, logits) for at, logits in values]
        off = max(float(error.abs().max() / logits.abs().max().clamp(min=1e-6)) for error, logits in errors)
        if off <= allowed:
            return head
        closest = min(closest, off)
    raise _refused(name, f"the computed logits differ from the model's by {closest:.2g} of the largest")


def _own(model: Any, ids: torch.Tensor, factor: float) -> torch.Tensor:
    """The model's logits, with the input of its head's matrix multiplied by `factor`."""

    def enlarge(_: Any, read: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (read[0] * factor, *read[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(enlarge)
    try:
        return model(input_ids=ids, use_cache=False).logits.float()
    finally:
        hook.remove()


def _possible(config: Any, bias: torch.Tensor | None) -> Iterator[Head]:
    """Candidate heads by the configuration, the plain head last."""
    values = [float(value) for name in SCALES if (value := getattr(config, name, None))]
    scales = [*values, *(1 / value for value in values), 1.0]
    caps = [float(value) for name in CAPS if (value := getattr(config, name, None))]
    for cap in (*caps, None):
        for scale in scales:
            yield Head(scale, cap, None if bias is None else bias.detach().float().clone())


def _refused(name: str, reason: str) -> InputError:
    return InputError(
        f"the backbone {name!r} is not supported: {reason}",
        hint="choose a decoder-only model whose logits are a matrix, a factor, a bias or a soft cap of its last states",
    )


def text_logsumexp(states: torch.Tensor, head: torch.Tensor, shape: Head = PLAIN) -> torch.Tensor:
    """log Σ_v exp(logit_v), float32 (*any); `states` (*any, width), `head` (vocabulary, width), `shape`: the head's
    other operations. Products have autocast's precision, else the dtype of the states."""
    kind, device = states.dtype, states.device.type
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
    flat = states.reshape(-1, states.shape[-1])
    if shape.linear and not shape.plain:
        flat, shape = flat * shape.scale, PLAIN
    if not shape.linear or (head.requires_grad and torch.is_grad_enabled()):

        def total(part: torch.Tensor) -> torch.Tensor:
            return shape.logits(part, head).logsumexp(dim=-1)

        parts = [checkpoint(total, part, use_reentrant=False) for part in flat.split(CHUNK)]
        summed = torch.cat(cast(list[torch.Tensor], parts))
    else:
        summed = _Normaliser.apply(flat, head.to(kind))
    return summed.reshape(states.shape[:-1])


class _Normaliser(torch.autograd.Function):
    """Forward and gradient of one flat batch of states."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        expected = context.needs_input_grad[0]
        sums, means = [], []
        with torch.autocast(states.device.type, enabled=False):
            for part in states.to(head.dtype).split(CHUNK):
                logits = (part @ head.T).float()
                top = logits.amax(dim=-1, keepdim=True)
                logits.sub_(top).exp_()
                total = logits.sum(dim=-1, keepdim=True)
                sums.append((total.log() + top)[:, 0])
                if expected:
                    means.append(logits.to(head.dtype) @ head / total)
        if expected:
            context.save_for_backward(torch.cat(means).to(states.dtype))
        return torch.cat(sums) if sums else states.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(context: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (means,) = context.saved_tensors
        return grad[:, None].to(means.dtype) * means, None
