"""Sequence packing: many token sequences in one pass of a causal LM, each with the states that it has alone.

Sequences share rows of one width, so that there is almost no padding; a block mask separates them and positions restart
in each. Their common prefix is computed once: its keys and values are read by every row, and gradients flow to it.

Rows are as short as the longest sequence allows: attention over a row is dense, and at these widths it is a few percent
of the work (`docs/performance.md`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.fsdp import any_sharded
from harness.generative.models.readers import attention_window, can_share

WIDER = (1.0, 1.5, 2.0, 3.0)  # row widths that are tried, in lengths of the longest sequence
DENSE = 1024  # tokens of a row at which attention is taken to cost as much as all the rest


@dataclass(frozen=True, eq=False)
class PackedStates:
    """Hidden states of sequences. Token `t` of sequence `s` is flat place `begins[s] + t`."""

    states: torch.Tensor  # (rows, width, model width)
    begins: np.ndarray
    _cells: np.ndarray  # the cell of `states.flatten(0, 1)` that each flat place lies in

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


def pack(lengths: Sequence[int] | np.ndarray) -> PackLayout:
    """Best fit of the longest first (Johnson 1974), for the row width that makes the least work of those tried.

    >>> layout = pack([2, 6, 4, 3, 3])
    >>> layout.rows * layout.width, layout.row.tolist(), layout.column.tolist()
    (18, [1, 0, 1, 2, 2], [4, 0, 0, 0, 3])
    """
    lengths = np.asarray(lengths)
    longest = int(lengths.max())
    layouts = [_fit(lengths, int(longest * wider)) for wider in WIDER]
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


def read_packed(model: CodeLM, sequences: Sequence[np.ndarray], lead: Sequence[int] = ()) -> PackedStates:
    """States of each of `sequences` (token ids, none empty) behind `lead`, which they all begin with and whose own
    states are not given. Models that cannot be read so are read in padded rows."""
    longest = len(lead) + max(map(len, sequences))
    if longest > attention_window(model.body.config) or not can_pack(model):
        return _behind_its_own(model, sequences, lead, read_padded)
    if lead and not _can_share(model):
        return _behind_its_own(model, sequences, lead, read_packed)
    device, shared = model.code_in.device, len(lead)
    layout, lengths = pack([len(sequence) for sequence in sequences]), [len(sequence) for sequence in sequences]
    ids = np.zeros((layout.rows, layout.width), np.int64)
    owner = np.full(ids.shape, -1)  # which sequence a cell belongs to; cells of none see only each other
    positions = np.zeros(ids.shape, np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.concatenate(sequences)
    place = np.arange(len(flat)) - np.repeat(begins[:-1], lengths)
    cells = np.repeat(layout.row * layout.width + layout.column, lengths) + place
    ids.flat[cells], positions.flat[cells] = flat, place + shared
    owner.flat[cells] = np.repeat(np.arange(len(sequences)), lengths)
    index_of: dict[str, Any] = {"position_ids": torch.from_numpy(positions).to(device)}
    if shared:
        index_of |= {"past_key_values": _shared(model, lead, layout.rows), "use_cache": True}
    if shared or len(sequences) > layout.rows:
        index_of["attention_mask"] = _mask(model, torch.from_numpy(owner).to(device), shared)
    states = model.states(torch.from_numpy(ids).to(device), **index_of)
    return PackedStates(states, begins[:-1], cells)


def read_padded(model: CodeLM, sequences: Sequence[np.ndarray]) -> PackedStates:
    """The plain way: a row a sequence, padded on the right, where causal attention never looks."""
    lengths = np.array([len(sequence) for sequence in sequences])
    ids = np.zeros((len(sequences), int(lengths.max())), np.int64)
    real = np.arange(ids.shape[1]) < lengths[:, None]
    ids[real] = np.concatenate(sequences)
    states = model.states(torch.from_numpy(ids).to(model.code_in.device))
    return PackedStates(states, np.cumsum(lengths) - lengths, np.flatnonzero(real))


def can_pack(model: CodeLM) -> bool:
    """Whether sequences in one row keep apart: found out once a model, before its first step (`reading.can_share`)."""
    if model.packs is None:
        training = model.training
        model.packs = can_share(model.eval())
        model.train(training)
    return model.packs


def _behind_its_own(
    model: CodeLM,
    sequences: Sequence[np.ndarray],
    lead: Sequence[int],
    read: Callable[[CodeLM, list[np.ndarray]], PackedStates],
) -> PackedStates:
    """The same states with the lead computed anew for each sequence."""
    packed_states = read(model, [np.concatenate([lead, sequence]).astype(np.int64) for sequence in sequences])
    begins = packed_states.begins - len(lead) * np.arange(len(sequences))
    shift = len(lead) * np.repeat(np.arange(1, len(sequences) + 1), [len(sequence) for sequence in sequences])
    return PackedStates(packed_states.states, begins, packed_states._cells[np.arange(len(shift)) + shift])


def _can_share(model: CodeLM) -> bool:
    """Recomputing activations in backward (gradient checkpointing) goes without a cache of keys and values; and a body
    in pieces is read once a part of a step, as in all processes."""
    recomputed = any_sharded(model.body) or any(
        getattr(module, "gradient_checkpointing", False) for module in model.body.modules()
    )
    return not (model.training and recomputed)


def _shared(model: CodeLM, lead: Sequence[int], rows: int) -> DynamicCache:
    """Keys and values of `lead`, computed once, for every row."""
    cache = DynamicCache(config=model.body.config)
    model.states(torch.tensor([list(lead)], device=model.code_in.device), past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(rows)
    return cache


def _mask(model: CodeLM, owner: torch.Tensor, shared: int) -> Any:
    """(rows, 1, width, shared + width): a token sees the shared lead, and what stands before it in its own sequence.

    In the form that the body's attention takes: a block mask for FlexAttention, else a dense one.
    """
    rows, width = owner.shape
    kind = getattr(model.body.config, "_attn_implementation", "sdpa")
    if kind == "flex_attention":
        return _block_mask(owner, shared)
    seen_mask = (owner[:, :, None] == owner[:, None, :]).tril()
    seen_mask = torch.cat([seen_mask.new_ones(rows, width, shared), seen_mask], dim=-1)[:, None]
    if kind != "eager":
        return seen_mask
    value = torch.finfo(model.code_in.dtype).min
    return torch.zeros_like(seen_mask, dtype=model.code_in.dtype).masked_fill(~seen_mask, value)


def _block_mask(owner: torch.Tensor, shared: int) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        own = key - shared
        return (own < 0) | ((own <= query) & (owner[row, query] == owner[row, own.clamp(min=0)]))

    rows, width = owner.shape
    return create_block_mask(seen, rows, None, width, shared + width, device=str(owner.device))
