"""RQ-VAE item codes: an autoencoder whose bottleneck is a sum of codebook vectors, one a level (Lee et al., CVPR 2022),
trained on text vectors as in LC-Rec (arXiv 2311.09049) and TIGER (arXiv 2305.05065).

Loss: ‖x - x̂‖² + mean over levels of (‖sg(r) - e‖² + β‖r - sg(e)‖²). LC-Rec's uniform mapping assigns the last level
evenly by optimal transport, during training and to separate items that share a code. Not in the papers: codes that an
epoch leaves unused are reset to residuals of its last batch, against codebook collapse. A `CodebookLoss` adds a term,
as LETTER does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional

from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed
from harness.generative.config import Section
from harness.generative.models.precision import to_float64
from harness.generative.tokenizers.embeddings import check_finite
from harness.generative.training.checkpoint import Callback
from harness.generative.training.trainer import ParameterGroup, TrainingConfig, train
from harness.protocol.context import RunContext

CHECKPOINT = 2  # version of what a checkpoint holds
KMEANS_PASSES = 20
TERM = "term."  # before the names of its state in a checkpoint
MIN_ENTROPY = 0.003  # below it exp(-2 / entropy) underflows in double precision


class RQVAEConfig(Section):
    """Defaults are LC-Rec's but for the encoder's widths (2048, 1024, 512, 256, 128, 64 there, for 4,096 dimensions),
    the passes (10,000 there), the guard against dead codes, and how items that share a code are separated."""

    hidden: tuple[int, ...] = Field(
        default=(512, 256, 128), description="widths of the encoder; the decoder mirrors it"
    )
    latent: int = Field(default=32, ge=1, description="dimensions of the codebooks")
    commitment: float = Field(default=0.25, ge=0)
    epochs: int = Field(default=100, ge=1)
    batch: int = Field(default=1024, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps; then linearly down to zero")
    clip: float = Field(default=1.0, gt=0)
    sinkhorn: float = Field(
        default=0.003, ge=0, description="entropy of the last level's uniform mapping, at least 0.003; 0: none"
    )
    iterations: int = Field(default=50, ge=1, description="of a mapping")
    separate: Literal["assignment", "sinkhorn", "none"] = Field(
        default="assignment",
        description="of items that share a code: all but one take free codes of the prefix; LC-Rec's rounds; nothing",
    )
    rounds: int = Field(default=20, ge=0, description="of separate=sinkhorn, at most")
    revive: bool = Field(default=True, description="move unused codes onto residuals after each pass")


@dataclass(frozen=True, eq=False)
class RQCodes:
    """`digits` int64 (n_items, levels); the share of items that shared a code before the rounds, and after them."""

    digits: np.ndarray
    loss: float
    collisions_first: float
    collisions: float
    rounds: int

    def record(self) -> dict[str, Any]:
        """Without the digits."""
        return {name: value for name, value in vars(self).items() if name != "digits"}


class CodebookLoss(Protocol):
    """A term added to the loss of each batch, without parameters of its own. Its state is part of checkpoints."""

    def begin_epoch(self, books: torch.Tensor, epoch: int) -> None:
        """Before the first batch of an epoch, with the codebooks (levels, size, latent)."""
        ...

    def __call__(
        self, quantised: torch.Tensor, books: torch.Tensor, digits: torch.Tensor, items: torch.Tensor
    ) -> torch.Tensor:
        """The term, a scalar, for the `items` (n,) of a batch: rows of the vectors that are coded. `quantised` (n,
        latent) is the sum of their codes, whose gradient goes on to the encoder; `digits` (n, levels)."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]: ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None: ...


