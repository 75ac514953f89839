"""`harness index`: item codes as an index file, and its statistics; `harness audit`: code collisions in metrics, report
cards of data sets, memorisation by language models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import (
    RESULTS,
    AsJson,
    Dataset,
    Order,
    Protocol,
    Results,
    Sets,
    check_metrics,
    with_reading,
)
from harness.cli.output import log, print_facts, print_result, print_table, reporter, stdout_kept
from harness.data.reading import PLAIN, Reading

Rankings = Annotated[
    Path | None,
    typer.Option("--rankings", metavar="FILE", help="Ranked lists, any file that harness evaluate reads."),
]


@with_reading
def build(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("-o", "--output", "--out", metavar="FILE", help="The index file.")],
    model: Annotated[str, typer.Option(help="Model of the codes.")] = "eager-llm",
    seed: Annotated[int, typer.Option(help="Seed of vectors and codes.")] = 1,
    profile: Annotated[str | None, typer.Option(help="auto, smoke, cpu, gpu or paper.", show_default="auto")] = None,
    sets: Sets = None,
    protocol: Protocol = None,
    order: Order = None,
    reading: Reading = PLAIN,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.", show_default="by profile")] = None,
    as_json: AsJson = False,
) -> None:
    """Build the codes of a run with these settings and this seed, and write them as an index file.

    Their provenance is written next to the file, and checked when the file is used (eager.index.kind=file).
    """
    from harness.generative.item_codes import inspect as look
    from harness.runs.api import build_index, check_writable
    from harness.runs.job import RunOptions

    check_writable(out)
    options = RunOptions(dataset, profile, (seed,), tuple(sets or ()), None, device, protocol, order, reading=reading)
    with stdout_kept(), reporter() as progress:
        built = build_index(model, options, progress)
    built.index.write(out, built.split.train)
    built.written()
    entries = {**built.index.record(), **look(built.index.table, built.split.test.targets.items)}
    place = {"dataset": built.dataset.name, "protocol": built.split.protocol.name, "path": str(out)}
    print_result({**place, **entries}, _show_index, as_json=as_json)
    _warn(entries)


@with_reading
def inspect(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An index file."),
    ],
    dataset: Dataset,
    protocol: Protocol = None,
    sets: Sets = None,
    order: Order = None,
    reading: Reading = PLAIN,
    as_json: AsJson = False,
) -> None:
    """Collisions, usage and entropy of each level, branching of prefixes, share of test targets with a shared code."""
    from harness.generative.item_codes import CodeTable
    from harness.generative.item_codes import inspect as look
    from harness.protocol.audit.provenance import read_provenance
    from harness.runs.api import load_split

    loaded, split = load_split(dataset, order, reading, protocol, sets)
    entries = look(CodeTable.read(file, loaded.items), split.test.targets.items)
    place = {"dataset": loaded.name, "protocol": split.protocol.name, "path": str(file)}
    print_result({**place, **entries, **read_provenance(file).model_dump()}, _show_index, as_json=as_json)
    _warn(entries)


def _show_index(entries: Mapping[str, Any]) -> None:
    text = {key: value for key, value in entries.items() if not isinstance(value, (list, dict)) and value != ""}
    print_facts({key.replace("_", " "): _text(value) for key, value in text.items()}, "index")
    levels = [
        {
            **level,
            "level": number,
            "entropy": f"{level['entropy']:.3f}",
            "fanout mean": f"{level['fanout']['mean']:.1f}",
            "fanout most": level["fanout"]["most"],
        }
        for number, level in enumerate(entries["levels"], start=1)
    ]
    names = ("level", "size", "used", "entropy", "prefixes", "fanout mean", "fanout most")
    print_table(levels, {name: "entropy (bits)" if name == "entropy" else name for name in names})


def _warn(entries: dict[str, Any]) -> None:
    from harness.generative.item_codes import warnings

    for line in warnings(entries):
        log(f"warning: {line}")


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


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
    print_result(entries, _show_codes, as_json=as_json)


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
    from harness.evaluation.card import case_groups, data_card, group_metrics, list_measures
    from harness.evaluation.metrics import per_user
    from harness.runs.api import load_split
    from harness.runs.external import settled

    check_metrics(metric)
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
    print_result(entries, _show_card, as_json=as_json)


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
    from harness.store.record import memory_file, write_document

    loaded, split = load_split(dataset, order, reading)
    require_text(loaded.model_text, loaded.items, location=loaded.name, section="audit memory")
    texts = () if newer is None else tuple(read_text(newer).splitlines())
    with stdout_kept(), reporter() as progress:
        context = RunContext(seed=seed, cache=cache_dir() / "artefacts", reporter=progress)
        model = load_backbone(backbone, None, "pretrained", context)
        entries = memory_probe(model, split.train, context, items=items, newer=texts)
    path = memory_file(results, (loaded.name, loaded.fingerprint), backbone)
    write_document(path, {**entries, "backbone": backbone, "seed": seed, "fingerprint": loaded.fingerprint})
    log(f"stored in {path}")
    print_result(entries, _show_memory, as_json=as_json)


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
        names = ("titles_mean", "newer_mean", "difference")
        means = {name.replace("_", " "): f"{part[name]:.4f}" for name in names}
        print_facts({"newer texts": part["texts"], **means}, "log-likelihood a token")


def _show_codes(entries: Mapping[str, Any]) -> None:
    facts = {
        "items": entries["items"],
        "codes": entries["codes"],
        "items that share their code": f"{entries['shared_items']:,} ({entries['shared_items_share']:.2%})",
        "shared codes": entries["groups"],
        "items of the largest group": entries["largest_group"],
    }
    for fold, name in (("test", "test"), ("valid", "validation")):
        part = entries[fold]
        shared = f"{part['shared']:,} of {part['targets']:,} ({part['share']:.2%})"
        facts[f"{name} targets that share their code"] = shared
    measured = entries["rankings"]
    if measured is not None:
        facts["lists with fewer than 10 codes"] = measured["cut_lists"]
    print_facts(facts, entries["index"])
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
    facts = {
        f"test {unit}": entries["users"],
        "items of the head": entries["head_items"],
        "their share of training interactions": f"{entries['head_share_of_training']:.1%}",
    }
    if measured is not None:
        heads |= {"mean": measured["metric"], "bounds": "95% interval"}
        for row, part in zip(rows, measured["groups"], strict=True):
            is_some = part["mean"] is not None
            row["mean"] = f"{part['mean']:.4f}" if is_some else "-"
            row["bounds"] = f"{part['low']:.4f} to {part['high']:.4f}" if is_some else ""
        for name, value in measured["lists"].items():
            facts[f"{name.replace('_', ' ')}@10"] = "-" if value is None else f"{value:.4f}"
    print_facts(facts, entries["dataset"])
    print_table(rows, heads)
