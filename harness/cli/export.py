"""`harness export`: the fine-tuned model of a stored run as a Hugging Face folder."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    MaybeDataset,
    OutputFolder,
    Results,
    RunName,
)
from harness.cli.output import check_new_folder, print_json, stdout_kept


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(export)


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
