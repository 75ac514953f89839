"""Models outside the harness: a data set's split as files for them, and their rankings evaluated under the same
protocol and stored as runs of the family `external`. Audits compute the metrics without storing a run. `ensemble`
stores the fused lists of several runs as one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from harness.core import config_files
from harness.core.files import write_result_text
from harness.core.hashing import fingerprint
from harness.data.dataset import Dataset
from harness.data.export import new_folder, write_items, write_rows
from harness.data.loading import load_dataset
from harness.data.reading import ITEM, TIMESTAMP, USER, Reading
from harness.errors import InputError
from harness.evaluation.candidates import look_for_candidates
from harness.evaluation.metrics import code_level, compute_metrics, fuse, without_history
from harness.protocol.audit.audit import audit as run_audit
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by
from harness.registry import model_entries
from harness.runs.config import protocol_sets, resolve_protocol
from harness.runs.job import RunOptions, check_seed, data_words, located, set_words
from harness.runs.rankings import read_rankings
from harness.runs.run import Finished, finalize_predictions, new_record
from harness.store.record import SUSPECTED, Cost, Metrics, Outcome, Record, RunKey, folder_name, write_predictions
from harness.store.run_store import Reservation, Store, StoredRun

FAMILY = "external"
ENSEMBLE = "ensemble"  # the family of fused runs
# Bumped if a change of reading rankings can change metrics. 2: ties are not broken by the order of lines.
CODE_VERSION = 2
DEEPEST = 200  # items of a list read for `DEPTH` distinct codes
PAGE = "README.md"


def evaluate(
    path: Path,
    options: RunOptions,
    store: Store,
    note: Callable[[str], None] = lambda line: None,
    *,
    name: str | None = None,
) -> Finished:
    """Reads, evaluates and stores the rankings in a file. `options`: data set, settings, protocol and at most one seed.
    `name`: row of the leaderboard (default: the file's stem). Runs with one name and different seeds are one row over
    seeds; without a seed every file is its own row. The same lists under the same name are the same run, which is
    returned. `note` receives warnings about the lists."""
    started = datetime.now(UTC)
    assert options.dataset is not None
    if len(options.seeds) > 1:
        raise InputError("a file of rankings has one seed", where="seed", hint="evaluate one file a seed")
    seed = options.seeds[0] if options.seeds else None
    if seed is not None:
        check_seed(seed)
    name = check_name(name if name is not None else path.name.partition(".")[0])
    sets = (*protocol_sets(options.protocol), *options.sets)
    protocol, order = resolve_protocol(sets), options.order or "time"
    dataset = load_dataset(options.dataset, order, options.reading)
    split = split_by(dataset, protocol)
    for warning in dataset.warnings:
        note(warning)
    rankings = read_rankings(path, dataset, protocol.depth_asked, split.test)
    for line in rankings.notes():
        note(f"{path.name}: {line}")
    lists = finalize_predictions(rankings.predictions, split.test.requests, protocol)
    content = fingerprint(lists.items, lists.scores)
    settings = {"family": FAMILY} if seed is not None else {"family": FAMILY, "lists": content}
    outcome = Outcome(name, settings, CODE_VERSION, dataset.fingerprint, split.key, seed)
    with store.claim(RunKey(name, dataset.name, outcome.run_id)) as claim:
        if claim.stored is not None:
            if claim.stored.record.details.get("lists") != content:
                raise InputError(
                    f"seed {seed} of {name!r} is already stored with other rankings",
                    where=claim.final.path,
                    hint="choose another --seed or --name, or remove that folder",
                )
            _warn(claim.stored.record, note)
            return Finished(claim.stored, reused=True)
        candidates = look_for_candidates(rankings.whole, split.test.requests, split.test.targets, len(dataset.items))
        location, reading = located(options.dataset), options.reading
        configuration = {
            "model": name,
            "dataset": location,
            "order": order,
            **({"data": reading.document()} if reading.document() else {}),
            "seed": seed,
            "protocol": protocol.model_dump(mode="json"),
            FAMILY: {"file": path.name},
        }
        words = ["harness", "evaluate", str(path.absolute()), "-d", location, "--name", name]
        words += [] if seed is None else ["--seed", str(seed)]
        finished = _finish(
            claim, outcome, FAMILY, dataset, split, lists, started, configuration,
            cost=Cost(),
            leaks=[f"{SUSPECTED}{candidates.alarm}"] if candidates.alarm else [],
            command=[*words, *data_words(order, reading), *set_words(sets)],
            details={
                "lists": content,
                "file": path.name,
                **rankings.document(),
                "candidates": candidates.document(),
            },
        )  # fmt: skip
        _warn(finished.record, note)
        return finished


def ensemble(
    name: str, runs: Sequence[StoredRun], lists: Sequence[Predictions], dataset: Dataset, split: Split, store: Store
) -> Finished:
    """Stores the reciprocal rank fusion of the test lists of `runs` as a run without a seed; its cost is theirs
    together. Nothing is chosen by their metrics. Raises `InputError` for fewer than two runs and for a model's name."""
    started = datetime.now(UTC)
    if len(runs) < 2:
        raise InputError("one run is no ensemble", where="RUN", hint="name two or more runs, or a model of two seeds")
    name = check_name(name)
    fused = finalize_predictions(fuse(lists, split.protocol.depth_asked), split.test.requests, split.protocol)
    members = sorted(f"{run.record.model}/{run.record.run_id}" for run in runs)
    outcome = Outcome(name, {"family": ENSEMBLE, "members": members}, 1, dataset.fingerprint, split.key, None)
    with store.claim(RunKey(name, dataset.name, outcome.run_id)) as claim:
        if claim.stored is not None:
            return Finished(claim.stored, reused=True)
        commands = [shlex.join(run.record.command or ()) for run in runs]
        place = {"dataset": dataset.name, **runs[0].settings}  # where the members found their data
        configuration: dict[str, Any] = {
            "model": name,
            **{key: place[key] for key in ("dataset", "order", "data") if key in place},
            "protocol": split.protocol.model_dump(mode="json"),
            ENSEMBLE: {"members": members, "commands": commands},
        }
        words = ["harness", "ensemble", *(run.record.run_id for run in runs), "-d", place["dataset"], "--name", name]
        return _finish(
            claim, outcome, ENSEMBLE, dataset, split, fused, started, configuration,
            cost=_cost(runs),
            leaks=list(dict.fromkeys(leak for run in runs for leak in run.record.leaks)),
            command=words,
            details={"members": members, "training_free": all(run.record.training_free for run in runs)},
        )  # fmt: skip


def _finish(
    claim: Reservation,
    outcome: Outcome,
    family: str,
    dataset: Dataset,
    split: Split,
    lists: Predictions,
    started: datetime,
    configuration: dict[str, Any],
    *,
    details: dict[str, Any],
    **more: Any,
) -> Finished:
    """Stores lists that were not ranked in this process; `more` are fields of the record."""
    write_result_text(claim.folder.config, config_files.write(configuration))
    write_predictions(claim.folder.predictions, lists, split.test.names(dataset.users), dataset.items)
    record = new_record(
        outcome,
        dataset,
        split,
        lists,
        family=family,
        profile=family,
        metrics=Metrics(test=compute_metrics(lists, split.test.targets), valid={}),
        started=started,
        audit=run_audit(dataset, split.protocol, split).document(),
        settings=configuration,
        details={"configuration": outcome.settings, **details},
        **more,
    )
    return Finished(claim.finish(record), reused=False)


def _cost(runs: Sequence[StoredRun]) -> Cost:
    """Of all runs together; None where one was not measured."""
    costs = [run.record.cost for run in runs]

    def of_all(name: str, combine: Callable[[list[Any]], Any]) -> Any:
        values = [getattr(cost, name) for cost in costs]
        return None if None in values else combine(values)

    sums = {name: of_all(name, sum) for name in ("train_seconds", "eval_seconds", "parameters")}
    return Cost(**sums, peak_memory_mb=of_all("peak_memory_mb", max))


def _warn(record: Record, note: Callable[[str], None]) -> None:
    for sentence in record.leaks:
        note(f"alarm: {sentence}")


def check_name(name: str) -> str:
    """The name of a row that is no model of the harness. Raises `InputError` for one that is."""
    if name in model_entries():
        raise InputError(f"{name!r} is a model of the harness", where="--name", hint="give these rankings another name")
    return folder_name("model", name)


def settled(path: Path, dataset: Dataset, split: Split, depth: int = DEPTH) -> tuple[Predictions, tuple[str, ...]]:
    """Rankings of any file that `harness evaluate` reads, under the split's protocol, at most `depth` items a test
    user; and notes on the file, one line each. Raises `InputError` like `read_rankings`."""
    protocol = split.protocol
    rankings = read_rankings(path, dataset, depth + protocol.depth_asked - DEPTH, split.test)
    lists = rankings.predictions
    if protocol.exclude_history:
        lists = without_history(lists, split.test.requests, depth)
    return lists, tuple(rankings.notes())


def measured_codes(
    path: Path, dataset: Dataset, split: Split, groups: np.ndarray
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Metrics of a file's lists over items and over codes, the difference, and `cut_lists` (see `code_level`); and
    notes on the file. Lists are read deeper, so that shared codes leave enough of them."""
    depth = min(DEEPEST, DEPTH * int(np.bincount(groups).max()))
    lists, notes = settled(path, dataset, split, depth)
    codes = code_level(lists, split.test.targets, groups)
    figures = {
        "file": path.name,
        "items": compute_metrics(lists, split.test.targets),
        "codes": codes["code_level"],
        "added": codes["code_level_delta"],
        "cut_lists": codes["cut_lists"],
    }
    return figures, notes


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
    words = ["harness", "evaluate", "rankings.json", "-d", located(dataset), "--name", "mine"]
    rule_words = [*(["--protocol", name] if name else []), *set_words(sets)]
    command = shlex.join([*words, *data_words(order, reading), *rule_words])
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
    target_ids = [dataset.items[item] for item in np.asarray(fold.targets.items).tolist()]
    name = fold.requests.fold
    write_rows(place / f"{name}.csv", (USER, ITEM), zip(users, target_ids, strict=True))
    histories = {
        user: [dataset.items[item] for item in row.tolist()]
        for user, row in zip(users, fold.requests.histories, strict=True)
    }
    (place / f"{name}_histories.json").write_text(json.dumps(histories, ensure_ascii=False), encoding="utf-8")
