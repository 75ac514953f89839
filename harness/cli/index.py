"""`harness index build` and `harness index inspect`: item codes as an index file, and its statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, Dataset, Order, Protocol, Sets, with_reading
from harness.cli.output import log, print_json, print_table, stdout_kept
from harness.data.reading import PLAIN, Reading


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        help="Item codes as an index file (a JSON object of items and lists of tokens), and its statistics."
    )
    group.callback(invoke_without_command=True)(_help)
    group.command()(build)
    group.command()(inspect)
    app.add_typer(group, name="index")


def _help(context: typer.Context) -> None:
    """Item codes as an index file (a JSON object of items and lists of tokens), and its statistics."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@with_reading
def build(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("-o", "--output", "--out", metavar="FILE", help="The index file.")],
    model: Annotated[str, typer.Option(help="Model of the codes.")] = "eager-llm",
    seed: Annotated[int, typer.Option(help="Seed of vectors and codes.")] = 1,
    profile: Annotated[str | None, typer.Option(help="auto, smoke, cpu, gpu or paper.", show_default="auto")] = None,
    sets: Sets = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.", show_default="by profile")] = None,
    as_json: AsJson = False,
) -> None:
    """Build the codes of a run with these settings and this seed, and write them as an index file.

    Their provenance is written next to the file, and checked when the file is used (eager.index.kind=file).
    """
    from harness.cli.output import reporter
    from harness.generative.item_codes import inspect as look
    from harness.runs.api import build_index, check_writable
    from harness.runs.job import RunOptions

    check_writable(out)
    options = RunOptions(dataset, profile, (seed,), tuple(sets or ()), None, device, protocol, order, reading=reading)
    with stdout_kept(), reporter() as bar_reporter:
        built = build_index(model, options, bar_reporter)
    built.index.write(out, built.split.train)
    built.written()
    entries = {**built.index.record(), **look(built.index.table, built.split.test.targets.items)}
    place = {"dataset": built.dataset.name, "protocol": built.split.protocol.name, "path": str(out)}
    _show({**place, **entries}, as_json=as_json)


@with_reading
def inspect(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An index file."),
    ],
    dataset: Dataset,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Collisions, usage and entropy of each level, branching of prefixes, share of test targets with a shared code."""
    from harness.generative.item_codes import CodeTable
    from harness.generative.item_codes import inspect as look
    from harness.protocol.audit.provenance import read_provenance
    from harness.runs.api import load_split

    loaded, split = load_split(dataset, order, reading, protocol, sets)
    entries = look(CodeTable.read(file, loaded.items), split.test.targets.items)
    place = {"dataset": loaded.name, "protocol": split.protocol.name, "path": str(file)}
    _show({**place, **entries, **read_provenance(file).model_dump()}, as_json=as_json)


def _show(entries: dict[str, Any], *, as_json: bool) -> None:
    from harness.generative.item_codes import warnings

    if as_json:
        print_json(entries)
    else:
        text = {key: value for key, value in entries.items() if not isinstance(value, (list, dict)) and value != ""}
        rows = [{"what": key.replace("_", " "), "value": _text(value)} for key, value in text.items()]
        print_table(rows, {"what": "index", "value": ""})
        levels = [
            {"level": number, **level, **{f"fanout {key}": value for key, value in level["fanout"].items()}}
            for number, level in enumerate(entries["levels"], start=1)
        ]
        for level in levels:
            level["entropy"], level["fanout mean"] = f"{level['entropy']:.3f}", f"{level['fanout mean']:.1f}"
        names = ("level", "size", "used", "entropy", "prefixes", "fanout mean", "fanout most")
        print_table(levels, {name: "entropy (bits)" if name == "entropy" else name for name in names})
    for line in warnings(entries):
        log(f"warning: {line}")


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
