"""The trials of a study: Optuna's journal stores them, and its TPE sampler draws the next one.

A trial enters the journal as one line when it has ended. Optuna's storages hold no state of the sampler, so each trial
is drawn by a sampler that is seeded by the trial's number, from a study in memory that holds the trials before it. A
resumed study therefore makes the same trials as one that was never interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from harness.core.files import writing_results
from harness.core.seeding import derive_seed
from harness.errors import InputError
from harness.experiments.search_space import Parameter, Space
from harness.protocol.protocol import METRICS
from harness.store.event_log import cut_torn_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial

FIRST = 5  # trials that are drawn at random, before the estimator has enough to fit
SEEDS = 2**32
NAME = "study"  # of the only study in a journal

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
