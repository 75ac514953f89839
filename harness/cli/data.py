"""`harness data`: statistics and checks of data sets, preparation from raw files, import and export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import (
    AsJson,
    BadLines,
    Order,
    OutputFolder,
    Protocol,
    Sets,
    conflict,
    with_reading,
)
from harness.cli.output import counted, log, print_json, print_plain, print_table, reporter
from harness.data.reading import BAD_LINES, PLAIN, Reading
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.data.raw.prepare import Prepared


Folder = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder or a file in a known layout (docs/data-formats.md).")
]
DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="A registered name, or a folder or file with data.")
]
NAMED = "instruments, beauty, ml-1m, …, or RELEASE:CATEGORY (amazon2023:Baby_Products)."
Name = Annotated[str, typer.Argument(metavar="NAME", help=NAMED)]
Raw = Annotated[
    Path | None, typer.Option("--raw", metavar="DIR", help="Folder of the public raw files; default: download.")
]
TieSeed = Annotated[int | None, typer.Option("--tie-seed", min=0, help="Order equal timestamps by another hash.")]
Text = Annotated[
    Literal["clean", "released"],
    typer.Option("--text", help="clean: long text is truncated; released: dropped, as in the published scripts."),
]
RULES = {"leakage": "no leakage"}  # a check as a rule that holds or does not


@with_reading
def bring(
    folder: Folder,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name for -d.")],
    order: Order = None,
    reading: Reading = PLAIN,
    tie_seed: Annotated[
        int | None, typer.Option("--tie-seed", help="Another order of equal timestamps.", show_default="line by line")
    ] = None,
    again: Annotated[bool, typer.Option("--replace", help="Replace the data set of this name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register a data set from a folder or a file as `-d NAME`."""
    from harness.data.loading import import_folder

    stored, dataset = import_folder(folder, name, order or "time", reading, tie_seed=tie_seed, repeat=again)
    for line in dataset.notes:
        log(line)
    if as_json:
        counts = {key: getattr(stored, key) for key in ("name", "fingerprint", "users", "items", "interactions")}
        print_json({**counts, "order": dataset.order, "lost": dict(dataset.lost), "notes": list(dataset.notes)})
    else:
        size = f"{stored.users:,} users, {stored.items:,} items, {stored.interactions:,} interactions"
        print(f"{stored.name}: {size}, fingerprint {stored.fingerprint}; use it as -d {stored.name}")


