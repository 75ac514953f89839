"""What two processes do together and one alone, told apart by their `World` only; and how two are started.

`python -m tests.distributed.cases FOLDER` is one of the processes: it goes through all cases and leaves what it found.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from baselines.lcrec import LCRec, LCRecConfig
from baselines.tiger import Tiger, TigerConfig
from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.core import timer
from harness.generative.decoding import generate
from harness.generative.models.distributed import any_sharded
from harness.protocol.context import ProcessGroup, Sharding, SilentReporter
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import Recommender
from harness.protocol.split import Split
from harness.runs.distributed import joined
from tests import toys
from tests.distributed import stages

USERS = 37  # odd, and no multiple of a batch
STEPS = 6
ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"max_steps": STEPS, "targets": 21, "rows": 3}  # 3 windows or rows to a step, or fewer
EXACT = {"precision": "float32"}
HALF = "eager-llm-bfloat16"
PIECES = ("eager-llm", HALF)  # whose backbone is also tuned in pieces


def _instruct(smoke: dict[str, Any]) -> dict[str, Any]:
    return {
        **smoke,
        "tuning": {**smoke["tuning"], **SMALL, "accumulate": 2},
        "tasks": {**smoke["tasks"], "item2index": 0.3, "index2item": 0.3},
        "backbone": {**smoke["backbone"], **EXACT},
        "decode": {"batch": 7, "exact_users": 5},
        "comprehension": {"items": 3},
    }


def _eager() -> dict[str, Any]:
    eager = _instruct(EagerConfig.profiles["smoke"])
    return {**eager, "annealing": {**eager["annealing"], "max_steps": STEPS, "targets": 21, "dropout": 0.0}}


def _half() -> dict[str, Any]:
    """A backbone held in bfloat16 under an adapter in float32, which stays what it is: two kinds of numbers in each
    block. A user alone in a batch has the same scores whoever ranks him."""
    eager = _eager()
    backbone = {**eager["backbone"], "storage": "bfloat16", "precision": "bfloat16"}
    return {**eager, "backbone": backbone, "annealing": {**eager["annealing"], "merge": False}, "decode": {"batch": 1}}


def models() -> dict[str, Recommender[Any]]:
    """The models that share their work, small, without dropout; in float32 but for one."""
    lcrec = _instruct(LCRecConfig.profiles["smoke"])
    lcrec["tuning"] = {**lcrec["tuning"], "normalise": "vocabulary"}
    tiger = dict(TigerConfig.profiles["smoke"])
    tiger["training"] = {**tiger["training"], "batch": 13, "accumulate": 2, "max_steps": STEPS, "epochs": 2}
    tiger["decode"] = {"batch": 7}
    return {
        "eager-llm": EagerLLM(EagerConfig.model_validate(_eager())),
        "lcrec": LCRec(LCRecConfig.model_validate(lcrec)),
        "tiger": Tiger(TigerConfig.model_validate(tiger)),
        HALF: EagerLLM(EagerConfig.model_validate(_half())),
    }


class Losses(SilentReporter):
    """Keeps what every step of tuning cost, and may end it like Ctrl-C."""

    def __init__(self, stop: int = 0) -> None:
        self.seen: list[float] = []
        self.stop = stop

    def open(self, name: str, total: int | None) -> SilentReporter:
        return self if name in ("alignment", "annealing", "tiger") else SilentReporter()

    def advance(self, steps: int = 1, **output: Any) -> None:
        if "loss" in output:
            self.seen.append(float(output["loss"]))
            if len(self.seen) == self.stop:
                raise KeyboardInterrupt


@dataclass(frozen=True)
class Case:
    """Where one model is fitted, and by whom."""

    name: str
    folder: Path
    world: ProcessGroup

    @property
    def split(self) -> Split:
        return toys.split(toys.cycle(users=USERS, length=12))

    def fitted(self, folder: Path | None = None, stop: int = 0) -> tuple[Recommender[Any], list[float]]:
        """The model, and the mean losses that its steps showed; killed behind step `stop`."""
        model, reporter = models()[self.name], Losses(stop)
        context = toys.context(self.folder, self.split.valid, reporter=reporter)
        model.fit(self.split.train, replace(context, world=self.world, checkpoint=None if self.world.rank else folder))
        return model, reporter.seen

    def cut_short(self, folder: Path, stop: int) -> None:
        """Fitted up to a kill."""
        folder.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(timer, "KEEP_SECONDS", 0.0)
            self.fitted(folder, stop)

    def loaded(self, saved: Path) -> Recommender[Any]:
        model = models()[self.name]
        model.load(saved, self.split.train, toys.context(self.folder))
        return model

    def lists(self, model: Recommender[Any], users: int = USERS) -> Predictions:
        """Of the first `users` users."""
        requested = self.split.test.requests.take(np.arange(users))
        return model.recommend(requested, 10, replace(toys.context(self.folder), world=self.world))


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Everything that training moved."""
    return {name: p.detach().clone().contiguous() for name, p in model.model.named_parameters()}


