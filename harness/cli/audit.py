"""`harness audit`: code collisions in metrics, report cards of data sets, memorisation by language models; `harness
certify` and `harness verify`: a run's evidence as files, and checks of certificates and data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Dataset,
    MaybeDataset,
    Order,
    OutputFolder,
    Protocol,
    Results,
    RunName,
    Sets,
    with_reading,
)
from harness.cli.output import check_new_folder, log, print_json, print_table, reporter, stdout_kept
from harness.data.reading import PLAIN, Reading

ABOUT = "Audits: effect of shared codes on metrics, report cards of data sets, memorisation."
Rankings = Annotated[
    Path | None,
    typer.Option("--rankings", metavar="FILE", help="Ranked lists, any file that harness evaluate reads."),
]
STATES = {True: "yes", False: "NO", None: "not checked"}


def register(app: typer.Typer) -> None:
    """Adds `certify`, `verify` and the group `audit`."""
    app.command()(certify)
    app.command()(verify)
    group = typer.Typer(help=ABOUT)
    group.callback(invoke_without_command=True)(_help)
    group.command()(codes)
    group.command()(card)
    group.command()(memory)
    app.add_typer(group, name="audit")


def _help(context: typer.Context) -> None:
    """Audits: effect of shared codes on metrics, report cards of data sets, memorisation."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@with_reading
def codes(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An index file; items may share codes.")],
    dataset: Dataset,
    rankings: Rankings = None,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Items and targets with shared codes, and how scoring codes instead of items inflates each metric.

    A lower bound follows from the index; with --rankings the inflation is measured on the lists.
    """
    from harness.evaluation.metrics import least_added, shared_targets
    from harness.generative.item_codes import CodeTable, inspect
    from harness.runs.api import load_split
    from harness.runs.external import measured_codes

    loaded, split = load_split(dataset, order, reading, protocol, sets)
    table = CodeTable.read(index, loaded.items)
    health = inspect(table)
    folds = {"test": split.test, "valid": split.valid}
    entries: dict[str, Any] = {
        "dataset": loaded.name,
        "protocol": split.protocol.name,
        "index": index.name,
        **{name: health[name] for name in ("fingerprint", "items", "codes")},
        "shared_items": len(table.collisions()),
        "shared_items_share": health["collision_rate"],
        "groups": health["groups"],
        "largest_group": health["biggest_group"],
        **{name: shared_targets(table.groups, fold.targets.items) for name, fold in folds.items()},
        "least_added": least_added(table.groups, split.test.targets.items),
        "rankings": None,
    }
    if rankings is not None:
        entries["rankings"], odd = measured_codes(rankings, loaded, split, table.groups)
        for line in odd:
            log(f"{rankings.name}: {line}")
    if as_json:
        print_json(entries)
    else:
        _show_codes(entries)


@with_reading
def card(
    dataset: Dataset,
    rankings: Rankings = None,
    metric: Annotated[str, typer.Option(help="Metric by groups of users.")] = "ndcg@10",
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Report card: similarity of training data to each target; with --rankings the metric by groups of users.

    For stored runs: harness leaderboard --columns card.
    """
    from harness.errors import unknown_name
    from harness.evaluation.card import case_groups, data_card, group_metrics, list_measures
    from harness.evaluation.metrics import per_user
    from harness.protocol.protocol import METRICS
    from harness.runs.api import load_split
    from harness.runs.external import settled

    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS, where="--metric")
    loaded, split = load_split(dataset, order, reading, protocol, sets)
    groups = case_groups(split)
    entries: dict[str, Any] = {"dataset": loaded.name, "protocol": split.protocol.name, **data_card(split, groups)}
    entries["rankings"] = None
    if rankings is not None:
        lists, odd = settled(rankings, loaded, split)
        for line in odd:
            log(f"{rankings.name}: {line}")
        values = per_user(lists, split.test.targets)[metric]
        entries["rankings"] = {
            "file": rankings.name,
            "metric": metric,
            "groups": group_metrics(values, groups, split.test.requests.clusters),
            "lists": list_measures(lists, split.train),
        }
    if as_json:
        print_json(entries)
    else:
        _show_card(entries)


