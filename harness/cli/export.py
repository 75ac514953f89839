"""`harness export`: the tuned model of a stored run as a plain Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RESULTS, AsJson, MaybeDataset, Results
from harness.cli.output import print_json, stdout_kept


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
    from harness.reports.selection import choose
    from harness.runs.recommending import restore
    from harness.store.run_store import Store

    output = output.expanduser()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError("not an empty folder", where=str(output), hint="name a new one", code="already-exists")
    (side,) = choose(Store(results), [run], dataset)
    if len(side.runs) != 1:
        ids = ", ".join(one.record.run_id for one in side.runs)
        raise InputError(
            f"{run!r} stands for {len(side.runs)} runs ({ids})", where="RUN", hint="give one id", code="bad-selection"
        )
    name = side.first.model
    if not hasattr(model_entries()[name].load() if name in model_entries() else None, "export"):
        able = sorted(each for each, entry in model_entries().items() if hasattr(entry.load(), "export"))
        raise InputError(
            f"{name} is no language model to export",
            where="RUN",
            hint=f"choose {' or '.join(able)}",
            code="bad-selection",
        )
    with stdout_kept():
        restored = restore(side.runs[0])
        write = getattr(restored.recommender, "export")  # noqa: B009  # not every model has it
        write(output, restored.split.train, is_apart=adapter)
    if as_json:
        print_json({"run_id": side.first.run_id, "model": name, "dataset": restored.dataset.name, "path": str(output)})
    else:
        print(f"{name} on {restored.dataset.name}, run {side.first.run_id}: written to {output}")
