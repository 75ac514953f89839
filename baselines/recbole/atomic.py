"""Our training data as RecBole's atomic files, and RecBole's data set built from them with nothing taken out.

RecBole gets the training sequences only and splits nothing. Runs in the worker's process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.data.ragged import Ragged

NAME = "harness"  # RecBole's name of the data set, and of its folder
USER, ITEM, TIME = "user_id", "item_id", "timestamp"

FIELDS = {
    "data_path": ".",
    "checkpoint_dir": "saved",
    "USER_ID_FIELD": USER,
    "ITEM_ID_FIELD": ITEM,
    "TIME_FIELD": TIME,
    "load_col": {"inter": [USER, ITEM, TIME], "item": [ITEM]},
}


def write(folder: Path, sequences: Ragged, n_items: int) -> None:
    """`harness.inter` and `harness.item` under `folder/harness`: ids are our positions, the time is the place in the
    sequence, and the item file names the whole catalogue, so that items without training interactions have an id too.
    """
    place = np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    rows = zip(sequences.rows().tolist(), sequences.values.tolist(), place.tolist(), strict=True)
    home = folder / NAME
    home.mkdir(exist_ok=True)
    with (home / f"{NAME}.inter").open("w", encoding="utf-8") as file:
        file.write(f"{USER}:token\t{ITEM}:token\t{TIME}:float\n")
        file.writelines(f"{user}\t{item}\t{when}\n" for user, item, when in rows)
    with (home / f"{NAME}.item").open("w", encoding="utf-8") as file:
        file.write(f"{ITEM}:token\n")
        file.writelines(f"{item}\n" for item in range(n_items))


def positions(dataset: Any, field: str, count: int) -> np.ndarray:
    """RecBole's id of each of our positions 0 … count-1 in `field`, int64; 0, RecBole's padding, for one it lacks."""
    known = dataset.field2token_id[field]
    return np.array([known.get(str(position), 0) for position in range(count)], dtype=np.int64)
