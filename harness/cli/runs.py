"""Stored runs: `harness runs` lists and removes them, `harness recommend` uses their models, `harness export` writes a
fine-tuned model as a Hugging Face folder, `harness certify` writes a run's evidence, and `harness verify` checks it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Device,
    MaybeDataset,
    Order,
    OutputFolder,
    Protocol,
    Results,
    RunName,
    Sets,
    bad_selection,
    check_new_folder,
    conflict,
    existing,
    with_reading,
)
from harness.cli.output import counted, log, print_json, print_plain, print_table, stdout_kept
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError, unknown_name
from harness.registry import model_entries

if TYPE_CHECKING:
    from harness.runs.recommending import Question
    from harness.store.listing import Entry

STATES = {True: "yes", False: "NO", None: "not checked"}


def show(dataset: MaybeDataset = None, results: Results = RESULTS, as_json: AsJson = False) -> None:
    """List all runs, also unfinished ones: model, data set, seed, state, main metric, size on disk."""
    from harness.protocol.protocol import MAIN_METRIC

    entries = _entries(results, dataset)
    rows = [_document(entry, MAIN_METRIC) for entry in entries]
    if as_json:
        print_json(rows)
        return
    if not rows:
        log(f"no runs stored in {results}" + (f" for {dataset}" if dataset else ""))
        return
    columns = {"run_id": "run", "model": "model", "dataset": "data set", "seed": "seed", "status": "status"}
    values = [
        {
            **row,
            MAIN_METRIC: "" if row[MAIN_METRIC] is None else f"{row[MAIN_METRIC]:.4f}",
            "size": _size(row["bytes"]),
            "finished": (row["finished"] or "")[:16].replace("T", " "),
        }
        for row in rows
    ]
    print_table(values, {**columns, MAIN_METRIC: MAIN_METRIC, "size": "size", "finished": "finished (UTC)"})
    log(f"{counted(len(rows), 'run')}, {_size(sum(entry.size for entry in entries))}")


def remove_runs(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN [RUN ...]", help="Run ids or their beginnings, or models' names.")
    ],
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove runs: records, rankings, models. Asks for confirmation; active runs are rejected."""
    from harness.store.listing import remove

    entries = _chosen(_entries(results, dataset), runs, results)
    if running := [entry for entry in entries if entry.state == "running"]:
        hint = "wait until it is complete, or end that process"
        raise bad_selection(
            f"{running[0].run_id} is being executed by a process", where=str(running[0].path), hint=hint
        )
    for entry in entries:
        log(f"{entry.run_id}: {entry.model} on {entry.dataset}, {entry.state}, {_size(entry.size)}")
    if not yes:
        if not sys.stdin.isatty():
            raise bad_selection(
                f"removing {counted(len(entries), 'run')} needs a confirmation", where="RUN", hint="add --yes"
            )
        typer.confirm(f"remove {counted(len(entries), 'run')} permanently?", abort=True, err=True)
    for entry in entries:
        remove(entry)
    size = sum(entry.size for entry in entries)
    if as_json:
        print_json({"removed": [str(entry.path) for entry in entries], "bytes": size})
    else:
        print(f"{counted(len(entries), 'run')} removed, {_size(size)} free")


def _entries(results: Path, dataset: str | None) -> list[Entry]:
    from harness.reports.selection import stored_name
    from harness.store.listing import entries
    from harness.store.run_store import Store

    store = Store(results)
    return entries(store, None if dataset is None else stored_name(store, dataset))


def _chosen(selected_entries: Sequence[Entry], requested: Sequence[str], results: Path) -> list[Entry]:
    """The selected runs, in the order of the list. Raises `InputError` for unknown names and ambiguous ids."""
    target: dict[Path, Entry] = {}
    for text in requested:
        entries = [
            entry for entry in selected_entries if text in (entry.run_id, entry.model) or Path(text) == entry.path
        ]
        if not entries:
            entries = [entry for entry in selected_entries if text and entry.run_id.startswith(text)]
            if len(entries) > 1:
                message = f"{text!r} begins the ids of {len(entries)} runs"
                raise bad_selection(message, where="RUN", hint="give more of it; harness runs list shows them")
        if not entries:
            names = {name for entry in selected_entries for name in (entry.run_id, entry.model)}
            raise unknown_name("run", text, names, where=str(results))
        target.update((entry.path, entry) for entry in entries)
    return [entry for entry in selected_entries if entry.path in target]


