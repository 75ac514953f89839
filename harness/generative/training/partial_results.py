"""`PartialResults`: results of many rows, kept in pieces while they come, so that a resumed loop computes only what is
missing.

A piece is a safetensors file of its own that appears whole. Which rows come together is of no account: a resumed loop
may take larger or smaller batches.
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

SAMPLE = 512  # numbers of each tensor that stand for it in a mark
WORD = 8  # bytes


class PartialResults:
    """Pieces in `folder` (None: nowhere), which is named by all that decides the rows. `add` writes a piece when its
    time has come, `flush` at once."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._pace = CheckpointTimer()
        self._waiting: list[tuple[np.ndarray, Sequence[np.ndarray]]] = []
        self._pieces = 0

    def done(self) -> tuple[np.ndarray, list[np.ndarray]] | None:
        """The rows that are there, and their arrays one after the other; None where there are none."""
        paths = [] if self.folder is None else sorted(self.folder.glob("[0-9]*.safetensors"))
        self._pieces = max((int(path.stem) + 1 for path in paths), default=0)
        tensorses = [tensors for path in paths if (snapshot := read_snapshot(path)) for tensors in [snapshot[1]]]
        if not tensorses:
            return None
        arrays = [torch.cat([piece[f"{n}"] for piece in tensorses]).numpy() for n in range(len(tensorses[0]) - 1)]
        return torch.cat([piece["rows"] for piece in tensorses]).numpy(), arrays

    def add(self, rows: np.ndarray, *arrays: np.ndarray) -> None:
        """Takes the results of some rows, each array with one entry a row."""
        if self.folder is not None:
            self._waiting.append((rows, arrays))
            if self._pace.due:
                self.flush()

    def flush(self) -> None:
        """Writes what is not yet on the disk."""
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
        """Takes all pieces away, when what they make up is kept elsewhere."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


@torch.no_grad()
def state_digest(model: nn.Module) -> str:
    """A hash that tells one state of a model from another at little cost: of each tensor its kind and shape, the sum of
    its bytes, and numbers spread over it.

    Eight bytes at a time are summed as whole numbers modulo 2^64: the same weights have the same mark on every device,
    in whatever order it sums; no device need know float64 (Apple's knows none); and it costs what reading them costs.
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
    """Bytes as whole numbers of eight, without a copy where they lie as those must; and those that are left over."""
    combined = content[: len(content) // WORD * WORD]
    if combined.data_ptr() % WORD or combined.storage_offset() % WORD:
        combined = combined.clone()
    return combined.view(torch.int64), content[len(combined) :]
