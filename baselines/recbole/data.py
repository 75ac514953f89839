"""RecBole's data set from training data without filtering, and the form of samples for each model.

RecBole gets the training sequences only and splits nothing. Sample rows are item ids in RecBole's numbering, int64 (n,
L), 0 for padding; `lengths`: items of each row. S3Rec's pre-training samples (masked items, their features, segments)
are vectorised here, as RecBole samples them in Python lists and may draw the mask as a negative item; the losses are
RecBole's. Runs in the worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from harness.data.ragged import RaggedArray

NAME = "harness"  # RecBole's name of the data set, and of its folder
USER, ITEM, TIME = "user_id", "item_id", "timestamp"
SEPARATOR = ","  # between tokens of a feature


def fields(features: Iterable[str]) -> dict[str, Any]:
    """RecBole's settings for the files of `write`."""
    return {
        "data_path": ".",
        "checkpoint_dir": "saved",
        "USER_ID_FIELD": USER,
        "ITEM_ID_FIELD": ITEM,
        "TIME_FIELD": TIME,
        "seq_separator": SEPARATOR,
        "load_col": {"inter": [USER, ITEM, TIME], "item": [ITEM, *features]},
    }


def write(folder: Path, sequences: RaggedArray, n_items: int, features: Mapping[str, RaggedArray]) -> None:
    """Writes `harness.inter` and `harness.item` to `folder/harness`: ids are positions in the data set, the time is the
    position in the sequence, and the item file has the complete catalogue, so that items without training interactions
    have ids.

    A feature is a sequence of tokens. Its cell ends with a separator, because pandas reads an empty cell as missing,
    and RecBole's code to fill those does not work with pandas 3.
    """
    rows = zip(sequences.rows().tolist(), sequences.values.tolist(), sequences.places().tolist(), strict=True)
    home = folder / NAME
    home.mkdir(exist_ok=True)
    with (home / f"{NAME}.inter").open("w", encoding="utf-8") as file:
        file.write(f"{USER}:token\t{ITEM}:token\t{TIME}:float\n")
        file.writelines(f"{user}\t{item}\t{timestamp}\n" for user, item, timestamp in rows)
    with (home / f"{NAME}.item").open("w", encoding="utf-8") as file:
        file.write("\t".join([f"{ITEM}:token", *(f"{name}:token_seq" for name in features)]) + "\n")
        for item in range(n_items):
            cells = ["".join(f"{token}{SEPARATOR}" for token in rows[item]) or SEPARATOR for rows in features.values()]
            file.write("\t".join([str(item), *cells]) + "\n")


def positions(dataset: Any, field: str, count: int) -> np.ndarray:
    """RecBole's id of each position 0 … count-1 in `field`, int64; 0, RecBole's padding, if there is none."""
    names = dataset.field2token_id[field]
    return np.array([names.get(str(position), 0) for position in range(count)], dtype=np.int64)