def _document(entry: Entry, metric: str) -> dict[str, Any]:
    record = entry.record
    return {
        "run_id": entry.run_id,
        "model": entry.model,
        "dataset": entry.dataset,
        "seed": entry.seed,
        "status": entry.state,
        metric: None if record is None else record.metrics.test[metric],
        "bytes": entry.size,
        "finished": None if record is None else record.finished.isoformat(),
        "path": str(entry.path),
    }


def _size(count: int) -> str:
    """Bytes in readable form.

    >>> _size(512), _size(20_480), _size(3 * 2**30)
    ('512 B', '20.0 KiB', '3.0 GiB')
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def recommend(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run id or its beginning, its folder, or a model's name.")
    ],
    history: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Raw item ids, oldest first.", show_default=False)
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="U", help="A user of the data set, with their complete history.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="Many histories: JSON, a table user,item, or one a line (docs/recommend.md).",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, metavar="N", help="Number of items.")] = 10,
    unseen: Annotated[bool, typer.Option("--unseen", help="Exclude the items of the history.")] = False,
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items with the stored model of a run: for a history, a user of its data set, or a file of histories."""
    from harness.reports.selection import choose_one
    from harness.runs.recommending import recommend as ask
    from harness.runs.recommending import restore
    from harness.store.run_store import Store

    question = _question(history, user, file)
    stored = choose_one(Store(results), run, dataset)
    with stdout_kept():
        lists = ask(restore(stored, device, data=existing(dataset)), question, k, unseen=unseen)
    record = stored.record
    if as_json:
        fields = {"run_id": record.run_id, "model": record.model, "dataset": record.dataset.name, "k": k}
        print_json({**fields, "recommendations": lists})
        return
    log(f"{record.model} on {record.dataset.name}, run {record.run_id}")
    for number, entries in enumerate(lists):
        _print(entries, blank=number > 0)


def _question(history: str | None, user: str | None, file: Path | None) -> Question:
    from harness.runs.recommending import Question, histories_of, history_of

    if sum(option is not None for option in (history, user, file)) != 1:
        raise conflict(
            "give exactly one of --history, --user and --file",
            where="RUN",
            hint="add --history A,B,C, --user U or --file F",
        )
    if user is not None:
        return Question(user=user)
    if file is not None:
        return histories_of(file)
    assert history is not None
    return history_of(history)


def _print(entries: dict[str, Any], *, blank: bool) -> None:
    if blank:
        print_plain("")
    names = [entry["title"] or entry["item"] for entry in entries["history"]]
    text = " · ".join(names[-5:])
    print_plain(_text(f"{entries['user'] or 'history'}: {'… · ' if len(names) > 5 else ''}{text}"))
    rows = [{**entry, "score": f"{entry['score']:.4g}"} for entry in entries["items"]]
    titled = any(entry["title"] for entry in entries["items"])
    columns = {"rank": "#", "item": "item", **({"title": "title"} if titled else {}), "score": "score"}
    print_table(rows, columns)


def _text(line: str) -> Any:
    """A line without rich markup, which titles may contain."""
    from rich.text import Text

    from harness.errors import escape_control

    return Text(escape_control(line))


