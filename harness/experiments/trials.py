"""Search spaces: which settings `harness tune` varies and between which values, as a small YAML file beside the model.

    about: what it is for                                          # optional
    space:
      recbole.learning_rate: {low: 3e-4, high: 5e-3, log: true}    # between; whole numbers where both are whole
      recbole.dropout: {low: 0.1, high: 0.6, step: 0.1}            # on a grid
      recbole.hidden_size: {choices: [32, 64, 128]}                # one of them
      recbole.layers: {low: 1, high: 3, where_set: true}           # left out where the configuration has null

`NAME.yaml` in the folder `spaces` beside a model's module is that model's, `default.yaml` there is for the others of
the module. `harness.experiments.trials` draws the values.

The trials of a study: Optuna's journal stores them, and its TPE sampler draws the next one.

A trial enters the journal as one line when it has ended. Optuna's storages hold no state of the sampler, so each trial
is drawn by a sampler that is seeded by the trial's number, from a study in memory that holds the trials before it. A
resumed study therefore makes the same trials as one that was never interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.core import config_files
from harness.core.files import writing_results
from harness.core.seeding import derive_seed
from harness.errors import InputError, unknown_name
from harness.experiments.grid import check_headings
from harness.protocol.protocol import METRICS
from harness.registry import ModelEntry
from harness.store.event_log import cut_torn_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial

KEYS: dict[str, type] = {"about": str, "model": str, "space": dict}
RANGE = ("low", "high", "log", "step")
SAYS = (*RANGE, "choices", "where_set")
DEFAULT = "default"
LARGEST = 2**53  # of a bound: beyond it not every whole number is a float
FIRST = 5  # trials that are drawn at random, before the estimator has enough to fit
SEEDS = 2**32
NAME = "study"  # of the only study in a journal


@dataclass(frozen=True)
class Parameter:
    """One setting: a range (`low` to `high`, both whole: whole numbers) or `choices`, any JSON values."""

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()
    where_set: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> tuple[Any, ...]:
        """The values that tell whether the model takes this setting at all."""
        return self.choices or (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether `value` could be drawn.

        >>> Parameter("a.b", 0.1, 0.5, step=0.2).holds(0.3), Parameter("a.b", 1, 3).holds(2.5)
        (True, False)
        """
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9

    def text(self) -> str:
        """As a reader wants it.

        >>> Parameter("a.b", 1, 8, log=True).text(), Parameter("a.b", choices=(1, None)).text()
        ('1 to 8, log', '1 | null')
        """
        if self.choices:
            return " | ".join(map(json.dumps, self.choices))
        step = "" if self.step is None else f", step {self.step:g}"
        return f"{self.low:g} to {self.high:g}{', log' if self.log else ''}{step}"


@dataclass(frozen=True)
class Space:
    """The parameters in the order in which the file has them; `where` is the file, for messages."""

    where: str
    about: str
    parameters: tuple[Parameter, ...]

    def document(self) -> dict[str, str]:
        """Key to text."""
        return {parameter.key: parameter.text() for parameter in self.parameters}


def read_space(file: Path | None, entry: ModelEntry) -> Space:
    """The user's file, or the model's own space. Raises `InputError`, also for a model that has nothing to set."""
    if not entry.load().config_class.model_fields:
        message = f"{entry.name} has no settings, so there is nothing to tune"
        raise InputError(message, hint=f"harness run {entry.argument} measures it as it is")
    if file is None:
        name, text = _own(entry)
        return _space(f"space {name}", config_files.parse_mapping(text, f"space {name}"), entry)
    return _space(str(file), config_files.read(file.expanduser()), entry)


def _own(entry: ModelEntry) -> tuple[str, str]:
    """The file of the model's own name, else the one for all models of its module."""
    package = entry.target.partition(":")[0].rpartition(".")[0]
    for name in () if entry.file else (entry.name, DEFAULT):
        traversable = files(package).joinpath("spaces", f"{name}.yaml")
        if traversable.is_file():
            return name, traversable.read_text(encoding="utf-8")
    raise InputError(f"{entry.name} has no search space of its own", where="--space", hint="give a .yaml file")


def _space(location: str, content: Mapping[str, Any], entry: ModelEntry) -> Space:
    check_headings(content, KEYS, "settings", entry, location)
    parameters = tuple(_parameters(content.get("space", {}), location))
    if not parameters:
        raise InputError("names no setting", where=location, hint="give it space: and SECTION.KEY: {…}")
    for parameter in parameters:
        if parameter.key.partition(".")[0] == "protocol":
            raise InputError(f"{parameter.key} would measure trials under different rules", where=location)
    return Space(location, content.get("about", ""), parameters)


def _parameters(table: Mapping[str, Any], location: str, above: str = "") -> list[Parameter]:
    """A table that says one of `SAYS` is a parameter; the others lead to one."""
    parameters: list[Parameter] = []
    for name, value in table.items():
        key = f"{above}.{name}" if above else str(name)
        if not isinstance(value, dict):
            hint = "write {low: 1, high: 8} or {choices: [1, 8]}"
            raise InputError(f"{key} is {value!r}, expected a table", where=location, hint=hint)
        leads = bool(value) and not (set(SAYS) & set(value) and not any(isinstance(v, dict) for v in value.values()))
        parameters += _parameters(value, location, key) if leads else [_parameter(key, value, f"{location}: {key}")]
    return parameters