class RQVAE(nn.Module):
    """Encoder, codebooks (levels, size, latent) and decoder."""

    def __init__(self, dim: int, levels: int, size: int, config: RQVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = (dim, *config.hidden, config.latent)
        self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        self.books = nn.Parameter(torch.zeros(levels, size, config.latent))

    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The loss of a batch (n, dim), its digits (n, levels), and the sum of its codes (n, latent), whose gradient
        goes on to the encoder as it is."""
        latent = self.encoder(vectors)
        residual, digits, mask, penalty = latent, [], torch.zeros_like(latent), latent.new_zeros(())
        last = len(self.books) - 1
        for level, book in enumerate(self.books):
            distances = torch.cdist(residual.detach(), book.detach()).square()
            uniform = level == last and self.config.sinkhorn > 0
            digit = self.sinkhorn_assign(distances) if uniform else distances.argmin(dim=1)
            code = book[digit]
            penalty = penalty + functional.mse_loss(code, residual.detach())
            penalty = penalty + self.config.commitment * functional.mse_loss(residual, code.detach())
            residual, mask = residual - code.detach(), mask + code
            digits.append(digit)
        quantised = latent + (mask - latent).detach()
        loss = functional.mse_loss(self.decoder(quantised), vectors) + penalty / len(self.books)
        return loss, torch.stack(digits, dim=1), quantised

    @torch.no_grad()
    def nearest(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Nearest codes (n, levels), and the residuals before the last level (n, latent)."""
        residual, digits = self.encoder(vectors), []
        previous = residual
        for book in self.books:
            digit = torch.cdist(residual, book).argmin(dim=1)
            previous, residual = residual, residual - book[digit]
            digits.append(digit)
        return torch.stack(digits, dim=1), previous

    def sinkhorn_assign(self, distances: torch.Tensor) -> torch.Tensor:
        """Uniform mapping: codes (n,) by `distances` (n, size), used evenly (Sinkhorn & Knopp 1967)."""
        middle, span = (distances.max() + distances.min()) / 2, (distances.max() - distances.min()) / 2 + 1e-5
        plan = torch.exp(-to_float64((distances - middle) / span) / max(self.config.sinkhorn, MIN_ENTROPY))
        n, size = plan.shape
        rows, columns = plan.new_ones(n), plan.new_ones(size)
        for _ in range(self.config.iterations):
            columns = 1 / (size * (plan.T @ rows)).clamp(min=1e-300)
            rows = 1 / (n * (plan @ columns)).clamp(min=1e-300)
        return (plan * columns).argmax(dim=1).to(distances.device)

    @torch.no_grad()
    def start_books(self, vectors: torch.Tensor, generator: torch.Generator) -> None:
        """k-means on the residuals of each level."""
        residual = self.encoder(vectors)
        for book in self.books:
            book.copy_(_kmeans(residual, len(book), generator))
            residual = residual - book[torch.cdist(residual, book).argmin(dim=1)]

    @torch.no_grad()
    def reset_dead_codes(self, used: torch.Tensor, batch: torch.Tensor, generator: torch.Generator) -> int:
        """Resets codes with count 0 in `used` (levels, size) to random residuals of `batch`. Number of resets."""
        residual, changed = self.encoder(batch), 0
        for book, counts in zip(self.books, used, strict=True):
            dead = torch.nonzero(counts == 0)[:, 0]
            closest = torch.cdist(residual, book).argmin(dim=1)
            if len(dead):
                samples = torch.randint(len(residual), (len(dead),), generator=generator)
                book[dead] = residual[samples.to(residual.device)]
                changed += len(dead)
            residual = residual - book[closest]
        return changed


def rqvae_codes(
    vectors: np.ndarray,
    levels: int,
    size: int,
    config: RQVAEConfig,
    context: RunContext,
    name: str = "rqvae",
    term: CodebookLoss | None = None,
    term_mark: str = "",
) -> RQCodes:
    """Codes of item vectors (n_items, dim), each of `levels` tokens out of `size`. They may collide; the rate is
    reported. `name`: of the training in checkpoints and random streams; `term`: added to its loss; `term_mark`: a hash
    of what it depends on. Raises `InputError` for vectors that are not finite."""
    check_finite(vectors, "item vectors")
    torch.manual_seed(derive_seed(context.seed, name))
    generator = torch.Generator().manual_seed(derive_seed(context.seed, name, "draws"))
    points = torch.from_numpy(vectors.astype(np.float32)).to(context.device)
    model = RQVAE(points.shape[1], levels, size, config).to(context.device)
    model.start_books(points, generator)
    parts = (CHECKPOINT, vectors, levels, size, config.model_dump(mode="json"), context.seed)
    mark = fingerprint(*parts, term_mark) if term_mark else fingerprint(*parts)
    loss = _train(_Epochs(model, points, generator, term), context, name, mark)
    digits, residual = model.nearest(points)
    first = _shared(digits)
    rounds = {"none": lambda *values: 0, "sinkhorn": resolve_collisions, "assignment": _assign}[config.separate](
        model, digits, residual
    )
    return RQCodes(
        digits.cpu().numpy(), loss, float(first.float().mean()), float(_shared(digits).float().mean()), rounds
    )


def _train(epochs: _Epochs, context: RunContext, name: str, mark: str) -> float:
    """Trains the model in place. Mean loss of the last epoch."""
    model, config = epochs.model, epochs.model.config
    group = ParameterGroup(list(model.parameters()), config.learning_rate, config.weight_decay)
    plan = TrainingConfig(
        stage=name,
        steps=config.epochs * epochs.length,
        warmup=config.warmup,
        schedule="linear",
        clip=config.clip,
        beta2=0.999,
        fused=False,
        title="RQ-VAE",
        fingerprint=mark,
    )
    train([group], epochs.loss, plan, context, callback=epochs)
    return epochs.mean_loss


class _Epochs(Callback):
    """Batches in an order drawn anew each epoch, and the reset of dead codes after it. `mean_loss`: of the samples of
    this epoch so far."""

    def __init__(
        self, model: RQVAE, points: torch.Tensor, generator: torch.Generator, term: CodebookLoss | None
    ) -> None:
        self.model, self.points, self.generator, self.term = model, points, generator, term
        self.length = -(-len(points) // model.config.batch)  # steps of an epoch
        self.mean_loss, self._counts = 0.0, torch.zeros(model.books.shape[:2], dtype=torch.long)
        self._batches: tuple[torch.Tensor, ...] = ()
        self._start = generator.get_state()  # when the epoch began: a resumed epoch draws its order again

    def loss(self, step: int, part: int) -> torch.Tensor:
        """The loss of one batch."""
        if step % self.length == 0:
            self.mean_loss, self._counts = 0.0, torch.zeros_like(self._counts)
            if self.term is not None:
                self.term.begin_epoch(self.model.books.detach(), step // self.length)
        if not self._batches or step % self.length == 0:
            self._start = self.generator.get_state()
            order = torch.randperm(len(self.points), generator=self.generator).to(self.points.device)
            self._batches = order.split(self.model.config.batch)
        batch = self._batches[step % self.length]
        loss, digits, quantised = self.model(self.points[batch])
        if self.term is not None:
            loss = loss + self.term(quantised, self.model.books, digits, batch)
        self._counts += torch.stack([torch.bincount(d, minlength=self._counts.shape[1]) for d in digits.cpu().T])
        self.mean_loss += float(loss.detach()) * len(batch) / len(self.points)
        return loss

    def on_step_end(self, step: int) -> dict[str, Any]:
        """Resets dead codes after an epoch of the first three quarters."""
        if step % self.length:
            return {}
        config, changed = self.model.config, 0
        too_few = len(self.points) <= self._counts.shape[1]  # items for all codes to be used
        if config.revive and not too_few and step // self.length - 1 < 0.75 * config.epochs:
            changed = self.model.reset_dead_codes(self._counts, self.points[self._batches[-1]], self.generator)
        self._start = self.generator.get_state()
        return {"epoch": step // self.length, "loss": self.mean_loss, "revived": changed}

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Loss and code counts of the epoch so far, the generator's state at its start, and the term's state."""
        term = {} if self.term is None else {f"{TERM}{name}": value for name, value in self.term.state_dict().items()}
        return {"mean_loss": self.mean_loss}, {"counts": self._counts, "generator": self._start, **term}

    def load_state_dict(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        self.mean_loss, self._counts = facts["mean_loss"], tensors["counts"]
        self.generator.set_state(tensors["generator"])
        if self.term is not None:
            self.term.load_state_dict(
                {name.removeprefix(TERM): value for name, value in tensors.items() if name.startswith(TERM)}
            )


def resolve_collisions(model: RQVAE, digits: torch.Tensor, residual: torch.Tensor) -> int:
    """LC-Rec's rounds: the items that share a code are mapped evenly over the codes of the last level. Changes
    `digits` in place. Number of rounds."""
    for number in range(model.config.rounds):
        if not _shared(digits).any():
            return number
        for members in _groups(digits):
            if len(members) > 1:
                distances = torch.cdist(residual[members], model.books[-1]).square().detach()
                digits[members, -1] = model.sinkhorn_assign(distances)
    return model.config.rounds


def _assign(model: RQVAE, digits: torch.Tensor, residual: torch.Tensor) -> int:
    """For each prefix, the nearest item keeps a shared code, the others take free codes with the minimal sum of
    distances: unique unless a prefix has more items than the last level has codes. Number of rounds."""
    if not _shared(digits).any():
        return 0
    for members in _groups(digits[:, :-1]):
        distances = to_float64(torch.cdist(residual[members], model.books[-1]).square().detach()).cpu().numpy()
        codes = digits[members, -1].cpu().numpy()
        closest = np.lexsort((distances[np.arange(len(codes)), codes], codes))
        first = closest[np.unique(codes[closest], return_index=True)[1]]
        movers = np.setdiff1d(np.arange(len(codes)), first)
        free = np.setdiff1d(np.arange(distances.shape[1]), codes)
        if len(movers) and len(free):
            owner, label = linear_sum_assignment(distances[np.ix_(movers, free)])
            digits[members[movers[owner]], -1] = torch.from_numpy(free[label]).to(digits.device)
    return 1


def _groups(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The items of each distinct row of `rows` (n, levels)."""
    if not rows.shape[1]:
        return (torch.arange(len(rows), device=rows.device),)
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    return torch.argsort(group, stable=True).split(torch.bincount(group).tolist())


def _shared(digits: torch.Tensor) -> torch.Tensor:
    """Whether each item shares its code with another item."""
    _, inverse, counts = torch.unique(digits, dim=0, return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def _mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    for layer in layers[::2]:
        assert isinstance(layer, nn.Linear)
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers[:-1])


def _kmeans(points: torch.Tensor, clusters: int, generator: torch.Generator) -> torch.Tensor:
    """Centres (clusters, dim) by Lloyd's algorithm from random points, which repeat if there are too few."""
    samples = torch.randperm(len(points), generator=generator)
    samples = samples.repeat(-(-clusters // len(points)))[:clusters].to(points.device)
    centres = points[samples].clone()
    for _ in range(KMEANS_PASSES):
        closest = torch.cdist(points, centres).argmin(dim=1)
        counts = torch.bincount(closest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, closest, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres
