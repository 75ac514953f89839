"""`harness data import` and `harness data export`: data sets in from folders, and out in other layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import AsJson, Order, Protocol, Sets
from harness.cli.output import note, print_json
from harness.cli.reading import with_reading
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError

Folder = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder or a file in a known layout (docs/data-formats.md).")
]
Where = Annotated[str, typer.Argument(metavar="DATASET", help="A registered name, or a folder or file with data.")]


def register(group: typer.Typer) -> None:
    """Adds the commands to the group `data`."""
    group.command("import")(bring)
    group.command("export")(send)


@with_reading
def bring(
    folder: Folder,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What -d calls it from now on.")],
    order: Order = None,
    reading: Reading = PLAIN,
    tie_seed: Annotated[
        int | None, typer.Option("--tie-seed", help="Another order of equal timestamps.", show_default="line by line")
    ] = None,
    again: Annotated[bool, typer.Option("--replace", help="Let the name mean this content from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register a data set from a folder or a file; from then on `-d NAME` works everywhere."""
    from harness.data.importing import import_folder

    kept, dataset = import_folder(folder, name, order or "time", reading, tie_seed=tie_seed, again=again)
    for line in dataset.notes:
        note(line)
    if as_json:
        counts = {key: getattr(kept, key) for key in ("name", "fingerprint", "users", "items", "interactions")}
        print_json({**counts, "order": dataset.order, "lost": dict(dataset.lost), "notes": list(dataset.notes)})
    else:
        size = f"{kept.users:,} users, {kept.items:,} items, {kept.interactions:,} interactions"
        print(f"{kept.name}: {size}, fingerprint {kept.fingerprint}; use it as -d {kept.name}")


@with_reading
def send(
    dataset: Where,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new or empty folder.")],
    layout: Annotated[
        str | None, typer.Option("--layout", help="lcrec, recbole, csv or parquet.", show_default=False)
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Training, validation and test parts, histories, and a page on ranking.")
    ] = False,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Write a data set in another layout, and say what that cannot carry; or its split, for a model of your own."""
    if (layout is None) != split:
        raise InputError("say what is to be written", where="--layout", mend="give --layout NAME, or --split alone")
    if split:
        _send_split(dataset, output, (order or "time", reading), (protocol, tuple(sets or ())), as_json=as_json)
        return
    if protocol is not None or sets:
        raise InputError("a layout holds no split", where="--protocol", mend="leave it out, or say --split")
    assert layout is not None
    from harness.data.export import export
    from harness.data.loading import load_dataset

    loaded = load_dataset(dataset, order or "time", reading)
    done = export(loaded, layout, output)
    for line in done.lost:
        note(f"not carried: {line}")
    if as_json:
        told = {"layout": done.layout, "exact": done.exact, "lost": list(done.lost), "order": done.order}
        print_json({"dataset": loaded.name, "fingerprint": loaded.fingerprint, **told, "path": str(done.folder)})
    else:
        how = f"the same fingerprint, {loaded.fingerprint}" if done.exact else "another fingerprint: see what it lost"
        print(f"written to {done.folder}; read back it has {how}")


def _send_split(
    dataset: str,
    output: Path,
    how: tuple[str, Reading],
    rules: tuple[str | None, tuple[str, ...]],
    *,
    as_json: bool,
) -> None:
    from harness.runs.split_export import PAGE, export_split

    made = export_split(dataset, output, *how, rules)
    if as_json:
        print_json(made)
    else:
        print(f"written to {output}; {output / PAGE} shows how to rank with it")
