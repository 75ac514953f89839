"""`LibraryRecommender`: a model that another library trains and scores, in a process of its own, behind our contract.

What a library's model can be set to, and what its process does, is defined by the subclass and the worker. A `Session`
has the process, its temporary folder and its log, and converts its exit to one error. Both sides exchange JSON lines
over pipes, arrays as files. A message is a JSON object with a `kind`: the harness sends commands; the worker answers
each with any number of `note` (no reply) and `ask` (one JSON object as reply) and one final `done` or `refused`. The
validation targets never leave the harness's side. Imports neither torch nor the library.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import Field, field_validator

from harness.core import timer
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed
from harness.data.ragged import RaggedArray
from harness.errors import HarnessError, InputError, InvalidPredictions, unknown_name
from harness.protocol.context import RunContext, Stage
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH, MAIN_METRIC
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

VERBS = {"pretrain": "pre-trains", "train": "trains"}
LOG_LINES = 100  # of the worker's log, kept with the run
LAST_WORDS = 6  # of them, shown when it dies
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LibraryConfig(ModelConfig):
    """What every library's model can be set to.

    `small` replaces the structure by one that trains in seconds. `max_samples` bounds the cost on any data: training
    stops after the whole epochs that fit into so many training samples, but never before the first. `patience` counts
    epochs without a better validation score. `extra` goes to the library as it is.
    """

    model: str
    small: bool = False
    epochs: int = Field(200, ge=1)
    max_samples: int | None = Field(None, ge=1)
    patience: int = Field(10, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    train_batch_size: int = Field(512, ge=1)
    eval_batch_size: int = Field(1024, ge=1)
    extra: dict[str, Any] = Field(default_factory=dict)

    reserved: ClassVar[frozenset[str]] = frozenset()  # set by the protocol, other fields or the worker: not in `extra`

    @field_validator("extra")
    @classmethod
    def _leave_reserved(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if names := sorted(cls.reserved & set(extra)):
            raise ValueError(f"{', '.join(names)} cannot be set in extra: the harness settles it")
        return extra

    def settings(self, max_history: int) -> dict[str, Any]:
        """The library's own settings for this configuration, JSON-able, without paths, device and seed."""
        raise NotImplementedError


def package_folder(library: str) -> Path:
    """The folder of an installed library, found without importing it. Raises `InputError` if it is not installed."""
    spec = find_spec(library.lower())
    if spec is None or not spec.submodule_search_locations:
        hint = "make install brings it, or pip install --no-deps -r constraints.txt"
        raise InputError(f"{library} is not installed", hint=hint, code="missing-package")
    return Path(next(iter(spec.submodule_search_locations)))


