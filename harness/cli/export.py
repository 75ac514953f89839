"""`harness export`: the tuned model of a stored run as a plain Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, AsJson, MaybeDataset, Results
from harness.cli.output import check_new_folder, print_json, stdout_kept


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(export)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run id or its beginning, or a model's name.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new or empty folder.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Leave an unmerged adapter apart, in DIR/adapter, for peft.")
    ] = False,
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write a tuned language model as a Hugging Face folder: weights, tokenizer with code tokens, items' codes.

    AutoModelForCausalLM and AutoTokenizer load it without this program.
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
        able = sorted(each for each, entry in model_entries().items() if hasattr(entry.load(), "export"))
        raise InputError(
            f"{name} is no language model to export",
            where="RUN",
            hint=f"choose {' or '.join(able)}",
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