def export(
    run: RunName,
    output: OutputFolder,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Save an unmerged adapter separately in DIR/adapter, for peft.")
    ] = False,
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write a fine-tuned language model as a Hugging Face folder: weights, tokenizer with code tokens, item codes.

    AutoModelForCausalLM and AutoTokenizer load it without this package.
    """
    from harness.reports.selection import choose_one
    from harness.runs.recommending import restore
    from harness.store.run_store import Store

    output = output.expanduser()
    check_new_folder(output)
    stored = choose_one(Store(results), run, dataset)
    name = stored.record.model
    if not hasattr(model_entries()[name].load() if name in model_entries() else None, "export"):
        exportable = sorted(model for model, entry in model_entries().items() if hasattr(entry.load(), "export"))
        raise bad_selection(
            f"{name} is not a language model and cannot be exported",
            where="RUN",
            hint=f"choose {' or '.join(exportable)}",
        )
    with stdout_kept():
        restored = restore(stored)
        write = getattr(restored.recommender, "export")  # noqa: B009  # not every model has it
        write(output, restored.split.train, is_apart=adapter)
    if as_json:
        print_json(
            {"run_id": stored.record.run_id, "model": name, "dataset": restored.dataset.name, "path": str(output)}
        )
    else:
        print(f"{name} on {restored.dataset.name}, run {stored.record.run_id}: written to {output}")


def certify(
    run: RunName,
    output: OutputFolder,
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write the evidence of a run: checklist, model card, TREC run and qrels, results in the hub's format.

    `harness verify DIR` recomputes the metrics from the folder alone.
    """
    from harness.reports.certificate import certify as write
    from harness.reports.selection import choose_one
    from harness.runs.job import command_of
    from harness.store.run_store import Store

    check_new_folder(output)
    stored = choose_one(Store(results), run, dataset)
    paths = write(stored, output, command_of((stored,)), dataset)
    if as_json:
        print_json({"run_id": stored.record.run_id, "files": [str(path) for path in paths]})
    else:
        record = stored.record
        print(f"{record.model} on {record.dataset.name}, run {record.run_id}: certified in {output}")


@with_reading
def verify(
    target: Annotated[str, typer.Argument(metavar="DIR|DATASET", help="A certificate's folder, or a data set.")],
    dataset: Annotated[
        str | None, typer.Option("-d", "--dataset", help="Location of a certificate's data set.")
    ] = None,
    tie_seeds: Annotated[
        int | None, typer.Option("--tie-seeds", metavar="N", help="Measure N other orders of equal timestamps.")
    ] = None,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    results: Results = RESULTS,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Recompute a certificate's metrics exactly; or check a data set as `harness data verify`.

    With --tie-seeds: targets and training-free models under other orders of equal timestamps; leaderboards then show
    the spread. Exit code 2 if a check fails.
    """
    from harness.reports.certificate import CERTIFICATE, verify_certificate

    if (Path(target) / CERTIFICATE).is_file():
        if tie_seeds is not None:
            raise InputError("a certificate has no times", where="--tie-seeds", hint="name a data set")
        outcomes = verify_certificate(Path(target), dataset)
        if as_json:
            print_json([asdict(one) for one in outcomes])
        else:
            rows = [{**asdict(one), "ok": STATES[one.ok]} for one in outcomes]
            print_table(rows, {"name": "check", "ok": "holds", "detail": ""})
        if failed := [one.name for one in outcomes if one.ok is False]:
            raise InputError(f"{len(failed)} checks failed ({', '.join(failed)})", where=target)
        return
    if tie_seeds is None:
        from harness.cli.data import verify as data_verify

        data_verify(target, protocol, sets, None, order, as_json=as_json, **reading.document())
        return
    from harness.runs.dataset_check import tie_report
    from harness.runs.job import RunOptions
    from harness.store.record import tie_file, write_document

    options = RunOptions(target, sets=tuple(sets or ()), protocol=protocol, order=order, reading=reading)
    report = tie_report(options, tie_seeds, log=log)
    path = tie_file(results, report["dataset"], report["protocol_fingerprint"])
    write_document(path, report)
    if as_json:
        print_json(report)
        return
    for rows in (
        [_order_row(entry) for entry in report["orders"]],
        [_spread_row(model, values) for model, values in report["models"].items()],
    ):
        print_table(rows, tuple(rows[0]))
    print(f"{report['tied_interactions']:.1%} of the interactions share their time with another of their user; {path}")


def _order_row(entry: dict[str, Any]) -> dict[str, str]:
    seed = entry["tie_seed"]
    return {
        "order": "source" if seed is None else f"tie seed {seed}",
        "fingerprint": entry["fingerprint"],
        "split": entry["protocol_fingerprint"],
        "test targets moved": f"{entry['test_targets_moved']:.1%}",
        "validation targets moved": f"{entry['valid_targets_moved']:.1%}",
    }


def _spread_row(model: str, values: dict[str, dict[str, float]], metric: str = "ndcg@10") -> dict[str, str]:
    spread = values[metric]
    names = {"source": "source", "mean": "mean", "sd": "sd", "min": "least", "max": "greatest"}
    return {"model": model, "metric": metric, **{name: f"{spread[key]:.4f}" for key, name in names.items()}}
