"""`harness data stats` and `harness data verify`: what a data set holds, and whether it keeps the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson
from harness.cli.output import print_json, print_table
from harness.cli.prepare import prepare

Where = Annotated[str, typer.Argument(metavar="DATASET", help="A registered name, or a folder with data.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="What a data set holds, and whether it keeps the rules.")
    group.callback(invoke_without_command=True)(_help)
    group.command()(stats)
    group.command()(verify)
    group.command()(prepare)
    app.add_typer(group, name="data")


def _help(context: typer.Context) -> None:
    """What a data set holds, and whether it keeps the rules."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def stats(dataset: Where, as_json: AsJson = False) -> None:
    """Counts, density, length distribution, text coverage."""
    from harness.data.load import load_dataset
    from harness.data.statistics import describe

    document = describe(load_dataset(dataset))
    if as_json:
        print_json(document)
        return
    rows = [{"what": name, "value": _shown(value)} for name, value in _flat("", document).items()]
    print_table(rows, {"what": "", "value": dataset})


def verify(dataset: Where, as_json: AsJson = False) -> None:
    """Re-check fingerprints, split rules and leakage; exit code 2 where a rule is broken."""
    from harness.data.audit import audit
    from harness.data.load import load_dataset
    from harness.errors import InputError
    from harness.protocol.protocol import Protocol
    from harness.protocol.verify import verify as check

    loaded = load_dataset(dataset)
    checks, findings = check(loaded, Protocol()), audit(loaded).findings
    broken = [entry.name for entry in checks if not entry.ok]
    if as_json:
        counted = [asdict(finding) for finding in findings]
        checked = [asdict(entry) for entry in checks]
        print_json({"dataset": loaded.name, "ok": not broken, "checks": checked, "findings": counted})
    else:
        print_table([asdict(entry) for entry in checks], {"name": "rule", "ok": "kept", "detail": "seen"})
        print_table(
            [asdict(entry) for entry in findings], {"name": "found", "count": "count", "total": "of", "detail": ""}
        )
    if broken:
        raise InputError(f"{len(broken)} of {len(checks)} rules are broken ({', '.join(broken)})", where=dataset)


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix} {key}".strip()
        flat.update(_flat(name, value) if isinstance(value, Mapping) else {name: value})
    return flat


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
