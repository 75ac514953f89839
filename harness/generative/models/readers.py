"""Prefix decoders: how a causal LM reads prompts and the code tokens that a search appends.

`SharedReader` computes the common prefix of all prompts once, and each prompt once. All beams are tokens of one
sequence after it: a mask lets each attend to the prompt and its ancestors, and its position is the prompt's length plus
its depth, so that keys and values are shared and never copied or reordered. The key-value cache has one preallocated
tensor a layer, written in place and truncated instead of copied. `PlainReader` computes the complete sequence of every
beam: the reference, and the fallback for models whose cache or mask does not support sharing (`can_share`, a test on a
few tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

# Settings of a configuration: tokens that a layer attends to.
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}


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


@dataclass(frozen=True)
class PromptBatch:
    """Token ids (batch, longest) of prompts without their common prefix; `real` is False at padding."""

    ids: torch.Tensor
    real: torch.Tensor

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int] | np.ndarray],
        device: str | torch.device,
        side: Literal["left", "right"] = "right",
    ) -> PromptBatch:
        """Pads prompts on one side; states depend neither on the side nor on the amount of padding."""
        longest = max(len(prompt) for prompt in prompts)
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        real = np.zeros((len(prompts), longest), dtype=bool)
        for row, prompt in enumerate(prompts):
            place = slice(0, len(prompt)) if side == "right" else slice(longest - len(prompt), longest)
            ids[row, place], real[row, place] = prompt, True
        return cls(torch.from_numpy(ids).to(device), torch.from_numpy(real).to(device))


class CausalModel(Protocol):
    """The interface of a model for readers: its transformer, code embeddings, states of token ids."""

    body: Any
    code_in: Any
    vocabulary: int

    def states(self, ids: torch.Tensor, **options: Any) -> torch.Tensor: ...


class Reader(Protocol):
    """A batch of prompts, and the tokens that a search appends."""

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        """State at the end of each prompt, (batch, 1, width)."""
        ...

    def extend(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Appends tokens (batch, n) to their `parents` (indices into all appended tokens, -1 for the prompt). Returns
        their states, (batch, n, width)."""
        ...

    def reset(self) -> None:
        """Removes all appended tokens."""
        ...


class BeamTree:
    """Ancestors of each appended token, itself included, (batch, tokens, tokens), and its depth."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self.sees = torch.zeros(batch, 0, 0, dtype=torch.bool, device=device)
        self.depth = torch.zeros(batch, 0, dtype=torch.int64, device=device)

    def grow(self, parents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds tokens: returns their rows of the mask (ancestors and themselves) and their depths."""
        batch, n = parents.shape
        seen_length = self.sees.shape[1]
        root = torch.zeros(batch, 1, seen_length, dtype=torch.bool, device=parents.device)
        index = torch.where(parents < 0, seen_length, parents)
        past = torch.cat([self.sees, root], dim=1).gather(1, index[..., None].expand(batch, n, seen_length))
        diagonal = torch.eye(n, dtype=torch.bool, device=parents.device).expand(batch, n, n)
        rows = torch.cat([past, diagonal], dim=-1)
        depth = torch.cat([self.depth, self.depth.new_full((batch, 1), -1)], dim=1).gather(1, index) + 1
        self.sees = torch.cat([torch.nn.functional.pad(self.sees, (0, n)), rows], dim=1)
        self.depth = torch.cat([self.depth, depth], dim=1)
        return rows, depth


