"""Subjects of `harness bench train` and `harness bench index`: a training step, and trees of item codes.

`TrainingBench` computes loss and gradients of a step by both engines; `trees` gives item codes by balanced k-means, by
the reference algorithm, and by k-means that is balanced afterwards. `harness.bench` times and compares them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch

from eager import tree_tokenizer
from harness.core.seeding import derive_seed, generator
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import EMBEDDED, RANDOM_LLAMA, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.precision import Precision, autocast
from harness.generative.tasks.prompts import Prompts, Sample
from harness.generative.tokenizers import kmeans
from harness.generative.training.losses import Losses
from harness.protocol.context import RunContext

SIZES = (256, 256, 256, 256)  # as in the paper: two tokens of each of two trees
K, HEIGHT = 256, 2  # as in the paper
WIDTH, GROUPS = 384, 400  # width of MiniLM's vectors; groups of similar items


@dataclass(frozen=True)
class Step:
    """Loss of one step and its gradients by every trained parameter."""

    loss: float
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Training:
    """The same targets by both engines. `tokens`: number that each passes through the model; `weights`: parameters that
    each token is multiplied with, 6 operations each for forward and backward."""

    samples: int
    shared: Callable[[], Step]
    plain: Callable[[], Step]
    states: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    logits: Callable[[torch.Tensor], torch.Tensor]
    tokens: dict[str, int]
    weights: int


class TrainingBench:
    """A model over random distinct codes, built once for several sets of histories: SmolLM2, or with `width` a Llama
    with random weights."""

    def __init__(self, n_items: int, layers: int | None, width: int | None, context: RunContext) -> None:
        digits = generator(context.seed, "bench", "codes").choice(np.prod(SIZES), n_items, replace=False)
        table = CodeTable(np.stack(np.unravel_index(digits, SIZES), axis=1), SIZES)
        name = EMBEDDED if width is None else RANDOM_LLAMA
        backbone = load_backbone(name, layers, "pretrained", context, width=width)
        torch.manual_seed(derive_seed(context.seed, "bench", "rows"))
        self.model, self.device = CodeLM(backbone, SIZES).to(context.device).train(), context.device
        self.model.embedding.requires_grad_(False)
        self.shared = Losses(self.model, Prompts(backbone, table), None, context.device)
        self.plain = replace(self.shared, engine="plain")

    def training(self, sequences: Sequence[np.ndarray], batch: int, precision: Precision) -> Training:
        """All items of `sequences` (item ids) but the first are targets. The plain engine batches `batch` samples
        sorted by length; gradients are summed over its batches."""
        samples = sorted(self.plain.alone(sequences, self.plain.prompts.lead()), key=lambda sample: len(sample.ids))
        batches = [samples[i : i + batch] for i in range(0, len(samples), batch)]
        lead = len(self.shared.prompts.lead())
        padded = sum(len(part) * len(part[-1].ids) for part in batches)
        return Training(
            len(samples),
            lambda: self._step([lambda: self.shared.windows(sequences, 0, np.empty(0)).value()], [1.0], precision),
            lambda: self._plain(batches, precision),
            lambda: self._states(sequences),
            torch.no_grad()(self.model.vocabulary_logits),
            {"shared": lead + sum(map(len, sequences)) * len(SIZES), "plain": padded},
            sum(p.numel() for p in self.model.body.parameters() if p.requires_grad and p.ndim == 2),
        )

    def _plain(self, batches: list[list[Sample]], precision: Precision) -> Step:
        total = sum(map(len, batches))
        losses = [lambda part=part: self.plain.rows(part, np.empty(0)).value() for part in batches]
        return self._step(losses, [len(part) / total for part in batches], precision)

    def _step(self, losses: list[Callable[[], torch.Tensor]], shares: list[float], precision: Precision) -> Step:
        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for loss, share in zip(losses, shares, strict=True):
            with autocast(self.device, precision):
                value = loss() * share
            value.backward()
            total += float(value.detach())
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        values = self.model.named_parameters()
        return Step(total, {name: p.grad for name, p in values if p.grad is not None})

    @torch.no_grad()
    def _states(self, sequences: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """The states that predict each response token by both engines, (tokens, width) each."""
        results = []
        for losses in (self.shared, self.plain):
            read, targets = losses.read_windows(sequences, 0)
            results.append(read[targets.places])
        return results[0], results[1]


@dataclass(frozen=True, eq=False)
class Trees:
    """Item codes (items, height) by both algorithms, first digits by k-means balanced afterwards, and the inertia of
    first digits: the sum of squared distances to the mean of the items with the same digit."""

    balanced: Callable[[], np.ndarray]
    reference: Callable[[], np.ndarray]
    repaired: Callable[[], np.ndarray]
    inertia: Callable[[np.ndarray], float]
    both: Callable[[], np.ndarray]


def trees(n_items: int, seed: int) -> Trees:
    """Over vectors in groups of unequal size."""
    vectors, other_vectors = _drawn(n_items, seed, "tree"), _drawn(n_items, seed, "another")

    def balanced(of: np.ndarray = vectors) -> np.ndarray:
        return tree_tokenizer.tree_codes(of, K, HEIGHT, order="clustered", seed=seed)

    def both() -> np.ndarray:
        return np.concatenate([balanced(vectors), balanced(other_vectors)], axis=1)

    def reference() -> np.ndarray:
        """The same tree with the reference assignment."""
        with (
            patch.object(kmeans, "assign_with_sizes", by_turns),
            patch.object(tree_tokenizer, "assign_with_sizes", by_turns),
        ):
            return balanced()

    def inertia(digits: np.ndarray) -> float:
        sums, counts = np.zeros((K, WIDTH)), np.bincount(digits, minlength=K)
        np.add.at(sums, digits, vectors)
        return float(((vectors - (sums / np.maximum(counts, 1)[:, None])[digits]) ** 2).sum())

    return Trees(balanced, reference, lambda: _repaired(vectors, seed), inertia, both)


def _drawn(n_items: int, seed: int, name: str) -> np.ndarray:
    rng = generator(seed, "bench", name)
    group = (GROUPS * rng.random(n_items) ** 2).astype(np.int64)
    return (rng.normal(size=(GROUPS, WIDTH))[group] + 0.7 * rng.normal(size=(n_items, WIDTH))).astype(np.float32)


def by_turns(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Deferred acceptance (Gale & Shapley 1962): one point after another proposes to its next choice."""
    preferences, next_choice = np.argsort(distances, axis=1, kind="stable").tolist(), [0] * len(distances)
    items: list[list[tuple[float, int]]] = [[] for _ in sizes]
    unassigned = list(range(len(distances)))
    while unassigned:
        point = unassigned.pop()
        cluster = preferences[point][next_choice[point]]
        next_choice[point] += 1
        insort(items[cluster], (float(distances[point, cluster]), point))
        if len(items[cluster]) > sizes[cluster]:
            unassigned.append(items[cluster].pop()[1])
    assignment = np.zeros(len(distances), dtype=np.int64)
    for cluster, points in enumerate(items):
        assignment[[point for _, point in points]] = cluster
    return assignment


def _repaired(vectors: np.ndarray, seed: int) -> np.ndarray:
    """First digits by scikit-learn's k-means, balanced afterwards: closest pairs first, up to the capacity of a
    cluster."""
    from sklearn.cluster import KMeans

    fitted = KMeans(min(K, len(vectors)), n_init="auto", random_state=seed % 2**32).fit(vectors)
    distances = kmeans.squared_distances(vectors, fitted.cluster_centers_.astype(np.float32))
    capacity = kmeans.balanced_sizes(len(vectors), distances.shape[1]).tolist()
    digits = np.full(len(vectors), -1)
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        point, cluster = divmod(pair, distances.shape[1])
        if digits[point] < 0 and capacity[cluster]:
            digits[point] = cluster
            capacity[cluster] -= 1
    return digits
