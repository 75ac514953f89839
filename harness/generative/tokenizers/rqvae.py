"""RQ-VAE codes: an autoencoder whose bottleneck is a sum of codebook vectors, one a level (Lee et al., CVPR 2022), as
LC-Rec (arXiv 2311.09049) and TIGER (arXiv 2305.05065) make item codes of text vectors.

Loss: ‖x - x̂‖² + mean over levels of (‖sg(r) - e‖² + β‖r - sg(e)‖²). LC-Rec's uniform mapping spreads the last level
over its codes by optimal transport, while training and for items that would share a code. Ours: codes that a whole pass
leaves unused are moved onto residuals of the last batch, so that no level dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional

from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed
from harness.errors import InputError
from harness.generative.models.precision import to_float64
from harness.generative.training.checkpoint import LoopCheckpointer
from harness.protocol.context import RunContext

KMEANS_PASSES = 20
FINEST = 0.003  # the least entropy: below it exp(-2 / entropy) leaves the range of double precision


class RQVAEConfig(BaseModel):
    """Defaults are LC-Rec's but for the encoder's widths (2048, 1024, 512, 256, 128, 64 there, for 4,096 dimensions),
    the passes (10,000 there), the guard against dead codes, and how items that share a code are separated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class RQVAE(nn.Module):
    """Encoder, codebooks (levels, size, latent) and decoder."""

    def __init__(self, dim: int, levels: int, size: int, config: RQVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = (dim, *config.hidden, config.latent)
        self.encoder, self.decoder = _mlp(widths), _mlp(widths[::-1])
        self.books = nn.Parameter(torch.zeros(levels, size, config.latent))

    def forward(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch (n, dim), and its digits (n, levels)."""
        latent = self.encoder(vectors)
        left, digits, mask, penalty = latent, [], torch.zeros_like(latent), latent.new_zeros(())
        last = len(self.books) - 1
        for level, book in enumerate(self.books):
            distances = torch.cdist(left.detach(), book.detach()).square()
            uniform = level == last and self.config.sinkhorn > 0
            digit = self.sinkhorn_assign(distances) if uniform else distances.argmin(dim=1)
            code = book[digit]
            penalty = penalty + functional.mse_loss(code, left.detach())
            penalty = penalty + self.config.commitment * functional.mse_loss(left, code.detach())
            left, mask = left - code.detach(), mask + code
            digits.append(digit)
        decoded = self.decoder(latent + (mask - latent).detach())
        return functional.mse_loss(decoded, vectors) + penalty / len(self.books), torch.stack(digits, dim=1)

    @torch.no_grad()
    def nearest(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Digits (n, levels), each code the nearest, and what is left before the last level (n, latent)."""
        left, digits = self.encoder(vectors), []
        before = left
        for book in self.books:
            digit = torch.cdist(left, book).argmin(dim=1)
            before, left = left, left - book[digit]
            digits.append(digit)
        return torch.stack(digits, dim=1), before

    def sinkhorn_assign(self, distances: torch.Tensor) -> torch.Tensor:
        """The uniform mapping: codes (n,) of `distances` (n, size), used evenly (Sinkhorn & Knopp 1967)."""
        middle, span = (distances.max() + distances.min()) / 2, (distances.max() - distances.min()) / 2 + 1e-5
        plan = torch.exp(-to_float64((distances - middle) / span) / max(self.config.sinkhorn, FINEST))
        n, size = plan.shape
        rows, columns = plan.new_ones(n), plan.new_ones(size)
        for _ in range(self.config.iterations):
            columns = 1 / (size * (plan.T @ rows)).clamp(min=1e-300)
            rows = 1 / (n * (plan @ columns)).clamp(min=1e-300)
        return (plan * columns).argmax(dim=1).to(distances.device)

    @torch.no_grad()
    def start_books(self, vectors: torch.Tensor, generator: torch.Generator) -> None:
        """k-means on the residuals of each level."""
        left = self.encoder(vectors)
        for book in self.books:
            book.copy_(_kmeans(left, len(book), generator))
            left = left - book[torch.cdist(left, book).argmin(dim=1)]

    @torch.no_grad()
    def reset_dead_codes(self, used: torch.Tensor, batch: torch.Tensor, generator: torch.Generator) -> int:
        """Codes that `used` (levels, size) counts as unused take the place of random residuals; how many."""
        left, changed = self.encoder(batch), 0
        for book, counts in zip(self.books, used, strict=True):
            dead = torch.nonzero(counts == 0)[:, 0]
            closest = torch.cdist(left, book).argmin(dim=1)
            if len(dead):
                samples = torch.randint(len(left), (len(dead),), generator=generator)
                book[dead] = left[samples.to(left.device)]
                changed += len(dead)
            left = left - book[closest]
        return changed


def rqvae_codes(
    vectors: np.ndarray, levels: int, size: int, config: RQVAEConfig, context: RunContext, name: str = "rqvae"
) -> RQCodes:
    """Codes of item vectors (n_items, dim), each of `levels` tokens out of `size`. Not unique by construction: what is
    shared in the end is reported. Raises `InputError` for vectors that are not finite."""
    if not np.isfinite(vectors).all():
        raise InputError("item vectors hold NaN or infinite values", hint="check the model that made them")
    torch.manual_seed(derive_seed(context.seed, name))
    generator = torch.Generator().manual_seed(derive_seed(context.seed, name, "draws"))
    points = torch.from_numpy(vectors.astype(np.float32)).to(context.device)
    model = RQVAE(points.shape[1], levels, size, config).to(context.device)
    model.start_books(points, generator)
    mark = fingerprint(vectors, levels, size, config.model_dump(mode="json"), context.seed)
    path = None if context.checkpoint is None else context.checkpoint / f"{name.replace(' ', '-')}.safetensors"
    loss = _train(model, points, generator, context, _Kept(path, mark))
    digits, left = model.nearest(points)
    first = _shared(digits)
    rounds = {"none": lambda *values: 0, "sinkhorn": resolve_collisions, "assignment": _assign}[config.separate](
        model, digits, left
    )
    return RQCodes(
        digits.cpu().numpy(), loss, float(first.float().mean()), float(_shared(digits).float().mean()), rounds
    )


@dataclass(frozen=True)
class _Kept:
    """Where the training is kept, and the hash of what decides it."""

    path: Path | None
    mark: str


def _train(model: RQVAE, points: torch.Tensor, generator: torch.Generator, context: RunContext, saved: _Kept) -> float:
    config = model.config
    batches = -(-len(points) // config.batch)
    steps = config.epochs * batches
    warm = max(1, round(config.warmup * steps))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    keeper = LoopCheckpointer(saved.path, saved.mark, model, optimizer, schedule)
    at, total, used = 0, 0.0, torch.zeros(model.books.shape[:2], dtype=torch.long)
    if (pair := keeper.restore()) is not None:
        at, total, used = pair[0]["step"], pair[0]["total"], pair[1]["used"]
        generator.set_state(pair[1]["draws"])
    with context.stage("RQ-VAE", steps) as stage:
        stage.advance(at)
        for epoch in range(at // batches, config.epochs):
            samples = generator.get_state()  # of the pass: its order is drawn again where it is continued
            order, batch = torch.randperm(len(points), generator=generator).to(points.device), points
            if not at % batches:
                used, total = torch.zeros_like(used), 0.0
            for part in order.split(config.batch)[at % batches :]:
                if keeper.due:
                    keeper.save({"step": at, "total": total}, {"used": used, "draws": samples})
                batch = points[part]
                loss, digits = model(batch)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                schedule.step()
                used += torch.stack([torch.bincount(d, minlength=used.shape[1]) for d in digits.cpu().T])
                total += float(loss.detach()) * len(part) / len(points)
                stage.advance(1, loss=float(loss.detach()))
                at += 1
            changed = 0
            if config.revive and len(points) > used.shape[1] and epoch < 0.75 * config.epochs:
                changed = model.reset_dead_codes(used, batch, generator)
            context.event(stage="rqvae", step=epoch + 1, loss=total, revived=changed)
        keeper.save({"step": steps, "total": total}, {"used": used, "draws": generator.get_state()})
    return total


def resolve_collisions(model: RQVAE, digits: torch.Tensor, left: torch.Tensor) -> int:
    """LC-Rec's rounds: each group of items that share a code is mapped together, evenly, over the last level's codes.
    Changes `digits` in place; gives the rounds that were made."""
    for number in range(model.config.rounds):
        if not _shared(digits).any():
            return number
        for members in _groups(digits):
            if len(members) > 1:
                distances = torch.cdist(left[members], model.books[-1]).square().detach()
                digits[members, -1] = model.sinkhorn_assign(distances)
    return model.config.rounds


def _assign(model: RQVAE, digits: torch.Tensor, left: torch.Tensor) -> int:
    """One round in which, prefix by prefix, the nearest item keeps a shared code and the others take free codes at the
    least sum of distances: unique as long as no prefix has more items than the last level has codes."""
    if not _shared(digits).any():
        return 0
    for members in _groups(digits[:, :-1]):
        distances = torch.cdist(left[members], model.books[-1]).square().detach().double().cpu().numpy()
        lock = digits[members, -1].cpu().numpy()
        closest = np.lexsort((distances[np.arange(len(lock)), lock], lock))
        keeps = closest[np.unique(lock[closest], return_index=True)[1]]
        movers = np.setdiff1d(np.arange(len(lock)), keeps)
        free = np.setdiff1d(np.arange(distances.shape[1]), lock)
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
    """Whether each item's code is another's too."""
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
    """Centres (clusters, dim) by Lloyd's passes from random points; points are used again where they are too few."""
    samples = torch.randperm(len(points), generator=generator)
    samples = samples.repeat(-(-clusters // len(points)))[:clusters].to(points.device)
    centres = points[samples].clone()
    for _ in range(KMEANS_PASSES):
        closest = torch.cdist(points, centres).argmin(dim=1)
        counts = torch.bincount(closest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, closest, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres
