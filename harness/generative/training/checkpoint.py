"""Checkpoints of training: one safetensors file a stage, which holds tensors and JSON facts together; and the hooks of
the training loop whose state they hold, early stopping on validation and callbacks.

A new checkpoint replaces the old one by one rename, so that a killed process leaves one complete file. Pickle is not
used: a checkpoint can be read without running code from it.

`PartialResults` of a loop over rows (texts to encode, users to rank) are append-only instead: each file has other rows,
so that a resumed loop computes only the rest, with any batch size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from harness.core.files import write_atomic
from harness.core.hashing import fingerprint
from harness.core.timer import CheckpointTimer
from harness.generative.models.distributed import full_tensor, is_sharded, shard_like
from harness.protocol.context import ProcessGroup

DISK_HINT = "free some space; the same command continues"
FACTS = "facts"  # key of the JSON in the file's metadata
SAMPLE = 512  # elements of each tensor in a digest
WORD = 8  # bytes


class Callback:
    """A hook after each step. Its state, and the model's `buffers`, are part of the checkpoints. Only for stages in one
    process."""

    buffers: Sequence[torch.Tensor] = ()

    def on_step_end(self, step: int) -> Mapping[str, Any]:
        """Called after step number `step` (from 1). Returns fields of a log entry; empty: default logging."""
        return {}

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """JSON-able facts, and tensors."""
        return {}, {}

    def load_state_dict(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Loads what `state_dict` returned."""


