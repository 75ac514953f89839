"""`harness bench decode|train|index|metrics|trie|scale`: paired benchmarks against reference implementations."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from harness.bench.timing import Options, Outcome
from harness.cli.options import AsJson, MaybeDataset
from harness.cli.output import log, print_json, print_table, stdout_kept

Users = Annotated[int | None, typer.Option("--users", min=1, help="Number of users.", show_default="by benchmark")]
Items = Annotated[int | None, typer.Option("--items", min=1, help="Items a user (index, trie: of the catalogue).")]
Settings = Annotated[
    str, typer.Option("--beams", help="Beams; further values and `all` also measure their recall: 20,50,all.")
]
Layers = Annotated[int | None, typer.Option("--layers", min=1, help="First layers only.", show_default="all")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Batch size in users (or samples).")]
Rounds = Annotated[int, typer.Option("--rounds", min=3, help="Timed rounds of both sides; medians are reported.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.")]

# Benchmark → its module in `harness.bench` and the function there.
MEASURES = {
    "decode": ("decode", "measure"),
    "train": ("train", "measure"),
    "index": ("item_codes", "measure_index"),
    "metrics": ("metrics", "measure"),
    "trie": ("item_codes", "measure_trie"),
}


def decode(
    dataset: MaybeDataset = None,
    users: Users = None,
    items: Items = None,
    beams: Settings = "20",
    model: Annotated[str, typer.Option("--model", help="smollm2, or t5 (TIGER's, random weights).")] = "smollm2",
    prompt: Annotated[str, typer.Option("--prompt", help="instruction (of LC-Rec's form), or short.")] = "instruction",
    layers: Layers = None,
    batch: Batch = None,
    rounds: Rounds = 3,
    seed: Seed = 1,
    best: Annotated[bool, typer.Option("--best/--no-best", help="Also search the best batch sizes.")] = False,
    as_json: AsJson = False,
) -> None:
    """Constrained beam search against transformers' `generate` with the same trie."""
    with stdout_kept():
        from harness.bench.decode import DecodeOptions

    positional = (dataset, users, items, layers, batch, rounds, seed)
    options = DecodeOptions(*positional, settings=beams, model=model, prompt=prompt, best=best)
    _measure("decode", options, as_json)


def train(
    dataset: MaybeDataset = None,
    users: Users = None,
    items: Items = None,
    layers: Layers = None,
    batch: Batch = None,
    rounds: Rounds = 3,
    seed: Seed = 1,
    width: Annotated[
        int | None,
        typer.Option(
            "--width", min=32, help="A Llama of random weights of this width (4 layers by default) instead of SmolLM2."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All next items of a user in one pass against one sample a next item, sorted by length."""
    _measure("train", Options(dataset, users, items, layers, batch, rounds, seed, width), as_json)


def index(items: Items = None, rounds: Rounds = 3, seed: Seed = 1, as_json: AsJson = False) -> None:
    """Balanced k-means trees against the algorithm one point at a time."""
    _measure("index", Options(items=items, rounds=rounds, seed=seed), as_json)


def metrics(
    users: Users = None, items: Items = None, rounds: Rounds = 3, seed: Seed = 1, as_json: AsJson = False
) -> None:
    """Metrics by ranx's array functions against its dictionaries."""
    _measure("metrics", Options(users=users, items=items, rounds=rounds, seed=seed), as_json)


def trie(
    items: Items = None,
    users: Users = None,
    layers: Layers = None,
    rounds: Rounds = 3,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Search over a million items against ten thousand."""
    _measure("trie", Options(users=users, items=items, layers=layers, rounds=rounds, seed=seed), as_json)


def scale(
    users: Annotated[list[int] | None, typer.Option("--users", min=100, help="Repeatable.")] = None,
    items: Annotated[int, typer.Option("--items", min=100, help="Items of the catalogue.")] = 100_000,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Time and memory of mostpop and markov at growing numbers of users (default 10,000 and 100,000)."""
    from harness.bench.scale import SIZES, measure

    with stdout_kept():
        results = measure(users or SIZES, items, seed)
    if as_json:
        print_json({"benchmark": "scale", "sizes": results})
        return
    rows = [
        {
            **size,
            **{name: f"{size[name]['seconds']:.1f}" for name in ("mostpop", "markov")},
            "split_seconds": f"{size['split_seconds']:.1f}",
            "seconds": f"{size['seconds']:.1f}",
            "peak_memory_mb": f"{size['peak_memory_mb']:.0f}",
        }
        for size in results
    ]
    seconds = {"split_seconds": "split s", "mostpop": "mostpop s", "markov": "markov s", "seconds": "in all s"}
    print_table(rows, {"users": "users", "interactions": "interactions", **seconds, "peak_memory_mb": "MiB"})


def _measure(name: str, options: Options, as_json: bool) -> None:
    """Runs a benchmark and prints its outcome; differing results are an internal error."""
    module, function = MEASURES[name]
    with stdout_kept():
        outcome: Outcome = getattr(import_module(f"harness.bench.{module}"), function)(options)
        document = outcome.document()
    if as_json:
        print_json(document)
    else:
        rows = [{"side": side, **document[side]} for side in ("ours", "reference")]
        for row in rows:
            row |= {"median_seconds": f"{row['median_seconds']:.3f}", "per_second": f"{row['per_second']:.2f}"}
        heads = {"side": "", "name": "implementation", "units": document["unit"]}
        print_table(rows, {**heads, "median_seconds": "seconds", "per_second": "a second"})
        print(f"ratio {document['ratio']:.2f}, results {'identical' if outcome.identical else 'DIFFERENT'}")
    if not outcome.identical:
        log(f"harness: the two sides of bench {name} gave different results: {document['checks']}")
        raise typer.Exit(1)
