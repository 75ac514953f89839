"""A key-value cache with one preallocated tensor a layer, written in place and truncated instead of copied.

The common prefix of all prompts is written once and reused by every batch; a batch writes only its own tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class PreallocatedKVLayer(DynamicLayer):
    """Keys and values (batch, heads, capacity, dim) of one layer; the first `filled` positions are in use."""

    def __init__(self) -> None:
        super().__init__()
        self.filled = 0
        self._reserved = (0, 0)  # batch size and capacity
        self._lead: tuple[torch.Tensor, ...] | None = None
        self._store: tuple[torch.Tensor, ...] = ()
        self._led = 0  # rows of the store that begin with the frozen prefix

    def freeze_prefix(self) -> None:
        """Makes the content, written by a batch of one, the prefix of every later batch."""
        self._lead = tuple(store[:1, :, : self.filled].clone() for store in self._store)
        self._store, self._led = (), 0

    def begin(self, batch: int, capacity: int) -> None:
        """Starts a batch after the prefix. `capacity`: expected number of positions; the store grows if needed."""
        self._reserved = (batch, capacity)
        self.filled = 0 if self._lead is None else self._lead[0].shape[2]

    def truncate(self, length: int) -> None:
        """Removes all positions from `length` on."""
        self.filled = length

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        batch, end = key_states.shape[0], self.filled + key_states.shape[2]
        self._make_room(key_states, end)
        for store, states in zip(self._store, (key_states, value_states), strict=True):
            store[:batch, :, self.filled : end] = states
        self.filled = end
        return tuple(store[:batch, :, :end] for store in self._store)

    def get_seq_length(self) -> int:
        return self.filled

    def _make_room(self, like: torch.Tensor, end: int) -> None:
        batch, capacity = self._reserved
        old = self._store
        if not old or old[0].shape[0] < batch or old[0].shape[2] < max(end, capacity) or old[0].dtype != like.dtype:
            shape = (batch, like.shape[1], max(end, capacity), like.shape[3])
            self._store, self.is_initialized = (like.new_empty(shape), like.new_empty(shape)), True
            for new, before in zip(self._store, old, strict=False):
                new[: len(before), :, : self.filled] = before[:batch, :, : self.filled]
            self._led = 0
        if self._lead is not None and self._led < batch:
            for store, lead in zip(self._store, self._lead, strict=True):
                store[:, :, : lead.shape[2]] = lead
            self._led = len(self._store[0])


class PreallocatedKVCache(Cache):
    """One `PreallocatedKVLayer` for each of `layers` layers."""

    def __init__(self, layers: int) -> None:
        self.layer_caches = [PreallocatedKVLayer() for _ in range(layers)]
        super().__init__(layers=list(self.layer_caches))

    def freeze_prefix(self) -> None:
        for layer in self.layer_caches:
            layer.freeze_prefix()

    def begin(self, batch: int, capacity: int) -> None:
        for layer in self.layer_caches:
            layer.begin(batch, capacity)

    def truncate(self, length: int) -> None:
        for layer in self.layer_caches:
            layer.truncate(length)