def library_entry(library: str, model: str, description: str, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    """The registry's fields of `LIBRARY:MODEL`."""
    key = library.lower()
    return {
        "name": f"{key}:{model}",
        "family": key,
        "target": f"baselines.{key}.recommender:{library}Recommender",
        "description": description,
        "paper": "",
        "section": key,
        "needs": needs,
        "preset": (("model", model),),
    }


ConfigT = TypeVar("ConfigT", bound=LibraryConfig)


class LibraryRecommender(Recommender[ConfigT], Generic[ConfigT]):
    """Trained by the library on exactly our training sequences; its best epoch is the one with the best validation
    score by our evaluator."""

    library: ClassVar[str]  # its name as users write it; in lower case in records, logs and configuration sections

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self._session: Session | None = None
        self._size = ModelSize()
        self._record: dict[str, Any] = {}

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        data.require_next_items()
        session = self._open(data, context)
        validation = path = None
        if context.validation is not None:
            validation = str(session.folder / "valid-requests.npz")
            write_requests(Path(validation), context.validation.requests)
        if context.checkpoint is not None:
            path = str(context.checkpoint.absolute() / self.library.lower())
        order = {
            "seed": context.seed,
            "mark": fingerprint(self.config.model_dump(mode="json"), data.fingerprint, context.seed, self.code_version),
            "max_samples": self.config.max_samples,
            "depth": DEPTH,
            "validation": validation,
            "checkpoint": path,
            "keep_seconds": timer.KEEP_SECONDS,
            **self._order(context),
        }
        with ExitStack() as stack:
            stages: list[Stage] = []

            def listen(message: dict[str, Any]) -> dict[str, Any] | None:
                if "steps" in message:
                    name = f"{self.config.model} {VERBS[message['stage']]}"
                    stages.append(stack.enter_context(context.stage(name, message["steps"])))
                    stages[-1].advance(message["done"])
                elif "advance" in message:
                    stages[-1].advance(message["advance"])
                elif "lists" in message:
                    assert context.validation is not None
                    lists = _predictions(Path(message["lists"]), context.validation.requests)
                    return {"score": context.validation.score(lists)[MAIN_METRIC]}
                elif "loss" in message:
                    fields = {name: message[name] for name in ("epoch", "loss", "valid", "seconds")}
                    score = {} if fields["valid"] is None else {MAIN_METRIC: fields["valid"]}
                    stages[-1].advance(0, epoch=fields["epoch"], loss=fields["loss"], **score)
                    context.event(stage=message["stage"], **fields, learning_rate=self.config.learning_rate)
                return None

            answer = session.request("fit", listen, order=order)
        self._record |= {name: value for name, value in answer.items() if name != "kind"}
        for line in session.log_tail():
            context.event(stage=self.library.lower(), said=line)

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        session = self._running()
        path, lists = session.folder / "requests.npz", session.folder / "lists.npz"
        write_requests(path, requests)
        with context.stage(f"{self.config.model} ranks {requests.fold}"):
            session.request("recommend", requests=str(path), k=k, lists=str(lists))
        return _predictions(lists, requests)

    def _save(self, folder: Path) -> None:
        self._running().request("save", folder=str(folder.absolute()))

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        self._open(data, context).request("load", folder=str(folder.absolute()))

    def size(self) -> ModelSize:
        return self._size

    def record(self) -> dict[str, Any]:
        return dict(self._record)

    def close(self) -> None:
        """Ends the library's process, which otherwise lives as long as this object."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _order(self, context: RunContext) -> dict[str, Any]:
        """What the process is told of this training besides, where it does not stand in the library's settings."""
        return {}

    def _features(self, data: TrainingData) -> dict[str, RaggedArray]:
        """Item features by name that go to the process besides the training sequences."""
        return {}

    def _running(self) -> Session:
        if self._session is None:
            raise InvalidPredictions(f"{self.library}'s process has been closed")
        return self._session

    def _open(self, data: TrainingData, context: RunContext) -> Session:
        self.close()
        self._session = session = Session(self.library)
        rows = {"training": data.sequences, **self._features(data)}
        files = {name: write_ragged(session.folder / f"{name}.npz", values) for name, values in rows.items()}
        with context.stage(f"{self.config.model} starts {self.library}"):
            answer = session.request(
                "open",
                model=self.config.model,
                settings=self.config.settings(data.max_history),
                extra=sorted(self.config.extra),
                files=files,
                n_items=data.n_items,
                run={"device": context.device, "seed": derive_seed(context.seed, "weights") % 2**32},
            )
        self._size = ModelSize(answer["parameters"], answer["trainable"])
        self._record = {self.library.lower(): answer["version"]}
        return session


def _predictions(lists: Path, requests: Requests) -> Predictions:
    """The lists that the process wrote."""
    arrays = read_arrays(lists)
    return Predictions(requests.cases, arrays["items"], arrays["scores"].astype(np.float64))


def send(pipe: IO[str], message: Mapping[str, Any]) -> None:
    """Writes one message; `BrokenPipeError` where nobody reads any more."""
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


def receive(pipe: IO[str]) -> dict[str, Any] | None:
    """The next message, or None where the other side has ended."""
    line = pipe.readline()
    return json.loads(line) if line.endswith("\n") else None


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """One file of named arrays."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote; refuses pickled objects."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_ragged(path: Path, rows: RaggedArray) -> str:
    """Rows as a file; returns its name."""
    write_arrays(path, values=rows.values, offsets=rows.offsets)
    return str(path)


def read_ragged(path: Path) -> RaggedArray:
    """What `write_ragged` wrote."""
    return RaggedArray(**read_arrays(path))


def write_requests(path: Path, requests: Requests) -> None:
    """Questions as a file: users, and histories as values and offsets."""
    write_arrays(path, users=requests.users, values=requests.histories.values, offsets=requests.histories.offsets)


class RemoteError(Exception):
    """The user's input is at fault: becomes a `refused` message with these fields."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(str(fields))


@dataclass(frozen=True)
class Channel:
    """The way back to the harness while a command runs."""

    commands: IO[str]
    answers: IO[str]

    def note(self, **fields: Any) -> None:
        """Says something and goes on."""
        send(self.answers, {"kind": "note", **fields})

    def ask(self, **fields: Any) -> dict[str, Any]:
        """Says something and waits for the reply; ends this process where the harness is gone."""
        send(self.answers, {"kind": "ask", **fields})
        if (reply := receive(self.commands)) is None:
            raise SystemExit(1)
        return reply


ROOT = Path(__file__).parents[1]  # holds `baselines` and `harness`
Listener = Callable[[dict[str, Any]], dict[str, Any] | None]


class Session:
    """A running worker. `folder` is where both sides lay their files; it goes when the session ends.

    The worker is in a process group of its own, so that Ctrl-C reaches only the harness, which then ends it.
    """

    def __init__(self, library: str = "RecBole") -> None:
        self.library = library
        self._temporary = tempfile.TemporaryDirectory(prefix=f"harness-{library.lower()}-")
        self.folder = Path(self._temporary.name)
        self.log = self.folder / "log.txt"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "baselines.worker", library.lower(), str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._finalizer = weakref.finalize(self, _end, self._process, self._temporary)

    def request(self, command: str, listen: Listener | None = None, **fields: Any) -> dict[str, Any]:
        """Sends one command and returns the fields of its answer; `listen` hears what comes between.

        Raises `InputError` for a setting that the library does not know, `HarnessError` where the worker has died.
        After any exception, Ctrl-C included, the session is over.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            send(self._process.stdin, {"kind": command, **fields})
            while (message := receive(self._process.stdout)) is not None:
                if message["kind"] == "done":
                    return message
                if message["kind"] == "refused":
                    raise _refusal(message, self.library)
                reply = listen(message) if listen else None
                if message["kind"] == "ask":
                    send(self._process.stdin, reply or {})
            raise self._death(command)
        except BrokenPipeError:
            raise self._death(command) from None
        except BaseException:
            self.close()
            raise

    def log_tail(self) -> list[str]:
        """The last lines that the library has said, without what libraries draw or colour."""
        message = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        lines = (COLOUR.sub("", line).strip() for line in message.splitlines())
        return [line for line in lines if line][-LOG_LINES:]

    def close(self) -> None:
        """Ends the worker and removes its folder; does nothing the second time."""
        self._finalizer()

    def _death(self, command: str) -> HarnessError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)
        lines = self.log_tail()[-LAST_WORDS:]
        code = self._process.poll()
        self.close()
        message = " | ".join(lines) or "-"
        if missing := re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", message):
            return InputError(
                f"{self.library} needs the package {missing[1]}, which is not installed",
                hint="pip install --no-deps -r constraints.txt installs all that this project's models import",
                code="missing-package",
            )
        return HarnessError(f"{self.library}'s process ended with code {code} during {command!r}: {message}")


def _refusal(message: dict[str, Any], library: str) -> InputError:
    if "known" in message:
        kind, location = f"{library} setting", f"{library.lower()}.extra"
        return unknown_name(kind, message["name"], message["known"], where=location)
    return InputError(message["what"], where=message.get("where"), hint=message.get("hint"), code=message.get("code"))


def _end(process: subprocess.Popen[str], temporary: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()
    temporary.cleanup()