def _parameter(key: str, fields: Mapping[str, Any], location: str) -> Parameter:
    for name in fields:
        if name not in SAYS:
            raise unknown_name("key", name, SAYS, where=location)
    for name in ("log", "where_set"):
        if not isinstance(fields.get(name, False), bool):
            raise InputError(f"{name} is {fields[name]!r}, expected true or false", where=location)
    where_set = fields.get("where_set", False)
    if "choices" in fields:
        listed = fields["choices"]
        if not isinstance(listed, list) or not listed or set(RANGE) & set(fields):
            raise InputError("choices is a list of values, and stands without low and high", where=location)
        return Parameter(key, choices=tuple(listed), where_set=where_set)
    numbers = {name: fields[name] for name in ("low", "high", "step") if name in fields}
    if not {"low", "high"} <= set(numbers) or not all(_number(value) for value in numbers.values()):
        raise InputError("a range has numbers low and high", where=location, hint="or give it choices")
    log = fields.get("log", False)
    if numbers["low"] > numbers["high"] or numbers.get("step", 1) <= 0 or (log and numbers["low"] <= 0):
        rule = "low is at most high, step above 0, and low above 0 where log is true"
        raise InputError(f"{json.dumps(fields)} is no range", where=location, hint=rule)
    if log and "step" in fields:
        raise InputError("log and step exclude each other", where=location)
    return Parameter(key, log=log, where_set=where_set, **numbers)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


Tried = tuple[Mapping[str, Any], float | None]  # a trial's values, and its score; None where it failed


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried. `mark` is the hash of its settings; `metrics` are those of the validation
    cases, `reason` why there are none. `repeats` is the trial of the same settings, whose outcome it takes over at no
    cost."""

    number: int
    values: dict[str, Any]
    mark: str
    state: Literal["complete", "failed"]
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    trace: str = ""
    repeats: int | None = None


def suggest(space: Space, attempted: Sequence[Tried], seed: int) -> dict[str, Any]:
    """Values for the next trial, to be maximised; after Bergstra et al., NeurIPS 2011 (tree-structured Parzen)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(seed, "tune", len(attempted)) % SEEDS, n_startup_trials=FIRST, constant_liar=False
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([_frozen(space, values, score) for values, score in attempted])
    sample = study.ask({parameter.key: _distribution(parameter) for parameter in space.parameters}).params
    return {p.key: _legible(p, sample[p.key]) for p in space.parameters}


def read_trials(journal: Path) -> list[Trial]:
    """The trials of a journal; none where there is no such file. Raises `InputError` for a file that is no journal of
    a study. The caller holds the study's lock."""
    if not journal.exists():
        return []
    try:
        stored = _open(journal).get_trials(deepcopy=False)
        read = TypeAdapter(Trial).validate_json
        trials = [read(json.dumps(trial.user_attrs), strict=True) for trial in stored]
        if [trial.number for trial in trials] != list(range(len(trials))):
            raise ValueError("its trials are not numbered from 0 on")
        if any(set(trial.metrics) != set(METRICS) for trial in trials if trial.state == "complete"):
            raise ValueError("a trial has other metrics than the protocol's")
    except InputError:
        raise
    except Exception as error:  # whatever Optuna raises for lines that it did not write
        message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"no readable study ({message})", where=str(journal), hint="begin anew with --fresh"
        ) from error
    return trials


def append_trial(journal: Path, space: Space, trial: Trial, score: float | None) -> None:
    """Adds a trial that has ended; `score` is None where it failed. The caller holds the study's lock."""
    with writing_results(journal):
        study = _open(journal)
        if not study.user_attrs:
            study.set_user_attr("optuna", version())
        study.add_trial(_frozen(space, trial.values, score, asdict(trial)))


def _open(journal: Path) -> OptunaStudy:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with writing_results(journal):
        cut_torn_line(journal)
        journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)  # of a process that was killed
        backend = JournalFileBackend(str(journal), JournalFileOpenLock(str(journal)))
        storage = JournalStorage(backend)
        return optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)


def _frozen(
    space: Space, values: Mapping[str, Any], score: float | None, attributes: dict[str, Any] | None = None
) -> FrozenTrial:
    """A trial that has ended, for Optuna; values outside the space (of trial 0) are left out."""
    import optuna

    locked = [p for p in space.parameters if p.key in values and p.holds(values[p.key])]
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE,
        params={p.key: _plain(p, values[p.key]) for p in locked},
        distributions={p.key: _distribution(p) for p in locked},
        value=score,
        user_attrs=attributes,
    )


def version() -> str:
    """Optuna's version: another one may draw other values."""
    from importlib.metadata import version

    return version("optuna")


def _legible(parameter: Parameter, sample: Any) -> Any:
    """Four digits of a continuous range, the plain decimal of a grid: a person can type the setting again."""
    if parameter.choices:
        return json.loads(sample)
    if parameter.whole:
        return sample
    if parameter.step is not None:
        return round(sample, 10)
    return min(max(float(f"{sample:.4g}"), float(parameter.low)), float(parameter.high))


def _plain(parameter: Parameter, value: Any) -> Any:
    """Optuna takes plain values only, so a choice goes by its JSON text."""
    return json.dumps(next(c for c in parameter.choices if c == value)) if parameter.choices else value


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.choices:
        return CategoricalDistribution([json.dumps(choice) for choice in parameter.choices])
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
