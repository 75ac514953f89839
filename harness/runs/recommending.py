"""Recommendations by the stored model of a run: for one history, for users of the data set, or for a file.

`restore` loads the model with its data set, which is read again (a model stores neither item ids nor texts) and must
have the run's fingerprint.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.json_files import read_json, read_text
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.data.readers import table_files
from harness.data.reading import ITEM, USER, Reading
from harness.errors import InputError, quote, unknown_name
from harness.evaluation.metrics import without_history
from harness.protocol.context import RunContext, SilentReporter
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests
from harness.protocol.split import Split, split
from harness.runs.external import ENSEMBLE, FAMILY
from harness.runs.job import Job, RunOptions, plan
from harness.runs.run import context_of, ranked
from harness.store.record import read_predictions
from harness.store.run_store import StoredRun

if TYPE_CHECKING:
    from harness.protocol.recommender import Recommender

FOLD = "ask"  # name of the requests in events


@dataclass(frozen=True, eq=False)
class Restored:
    """The loaded model and its training data."""

    job: Job
    dataset: Dataset
    split: Split
    recommender: Recommender[Any]
    context: RunContext


def restore(run: StoredRun, device: str | None = "cpu", data: str | None = None) -> Restored:
    """Loads the model. Raises `InputError` if it is missing or corrupt, if the data set has changed, or if this version
    of the code has another run key. `data`: current location of the data set, if it was moved."""
    folder, record = run.folder, run.record
    if record.family in (FAMILY, ENSEMBLE):
        message = f"the run has {record.family} rankings and thus no model"
        raise InputError(message, where=record.run_id, hint="name a run of harness run")
    repeat_hint = f"repeat the run: harness run {record.model} --config {folder.config} --fresh"
    if not folder.model.is_dir():
        raise InputError("this run has no stored model", where=folder.path, hint=repeat_hint)
    (job,) = plan(record.model, RunOptions(data, config=folder.config, device=device))
    try:
        dataset = job.data()
    except InputError as error:
        hint = f"give the folder of {record.dataset.name} with -d" if data is None else error.hint
        raise InputError(error.what, where=error.where or job.dataset, hint=hint, code=error.code) from error
    data_split = split(dataset, job.settings.protocol)
    if (dataset.fingerprint, data_split.fingerprint) != (record.dataset.fingerprint, record.protocol.fingerprint):
        message = f"the data set {record.dataset.name} has changed since the run"
        raise InputError(message, where=job.dataset, hint="restore it, give it with -d, or repeat the run")
    if job.outcome(dataset, data_split).run_id != record.run_id:
        message = "the code, input files or the order of the data's lines have changed since the run"
        raise InputError(message, where=folder.path, hint=repeat_hint)
    recommender, context = job.recommender(), context_of(job, data_split, SilentReporter())
    try:
        recommender.load(folder.model, data_split.train, context)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the model cannot be read ({error})", where=folder.model, hint=repeat_hint) from error
    return Restored(job, dataset, data_split, recommender, context)


def deeper_lists(run: StoredRun, depth: int, data: str | None = None) -> Predictions:
    """The run's test lists with up to `depth` items, ranked again by its stored model; cases in the order of the test
    requests. Nothing is stored.

    Raises `InputError` like `restore`, and if the new lists do not begin with the stored ones: a wider beam search can
    find other items, and another device may round differently.
    """
    stored = restore(run, device=None, data=data)
    requests = stored.split.test.requests
    protocol = stored.split.protocol.model_copy(update={"depth": depth})
    lists = ranked(stored.recommender, requests, stored.context, protocol)
    names = stored.split.test.names(stored.dataset.users)
    former = read_predictions(run.folder.predictions, names, stored.dataset.items)
    width = min(former.items.shape[1], lists.items.shape[1])
    if not np.array_equal(former.items[requests.cases, :width], lists.items[:, :width]):
        message = f"lists of {depth} items do not begin with the stored ones (a wider beam search, or another device)"
        hint = f"repeat the run with --set protocol.depth={depth}"
        raise InputError(message, where=run.record.run_id, hint=hint, code="incompatible")
    return lists


@dataclass(frozen=True)
class Question:
    """Users or histories to recommend for: `user` is a raw user id of the data set, `histories` are pairs of a name
    (None if anonymous) and raw item ids, oldest first."""

    user: str | None = None
    histories: tuple[tuple[str | None, tuple[str, ...]], ...] = ()


def recommend(stored: Restored, question: Question, k: int, *, unseen: bool = False) -> list[dict[str, Any]]:
    """One document a history: `user`, `history` and `items` (at most `k`, best first), each item with its title.

    With `unseen`, items of the history are excluded, as always under `protocol.exclude_history`. Histories are
    truncated to the latest `protocol.max_history` items. Raises `InputError` for unknown users and items.
    """
    if k < 1:
        raise InputError(f"{k} is not a number of items", where="-k", hint="give 1 or more")
    dataset, protocol = stored.dataset, stored.split.protocol
    names, users, rows = _resolved(question, dataset)
    requests = Requests(FOLD, users, RaggedArray.of(rows).last(protocol.max_history))
    unseen = unseen or protocol.exclude_history
    depth = min(len(dataset.items), k + (protocol.max_history if unseen else 0))
    lists = stored.recommender.recommend(requests, depth, stored.context)
    if unseen:
        lists = without_history(lists, requests, k)
    return [_document(lists, requests, row, name, dataset, k) for row, name in enumerate(names)]


def _resolved(question: Question, dataset: Dataset) -> tuple[list[str | None], np.ndarray, list[np.ndarray]]:
    """Names, user numbers and histories. A history of no user of the data set gets a number after all users: models
    with user embeddings then use none."""
    index_of = {raw: position for position, raw in enumerate(dataset.users)}
    if question.user is not None:
        if question.user not in index_of:
            raise unknown_name("user", question.user, _near(question.user, dataset.users), where=dataset.name)
        user = index_of[question.user]
        return [question.user], np.array([user]), [dataset.sequences[user]]
    known_items = {raw: position for position, raw in enumerate(dataset.items)}
    rows = []
    for name, history in question.histories:
        for item in history:
            if item not in known_items:
                place = dataset.name if name is None else f"the history of {quote(name)}"
                hint = "harness data items DATASET lists them"
                raise unknown_name("item", item, _near(item, dataset.items), where=place, otherwise=hint)
        rows.append(np.array([known_items[item] for item in history], dtype=np.int64))
    names = [name for name, _ in question.histories]
    numbers = [index_of.get(name, -1) if name is not None else -1 for name in names]
    users = [number if number >= 0 else len(index_of) + row for row, number in enumerate(numbers)]
    return names, np.array(users, dtype=np.int64), rows


def _near(raw: str, names: Sequence[str]) -> list[str]:
    """Similar ids, without comparing the complete catalogue."""
    start_time = raw[: max(1, len(raw) // 2)]
    return difflib.get_close_matches(raw, [other for other in names if other.startswith(start_time)][:1000], n=3)


def _document(
    lists: Predictions, requests: Requests, row: int, name: str | None, dataset: Dataset, k: int
) -> dict[str, Any]:
    place = int(np.flatnonzero(lists.cases == requests.cases[row])[0])
    items = lists.items[place][:k]
    listed = [
        {"rank": rank, **_item(int(item), dataset), "score": float(score)}
        for rank, (item, score) in enumerate(zip(items, lists.scores[place], strict=False), start=1)
        if item != NO_ITEM
    ]
    return {"user": name, "history": [_item(int(item), dataset) for item in requests.histories[row]], "items": listed}


def _item(item: int, dataset: Dataset) -> dict[str, Any]:
    return {"item": dataset.items[item], "title": None if dataset.text is None else dataset.text[item].title or None}


def history_of(text: str) -> Question:
    """Parses `--history A,B,C`; an id with a comma is in double quotes."""
    items = tuple(item.strip() for item in next(csv.reader([text], skipinitialspace=True), []) if item.strip())
    if not items:
        raise InputError("there is no item", where="--history", hint="write raw item ids with commas, oldest first")
    return Question(histories=((None, items),))


def histories_of(path: Path) -> Question:
    """Histories in a file: a JSON object of names and lists of item ids (or a list of lists), a table with columns user
    and item in order, or a text with one history a line (ids separated by commas or blanks)."""
    if path.name.endswith(".json"):
        histories = _of_json(path)
    elif path.name.endswith(table_files.ENDINGS):
        histories = _of_table(path)
    else:
        lines = (line.strip() for line in read_text(path).splitlines())
        split = ([part.strip() for part in line.split("," if "," in line else None)] for line in lines if line)
        histories = [(None, tuple(filter(None, parts))) for parts in split]
    if not histories or not all(items for _, items in histories):
        raise InputError("no history, or an empty one", where=path, hint="give each at least one item")
    return Question(histories=tuple(histories))


def _of_json(path: Path) -> list[tuple[str | None, tuple[str, ...]]]:
    content = read_json(path)
    pairs = list(content.items()) if isinstance(content, dict) else [(None, row) for row in content or ()]
    for name, row in pairs:
        if not isinstance(row, list) or not all(isinstance(item, (str, int)) for item in row):
            message = f"the history of {quote(name)} is {quote(row)}"
            raise InputError(message, where=path, hint="give a list of item ids")
    return [(name, tuple(map(str, row))) for name, row in pairs]


def _of_table(path: Path) -> list[tuple[str | None, tuple[str, ...]]]:
    file = table_files.read_table(path, Reading())
    columns = file.matched((USER, ITEM), (), Reading()).places
    histories: dict[str, list[str]] = {}
    for user, item in zip(file.column(columns[USER]), file.column(columns[ITEM]), strict=True):
        histories.setdefault(user, []).append(item)
    return [(user, tuple(items)) for user, items in histories.items()]