def append_items(rows: torch.Tensor, lengths: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Appends an item to each row; returns the rows and new lengths. A full row loses its oldest item.

    >>> append_items(torch.tensor([[4, 0, 0], [1, 2, 3]]), torch.tensor([1, 3]), torch.tensor([9, 9]))
    (tensor([[4, 9, 0],
            [2, 3, 9]]), tensor([2, 3]))
    """
    width = rows.shape[1]
    shifted = torch.where((lengths == width)[:, None], rows.roll(-1, dims=1), rows)
    longer = (lengths + 1).clamp(max=width)
    return shifted.scatter(1, (longer - 1)[:, None], items[:, None]), longer


def padded_left(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same rows with padding on the left.

    >>> padded_left(torch.tensor([[4, 5, 0], [1, 2, 3]]), torch.tensor([2, 3]))
    tensor([[0, 4, 5],
            [1, 2, 3]])
    """
    place = torch.arange(rows.shape[1], device=rows.device) - (rows.shape[1] - lengths)[:, None]
    return torch.where(place >= 0, rows.gather(1, place.clamp(min=0)), 0)


class Batches:
    """RecBole's loader for one epoch, from batch `begin` on. `between(number)` is called before each batch but the
    first, when all previous ones are trained; `ready()` after a resumed epoch has skipped its trained batches."""

    def __init__(self, loader: Any, begin: int, ready: Callable[[], None], between: Callable[[int], None]) -> None:
        self._loader, self._begin, self._ready, self._between = loader, begin, ready, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        for number in range(len(self._loader)):
            if self._begin and number == self._begin:
                self._ready()
            elif number > self._begin:
                self._between(number)
            batch = next(batches)
            if number >= self._begin:
                yield batch


class MaskedItems:
    """Replaces RecBole's `mask_itemseq`, which expects padding on the right, loops over items in Python, and can leave
    a small batch without a mask (its loss is 0/0 then).

    As in RecBole, a batch is one of two kinds: with probability `ft_ratio` only the last item of each row is masked, as
    in ranking; else every item with probability `mask_ratio`, and the last one of a row without a mask.
    """

    def __init__(self, config: Any, rows: str) -> None:
        self.config, self.rows = config, rows

    def __call__(self, dataset: Any, interaction: Any) -> Any:
        rows = interaction[self.rows]
        masked = torch.zeros(rows.shape, dtype=torch.bool)
        if torch.rand(()) >= self.config["ft_ratio"]:
            masked = (rows != 0) & (torch.rand(rows.shape) < self.config["mask_ratio"])
            masked[:, 0] = False  # position 0 means "no mask" in RecBole's loss
        masked[:, -1] |= ~masked.any(1)
        places = (masked * torch.arange(rows.shape[1])).topk(int(masked.sum(1).max()), dim=1).values
        items = rows.gather(1, places)
        interaction.update(
            Interaction(
                {
                    self.config["MASK_ITEM_SEQ"]: rows.masked_fill(masked, dataset.item_num),
                    self.config["POS_ITEMS"]: items,
                    self.config["NEG_ITEMS"]: items,  # not used by cross-entropy
                    self.config["MASK_INDEX"]: places,
                }
            )
        )
        return interaction


class PretrainingData:
    """Replaces RecBole's `S3Rec.reconstruct_pretrain_data`. `table`, float32 (n_items + 1, n_features): 1 if an item
    has a feature. The mask has the number `n_items`; items are 1 … n_items - 1."""

    def __init__(self, table: torch.Tensor, mask_ratio: float) -> None:
        self.table, self.mask_ratio = table, mask_ratio
        self.mask = len(table) - 1

    def __call__(self, rows: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features (B, L, n_features) and six rows (B, L) of items: masked ones, true ones, negative ones; then with a
        segment masked, that segment alone, and a segment from elsewhere in the batch in its place."""
        rows = padded_left(rows, lengths)
        real = rows != 0
        masked = real & (torch.rand(rows.shape, device=rows.device) < self.mask_ratio)
        negative = torch.where(masked, self._others(rows), rows)
        segments = self._segments(rows, real, lengths)
        return self.table[rows], rows.masked_fill(masked, self.mask), rows, negative, *segments

    def _others(self, rows: torch.Tensor) -> torch.Tensor:
        """For each position an item that is not in its row (or any, after a few attempts, if a row has nearly all
        items)."""
        samples = torch.randint(1, self.mask, rows.shape, device=rows.device)
        for _ in range(8):
            bad = (samples[:, :, None] == rows[:, None, :]).any(2)
            if not bad.any():
                break
            samples = torch.where(bad, torch.randint(1, self.mask, rows.shape, device=rows.device), samples)
        return samples

    def _segments(
        self, rows: torch.Tensor, real: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A segment has 1 … length // 2 items; a row of one item is unchanged in all three results."""
        place = torch.arange(rows.shape[1], device=rows.device) - (rows.shape[1] - lengths)[:, None]
        sizes = _below((lengths // 2).clamp(min=1)) + 1
        starts = _below(lengths - sizes + 1)
        inside = real & (place >= starts[:, None]) & (place < (starts + sizes)[:, None]) & (lengths > 1)[:, None]
        every = rows[real]
        tensor = _below(len(every) - sizes + 1)[:, None] + (place - starts[:, None])
        mapped = every[torch.where(inside, tensor, 0)]
        outside = torch.where(real & (lengths > 1)[:, None], self.mask, rows)
        row, other = (torch.where(inside, segment, outside) for segment in (rows, mapped))
        return rows.masked_fill(inside, self.mask), row, other


def _below(limits: torch.Tensor) -> torch.Tensor:
    """A random integer from 0 to below each limit."""
    return (torch.rand(limits.shape, device=limits.device) * limits).long().clamp(max=limits - 1)
