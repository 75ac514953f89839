"""The options that several commands share, each stated once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import InputError

WHICH = "A registered name, or a folder or file with data."
Dataset = Annotated[str, typer.Option("-d", "--dataset", help=WHICH)]
MaybeDataset = Annotated[str | None, typer.Option("-d", "--dataset", help=WHICH)]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Where runs are stored.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; repeatable."),
]

Profile = Annotated[
    str | None, typer.Option(help="auto, smoke, cpu, gpu or paper: settings for a purpose.", show_default="auto")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.", show_default="by profile")]

Protocol = Annotated[
    str | None, typer.Option("--protocol", help="leave-one-out or global-time.", show_default="leave-one-out")
]
Order = Annotated[
    str | None,
    typer.Option("--order", help="time, or file: the lines of a folder's files stand in order.", show_default="time"),
]

Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME[=WHERE]",
        help="Log to tensorboard[=DIR], mlflow[=URI] or wandb[=PROJECT] as well; repeatable.",
    ),
]

RESULTS = Path("results")


def numbers(text: str | None) -> tuple[int, ...]:
    """What `--seeds 1,2,3` says; none for None."""
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{text!r} is no list of whole numbers", where="--seeds", mend="write 1,2,3") from error