class SharedReader:
    """For models with a four-dimensional mask, positions and a cache. `lead`: common prefix of all prompts, not part of
    the batches. `room`: expected number of tokens that a search appends, for preallocation."""

    def __init__(self, model: CausalModel, lead: Sequence[int] = (), room: int = 0) -> None:
        self._model, self._lead, self._room = model, len(lead), room
        self._cache = PreallocatedKVCache(int(model.body.config.num_hidden_layers))
        self._bool = getattr(model.body.config, "_attn_implementation", None) == "sdpa"
        if lead:
            self._cache.begin(1, len(lead))
            ids = torch.tensor([list(lead)], device=model.code_in.device)
            model.states(ids, past_key_values=self._cache, use_cache=True)
            self._cache.freeze_prefix()

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        ids, real = prompts.ids, prompts.real
        batch, width = ids.shape
        self._prompt = self._lead + width
        self._cache.begin(batch, self._prompt + self._room)
        self._real = torch.cat([real.new_ones(batch, self._lead), real], dim=1)
        self._length = self._real.sum(dim=1)
        self._tree = BeamTree(batch, ids.device)
        last = torch.where(real, torch.arange(width, device=ids.device), -1).amax(dim=1)
        positions = (real.cumsum(dim=1) - 1).clamp(min=0) + self._lead
        states = self._states(ids, self._prompt_mask(real), positions)
        return states.gather(1, last[:, None, None].expand(batch, 1, states.shape[-1]))

    def extend(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        rows, depth = self._tree.grow(parents)
        prompt = self._real[:, None].expand(len(rows), rows.shape[1], self._prompt)
        visible = torch.cat([prompt, rows], dim=-1)[:, None]
        return self._states(tokens, visible, self._length[:, None] + depth)

    def reset(self) -> None:
        self._cache.truncate(self._prompt)
        self._tree = BeamTree(len(self._real), self._real.device)

    def _prompt_mask(self, real: torch.Tensor) -> torch.Tensor | None:
        """None if plain causal attention suffices: padding on the right is never attended to."""
        width = real.shape[1]
        right = not bool((real[:, 1:] & ~real[:, :-1]).any())
        if right and not self._lead:
            return None
        causal = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()[None]
        if not right:  # padding attends to itself, so that no row is empty
            causal = (causal & real[:, None]) | torch.eye(width, dtype=torch.bool, device=real.device)
        lead = causal.new_ones(len(causal), width, self._lead)
        return torch.cat([lead, causal], dim=-1)[:, None]

    def _states(self, ids: torch.Tensor, visible: torch.Tensor | None, positions: torch.Tensor) -> torch.Tensor:
        if visible is not None and not self._bool:
            visible = additive_mask(visible, self._model.code_in.dtype)
        return self._model.states(
            ids, attention_mask=visible, position_ids=positions, past_key_values=self._cache, use_cache=True
        )


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What attention adds to its scores: 0 where `visible` (bool, any shape), else the least number of `dtype`."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


class PlainReader:
    """For any causal model: each beam is a row, computed from its first token. `rows`: maximal batch size."""

    def __init__(self, model: CausalModel, lead: Sequence[int] = (), rows: int = 256) -> None:
        self._model, self._lead, self._rows = model, list(lead), rows

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        self._device = prompts.ids.device
        token_ids = [ids[real].tolist() for ids, real in zip(prompts.ids.cpu(), prompts.real.cpu(), strict=True)]
        self._prompts = [self._lead + ids for ids in token_ids]
        self.reset()
        return self._ends(self._prompts)[:, None]

    def extend(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        sequences = []
        for user, (prompt, paths) in enumerate(zip(self._prompts, self._paths, strict=True)):
            pairs = zip(tokens[user].tolist(), parents[user].tolist(), strict=True)
            new = [[*(paths[parent] if parent >= 0 else []), token] for token, parent in pairs]
            paths += new
            sequences += [prompt + path for path in new]
        return self._ends(sequences).unflatten(0, tokens.shape)

    def reset(self) -> None:
        self._paths: list[list[list[int]]] = [[] for _ in self._prompts]

    def _ends(self, sequences: list[list[int]]) -> torch.Tensor:
        """The state at the last token of each sequence, (sequences, width); padding is on the right."""
        parts = []
        for begin in range(0, len(sequences), self._rows):
            part = sequences[begin : begin + self._rows]
            states = self._model.states(PromptBatch.of(part, self._device).ids)
            ends = torch.tensor([len(sequence) - 1 for sequence in part], device=self._device)
            parts.append(states[torch.arange(len(part), device=self._device), ends])
        return torch.cat(parts)


@torch.no_grad()
def can_share(model: CausalModel) -> bool:
    """Whether `SharedReader` gives the states of `PlainReader`, tested on a few tokens. False for models without a
    key-value cache, and for those that ignore the mask or the positions."""
    device = model.code_in.device
    prompts = [[1, 3, 2, 5, 4], [2, 1, 4]]
    tokens = torch.tensor([[3, 1, 2], [2, 4, 1]], device=device) % model.vocabulary
    parents = torch.tensor([[2, 0, 0], [1, 1, 2]], device=device)
    lead = [1, 2]
    results = []
    try:
        # Without autocast, whose rounding errors in a deep model would look like a wrong mask.
        with torch.autocast(device.type, enabled=False):
            for reader in (SharedReader(model, lead), PlainReader(model, lead)):
                prompt_states = reader.prefill(
                    PromptBatch.of([[id % model.vocabulary for id in p] for p in prompts], device)
                )
                first = reader.extend(tokens, torch.full_like(parents, -1))
                results.append(torch.cat([prompt_states, first, reader.extend(tokens.flip(1), parents)], dim=1).float())
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError, NotImplementedError):
        return False
    tolerance = PROBE_TOLERANCE.get(model.code_in.dtype, 5e-2)
    return bool((results[0] - results[1]).norm() <= tolerance * results[1].norm())


def attention_window(config: Any) -> int:
    """The smallest attention window of the model's layers, in tokens."""
    values = [getattr(config, name, None) for name in WINDOWS]
    return min((int(window) for window in values if isinstance(window, int) and window > 0), default=1 << 62)


def reader_for(model: CausalModel, lead: Sequence[int], longest: int, room: int) -> Reader:
    """`SharedReader` if it is exact for the model, and if `longest` tokens fit its attention window; otherwise
    `PlainReader`."""
    config = model.body.config
    if hasattr(config, "window_size"):  # GPT-Neo counts positions in the row, which has the tokens of all beams
        longest += room
    if longest > attention_window(config) or not can_share(model):
        return PlainReader(model, lead)
    return SharedReader(model, lead, room)