@dataclass
class EarlyStopping:
    """Ends a stage after `patience` evaluations without improvement, and restores its best state.

    `measure()` is called every `every` steps and after the last; higher is better. `history` has [step, value] of each
    evaluation, `values` a copy of the best state. `initial`: the state before the first step is evaluated too.
    """

    measure: Callable[[], float]
    every: int
    patience: int
    history: list[tuple[int, float]] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    initial: bool = False

    @property
    def best(self) -> tuple[int, float]:
        """The first step with the highest value, and the value; (0, -inf) before any evaluation."""
        return max(self.history, key=lambda pair: (pair[1], -pair[0]), default=(0, float("-inf")))

    @property
    def should_stop(self) -> bool:
        """True after `patience` evaluations without improvement."""
        return sum(step > self.best[0] for step, _ in self.history) >= self.patience

    def evaluate(self, step: int, tensors: Sequence[torch.Tensor]) -> float:
        """Measures the state after `step` steps, and copies `tensors` if it is the best so far."""
        value = self.measure()
        self.history.append((step, value))
        if self.best[0] == step:
            self.values = [tensor.detach().clone() for tensor in tensors]
        return value

    @torch.no_grad()
    def restore_best(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copies the best state into `tensors`; does nothing before any evaluation."""
        for tensor, value in zip(tensors, self.values, strict=bool(self.values)):
            tensor.copy_(value)

    def record(self) -> dict[str, Any]:
        """For the run's record: the evaluations and the chosen step."""
        step, value = self.best
        return {"chosen_step": step, "valid": value, "looks": [list(pair) for pair in self.history]}


Tensors = dict[str, torch.Tensor]
Facts = dict[str, Any]


def write_snapshot(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Writes both into one file, atomically. Raises `InputError` if the disk is full or not writable."""
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    metadata = {FACTS: json.dumps(facts)}
    write_atomic(path, lambda temporary: save_file(plain, temporary, metadata=metadata), DISK_HINT)


def read_snapshot(path: Path | None) -> tuple[Facts, Tensors] | None:
    """Facts and tensors; None if the file is missing or corrupt."""
    if path is None or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            names = file.keys()
            return facts, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, ValueError):
        return None


def random_state(device: str) -> Tensors:
    """State of torch's random generators on the CPU and the CUDA device."""
    cuda = {"random/cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {}
    return {"random/cpu": torch.get_rng_state(), **cuda}


def set_random_state(tensors: Mapping[str, torch.Tensor], device: str) -> None:
    """Loads the state that `random_state` returned."""
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)


class Checkpointer:
    """One checkpoint file, `name` in `folder`; nothing is stored if `folder` is None. A file with another `fingerprint`
    (a hash of everything that determines the content) is ignored."""

    def __init__(self, folder: Path | None, name: str, fingerprint: str = "") -> None:
        self.path = None if folder is None else folder / f"{name.replace(' ', '-')}.safetensors"
        self.fingerprint = fingerprint

    def load(self) -> tuple[Facts, Tensors] | None:
        """Facts and tensors of the last `save`; None if there is no such checkpoint."""
        snapshot = read_snapshot(self.path)
        return snapshot if snapshot is not None and snapshot[0].get("mark", "") == self.fingerprint else None

    def save(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Replaces the stored state."""
        if self.path is not None:
            write_snapshot(self.path, tensors, {**facts, "mark": self.fingerprint})

    def array(self, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The stored array, or the result of `compute`, which is then stored."""
        if (snapshot := self.load()) is not None:
            return snapshot[1]["values"].numpy()
        values = compute()
        self.save({}, {"values": torch.from_numpy(values)})
        return values


@dataclass
class Progress:
    """Position in a stage: steps, steps `skipped` without an update, last losses, seconds over all sessions."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    skipped: int = 0

    @property
    def loss(self) -> float:
        """Mean of the last losses; 0 if there are none."""
        return sum(self.losses) / max(len(self.losses), 1)


class TrainingState:
    """State of a stage in a checkpoint: parameters and buffers, the optimizer's moments, history and best state of
    early stopping, the callback's state.

    Tensor names in the file: `N.value`, `N.best` and `N.` with the optimizer's name for parameter (or buffer) number N;
    `callback.NAME` for the callback.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        early_stopping: EarlyStopping | None = None,
        callback: Callback | None = None,
    ) -> None:
        self.parameters, self.optimizer = list(parameters), optimizer
        self.early_stopping, self.callback = early_stopping, callback
        self.tensors: list[torch.Tensor] = [*parameters, *(callback.buffers if callback else ())]

    def save(self, checkpointer: Checkpointer, progress: Progress) -> None:
        """Writes a checkpoint. With sharded parameters all processes must call it; the one with a path writes."""
        if checkpointer.path is None and not any(map(is_sharded, self.parameters)):
            return
        best = self.early_stopping.values if self.early_stopping is not None else []
        tensors: Tensors = {}
        for number, tensor in enumerate(self.tensors):
            entries = {"value": tensor.detach(), **self.optimizer.state.get(tensor, {})}
            entries |= {"best": best[number]} if best else {}
            for name, value in entries.items():
                complete = full_tensor(value).cpu() if is_sharded(value) else value
                if checkpointer.path is not None:
                    tensors[f"{number}.{name}"] = complete
        facts: Facts = dict(vars(progress))
        if self.early_stopping is not None:
            facts["seen"] = self.early_stopping.history
        if self.callback is not None:
            facts["callback"], callback_state = self.callback.state_dict()
            tensors |= {f"callback.{name}": value for name, value in callback_state.items()}
        checkpointer.save(facts, tensors)

    def load(self, checkpointer: Checkpointer, world: ProcessGroup) -> Progress:
        """Loads the checkpoint, if there is one. In several processes all get the parameters and the checkpoint of the
        main process, tensor by tensor: a process stores only its shard of a sharded parameter."""
        snapshot = checkpointer.load()
        if world.size > 1:
            return self._load_together(snapshot, world)
        if snapshot is None:
            return Progress()
        facts, tensors = snapshot
        for number, entries in enumerate(self.by_tensor(tensors)):
            for name, value in entries.items():
                self.set(number, name, value)
        if self.callback is not None:
            callback_state = {
                name.removeprefix("callback."): v for name, v in tensors.items() if name.startswith("callback.")
            }
            self.callback.load_state_dict(facts["callback"], callback_state)
        return self.set_facts(facts)

    def _load_together(self, snapshot: tuple[Facts, Tensors] | None, world: ProcessGroup) -> Progress:
        if self.callback is not None:
            raise ValueError("a callback with state does not support several processes")
        facts = world.broadcast_object(None if snapshot is None else snapshot[0])
        if facts is None:
            world.broadcast([p.detach() for p in self.parameters if not is_sharded(p)])
            return Progress()
        entries = self.by_tensor({} if snapshot is None else snapshot[1])
        shapes = world.broadcast_object(
            [{name: [list(v.shape), str(v.dtype)] for name, v in tensors.items()} for tensors in entries]
        )
        for number, parameter in enumerate(self.parameters):
            for name, (size, dtype) in shapes[number].items():
                if world.rank:
                    kind = getattr(torch, dtype.removeprefix("torch."))
                    value = torch.empty(size, dtype=kind, device=parameter.device)
                else:
                    value = entries[number].pop(name).to(parameter.device)
                world.broadcast([value])
                if is_sharded(parameter) and value.shape == parameter.shape:
                    value = shard_like(value, parameter)
                self.set(number, name, value)
        return self.set_facts(facts)

    def by_tensor(self, tensors: Tensors) -> list[Tensors]:
        """The stored tensors of each parameter or buffer by name."""
        entries: list[Tensors] = [{} for _ in self.tensors]
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            if number != "callback":
                entries[int(number)][name] = value
        return entries

    @torch.no_grad()
    def set(self, number: int, name: str, value: torch.Tensor) -> None:
        """Sets one stored tensor, in ascending order of numbers; the best state last."""
        tensor = self.tensors[number]
        if name == "value":
            tensor.detach().copy_(value)
        elif name != "best":
            on_cpu = name == "step" and not self.optimizer.defaults.get("fused")
            self.optimizer.state[tensor][name] = value.cpu() if on_cpu else value.to(tensor.device)
        elif self.early_stopping is not None:
            self.early_stopping.values.append(value.to(tensor.device))

    def set_facts(self, facts: Facts) -> Progress:
        """Sets the stored facts; returns the position in the stage."""
        if self.early_stopping is not None:
            self.early_stopping.history = [(int(step), float(value)) for step, value in facts["seen"]]
        names = ("step", "losses", "seconds")
        return Progress(**{name: facts[name] for name in names}, skipped=facts.get("skipped", 0))


class PartialResults:
    """Files of rows in `folder` (None: nothing is stored), whose name must contain a hash of everything that determines
    the rows. `add` writes a file when a checkpoint is due, `flush` at once."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._pace = CheckpointTimer()
        self._waiting: list[tuple[np.ndarray, Sequence[np.ndarray]]] = []
        self._pieces = 0

    def done(self) -> tuple[np.ndarray, list[np.ndarray]] | None:
        """The stored rows, and their arrays concatenated; None if nothing is stored."""
        paths = [] if self.folder is None else sorted(self.folder.glob("[0-9]*.safetensors"))
        self._pieces = max((int(path.stem) + 1 for path in paths), default=0)
        files = [snapshot[1] for path in paths if (snapshot := read_snapshot(path))]
        if not files:
            return None
        arrays = [torch.cat([tensors[f"{n}"] for tensors in files]).numpy() for n in range(len(files[0]) - 1)]
        return torch.cat([tensors["rows"] for tensors in files]).numpy(), arrays

    def add(self, rows: np.ndarray, *arrays: np.ndarray) -> None:
        """Adds the results of `rows`; each array has one entry a row."""
        if self.folder is not None:
            self._waiting.append((rows, arrays))
            if self._pace.due:
                self.flush()

    def flush(self) -> None:
        """Writes the results that are not stored yet."""
        if self.folder is None or not self._waiting:
            return
        columns = zip(*(arrays for _, arrays in self._waiting), strict=True)
        tensors = {f"{n}": torch.from_numpy(np.concatenate(column)) for n, column in enumerate(columns)}
        tensors["rows"] = torch.from_numpy(np.concatenate([rows for rows, _ in self._waiting]))
        with self._pace.timed():
            write_snapshot(self.folder / f"{self._pieces:06d}.safetensors", tensors, {})
        self._pieces += 1
        self._waiting.clear()


@torch.no_grad()
def state_digest(model: nn.Module) -> str:
    """A cheap hash of a model's state: for each tensor its dtype and shape, the sum of its bytes, and a sample.

    The bytes are summed as 64-bit integers modulo 2^64, so that the same weights give the same digest on every device
    and in any order of summation, without float64, which Apple's devices lack.
    """
    parts: list[object] = []
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten().contiguous()
        sample = flat[:: max(1, len(flat) // SAMPLE)].contiguous().view(torch.uint8).cpu().numpy()
        content = flat.view(torch.uint8)
        words, rest = content.split([len(content) // WORD * WORD, len(content) % WORD])
        if words.data_ptr() % WORD or words.storage_offset() % WORD:
            words = words.clone()  # aligned
        total = int(words.view(torch.int64).sum())
        parts += [name, str(value.dtype), list(value.shape), total, sample, rest.cpu().numpy()]
    return fingerprint(*parts)
