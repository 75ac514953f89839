"""The files of a stored run: `Record`, the validated content of `result.json`, and `RunKey`, its path;
`predictions.parquet`, the ranked lists with raw ids, so that metrics can be recomputed without the model; results of
audits, stored next to the runs.

Schema 1 (2026-11-23): first version. Schema 2 (2026-11-28): adds `settings` and `command`; schema 1 is still read. The
key is derived from everything that determines a run's outcome and from nothing else; profile and device are not part of
it, since a profile acts through the settings, which are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from harness.core.files import write_result_file
from harness.core.hashing import fingerprint
from harness.data.dataset import Dataset
from harness.data.readers.parquet_tables import read_parquet
from harness.errors import InputError
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import DEEPEST, METRICS
from harness.protocol.split import Split

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
SCHEMA = 2
TRAINING_FREE = "sanity"  # the family of training-free models
SUSPECTED = "suspected: "  # begins a sentence of `leaks` that the lists themselves suggest and nobody declared
COLUMNS = ("user", "rank", "item", "score")
GROUP = 50_000  # users of a row group, a million rows: Arrow's own measure
AGAIN = "make the run again with --fresh"


@dataclass(frozen=True)
class RunKey:
    """`RESULTS/runs/MODEL/DATASET/RUN_ID/`."""

    model: str
    dataset: str
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """What determines the metrics of a run. `configuration` is the resolved configuration of the model."""

    model: str
    configuration: Mapping[str, Any]
    code_version: int | str
    data: str
    protocol: str
    seed: int | None

    @property
    def settings(self) -> str:
        """Hash of the model, its settings and its code version: runs that share it differ by seed or data only."""
        return fingerprint(self.model, dict(self.configuration), str(self.code_version))

    @property
    def run_id(self) -> str:
        """Readable first, unique after: `seed1-0123456789abcdef`."""
        mark = fingerprint(self.settings, self.data, self.protocol, self.seed)
        return f"external-{mark}" if self.seed is None else f"seed{self.seed}-{mark}"


def model_folder(model: str) -> str:
    """What the runs of a model lie under; raises as `folder_name`.

    >>> model_folder("recbole:STAMP")
    'recbole@STAMP'
    """
    return folder_name("model", model.replace(":", "@"))  # some file systems allow no colon


def folder_name(kind: str, name: str) -> str:
    """`name` as one folder of the store. Raises `InputError` where it cannot be a folder name.

    >>> folder_name("model", "eager-llm")
    'eager-llm'
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} name {name!r} cannot name a folder of results",
            hint="use letters, digits and . _ + @ - only, beginning with a letter or a digit",
        )
    return name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class DatasetInfo(_Part):
    """The data set: name, hash of its content, sizes."""

    name: str
    fingerprint: str
    users: int
    items: int
    interactions: int

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetInfo:
        return cls(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            users=len(dataset.users),
            items=len(dataset.items),
            interactions=dataset.interactions,
        )


class ProtocolInfo(_Part):
    """The protocol: `fingerprint` is the split's, a hash of everything that every model gets; `cut` is where validation
    and test begin in global time (shares of the interactions, dates or seconds), else None; `depth`: items of a
    list that are stored."""

    name: str
    fingerprint: str
    max_history: int
    exclude_history: bool
    cut: tuple[float | str, float | str] | None = None
    depth: int = 20

    @classmethod
    def of(cls, split: Split) -> ProtocolInfo:
        return cls(fingerprint=split.fingerprint, **split.protocol.model_dump())


class Metrics(_Part):
    """Means over users, unrounded. `valid` is empty for rankings made elsewhere."""

    test: dict[str, float]
    valid: dict[str, float]

    @field_validator("test", "valid")
    @classmethod
    def _complete(cls, value: dict[str, float]) -> dict[str, float]:
        if value and set(value) != set(METRICS):
            raise ValueError(f"metrics must be {', '.join(METRICS)}")
        if any(not 0 <= number <= 1 for number in value.values()):
            raise ValueError("a metric lies between 0 and 1")
        return value


class Cost(_Part):
    """Measured, never estimated; None where nothing was measured. Seconds are wall time: `train_seconds` of `fit` over
    all sessions of an interrupted run, less what it measured on the way, `eval_seconds` of ranking the test cases.
    `peak_memory_mb` (2**20 bytes) is of this process and its children."""

    train_seconds: float | None = None
    eval_seconds: float | None = None
    eval_users_per_second: float | None = None
    peak_memory_mb: float | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    device: str | None = None


class Integrity(_Part):
    """Counts over the test lists, by `harness.evaluation.metrics`."""

    users_expected: int
    users_scored: int
    short: int
    invalid: int
    duplicate: int
    seen: int


class Env(_Part):
    """The environment. `code_version` is the method's; `revision` the project's git commit, where there is one."""

    python: str
    platform: str
    packages: dict[str, str]
    code_version: str
    revision: str | None = None


class TuningEffort(_Part):
    """How the settings were chosen, before any test case was seen. `trials` configurations were measured on validation
    cases (1: the settings without a search, 0: the model has none), `failed` more gave no score; `seconds` is their
    total time, `timeout` its bound. `study` names the search, None where there was none; `metric` is its objective,
    `space` its parameters, `configuration` the hash of the settings it chose. `changed`: the run's settings are not
    exactly those."""

    trials: int = Field(default=1, ge=0)
    failed: int = Field(default=0, ge=0)
    seconds: float | None = Field(default=None, ge=0)
    timeout: float | None = None
    metric: str | None = None
    study: str | None = None
    space: dict[str, str] = Field(default_factory=dict)
    configuration: str | None = None
    changed: bool = False


