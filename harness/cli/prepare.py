"""`harness data prepare`: a data set from its public raw files, every step told, the published figures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.options import AsJson
from harness.cli.output import note, print_json, print_plain, print_table
from harness.cli.reading import BadLines
from harness.data.reading import BAD_LINES

if TYPE_CHECKING:
    from harness.data.raw.prepare import Prepared

NAMED = "instruments, beauty, ml-1m, …, or RELEASE:CATEGORY (amazon2023:Baby_Products)."
Name = Annotated[str, typer.Argument(metavar="NAME", help=NAMED)]
Raw = Annotated[
    Path | None, typer.Option("--raw", metavar="DIR", help="Where the public raw files lie; downloaded without it.")
]
TieSeed = Annotated[
    int | None, typer.Option("--tie-seed", min=0, help="Another order, by a hash, where timestamps are equal.")
]
Text = Annotated[
    Literal["clean", "released"],
    typer.Option("--text", help="clean: long text is cut; released: as the published scripts, which blank it."),
]


def prepare(
    name: Name,
    raw: Raw = None,
    tie_seed: TieSeed = None,
    text: Text = "clean",
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only interactions from then on.", show_default="the release's")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only interactions up to then.", show_default="the release's")
    ] = None,
    bad_lines: BadLines = None,
    as_json: AsJson = False,
) -> None:
    """Build a data set from its public raw files; `-d NAME` knows it from then on."""
    from harness.cli.progress import reporter
    from harness.data.raw.prepare import prepare as build
    from harness.data.raw.request import Request

    share = BAD_LINES if bad_lines is None else bad_lines
    asked = Request(name, raw, tie_seed, text, since, until, share)
    with reporter() as progress:
        done = build(asked, progress)
    story = done.story
    for warning in story["warnings"]:
        note(f"harness: warning: {warning}")
    if as_json:
        print_json({**story, "fresh": done.fresh, "path": str(done.kept.path)})
        return
    _print(done, story)


def _print(done: Prepared, story: Mapping[str, Any]) -> None:
    columns = {"step": story["title"], "users": "users", "items": "items", "interactions": "interactions"}
    print_table(story["steps"], columns)
    if story["published"]:
        columns = {"what": "", "here": "here", "published": "published", "difference": "difference", "source": "by"}
        print_table([_shown(line) for line in story["published"]], columns)
    else:
        print_plain("No published figures are known for this data set.")
    for file, said in story["checksums"].items():
        digest = next(raw["sha256"] for raw in story["raw"] if raw["file"].partition(":")[0] == file)
        print_plain(f"{file}: SHA-256 {digest[:16]}…, {said}")
    print_plain(story["settings"]["tie_rule"])
    print_plain(f"{story['ties']['test_items']:.1%} of test items have the timestamp of the item before them")
    state = "ready" if done.fresh else "ready already, from the same raw files"
    print_plain(f"{done.kept.name} {done.kept.fingerprint}: {state}; use it with -d {done.kept.name}")


def _shown(line: Mapping[str, Any]) -> dict[str, Any]:
    difference = line["difference"]
    return {**line, "difference": f"{difference:+,}" if difference else "none"}
