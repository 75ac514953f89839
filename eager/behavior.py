"""The behaviour source: item vectors that a small self-attentive recommender learns from training interactions alone.

The model is SASRec (Kang & McAuley, ICDM 2018) with a full softmax over the catalogue at every position. The released
code trains a DIN on windows whose labels are validation items for most users; nothing held out is seen here.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from eager.semantic import save_array
from harness.fingerprint import fingerprint
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData
from harness.seeding import derive_seed, generator


class BehaviorConfig(BaseModel):
    """How the behaviour encoder is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=64, ge=2, description="dimensions of an item vector")
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    window: int = Field(default=21, ge=2, description="items of a training window")
    epochs: int = Field(default=20, ge=1, description="passes over all training windows")
    batch: int = Field(default=64, ge=1, description="windows of a step")
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class BehaviorEncoder(nn.Module):
    """Item and position embeddings, pre-norm transformer blocks with a causal mask, scores by the tied item table."""

    def __init__(self, n_items: int, config: BehaviorConfig) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items + 1, config.dim, padding_idx=n_items)
        self.place = nn.Embedding(config.window, config.dim)
        block = nn.TransformerEncoderLayer(
            config.dim, config.heads, 4 * config.dim, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=config.dim**-0.5)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """States after each item, (batch, length, dim); `items` is right-padded with n_items."""
        length = items.shape[1]
        states = self.drop(self.item(items) + self.place.weight[:length])
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=items.device)
        return self.norm(self.blocks(states, mask=mask, is_causal=True))


def behavior_vectors(data: TrainingData, config: BehaviorConfig, context: RunContext) -> tuple[np.ndarray, str]:
    """Item embedding table, float32 (n_items, dim), and its provenance key; cached under it in `context.cache`."""
    key = fingerprint("behavior/1", config.model_dump(), data.fingerprint, context.seed)
    path = context.cache / "vectors" / f"behavior-{key}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False), key
    model = _train(data, config, context)
    vectors = model.item.weight[: data.n_items].detach().float().cpu().numpy()
    save_array(path, vectors)
    return vectors, key


def _train(data: TrainingData, config: BehaviorConfig, context: RunContext) -> BehaviorEncoder:
    torch.manual_seed(derive_seed(context.seed, "behavior"))
    model = BehaviorEncoder(data.n_items, config).to(context.device).train()
    per_epoch = -(-len(_windows(data, config.window, 0)) // config.batch)
    steps = config.epochs * per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.05)
    with context.stage("behaviour vectors", steps) as stage:
        for epoch in range(config.epochs):
            rng = generator(context.seed, "behavior", epoch)
            windows = _windows(data, config.window, int(rng.integers(config.window)))
            order = rng.permutation(len(windows))
            loss = torch.zeros(())
            for begin in range(0, per_epoch * config.batch, config.batch):
                batch = torch.from_numpy(windows[order[begin : begin + config.batch]]).to(context.device)
                if not len(batch):  # a shifted cut may give fewer windows than the first
                    continue
                loss = _loss(model, batch, data.n_items, config.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if schedule.last_epoch < steps:
                    schedule.step()
                stage.advance(1, loss=float(loss.detach()))
            context.event(stage="behavior", step=epoch + 1, loss=float(loss.detach()))
    return model.eval()


def _loss(model: BehaviorEncoder, batch: torch.Tensor, n_items: int, smoothing: float) -> torch.Tensor:
    states, answers = model(batch[:, :-1]), batch[:, 1:]
    real = answers != n_items
    logits = states[real] @ model.item.weight[:n_items].T
    return functional.cross_entropy(logits, answers[real], label_smoothing=smoothing)


def _windows(data: TrainingData, window: int, shift: int) -> np.ndarray:
    """All training sequences cut into windows of `window + 1` items that overlap by one, the first of a sequence
    shortened by `shift`; right-padded with n_items; sequences of one item say nothing and are left out."""
    rows = []
    for sequence in data.sequences:
        begin = -min(shift, max(len(sequence) - 2, 0)) if len(sequence) > window else 0
        while begin < len(sequence) - 1:
            rows.append(sequence[max(begin, 0) : begin + window + 1])
            begin += window
    padded = np.full((len(rows), window + 1), data.n_items)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded
