"""How the samples and histories of a model look where RecBole's own form would cost it something.

`rows` are item ids in RecBole's numbering, int64 (n, L), 0 for padding; `lengths` say how many items each row has.
Runs in the worker's process.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction


def behind(rows: torch.Tensor, lengths: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row with one more item at its end, and the new lengths; of a full row the oldest item goes.

    >>> behind(torch.tensor([[4, 0, 0], [1, 2, 3]]), torch.tensor([1, 3]), torch.tensor([9, 9]))
    (tensor([[4, 9, 0],
            [2, 3, 9]]), tensor([2, 3]))
    """
    width = rows.shape[1]
    shifted = torch.where((lengths == width)[:, None], rows.roll(-1, dims=1), rows)
    longer = (lengths + 1).clamp(max=width)
    return shifted.scatter(1, (longer - 1)[:, None], items[:, None]), longer


def padded_left(rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same items with the padding before them.

    >>> padded_left(torch.tensor([[4, 5, 0], [1, 2, 3]]), torch.tensor([2, 3]))
    tensor([[0, 4, 5],
            [1, 2, 3]])
    """
    place = torch.arange(rows.shape[1], device=rows.device) - (rows.shape[1] - lengths)[:, None]
    return torch.where(place >= 0, rows.gather(1, place.clamp(min=0)), 0)


class MaskedItems:
    """Takes the place of RecBole's `mask_itemseq`, which expects the padding at the end, works item by item in Python,
    and lets a small batch go without a single mask (its loss is 0/0 then, and RecBole gives up).

    As there, a batch is one of two kinds: with the probability `ft_ratio` only the last item of each row is masked, as
    in ranking; else every item with the probability `mask_ratio`, and the last one of a row that would have no mask.
    """

    def __init__(self, config: Any, rows: str) -> None:
        self.config, self.rows = config, rows

    def __call__(self, dataset: Any, interaction: Any) -> Any:
        rows = interaction[self.rows]
        masked = torch.zeros(rows.shape, dtype=torch.bool)
        if torch.rand(()) >= self.config["ft_ratio"]:
            masked = (rows != 0) & (torch.rand(rows.shape) < self.config["mask_ratio"])
            masked[:, 0] = False  # RecBole's loss takes place 0 for "no mask"
        masked[:, -1] |= ~masked.any(1)
        places = (masked * torch.arange(rows.shape[1])).topk(int(masked.sum(1).max()), dim=1).values
        items = rows.gather(1, places)
        interaction.update(
            Interaction(
                {
                    self.config["MASK_ITEM_SEQ"]: rows.masked_fill(masked, dataset.item_num),
                    self.config["POS_ITEMS"]: items,
                    self.config["NEG_ITEMS"]: items,  # cross-entropy looks at none
                    self.config["MASK_INDEX"]: places,
                }
            )
        )
        return interaction
