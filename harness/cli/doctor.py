"""`harness doctor`: what this machine can run, and how to install what is missing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, MaybeDataset, Order, Sets, with_reading
from harness.cli.output import print_json, print_table
from harness.data.reading import PLAIN, Reading


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


@with_reading
def doctor(
    profile: Annotated[str | None, typer.Option(help="Estimate memory and time of this profile.")] = None,
    dataset: MaybeDataset = None,
    model: Annotated[str, typer.Option(help="Model of the profile.")] = "eager-llm",
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Show devices, memory, packages, data sets and backbones, and how to install what is missing.

    With --profile: estimated memory of a run, from shapes only; with -d also its time.
    """
    from harness.runs.doctor import estimate, examine

    needed = None if profile is None else estimate(model, profile, dataset, tuple(sets or ()), order or "time", reading)
    entries = examine()
    if as_json:
        print_json(entries if needed is None else {**entries, "estimate": needed})
        return
    machine = {**entries["machine"], **{f"device {device['name']}": device["detail"] for device in entries["devices"]}}
    print_table([{"what": key, "value": value} for key, value in machine.items()], {"what": "machine", "value": ""})
    columns = {"name": "package", "needed": "needed", "version": "version", "ok": "ok", "hint": "hint"}
    print_table(entries["packages"], columns)
    for kind in ("datasets", "backbones"):
        print_table(entries[kind], {"name": kind, "ok": "ready", "hint": "hint"})
    if needed is not None:
        _print_estimate(needed)


def _print_estimate(needed: dict[str, Any]) -> None:
    speed = f"{needed['flops_per_second'] / 1e12:.2f} TFLOP/s"
    fields = {
        "model": f"{needed['model']}, profile {needed['profile']}, {needed['backbone']}",
        "parameters": f"{needed['parameters'] / 1e6:,.0f} million",
        "speed": f"{speed} on {needed['device']}, {needed['precision']}, measured",
    }
    print_table([{"what": key, "value": value} for key, value in fields.items()], {"what": "estimate", "value": ""})
    parts = ("weights", "gradients", "moments", "activations", "total")
    rows = [
        {
            "stage": stage["stage"],
            "trained": f"{stage['trained'] / 1e6:,.1f}",
            **{part: round(stage[f"{part}_gib"], 1) for part in parts},
            "hours": "give -d" if stage["hours"] is None else f"{stage['hours']:,.1f}",
        }
        for stage in needed["stages"]
    ]
    columns = {"stage": "stage", "trained": "millions trained", **{part: f"{part} GiB" for part in parts}}
    print_table(rows, {**columns, "hours": "hours at least"})