@with_reading
def send(
    dataset: DatasetArgument,
    output: OutputFolder,
    layout: Annotated[
        str | None, typer.Option("--layout", help="lcrec, recbole, csv or parquet.", show_default=False)
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Write training, validation and test parts, histories, and a README.")
    ] = False,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Write a data set in another layout, with a list of what it cannot hold; or its split, for external models."""
    if (layout is None) != split:
        raise conflict("nothing to write", where="--layout", hint="give --layout NAME, or --split alone")
    if split:
        from harness.runs.external import PAGE, export_split

        entries = export_split(dataset, output, order or "time", reading, (protocol, tuple(sets or ())))
        if as_json:
            print_json(entries)
        else:
            print(f"written to {output}; {output / PAGE} shows how to rank with it")
        return
    if protocol is not None or sets:
        raise conflict("a layout has no split", where="--protocol", hint="remove it, or use --split")
    assert layout is not None
    from harness.data.export import export
    from harness.data.loading import load_dataset

    loaded = load_dataset(dataset, order or "time", reading)
    copy = export(loaded, layout, output)
    for line in copy.dropped:
        log(f"not written: {line}")
    if as_json:
        fields = {"layout": copy.layout, "exact": copy.exact, "lost": list(copy.dropped), "order": copy.order}
        print_json({"dataset": loaded.name, "fingerprint": loaded.fingerprint, **fields, "path": str(copy.folder)})
    else:
        config = f"the same fingerprint, {loaded.fingerprint}" if copy.exact else "another fingerprint, as stated above"
        print(f"written to {copy.folder}; read back it has {config}")


def prepare(
    name: Name,
    raw: Raw = None,
    tie_seed: TieSeed = None,
    text: Text = "clean",
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="First date of interactions.", show_default="the release's")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Last date of interactions.", show_default="the release's"),
    ] = None,
    bad_lines: BadLines = None,
    as_json: AsJson = False,
) -> None:
    """Build a data set from its public raw files and register it as `-d NAME`."""
    from harness.data.raw.prepare import Request
    from harness.data.raw.prepare import prepare as build

    share = BAD_LINES if bad_lines is None else bad_lines
    request = Request(name, raw, tie_seed, text, since, until, share)
    with reporter() as progress:
        prepared = build(request, progress)
    story = prepared.story
    for warning in story["warnings"]:
        log(f"harness: warning: {warning}")
    if as_json:
        print_json({**story, "fresh": prepared.fresh, "path": str(prepared.kept.path)})
        return
    _print(prepared, story)


def _print(prepared: Prepared, story: Mapping[str, Any]) -> None:
    columns = {"step": story["title"], "users": "users", "items": "items", "interactions": "interactions"}
    print_table(story["steps"], columns)
    if published := story["published"]:
        columns = {"what": "", "here": "here", "published": "published", "difference": "difference", "source": "by"}
        rows = [{**row, "difference": f"{row['difference']:+,}" if row["difference"] else "none"} for row in published]
        print_table(rows, columns)
    else:
        print_plain("No published figures are known for this data set.")
    for file, message in story["checksums"].items():
        digest = next(raw["sha256"] for raw in story["raw"] if raw["file"].partition(":")[0] == file)
        print_plain(f"{file}: SHA-256 {digest[:16]}…, {message}")
    print_plain(story["settings"]["tie_rule"])
    print_plain(f"{story['ties']['test_items']:.1%} of test items have the timestamp of the item before them")
    state = "ready" if prepared.fresh else "ready already, from the same raw files"
    print_plain(f"{prepared.kept.name} {prepared.kept.fingerprint}: {state}; use it with -d {prepared.kept.name}")


@with_reading
def stats(dataset: DatasetArgument, order: Order = None, reading: Reading = PLAIN, as_json: AsJson = False) -> None:
    """Counts, first and last date, density, length distribution, text coverage."""
    from harness.core.config_files import flatten
    from harness.data.loading import load_dataset
    from harness.data.statistics import describe

    document = describe(load_dataset(dataset, order or "time", reading))
    if as_json:
        print_json(document)
        return
    notes = document.pop("notes")
    facts = [(name.replace(".", " "), _shown(value)) for name, value in flatten(document).items()]
    facts += [("" if number else "notes", note) for number, note in enumerate(notes)]
    print_table([{"what": name, "value": value} for name, value in facts], {"what": "", "value": dataset})


@with_reading
def items(dataset: DatasetArgument, order: Order = None, reading: Reading = PLAIN, as_json: AsJson = False) -> None:
    """Print the item ids of a data set, one a line, in its order: the ids of precomputed vectors."""
    from harness.data.loading import load_dataset

    loaded = load_dataset(dataset, order or "time", reading)
    if as_json:
        print_json({"dataset": loaded.name, "fingerprint": loaded.fingerprint, "items": list(loaded.items)})
    else:
        print("\n".join(loaded.items))


@with_reading
def verify(
    dataset: DatasetArgument,
    protocol: Protocol = None,
    sets: Sets = None,
    artefacts: Annotated[
        list[Path] | None,
        typer.Option("--artefact", metavar="FILE", help="Vectors or an index to check against this split; repeatable."),
    ] = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Check fingerprints, split rules and leakage; exit code 2 if a check fails or a leak is detected."""
    from harness.runs.dataset_check import inspect

    checked = inspect(dataset, order or "time", protocol, tuple(sets or ()), tuple(artefacts or ()), reading)
    for line in checked.dataset.notes:
        log(line)
    if as_json:
        print_json(checked.document())
    else:
        rules = [{**asdict(entry), "name": RULES.get(entry.name, entry.name)} for entry in checked.checks]
        print_table(rules, {"name": "rule", "ok": "holds", "detail": "found"})
        if checked.audit is not None:
            rows = [asdict(entry) for entry in checked.audit.findings]
            print_table(rows, {"name": "finding", "count": "count", "total": "of", "alarm": "alarm", "detail": ""})
            values = [{"count": count, "what": reason} for reason, count in checked.audit.lost.items()]
            if values:
                print_table(values, {"count": "count", "what": "lost or not evaluated"})
    if checked.broken:
        message = f"{len(checked.broken)} of {len(checked.checks)} rules are broken ({', '.join(checked.broken)})"
        raise InputError(message, where=dataset, hint="the table has the values", code="check-failed")
    if checked.alarms:
        message = f"the audit found {counted(len(checked.alarms), 'leak')}: {'; '.join(checked.alarms)}"
        raise InputError(message, where=dataset, code="check-failed")


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
