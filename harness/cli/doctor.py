"""`harness doctor`: what this machine can run, and the mend for what it lacks."""

from __future__ import annotations

import typer

from harness.cli.options import AsJson
from harness.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Show devices, memory, packages, data sets and backbones, and how to mend what is missing."""
    from harness.jobs.doctor import examine

    found = examine()
    if as_json:
        print_json(found)
        return
    machine = {**found["machine"], **{f"device {device['name']}": device["detail"] for device in found["devices"]}}
    print_table([{"what": key, "value": value} for key, value in machine.items()], {"what": "machine", "value": ""})
    columns = {"name": "package", "needed": "needed", "version": "version", "ok": "ok", "mend": "mend"}
    print_table(found["packages"], columns)
    for kind in ("datasets", "backbones"):
        print_table(found[kind], {"name": kind, "ok": "ready", "mend": "mend"})
