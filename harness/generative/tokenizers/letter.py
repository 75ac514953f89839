"""LETTER's item codes (Wang et al., CIKM 2024, arXiv 2405.07314): an RQ-VAE of item text with two more loss terms.

With ẑ_i the sum of the codes of item i, h_i its collaborative vector, e_c the code c of a level and K(c) the other
codes of c's cluster:

    alignment  L_CF  = -1/B Σ_i log( exp⟨ẑ_i, h_i⟩ / Σ_j exp⟨ẑ_i, h_j⟩ ),   j over the batch of B items
    diversity  L_Div = -1/B Σ_i mean over levels of 1/|K(c)| Σ_{p in K(c)} log( exp⟨e_c, e_p⟩ / Σ_{j≠c} exp⟨e_c, e_j⟩ )

with c the code of item i on the level. Each codebook is clustered anew at the beginning of an epoch, by k-means with
clusters of equal size. docs/letter.md lists the departures from the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from harness.core.hashing import fingerprint
from harness.core.seeding import generator
from harness.generative.config import Section
from harness.generative.tokenizers.base import CodebookConfig, TextCodeTokenizer
from harness.generative.tokenizers.embeddings import EmbeddingSource
from harness.generative.tokenizers.item_graph import CollaborativeConfig, CollaborativeEmbeddings
from harness.generative.tokenizers.kmeans import balanced_kmeans
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION = "letter/1"


class LetterLossConfig(Section):
    """Weights of the two terms. With both at 0 the codes are an RQ-VAE's."""

    alignment: float = Field(default=0.02, ge=0, description="weight of the alignment with collaborative vectors")
    diversity: float = Field(default=1e-4, ge=0, description="weight of the diversity of a codebook")
    clusters: int = Field(default=10, ge=2, description="of a codebook's codes, at most half as many as codes")


class LetterConfig(CodebookConfig):
    """Settings of LETTER's codes: of the tokenizer, and of a method's section `index`."""

    size: int = Field(default=256, ge=4, description="codes of a codebook")
    losses: LetterLossConfig = LetterLossConfig()
    rqvae: RQVAEConfig = RQVAEConfig()
    collaborative: CollaborativeConfig = CollaborativeConfig()


class LetterTokenizer(TextCodeTokenizer, LetterConfig):
    """LETTER's codes of item text and training interactions."""

    kind: Literal["letter"] = "letter"

    def sources(self) -> tuple[EmbeddingSource, ...]:
        return (*super().sources(), CollaborativeEmbeddings(self.collaborative, self.rqvae.latent))

    version: ClassVar[str] = VERSION

    def digits(self, vectors: Sequence[np.ndarray], context: RunContext) -> tuple[np.ndarray, dict[str, Any]]:
        text, collaborative = vectors
        term = LetterLoss(collaborative, self.losses, context)
        mark = fingerprint(VERSION, collaborative, self.losses.model_dump(mode="json"))
        codes = rqvae_codes(scaled(text), self.levels, self.size, self.rqvae, context, "letter", term, mark)
        return codes.digits, {"collisions_before": codes.collisions, "rqvae": codes.record()}

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        return (*super().files(data), *self.collaborative.files(data))


def scaled(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (n, dim) less their mean, with a mean square of one: the reconstruction error then starts at about one,
    whatever the encoder, and the weights of the other terms mean the same."""
    centred = vectors - vectors.mean(axis=0)
    return (centred / np.sqrt(np.square(centred).mean()).clip(1e-12)).astype(np.float32)


class LetterLoss:
    """Alignment and diversity, a `rqvae.CodebookLoss`. `vectors` are collaborative ones, (n_items, latent)."""

    def __init__(self, vectors: np.ndarray, config: LetterLossConfig, context: RunContext) -> None:
        self.config, self.seed = config, context.seed
        self.vectors = torch.from_numpy(vectors).to(context.device)
        self._labels = torch.zeros(0, 0, dtype=torch.long)

    def begin_epoch(self, books: torch.Tensor, epoch: int) -> None:
        """Clusters each codebook (levels, size, latent)."""
        clusters = min(self.config.clusters, books.shape[1] // 2)
        labels = []
        for level, book in enumerate(books.float().cpu().numpy()):
            rng = generator(self.seed, "letter clusters", epoch, level)
            labels.append(torch.from_numpy(balanced_kmeans(book, clusters, rng)[0]))
        self._labels = torch.stack(labels).to(books.device)

    def __call__(
        self, quantised: torch.Tensor, books: torch.Tensor, digits: torch.Tensor, items: torch.Tensor
    ) -> torch.Tensor:
        """The weighted sum of both terms for a batch."""
        config = self.config
        loss = quantised.new_zeros(())
        if config.alignment:
            loss = loss + config.alignment * alignment_loss(quantised, self.vectors[items])
        if config.diversity:
            loss = loss + config.diversity * diversity_loss(books, digits, self._labels)
        return loss

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The clusters of the epoch."""
        return {"clusters": self._labels}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._labels = state["clusters"].to(self.vectors.device)


def alignment_loss(quantised: torch.Tensor, collaborative: torch.Tensor) -> torch.Tensor:
    """L_CF of a batch: both (n, latent), row by row of one item."""
    targets = torch.arange(len(quantised), device=quantised.device)
    return functional.cross_entropy(quantised @ collaborative.T, targets)


def diversity_loss(books: torch.Tensor, digits: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
    """L_Div of a batch: codebooks (levels, size, latent), codes (n, levels), the cluster of each code (levels, size),
    which holds two codes at least."""
    similar = books @ books.transpose(1, 2)
    itself = torch.eye(books.shape[1], dtype=torch.bool, device=books.device)
    alike = (clusters[:, :, None] == clusters[:, None, :]) & ~itself
    positive = (similar * alike).sum(dim=2) / alike.sum(dim=2)
    cost = similar.masked_fill(itself, float("-inf")).logsumexp(dim=2) - positive  # (levels, size)
    return cost.gather(1, digits.T).mean()
