"""Partial results of a loop over rows (texts to encode, users to rank), so that a resumed loop computes only the rest.

Unlike a checkpoint, which replaces the last one, they are append-only: each file has other rows. A resumed loop can use
another batch size.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.core.hashing import fingerprint
from harness.core.timer import CheckpointTimer
from harness.generative.training.checkpoint import read_snapshot, write_snapshot

SAMPLE = 512  # elements of each tensor in a digest
WORD = 8  # bytes


class PartialResults:
    """Files of rows in `folder` (None: nothing is stored), whose name must contain a hash of everything that determines
    the rows. `add` writes a file when a checkpoint is due, `flush` at once."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._pace = CheckpointTimer()
        self._waiting: list[tuple[np.ndarray, Sequence[np.ndarray]]] = []
        self._pieces = 0

    def done(self) -> tuple[np.ndarray, list[np.ndarray]] | None:
        """The stored rows, and their arrays concatenated; None if nothing is stored."""
        paths = [] if self.folder is None else sorted(self.folder.glob("[0-9]*.safetensors"))
        self._pieces = max((int(path.stem) + 1 for path in paths), default=0)
        files = [snapshot[1] for path in paths if (snapshot := read_snapshot(path))]
        if not files:
            return None
        arrays = [torch.cat([tensors[f"{n}"] for tensors in files]).numpy() for n in range(len(files[0]) - 1)]
        return torch.cat([tensors["rows"] for tensors in files]).numpy(), arrays

    def add(self, rows: np.ndarray, *arrays: np.ndarray) -> None:
        """Adds the results of `rows`; each array has one entry a row."""
        if self.folder is not None:
            self._waiting.append((rows, arrays))
            if self._pace.due:
                self.flush()

    def flush(self) -> None:
        """Writes the results that are not stored yet."""
        if self.folder is None or not self._waiting:
            return
        columns = zip(*(arrays for _, arrays in self._waiting), strict=True)
        tensors = {f"{n}": torch.from_numpy(np.concatenate(column)) for n, column in enumerate(columns)}
        tensors["rows"] = torch.from_numpy(np.concatenate([rows for rows, _ in self._waiting]))
        with self._pace.timed():
            write_snapshot(self.folder / f"{self._pieces:06d}.safetensors", tensors, {})
        self._pieces += 1
        self._waiting.clear()

    def clear(self) -> None:
        """Deletes all files, after the complete result is stored elsewhere."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@torch.no_grad()
def state_digest(model: nn.Module) -> str:
    """A cheap hash of a model's state: for each tensor its dtype and shape, the sum of its bytes, and a sample.

    The bytes are summed as 64-bit integers modulo 2^64, so that the same weights give the same digest on every device
    and in any order of summation, without float64, which Apple's devices lack.
    """
    parts: list[object] = []
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten().contiguous()
        part = _bytes(flat[:: max(1, len(flat) // SAMPLE)].contiguous()).cpu().numpy()
        words, rest = _words(_bytes(flat))
        parts += [name, str(value.dtype), list(value.shape), int(words.sum()), part, rest.cpu().numpy()]
    return fingerprint(*parts)


def _bytes(flat: torch.Tensor) -> torch.Tensor:
    return flat.view(torch.uint8)


def _words(content: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes as 64-bit integers, without a copy if they are aligned; and the remaining bytes."""
    combined = content[: len(content) // WORD * WORD]
    if combined.data_ptr() % WORD or combined.storage_offset() % WORD:
        combined = combined.clone()
    return combined.view(torch.int64), content[len(combined) :]
