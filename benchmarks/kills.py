"""Kills every long stage at random moments, goes on, and holds the outcome against an undisturbed run's.

    OMP_NUM_THREADS=1 python -m benchmarks.kills [--kills 100] [--seed 1] [--stages tiger,prepare] [--json FILE]

Each case runs a command in `smoke`, with fewer steps, in folders of its own, and kills it: by SIGKILL to its process
group at a random moment, by SIGKILL right before a randomly chosen change of a file, or by Ctrl-C; a quarter of the
cases again while it goes on. Whatever has its final name must be whole at once; then the same command, given again,
must end with the same metrics, lists, fingerprints and files to the last digit, no record lost or doubled, and nothing
left over. Prints a table and ends with code 1 where any of this fails.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.victims import Command, Death, End, Place, conclude, differences, facts, litter, run, torn

LOADED = (
    "harness.cli.app", "harness.runs.run", "harness.experiments.tuning", "harness.experiments.ablation",
    "harness.runs.api",
    "harness.data.raw.prepare", "harness.evaluation.metrics", "harness.reports.ablation", "harness.bench.timing",
    "eager.method", "baselines.tiger", "baselines.lcrec", "baselines.recbole.recommender",
    "baselines.classic.base", "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert",
    "peft",
    "ranx", "requests", "optuna", "rich.progress",
)  # fmt: skip
GRID = "[changes.few]\nitemknn.neighbours = 3\n[changes.more]\nitemknn.neighbours = 9\n"
OFTEN = {"recbole": 5}  # of 10 cases a stage has otherwise: its worker starts anew each time
SHORT = ("tuning.max_steps=25", "comprehension.items=4")  # of `smoke`, with fewer steps
SHORTER = ("annealing.max_steps=10", "behavior.epochs=8")
AGAIN = 0.25  # the share of kills that are followed by another one while the command goes on
MOMENT, FILE = 0.45, 0.40  # shares of kills; the rest is Ctrl-C


@dataclass
class Stage:
    """A command, and what it gives undisturbed. `kinds`, `equal` and `wrong` are filled in case by case."""

    name: str
    command: Command
    whole: End = field(default_factory=lambda: End(0, 0.0, 0))
    facts: dict[str, Any] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    cases: int = 0
    equal: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """For the table and the JSON document."""
        return {
            "stage": self.name,
            "seconds": round(self.whole.seconds, 2),
            "changes": self.whole.changes,
            "kills": self.kinds.total(),
            **{kind: self.kinds[kind] for kind in ("at a moment", "at a file", "Ctrl-C")},
            "cases": self.cases,
            "equal": self.equal,
            "wrong": self.wrong,
        }


def commands(inputs: Path, address: str) -> dict[str, Command]:
    """Every long stage as a user starts it; inputs are made here."""
    from tests.data.raw import files
    from tests.folders import lcrec_folder

    toy = str(lcrec_folder(inputs / "toy"))
    raw = str(files.set_2018(inputs / "raw"))
    grid = inputs / "grid.toml"
    grid.write_text(GRID)
    small = ("-d", toy, "--profile", "smoke", "--results", "results")
    return {
        "eager-llm": ("run", "eager-llm", *small, *_sets("eager", *SHORT, *SHORTER)),
        "lcrec": ("run", "lcrec", *small, *_sets("lcrec", *SHORT)),
        "tiger": ("run", "tiger", *small, *_sets("tiger", "training.max_steps=40")),
        "recbole": ("run", "gru4rec", *small, *_sets("recbole", "epochs=6")),
        "index": ("index", "build", "-d", toy, "--model", "tiger", "--profile", "smoke", "-o", "codes.index.json"),
        "grid": ("ablate", "itemknn", "--grid", str(grid), "--seeds", "1,2", *small),
        "tune": ("tune", "itemknn", "--trials", "5", *small),
        "prepare": ("data", "prepare", "instruments", "--raw", raw),
        "download": lambda place: _download(address, place),
    }


def _sets(section: str, *settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", f"{section}.{setting}")]


def _download(address: str, place: Place) -> None:
    from harness.data.download import RemoteFile, fetch

    fetch(RemoteFile("file.csv", (f"{address}/file.csv",)), place.home / "raw")  # no hash guards it


@contextmanager
def server() -> Iterator[str]:
    """A web server on this machine in a process of its own; its address."""
    from tests.data.server import serving

    read, write = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if not pid:
        with serving() as state:
            os.write(write, state.address.encode())
            while os.getppid() == parent:
                time.sleep(0.5)
        os._exit(0)
    try:
        yield os.read(read, 100).decode()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def drawn(draw: random.Random, whole: End) -> Death:
    """How the next kill comes."""
    share = draw.random()
    if share < MOMENT or not whole.changes:
        return Death(after=draw.uniform(0.02, 0.98) * whole.seconds)
    if share < MOMENT + FILE:
        return Death(change=draw.randint(1, whole.changes))
    return Death(after=draw.uniform(0.02, 0.98) * whole.seconds, how=signal.SIGINT)


def case(stage: Stage, place: Place, draw: random.Random) -> int:
    """Kills one command, lets it go on, and compares; the number of kills that met it alive."""
    met, told, wrong = 0, [], []
    while True:
        death = drawn(draw, stage.whole)
        end = run(stage.command, place, death)
        expected = 130 if death.how == signal.SIGINT else -signal.SIGKILL
        if end.code not in (0, expected):
            wrong.append(f"{death}: ended with code {end.code}: {place.said[-300:]}")
        if end.code == 0:  # it was done before
            break
        met += 1
        stage.kinds[death.kind] += 1
        told.append(death)
        wrong += [f"{death}: torn {line}" for line in torn(place)]
        if draw.random() > AGAIN:
            break
    last = run(stage.command, place)
    if last.code:
        wrong.append(f"{told}: going on ended with code {last.code}: {place.said[-500:]}")
    wrong += [f"{told}: {line}" for line in differences(stage.facts, facts(place))]
    wrong += [f"{told}: left over: {line}" for line in litter(place)]
    stage.cases += 1
    stage.equal += not wrong
    stage.seconds += last.seconds
    stage.wrong += wrong
    return met


def conduct(stages: list[Stage], wanted: int, seed: int, folder: Path) -> int:
    """Cases over all stages in turn until there were so many kills; how many there were."""
    for stage in stages:
        place = Place(folder / f"{stage.name}-whole")
        stage.whole = run(stage.command, place)
        if stage.whole.code:
            raise SystemExit(f"{stage.name}: undisturbed, it ends with code {stage.whole.code}: {place.said}")
        stage.facts = facts(place)
        stage.wrong += [f"undisturbed: left over: {line}" for line in litter(place)]
        print(f"{stage.name}: undisturbed {stage.whole.seconds:.1f} s, {stage.whole.changes} changes", file=sys.stderr)
    draw, kills, number = random.Random(seed), 0, 0
    while kills < wanted:
        stage = stages[number % len(stages)]
        number += 1
        if draw.random() * 10 >= OFTEN.get(stage.name, 10) and len(stages) > 1:
            continue
        place = Place(folder / f"{stage.name}-{number}")
        before = len(stage.wrong)
        kills += case(stage, place, draw)
        if len(stage.wrong) == before:
            shutil.rmtree(place.folder)
        else:
            print("\n".join(stage.wrong[before:]), file=sys.stderr)
        print(f"{kills}/{wanted} {stage.name}", file=sys.stderr, flush=True)
    return kills


def table(stages: list[Stage]) -> str:
    """Markdown."""
    heads = ("stage", "seconds", "changes", "kills", "at a moment", "at a file", "Ctrl-C", "cases", "equal")
    rows = [stage.row() for stage in stages]
    total = {"stage": "all", **{head: sum(row[head] for row in rows) for head in heads[3:]}}
    lines = [[str(row.get(head, "")) for head in heads] for row in [*rows, total]]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(heads), ["---"] * len(heads), *lines])


def main() -> int:
    """From the command line; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stages", help="some of them, by name, with commas")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's place for temporary files")
    parser.add_argument("--json", type=Path, help="write the figures to a file too")
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1", "TOKENIZERS_PARALLELISM": "false"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left behind
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=asked.folder)).resolve()
    with server() as address:
        for name in LOADED:
            import_module(name)
        gc.freeze()  # forks share what is there now
        known = commands(folder / "inputs", address)
        names = asked.stages.split(",") if asked.stages else list(known)
        stages = [Stage(name, known[name]) for name in names]
        kills = conduct(stages, asked.kills, asked.seed, folder)
    print(table(stages))
    failed = [stage.name for stage in stages if stage.wrong]
    document = {"kills": kills, "seed": asked.seed, "failed": failed, "stages": [stage.row() for stage in stages]}
    if failed:
        print(f"wrong: {', '.join(failed)}", file=sys.stderr)
    return conclude(document, asked.json, folder, failed=bool(failed))


if __name__ == "__main__":
    sys.exit(main())
