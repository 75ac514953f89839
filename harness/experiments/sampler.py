"""What a study tries next, by Optuna: a pure function of the space, the trials so far and the seed.

Each trial is drawn by a sampler of its own seed from a study in memory that holds the trials before it. So a study that
was killed goes on as it would have gone, which a stored Optuna study does not: it keeps no state of its sampler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.core.seeding import derive_seed
from harness.experiments.search_space import Parameter, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FIRST = 5  # trials before the estimator has enough to go by; until then it draws at random
SEEDS = 2**32

Tried = tuple[Mapping[str, Any], float | None]  # a trial's values, and its score; None where it failed


def suggest(space: Space, tried: Sequence[Tried], seed: int) -> dict[str, Any]:
    """Values for the next trial, to be maximised; after Bergstra et al., NeurIPS 2011 (tree-structured Parzen)."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=derive_seed(seed, "tune", len(tried)) % SEEDS, n_startup_trials=FIRST, constant_liar=False
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    known_by_name = {parameter.key: _distribution(parameter) for parameter in space.parameters}
    for values, score in tried:
        lock = {p.key: _told(p, values[p.key]) for p in space.parameters if p.key in values and p.holds(values[p.key])}
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        kinds = {key: known_by_name[key] for key in lock}
        study.add_trial(optuna.trial.create_trial(state=state, params=lock, distributions=kinds, value=score))
    sample = study.ask(known_by_name).params
    return {p.key: _legible(p, sample[p.key]) for p in space.parameters}


def version() -> str:
    """Optuna's: another one may draw otherwise."""
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


def _told(parameter: Parameter, value: Any) -> Any:
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
