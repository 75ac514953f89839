"""What can be run here: `harness models` and `harness datasets` list what is registered, `harness doctor` shows what
this machine can run and how to install what is missing, `harness prefetch` downloads what later runs need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, MaybeDataset, Order, Profile, Sets, with_reading
from harness.cli.output import print_facts, print_json, print_rows, print_table, reporter
from harness.core.environment import OFFLINE_VARIABLE, offline, trusted
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError
from harness.registry import ModelEntry, model_entries, model_entry

LIBRARIES = "recbole:NAME is any other sequential model of RecBole, rectools:NAME any transformer of RecTools"
# Files of a model repository that loaders read; no pickles.
PATTERNS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
MODEL_KEYS = (("backbone", "name"), ("semantic", "encoder"))


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

    needs = None if profile is None else estimate(model, profile, dataset, tuple(sets or ()), order or "time", reading)
    entries = examine()
    if as_json:
        print_json(entries if needs is None else {**entries, "estimate": needs})
        return
    machine = {**entries["machine"], **{f"device {device['name']}": device["detail"] for device in entries["devices"]}}
    print_facts(machine, "machine")
    heads = {"name": "package", "needed": "needed", "version": "version", "ok": "ok", "hint": "hint"}
    print_table(entries["packages"], heads)
    for kind in ("datasets", "backbones"):
        print_table(entries[kind], {"name": kind, "ok": "ready", "hint": "hint"})
    if needs is not None:
        _print_estimate(needs)


def _print_estimate(needs: dict[str, Any]) -> None:
    speed = f"{needs['flops_per_second'] / 1e12:.2f} TFLOP/s"
    fields = {
        "model": f"{needs['model']}, profile {needs['profile']}, {needs['backbone']}",
        "parameters": f"{needs['parameters'] / 1e6:,.0f} million",
        "speed": f"{speed} on {needs['device']}, {needs['precision']}, measured",
    }
    print_facts(fields, "estimate")
    parts = ("weights", "gradients", "moments", "activations", "total")
    rows = [
        {
            "stage": stage["stage"],
            "trained": f"{stage['trained'] / 1e6:,.1f}",
            **{part: round(stage[f"{part}_gib"], 1) for part in parts},
            "hours": "give -d" if stage["hours"] is None else f"{stage['hours']:,.1f}",
        }
        for stage in needs["stages"]
    ]
    columns = {"stage": "stage", "trained": "millions trained", **{part: f"{part} GiB" for part in parts}}
    print_table(rows, {**columns, "hours": "hours at least"})


def prefetch(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models whose backbone and encoder are downloaded.")
    ] = None,
    datasets: Annotated[list[str] | None, typer.Option("-d", "--dataset", help="A data set; repeatable.")] = None,
    profile: Profile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Download backbones, text encoders and data sets for runs with HARNESS_OFFLINE=1."""
    if not models and not datasets:
        raise InputError("nothing to download", hint="name models, or data sets with -d", code="bad-setting")
    if offline():
        message = f"{OFFLINE_VARIABLE}=1 forbids downloads"
        raise InputError(message, hint="unset it for this command", code="not-available")
    rows = [_download_model(name) for name in dict.fromkeys(_model_names(models or (), profile, tuple(sets or ())))]
    rows += [_download_dataset(name) for name in dict.fromkeys(datasets or ())]
    print_rows(rows, ("kind", "name", "path"), as_json=as_json)


def _model_names(models: Sequence[str], profile: str | None, sets: tuple[str, ...]) -> Iterator[str]:
    """Backbones and encoders in the models' settings. Raises `InputError` for invalid settings."""
    from harness.runs.config import ConfigFile, resolve

    for model in models:
        settings = resolve(model_entry(model), profile or "auto", ConfigFile(), sets).model.model_dump(mode="json")
        for section, field in MODEL_KEYS:
            name = (settings.get(section) or {}).get(field)
            if isinstance(name, str):
                yield name


def _download_model(name: str) -> dict[str, str]:
    """One model; packaged names and folders need no download. Raises `InputError` if the download fails."""
    if "/" not in name or Path(name).expanduser().exists():
        return {"kind": "model", "name": name, "path": "no download needed"}
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    patterns = [*PATTERNS, *(["*.py"] if trusted() else [])]
    try:
        path = snapshot_download(name, allow_patterns=patterns)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "check the name and the network; run the same command again"
        raise InputError(f"cannot be downloaded ({first})", where=name, hint=hint, code="not-available") from error
    return {"kind": "model", "name": name, "path": str(path)}


def _download_dataset(name: str) -> dict[str, str]:
    """One data set; a public one is downloaded and prepared unless it is ready, a folder or file needs no download.
    Raises `InputError`."""
    from harness.data.catalog import catalogue_entries, catalogue_entry
    from harness.data.raw.prepare import Request, prepare

    if name not in catalogue_entries() and Path(name).expanduser().exists():
        return {"kind": "data set", "name": name, "path": "no download needed"}
    entry = catalogue_entry(name)
    if not entry.ready() and entry.kept:
        with reporter() as progress:
            prepare(Request(entry.name), progress)
    entry.load()
    return {"kind": "data set", "name": entry.name, "path": "ready"}


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show the settings of this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List all registered models; or the settings of one: defaults, meaning, values in profiles."""
    if name is not None:
        _describe(model_entry(name), as_json)
        return
    keys = ("name", "family", "description", "paper", "needs")
    rows = [{key: getattr(entry, key) for key in keys} for entry in model_entries().values()]
    print_rows(rows, keys, as_json=as_json)
    if not as_json:
        typer.echo(LIBRARIES)


def _describe(entry: ModelEntry, as_json: bool) -> None:
    from harness.runs.describing import describe

    entries = describe(entry)
    if as_json:
        print_json(entries)
        return
    print("\n".join(filter(None, [f"{entries['name']}: {entries['description']}", entries["paper"]])))
    for title, rows in ((f"--set {entries['section']}", entries["settings"]), ("--set protocol", entries["protocol"])):
        values = [
            {
                "name": row["name"].partition(".")[2],
                "default": _short(row["default"]),
                "meaning": row["meaning"] + (f" ({', '.join(map(_short, row['values']))})" if row["values"] else ""),
                "changes": _changes(row),
            }
            for row in rows
        ]
        if values:
            heads = {"name": title, "default": "default", "meaning": "meaning", "changes": "profiles, variants"}
            print_table(values, heads)
    if not entries["settings"]:
        print(f"{entries['name']} has no settings of its own")


def _changes(row: Mapping[str, Any]) -> str:
    """Values that profiles and variants set."""
    bundles = {**row.get("profiles", {}), **row.get("variants", {})}
    return ", ".join(f"{name} {_short(value)}" for name, value in bundles.items())


def _short(value: Any) -> str:
    """A value as written for `--set`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def datasets(as_json: AsJson = False) -> None:
    """List all registered data sets."""
    from harness.data.catalog import catalogue_entries

    keys = ("name", "description", "source", "licence", "users", "items", "interactions")
    entries = catalogue_entries().values()
    rows = [{**{key: getattr(entry, key) for key in keys}, "ready": entry.ready()} for entry in entries]
    shown = ("name", "ready", "users", "items", "interactions", "licence", "source")
    print_rows(rows, shown, as_json=as_json)