@with_reading
def memory(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="A packaged or hub name, or a folder.")],
    dataset: Dataset,
    items: Annotated[int, typer.Option("--items", min=20, metavar="N", help="Maximum number of scored titles.")] = 200,
    newer: Annotated[
        Path | None, typer.Option("--newer", metavar="FILE", help="Titles newer than the model, one a line.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample of titles.")] = 1,
    order: Order = None,
    reading: Reading = PLAIN,
    results: Results = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Memorisation of the catalogue: likelihood of titles after their own id and after other ids.

    Also after the previous titles of training sequences, and (--newer) compared with texts newer than the model.
    The result is stored: harness leaderboard --columns memory shows it beside the model's rows.
    """
    from harness.core.environment import cache_dir
    from harness.core.json_files import read_text
    from harness.data.dataset import require_text
    from harness.generative.contamination import memory_probe
    from harness.generative.models.backbone import load_backbone
    from harness.protocol.context import RunContext
    from harness.runs.api import load_split
    from harness.store.record import write_memory_probe

    loaded, split = load_split(dataset, order, reading)
    require_text(loaded.model_text, loaded.items, location=loaded.name, section="audit memory")
    texts = () if newer is None else tuple(read_text(newer).splitlines())
    with stdout_kept(), reporter() as progress:
        context = RunContext(seed=seed, cache=cache_dir() / "artefacts", reporter=progress)
        model = load_backbone(backbone, None, "pretrained", context)
        entries = memory_probe(model, split.train, context, items=items, newer=texts)
    mark = (loaded.name, loaded.fingerprint)
    path = write_memory_probe(results, mark, {**entries, "backbone": backbone, "seed": seed})
    log(f"stored in {path}")
    if as_json:
        print_json(entries)
    else:
        _show_memory(entries)


def _show_memory(entries: Mapping[str, Any]) -> None:
    rows = [
        {
            "probe": name,
            "titles": part["titles"],
            "gain": f"{part['gain']:+.4f} ± {part['standard_error']:.4f}",
            "best": f"{part['true_context_best']:.1%} (chance {part['chance']:.0%})",
        }
        for name in ("ids", "neighbours")
        if (part := entries[name]) is not None
    ]
    heads = {"probe": "context", "titles": "titles", "gain": "gain, nats a token", "best": "true context best"}
    print_table(rows, heads)
    if (part := entries["newer"]) is not None:
        lines = [(name.replace("_", " "), f"{part[name]:.4f}") for name in ("titles_mean", "newer_mean", "difference")]
        _pairs([("newer texts", part["texts"]), *lines], "log-likelihood a token")


def _show_codes(entries: Mapping[str, Any]) -> None:
    lines = [
        ("items", entries["items"]),
        ("codes", entries["codes"]),
        ("items that share their code", f"{entries['shared_items']:,} ({entries['shared_items_share']:.2%})"),
        ("shared codes", entries["groups"]),
        ("items of the largest group", entries["largest_group"]),
    ]
    for fold, name in (("test", "test"), ("valid", "validation")):
        part = entries[fold]
        message = f"{part['shared']:,} of {part['targets']:,} ({part['share']:.2%})"
        lines.append((f"{name} targets that share their code", message))
    measured = entries["rankings"]
    if measured is not None:
        lines.append(("lists with fewer than 10 codes", measured["cut_lists"]))
    _pairs(lines, entries["index"])
    heads = {
        "metric": "metric",
        "first": "added at least, target's code first",
        "least": "least share of a code-level score",
    }
    rows = [
        {"metric": name, "first": f"{added['at_first_place']:.5f}", "least": f"{added['least_share']:.3%}"}
        for name, added in entries["least_added"].items()
    ]
    if measured is not None:
        heads |= {"items": "items", "codes": "codes", "added": "codes add"}
        for row in rows:
            name = row["metric"]
            row |= {side: f"{measured[side][name]:.4f}" for side in ("items", "codes")}
            row["added"] = f"{measured['added'][name]:+.5f}"
    print_table(rows, heads)


def _show_card(entries: Mapping[str, Any]) -> None:
    from harness.protocol.protocol import unit_of

    measured = entries["rankings"]
    unit = unit_of(entries["protocol"])
    heads = {"group": f"test {unit}", "users": unit, "share": "share"}
    rows: list[dict[str, Any]] = [
        {"group": part["name"], "users": part["users"], "share": f"{part['share']:.1%}"} for part in entries["groups"]
    ]
    lines = [
        (f"test {unit}", entries["users"]),
        ("items of the head", entries["head_items"]),
        ("their share of training interactions", f"{entries['head_share_of_training']:.1%}"),
    ]
    if measured is not None:
        heads |= {"mean": measured["metric"], "bounds": "95% interval"}
        for row, part in zip(rows, measured["groups"], strict=True):
            is_some = part["mean"] is not None
            row["mean"] = f"{part['mean']:.4f}" if is_some else "-"
            row["bounds"] = f"{part['low']:.4f} to {part['high']:.4f}" if is_some else ""
        message = measured["lists"].items()
        lines += [(f"{name.replace('_', ' ')}@10", "-" if value is None else f"{value:.4f}") for name, value in message]
    _pairs(lines, entries["dataset"])
    print_table(rows, heads)


def _pairs(lines: Sequence[tuple[str, Any]], title: str) -> None:
    texts = [{"what": message, "value": f"{value:,}" if isinstance(value, int) else value} for message, value in lines]
    print_table(texts, {"what": title, "value": ""})


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
    from harness.runs.job import command_of
    from harness.store.run_store import Store

    check_new_folder(output)
    stored = choose_one(Store(results), run, dataset)
    paths = write(stored, output, command_of((stored,)), dataset)
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
    from harness.store.record import write_tie_report

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