@contextmanager
def started(module: str, *arguments: str, processes: int = 2, **environment: str) -> Iterator[list[subprocess.Popen]]:
    """Processes that run `module` as a launcher starts them; what is left of them at the end is killed."""
    actual = socket.socket()  # its port is given to nobody else for as long as they run, and they may listen there
    actual.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    actual.bind(("127.0.0.1", 0))
    port = str(actual.getsockname()[1])
    messages = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **messages, "RANK": str(rank), "LOCAL_RANK": str(rank), **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()
        actual.close()


def fit_all(folder: Path, world: ProcessGroup) -> None:
    """Fits each model, ranks with it and with the one that the test has fitted alone."""
    ranked: list[int] = []
    real = generate._recommend_alone

    def counting(*value: Any) -> Any:
        ranked.append(len(value[1]))
        return real(*value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "_recommend_alone", counting)
        for name in models():
            case = Case(name, folder / f"{name}-{world.rank}", world)
            model, losses = case.fitted()
            save_file(weights(model), folder / f"{name}-{world.rank}.safetensors")
            alone = case.loaded(folder / "alone" / name)
            ranked.clear()
            lists = {f"lists{users}": case.lists(alone, users).items for users in (USERS, 1)}
            local, shares = case.lists(model), list(ranked)
            messages = {"losses": losses, "users": local.cases, "shares": shares, **lists}
            np.savez(folder / f"{name}-{world.rank}.npz", **messages)
            (folder / f"{name}-{world.rank}.json").write_text(json.dumps([model.record(), alone.record()]))


def fit_in_pieces(folder: Path, world: ProcessGroup, name: str) -> None:
    """EAGER-LLM once more, the blocks of its backbone in pieces; then cut short in either stage and continued."""
    case = Case(name, folder / f"{name}-pieces-{world.rank}", replace(world, sharding=Sharding()))
    model, losses = case.fitted()
    assert not any_sharded(model.model)
    save_file(weights(model), folder / f"{name}-pieces-{world.rank}.safetensors")
    np.savez(folder / f"{name}-pieces-{world.rank}.npz", losses=losses, items=case.lists(model).items)
    for stop in (STEPS - 2, STEPS + 3):
        stored = folder / f"{name}-kept{stop}"
        case.cut_short(stored, stop)
        if not world.rank:
            shutil.copytree(stored, folder / f"{name}-for-one{stop}")
        repeated, _ = case.fitted(stored)
        save_file(weights(repeated), folder / f"{name}-again{stop}-{world.rank}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as joint:
        stages.main(Path(sys.argv[1]), joint)
        fit_all(Path(sys.argv[1]), joint)
        for piece in PIECES:
            fit_in_pieces(Path(sys.argv[1]), joint, piece)
