"""Our training data as RecBole's atomic files, and RecBole's data set built from them with nothing taken out.

RecBole gets the training sequences only and splits nothing. Runs in the worker's process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.ragged import Ragged

NAME = "harness"  # RecBole's name of the data set, and of its folder
USER, ITEM, TIME = "user_id", "item_id", "timestamp"

SEPARATOR = ","  # of the tokens of a feature


def fields(features: Iterable[str]) -> dict[str, Any]:
    """RecBole's settings for the files that `write` makes."""
    return {
        "data_path": ".",
        "checkpoint_dir": "saved",
        "USER_ID_FIELD": USER,
        "ITEM_ID_FIELD": ITEM,
        "TIME_FIELD": TIME,
        "seq_separator": SEPARATOR,
        "load_col": {"inter": [USER, ITEM, TIME], "item": [ITEM, *features]},
    }


def write(folder: Path, sequences: Ragged, n_items: int, features: Mapping[str, Ragged]) -> None:
    """`harness.inter` and `harness.item` under `folder/harness`: ids are our positions, the time is the place in the
    sequence, and the item file names the whole catalogue, so that items without training interactions have an id too.

    Each feature is a sequence of tokens. Its cell ends with a separator, because pandas takes an empty cell for a
    missing one, and RecBole's way to fill those does nothing since pandas 3.
    """
    place = np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    rows = zip(sequences.rows().tolist(), sequences.values.tolist(), place.tolist(), strict=True)
    home = folder / NAME
    home.mkdir(exist_ok=True)
    with (home / f"{NAME}.inter").open("w", encoding="utf-8") as file:
        file.write(f"{USER}:token\t{ITEM}:token\t{TIME}:float\n")
        file.writelines(f"{user}\t{item}\t{when}\n" for user, item, when in rows)
    with (home / f"{NAME}.item").open("w", encoding="utf-8") as file:
        file.write("\t".join([f"{ITEM}:token", *(f"{name}:token_seq" for name in features)]) + "\n")
        for item in range(n_items):
            cells = ["".join(f"{token}{SEPARATOR}" for token in rows[item]) or SEPARATOR for rows in features.values()]
            file.write("\t".join([str(item), *cells]) + "\n")


def positions(dataset: Any, field: str, count: int) -> np.ndarray:
    """RecBole's id of each of our positions 0 … count-1 in `field`, int64; 0, RecBole's padding, for one it lacks."""
    known = dataset.field2token_id[field]
    return np.array([known.get(str(position), 0) for position in range(count)], dtype=np.int64)
