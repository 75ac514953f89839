"""`harness certify` and `harness verify`: a run's evidence as files, and checks of certificates and data sets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    MaybeDataset,
    Order,
    OutputFolder,
    Protocol,
    Results,
    RunName,
    Sets,
    with_reading,
)
from harness.cli.output import check_new_folder, log, print_json, print_table
from harness.data.reading import PLAIN, Reading

STATES = {True: "yes", False: "NO", None: "not checked"}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(certify)
    app.command()(verify)


def certify(
    run: RunName,
    output: OutputFolder,
    dataset: MaybeDataset = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write the evidence of a run: checklist, model card, TREC run and qrels, results in the hub's format.

    `harness verify DIR` recomputes the metrics from the folder alone.
    """
    from harness.reports.certificate import certify as write
    from harness.reports.selection import choose_one
    from harness.runs.overrides import command
    from harness.store.run_store import Store

    check_new_folder(output)
    stored = choose_one(Store(results), run, dataset)
    paths = write(stored, output, command((stored,)), dataset)
    if as_json:
        print_json({"run_id": stored.record.run_id, "files": [str(path) for path in paths]})
    else:
        record = stored.record
        print(f"{record.model} on {record.dataset.name}, run {record.run_id}: certified in {output}")


@with_reading
def verify(
    target: Annotated[str, typer.Argument(metavar="DIR|DATASET", help="A certificate's folder, or a data set.")],
    dataset: Annotated[
        str | None, typer.Option("-d", "--dataset", help="Location of a certificate's data set.")
    ] = None,
    tie_seeds: Annotated[
        int | None, typer.Option("--tie-seeds", metavar="N", help="Measure N other orders of equal timestamps.")
    ] = None,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    results: Results = RESULTS,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Recompute a certificate's metrics exactly; or check a data set as `harness data verify`.

    With --tie-seeds: targets and training-free models under other orders of equal timestamps; leaderboards then show
    the spread. Exit code 2 if a check fails.
    """
    from harness.errors import InputError
    from harness.reports.certificate import CERTIFICATE, verify_certificate

    if (Path(target) / CERTIFICATE).is_file():
        if tie_seeds is not None:
            raise InputError("a certificate has no times", where="--tie-seeds", hint="name a data set")
        outcomes = verify_certificate(Path(target), dataset)
        if as_json:
            print_json([asdict(one) for one in outcomes])
        else:
            rows = [{**asdict(one), "ok": STATES[one.ok]} for one in outcomes]
            print_table(rows, {"name": "check", "ok": "holds", "detail": ""})
        if failed := [one.name for one in outcomes if one.ok is False]:
            raise InputError(f"{len(failed)} checks failed ({', '.join(failed)})", where=target)
        return
    if tie_seeds is None:
        from harness.cli.data import verify as data_verify

        data_verify(target, protocol, sets, None, order, as_json=as_json, **reading.document())
        return
    from harness.runs.dataset_check import tie_report
    from harness.runs.job import RunOptions
    from harness.store.audit_results import write_tie_report

    options = RunOptions(target, sets=tuple(sets or ()), protocol=protocol, order=order, reading=reading)
    report = tie_report(options, tie_seeds, log=log)
    path = write_tie_report(results, report)
    if as_json:
        print_json(report)
        return
    for rows in (
        [_order_row(entry) for entry in report["orders"]],
        [_spread_row(model, values) for model, values in report["models"].items()],
    ):
        print_table(rows, {name: name for name in rows[0]})
    print(f"{report['tied_interactions']:.1%} of the interactions share their time with another of their user; {path}")


def _order_row(entry: dict[str, Any]) -> dict[str, str]:
    seed = entry["tie_seed"]
    return {
        "order": "source" if seed is None else f"tie seed {seed}",
        "fingerprint": entry["fingerprint"],
        "split": entry["protocol_fingerprint"],
        "test targets moved": f"{entry['test_targets_moved']:.1%}",
        "validation targets moved": f"{entry['valid_targets_moved']:.1%}",
    }


def _spread_row(model: str, values: dict[str, dict[str, float]], metric: str = "ndcg@10") -> dict[str, str]:
    spread = values[metric]
    names = {"source": "source", "mean": "mean", "sd": "sd", "min": "least", "max": "greatest"}
    return {"model": model, "metric": metric, **{name: f"{spread[key]:.4f}" for key, name in names.items()}}
