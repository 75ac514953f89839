"""Exports a data set's split as files for models outside the harness: parts, histories of the evaluated users, a
README.

`harness evaluate` measures their rankings under the same split.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.columns import ITEM, TIMESTAMP, USER
from harness.data.dataset import Dataset
from harness.data.export import new_folder, write_items, write_rows
from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by
from harness.runs.config import protocol_sets, resolve_protocol
from harness.runs.job import located

PAGE = "README.md"


def export_split(
    dataset: str, folder: Path, order: str, reading: Reading, rules: tuple[str | None, Sequence[str]] = (None, ())
) -> dict[str, Any]:
    """Writes `train.csv`, `valid.csv`, `test.csv`, `valid_histories.json`, `test_histories.json`, `items.csv`,
    `split.json` and the README into `folder`, which must be new or empty. Returns the content of `split.json`.

    `rules`: the protocol's name and the settings `protocol.KEY=VALUE`. Raises `InputError` for invalid data or rules, a
    folder that is not empty, and disk errors.
    """
    name, sets = rules
    protocol = resolve_protocol((*protocol_sets(name), *sets))
    loaded = load_dataset(dataset, order, reading)
    split = split_by(loaded, protocol)
    command = _evaluate(located(dataset), order, reading, rules)
    fields = {
        "dataset": {"name": loaded.name, "fingerprint": loaded.fingerprint},
        "protocol": {**protocol.model_dump(mode="json"), "fingerprint": split.fingerprint},
        "users": {fold.requests.fold: len(fold.requests) for fold in (split.valid, split.test)},
        "items": len(loaded.items),
        "evaluate": command,
    }
    with new_folder(folder) as place:
        timed = loaded.timestamps is not None
        write_rows(place / "train.csv", (USER, ITEM, TIMESTAMP) if timed else (USER, ITEM), _training(loaded, split))
        for fold in (split.valid, split.test):
            _write_fold(place, fold, loaded)
        write_items(loaded, place)
        (place / "split.json").write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        page = files("harness.runs").joinpath("split_page.txt").read_text("utf-8")
        filled = page.replace("DATASET", loaded.name).replace("PROTOCOL", protocol.name).replace("EVALUATE", command)
        if protocol.rolling:
            filled += "\nA user may have several cases: `user` in the held-out parts is a case, `USER#1`, `USER#2`, …\n"
        (place / PAGE).write_text(filled, encoding="utf-8")
    return {**fields, "path": str(folder)}


def _evaluate(dataset: str, order: str, reading: Reading, rules: tuple[str | None, Sequence[str]]) -> str:
    """The command that measures rankings under this split."""
    name, sets = rules
    messages = ["--order", order] if order != "time" else []
    messages += [*reading.options(), *(["--protocol", name] if name else [])]
    changed = [part for text in sets for part in ("--set", text)]
    return shlex.join(["harness", "evaluate", "rankings.json", "-d", dataset, "--name", "mine", *messages, *changed])


def _training(dataset: Dataset, split: Split) -> Iterator[tuple[str, ...]]:
    """Training rows user by user, oldest first, with timestamps if there are any."""
    for user, row in enumerate(split.train.sequences):
        begin = dataset.sequences.offsets[user]
        for place, item in enumerate(row.tolist()):
            cells = (dataset.users[user], dataset.items[item])
            if dataset.timestamps is not None:
                time = float(dataset.timestamps[begin + place])
                cells = (*cells, str(int(time)) if time.is_integer() else repr(time))
            yield cells


def _write_fold(place: Path, fold: EvaluationSplit, dataset: Dataset) -> None:
    names = fold.names(dataset.users)
    users = [names[case] for case in fold.requests.cases.tolist()]
    answers = [dataset.items[item] for item in np.asarray(fold.targets.items).tolist()]
    name = fold.requests.fold
    write_rows(place / f"{name}.csv", (USER, ITEM), zip(users, answers, strict=True))
    histories = {
        user: [dataset.items[item] for item in row.tolist()]
        for user, row in zip(users, fold.requests.histories, strict=True)
    }
    (place / f"{name}_histories.json").write_text(json.dumps(histories, ensure_ascii=False), encoding="utf-8")