class Record(_Part):
    """One stored run. `details` is open: `configuration` (hash of the model's settings and code version: runs that
    share it differ by seed only), what the model's `record()` returned, and notes of the harness. `comprehension` is
    what a language model still understands, stage by stage, as it measured it; None for every other model. `leaks` says
    in plain sentences which held-out rows the model was shown on purpose, or, of rankings made elsewhere, that
    their lists look as if it was (`SUSPECTED`); empty for a clean run. `audit` is what was
    found in the data before the run (`harness.protocol.audit.audit`). `codes` is what scoring codes would have said of
    the test lists (`harness.evaluation.metrics`); None for a model that ranks no codes. `effort` says how much
    search chose the settings; None in records older than that, and for rankings made elsewhere. `settings` is the
    resolved configuration, as in `config.yaml` without `tuning`; `command` the argument list that repeats the run; both
    are None in schema 1. `seal` holds the
    SHA-256 of the run's other files, by name, and of this document without `seal`; None in records older than that."""

    schema_number: Literal[1, 2] = Field(SCHEMA, alias="schema")
    run_id: str
    status: Literal["complete"] = "complete"
    model: str
    family: str
    dataset: DatasetInfo
    protocol: ProtocolInfo
    seed: int | None
    profile: str
    metrics: Metrics
    cost: Cost
    integrity: Integrity
    env: Env
    started: AwareDatetime
    finished: AwareDatetime
    comprehension: dict[str, Any] | None = None
    codes: dict[str, Any] | None = None
    leaks: list[str] = Field(default_factory=list)
    audit: dict[str, Any] = Field(default_factory=dict)
    effort: TuningEffort | None = None
    settings: dict[str, Any] | None = None
    command: list[str] | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    seal: dict[str, str] | None = None

    @property
    def training_free(self) -> bool:
        """Whether it is of a training-free model, or an ensemble of such."""
        return self.family == TRAINING_FREE or self.details.get("training_free") is True

    def document(self) -> dict[str, Any]:
        """The JSON document, as plain values."""
        newer = {"settings", "command"} if self.schema_number == 1 else None
        return self.model_dump(mode="json", by_alias=True, exclude=newer)


def to_jsonable(value: Any) -> Any:
    """A JSON-able copy: NumPy values become Python's, paths text, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(entry) for entry in value]
    if isinstance(value, np.generic):
        return to_jsonable(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def write_predictions(path: Path, predictions: Predictions, users: Sequence[str], items: Sequence[str]) -> None:
    """Columns user (text), rank (from 1), item (text), score; `users` and `items` give the name of each case id
    (`EvaluationSplit.names`) and the raw id of each item.

    Written group by group, so that only one group of rows is held beside the lists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.string(), pa.int32(), pa.string(), pa.float64())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    raw_users, raw_items = np.asarray(users, dtype=object), np.asarray(items, dtype=object)

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for begin in range(0, len(predictions.cases), GROUP):
                part = slice(begin, begin + GROUP)
                row, place = np.nonzero(predictions.items[part] != NO_ITEM)
                values = (
                    raw_users[predictions.cases[part][row]],
                    place + 1,
                    raw_items[predictions.items[part][row, place]],
                    predictions.scores[part][row, place],
                )
                arrays = [pa.array(value, kind) for value, kind in zip(values, kinds, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))

    write_result_file(path, fill)


def read_predictions(path: Path, users: Sequence[str], items: Sequence[str]) -> Predictions:
    """The lists of all of `users`, the names of cases, in their order; one without a row has an empty list.

    Raises `InputError` where the file is missing, unreadable, or names an unknown user or item.
    """
    import pyarrow as pa

    table = read_parquet(path, list(COLUMNS))
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_string, pa.types.is_floating)
    for column, is_valid in zip(COLUMNS, kinds, strict=True):
        if column not in table.column_names or not is_valid(table[column].type) or table[column].null_count:
            raise InputError(f"no whole column {column!r} of predictions", where=path, hint=AGAIN)
    rows = _positions(path, "user", table["user"].to_pylist(), users)
    listed = _positions(path, "item", table["item"].to_pylist(), items)
    place = table["rank"].to_numpy().astype(np.int64) - 1
    if len(place) and not 0 <= place.min() <= place.max() < DEEPEST:
        raise InputError(f"ranks are not 1 to {DEEPEST}", where=path, hint=AGAIN)
    if len(np.unique(rows * DEEPEST + place)) < len(place):
        raise InputError("a user has two items of one rank", where=path, hint=AGAIN)
    return Predictions.of_entries(np.arange(len(users)), (rows, place), listed, table["score"].to_numpy())


def _positions(path: Path, kind: str, raw: list[str], names: Sequence[str]) -> np.ndarray:
    index_of = {name: position for position, name in enumerate(names)}
    try:
        return np.array([index_of[name] for name in raw], dtype=np.int64)
    except KeyError as error:
        raise InputError(f"unknown {kind} {error.args[0]!r}", where=path) from error


def memory_file(root: Path, dataset: tuple[str, str], backbone: str) -> Path:
    """Where a result of `memory_probe` lies; `dataset` is its name and its fingerprint, `backbone` the setting
    `backbone.name`."""
    name, content = dataset
    return root / "memory" / f"{folder_name('data set', name)}-{fingerprint(content, backbone)}.json"


def tie_file(root: Path, dataset: str, fingerprint: str) -> Path:
    """Where the `tie_report` of a data set under the protocol of that split fingerprint lies."""
    return root / "ties" / f"{folder_name('data set', dataset)}-{fingerprint}.json"


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Stores the result of an audit beside the runs, in place of an older one. Raises `InputError`."""
    content = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    write_result_file(path, lambda temporary: temporary.write_bytes(content))


def read_document(path: Path, key: str) -> dict[str, Any] | None:
    """The stored result of an audit; None where there is none, or none with that key."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and key in document else None
