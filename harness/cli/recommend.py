"""Use of stored models: `harness recommend` lists top items, `harness export` writes a fine-tuned model as a Hugging
Face folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Device,
    MaybeDataset,
    OutputFolder,
    Results,
    RunName,
)
from harness.cli.output import check_new_folder, log, print_json, print_plain, print_table, stdout_kept
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.runs.recommending import Question


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(recommend)
    app.command()(export)


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
    location = dataset if dataset is not None and Path(dataset).expanduser().exists() else None
    with stdout_kept():
        lists = ask(restore(stored, device, data=location), question, k, unseen=unseen)
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
        raise InputError(
            "give exactly one of --history, --user and --file",
            where="RUN",
            hint="add --history A,B,C, --user U or --file F",
            code="conflicting-options",
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
    from harness.errors import InputError
    from harness.registry import model_entries
    from harness.reports.selection import choose_one
    from harness.runs.recommending import restore
    from harness.store.run_store import Store

    output = output.expanduser()
    check_new_folder(output)
    stored = choose_one(Store(results), run, dataset)
    name = stored.record.model
    if not hasattr(model_entries()[name].load() if name in model_entries() else None, "export"):
        exportable = sorted(each for each, entry in model_entries().items() if hasattr(entry.load(), "export"))
        raise InputError(
            f"{name} is not a language model and cannot be exported",
            where="RUN",
            hint=f"choose {' or '.join(exportable)}",
            code="bad-selection",
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
