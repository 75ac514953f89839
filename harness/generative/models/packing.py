"""Sequence packing: many token sequences in one pass of a causal LM, with the states that each has alone.

Sequences share rows of equal width with almost no padding; a block mask separates them and positions restart in each.
Their common prefix is computed once: every row reads its keys and values, and gradients flow to it. Rows are as short
as the longest sequence allows, since attention over a row is dense (its share of the time:
`results/measurements/speed.md`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.distributed import any_sharded
from harness.generative.models.readers import PromptBatch, additive_mask, attention_window, can_share

WIDER = (1.0, 1.5, 2.0, 3.0)  # candidate row widths, relative to the longest sequence
WIDTHS, CELLS = 16, 64  # multiples of `PackLayout.rounded`
DENSE = 1024  # row width at which attention costs as much as all other operations


@dataclass(frozen=True, eq=False)
class PackedStates:
    """Hidden states of sequences. Token `t` of sequence `s` has the flat position `begins[s] + t`."""

    states: torch.Tensor  # (rows, width, model width)
    begins: np.ndarray
    _cells: np.ndarray  # index into `states.flatten(0, 1)` of each flat position

    def __getitem__(self, places: np.ndarray) -> torch.Tensor:
        """States at flat positions of any shape, (*places.shape, model width)."""
        return self.states.flatten(0, 1)[torch.from_numpy(self._cells[places]).to(self.states.device)]


@dataclass(frozen=True, eq=False)
class PackLayout:
    """Row and first column of each sequence in the packed batch."""

    row: np.ndarray
    column: np.ndarray
    rows: int
    width: int

    def rounded(self) -> PackLayout:
        """With padding to a width that is a multiple of 16 and a multiple of 64 cells: oneDNN compiles its bfloat16
        kernels for each shape (2 to 5 ms a kernel), so that a few shapes should return often."""
        width = -(-self.width // WIDTHS) * WIDTHS
        rows = CELLS // math.gcd(CELLS, width)
        return replace(self, width=width, rows=-(-self.rows // rows) * rows)


def pack(lengths: Sequence[int] | np.ndarray, rounded: bool = False) -> PackLayout:
    """Best-fit decreasing (Johnson 1974), for the candidate row width of least cost; `rounded`: with padding to sizes
    that return often (`PackLayout.rounded`).

    >>> layout = pack([2, 6, 4, 3, 3])
    >>> layout.rows * layout.width, layout.row.tolist(), layout.column.tolist()
    (18, [1, 0, 1, 2, 2], [4, 0, 0, 0, 3])
    """
    lengths = np.asarray(lengths)
    longest = int(lengths.max())
    layouts = [_fit(lengths, int(longest * wider)) for wider in WIDER]
    if rounded:
        layouts = [layout.rounded() for layout in layouts]
    return min(layouts, key=lambda layout: layout.rows * layout.width * (1 + layout.width / DENSE))


def _fit(lengths: np.ndarray, width: int) -> PackLayout:
    row, column = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    rooms: list[tuple[int, int]] = []  # (room left, row), sorted
    for sequence in np.argsort(-lengths, kind="stable"):
        length = int(lengths[sequence])
        at = bisect_left(rooms, (length, 0))
        left, row[sequence] = rooms.pop(at) if at < len(rooms) else (width, len(rooms))
        column[sequence] = width - left
        insort(rooms, (left - length, int(row[sequence])))
    used = int((column + lengths).max(initial=1))
    return PackLayout(row, column, len(rooms), used)


@dataclass(frozen=True, eq=False)
class Branches:
    """Sequences that end in branches: the tokens of sequence `s` from `trunk[s]` on are branches of `width` tokens, and
    each branch continues the trunk alone."""

    trunk: np.ndarray
    width: int

    def places(self, sequences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Of each token of all sequences: its branch (0: the trunk), and its place in trunk and branch together."""
        place = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
        beyond = place - np.repeat(self.trunk, [len(sequence) for sequence in sequences])
        branch = np.where(beyond < 0, 0, 1 + beyond // self.width)
        return branch, place - self.width * np.maximum(branch - 1, 0)


def read_packed(
    model: CodeLM, sequences: Sequence[np.ndarray], lead: Sequence[int] = (), branches: Branches | None = None
) -> PackedStates:
    """States of `sequences` (token ids, none empty) after their common prefix `lead`, whose states are not returned.
    Models that do not support packing read padded rows."""
    longest = len(lead) + max(map(len, sequences))
    if longest > attention_window(model.body.config) or not can_pack(model):
        if branches is not None:
            return read_apart(model, sequences, lead, branches)
        return _with_own_prefix(model, sequences, lead, read_padded)
    if lead and not _can_share(model):
        longer = None if branches is None else replace(branches, trunk=branches.trunk + len(lead))
        return _with_own_prefix(model, sequences, lead, partial(read_packed, branches=longer))
    device, shared = model.code_in.device, len(lead)
    lengths = [len(sequence) for sequence in sequences]
    layout = pack(lengths, rounded=torch.is_autocast_enabled("cpu") and device.type == "cpu")
    ids = np.zeros((layout.rows, layout.width), np.int64)
    owner = np.full(ids.shape, -1)  # sequence of each cell, -1: padding, which attends to padding only
    positions = np.zeros(ids.shape, np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate(sequences)
    place = np.arange(len(flat)) - np.repeat(begins[:-1], lengths)
    cells = np.repeat(layout.row * layout.width + layout.column, lengths) + place
    branch = np.zeros(ids.shape, np.int64)
    if branches is not None:
        branch.flat[cells], place = branches.places(sequences)
    ids.flat[cells], positions.flat[cells] = flat, place + shared
    owner.flat[cells] = np.repeat(np.arange(len(sequences)), lengths)
    options: dict[str, Any] = {"position_ids": torch.from_numpy(positions).to(device)}
    if shared:
        options |= {"past_key_values": _shared(model, lead, layout.rows), "use_cache": True}
    if shared or len(sequences) > layout.rows or branches is not None:
        parts = None if branches is None else torch.from_numpy(branch).to(device)
        options["attention_mask"] = _mask(model, torch.from_numpy(owner).to(device), shared, parts)
    states = model.states(torch.from_numpy(ids).to(device), **options)
    return PackedStates(states, begins[:-1], cells)


def read_padded(model: CodeLM, sequences: Sequence[np.ndarray]) -> PackedStates:
    """The reference: one row a sequence, padded on the right, where causal attention ignores it."""
    lengths = np.array([len(sequence) for sequence in sequences])
    states = model.states(PromptBatch.of(sequences, model.code_in.device).ids)
    real = np.arange(states.shape[1]) < lengths[:, None]
    return PackedStates(states, np.cumsum(lengths) - lengths, np.flatnonzero(real))


def read_apart(model: CodeLM, sequences: Sequence[np.ndarray], lead: Sequence[int], branches: Branches) -> PackedStates:
    """The reference of `read_packed` with branches: a padded row a branch, with the prefix and the trunk before it."""
    rows, firsts = [], []
    for sequence, trunk in zip(sequences, branches.trunk, strict=True):
        firsts += [len(rows)] * len(sequence)
        tails = sequence[trunk:].reshape(-1, branches.width)
        rows += [np.concatenate([lead, sequence[:trunk], tail]).astype(np.int64) for tail in tails]
    read, (branch, place) = read_padded(model, rows), branches.places(sequences)
    cells = read._cells[read.begins[np.array(firsts) + np.maximum(branch - 1, 0)] + len(lead) + place]
    begins = np.cumsum([0, *(len(sequence) for sequence in sequences[:-1])])
    return PackedStates(read.states, begins, cells)


def can_pack(model: CodeLM) -> bool:
    """Whether sequences can share a row, tested once for a model (`readers.can_share`)."""
    if model.packs is None:
        training = model.training
        model.packs = can_share(model.eval())
        model.train(training)
    return model.packs


def _with_own_prefix(
    model: CodeLM,
    sequences: Sequence[np.ndarray],
    lead: Sequence[int],
    read: Callable[[CodeLM, list[np.ndarray]], PackedStates],
) -> PackedStates:
    """The same states with the prefix computed for each sequence."""
    packed_states = read(model, [np.concatenate([lead, sequence]).astype(np.int64) for sequence in sequences])
    begins = packed_states.begins - len(lead) * np.arange(len(sequences))
    shift = len(lead) * np.repeat(np.arange(1, len(sequences) + 1), [len(sequence) for sequence in sequences])
    return PackedStates(packed_states.states, begins, packed_states._cells[np.arange(len(shift)) + shift])


def _can_share(model: CodeLM) -> bool:
    """False in training with gradient checkpointing, which excludes a key-value cache, and with sharded blocks, which
    must be called once a part of a step in all processes."""
    recomputed = any_sharded(model.body) or any(
        getattr(module, "gradient_checkpointing", False) for module in model.body.modules()
    )
    return not (model.training and recomputed)


def _shared(model: CodeLM, lead: Sequence[int], rows: int) -> DynamicCache:
    """Keys and values of `lead`, computed once and repeated for every row."""
    cache = DynamicCache(config=model.body.config)
    model.states(torch.tensor([list(lead)], device=model.code_in.device), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return cache


def _mask(model: CodeLM, owner: torch.Tensor, shared: int, branch: torch.Tensor | None = None) -> torch.Tensor:
    """(rows, 1, width, shared + width): a token attends to the shared prefix and to the previous tokens of its
    sequence, those of other branches left out."""
    rows, width = owner.shape
    seen_mask = (owner[:, :, None] == owner[:, None, :]).tril()
    if branch is not None:
        seen_mask &= (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    seen_mask = torch.cat([seen_mask.new_ones(rows, width, shared), seen_mask], dim=-1)[:, None]
    is_eager = getattr(model.body.config, "_attn_implementation", "sdpa") == "eager"
    return additive_mask(seen_mask, model.code_in.dtype) if is_eager else seen_mask
