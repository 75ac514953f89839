"""`harness tune`: plans a study, and runs its trials one after the other up to its limits.

A stored study is continued: the next trial depends only on the previous trials and the seed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from harness.core.files import RESULTS_HINT, remove_stale_temp_files, write_result_text, writing_results
from harness.core.locks import acquire_lock
from harness.errors import InputError, unknown_name
from harness.experiments.search_space import read_space
from harness.experiments.study import Search, Study, value_of
from harness.experiments.trials import Trial
from harness.protocol.context import Reporter
from harness.protocol.protocol import METRICS
from harness.protocol.split import split as split_by
from harness.registry import model_entry
from harness.runs.job import RunOptions, plan
from harness.runs.overrides import line
from harness.store.run_store import Store


def study(model: str, search: Search, options: RunOptions, store: Store) -> Study:
    """Plans a study. Raises `InputError` for an invalid one, before the first trial."""
    entry = model_entry(model)
    if search.metric not in METRICS:
        raise unknown_name("metric", search.metric, METRICS, where="--metric")
    if search.trials < 1:
        raise InputError(f"{search.trials} trials are none", where="--trials", hint="give 1 or more")
    if search.timeout is not None and search.timeout <= 0:
        raise InputError(f"{search.timeout} is no time", where="--timeout", hint="give seconds above 0")
    space = read_space(search.space, entry)
    base = plan(model, options)[0]
    options = replace(options, seeds=(base.seed,))
    dataset = base.data()
    space = replace(
        space, parameters=tuple(p for p in space.parameters if not p.where_set or value_of(base, p.key) is not None)
    )
    current_study = Study(base, space, search, options, store, dataset, split_by(dataset, base.settings.protocol))
    _check(current_study)
    return current_study


def _check(current_study: Study) -> None:
    """Every parameter must be a setting of the model that the user does not set."""
    names = {text.partition("=")[0].strip() for text in current_study.options.sets}
    for parameter in current_study.space.parameters:
        if parameter.key in names:
            message = f"{parameter.key} is set, and searched too"
            raise InputError(message, where=f"--set {parameter.key}", hint="leave it out, or give a --space without it")
        refusals: list[InputError] = []
        for value in parameter.ends():
            try:
                current_study.job({parameter.key: value})
            except InputError as error:
                refusals.append(error)
        if len(refusals) == len(parameter.ends()):
            raise refusals[0]


@contextmanager
def alone(current_study: Study, waiting: Callable[[], None], *, fresh: bool = False) -> Iterator[None]:
    """Holds the study's lock for the block, with its stored trials (`fresh`: none); calls `waiting` first where another
    process holds it."""
    with acquire_lock(current_study.path / ".lock", waiting, RESULTS_HINT):
        with writing_results(current_study.path):
            remove_stale_temp_files(current_study.path)
            if fresh:
                current_study.journal.unlink(missing_ok=True)  # first: without the journal there is no study
                shutil.rmtree(current_study.path / "trials", ignore_errors=True)
                current_study.best_config.unlink(missing_ok=True)
        current_study.read()
        yield


def conduct(
    current_study: Study, reporter: Callable[[], AbstractContextManager[Reporter]], note: Callable[[str], None]
) -> None:
    """Makes trials until the study has the requested number, or its time is spent (a running trial is completed).

    Raises `InputError` where none of them gave a score.
    """
    limit = current_study.search.timeout
    while len(current_study.trials) < current_study.search.trials:
        if limit is not None and current_study.seconds >= limit:
            note(f"{current_study.seconds:.0f} of {limit:g} seconds are spent after {len(current_study.trials)} trials")
            break
        trial = current_study.attempt(reporter)
        note(progress_line(current_study, trial))
    if current_study.best is not None:  # the bounds may have changed
        write_result_text(current_study.best_config, current_study.best_job().config_yaml())
    current_study.best_job()


def progress_line(current_study: Study, trial: Trial) -> str:
    """One trial in one line."""
    changes = "as it stands" if trial.number == 0 else ", ".join(line(k, v) for k, v in trial.values.items())
    best = current_study.best
    if trial.state == "failed" or best is None:
        outcome = f"failed: {trial.reason}"
    else:
        outcome = f"valid {current_study.search.metric} {current_study.value(trial):.4f}, {trial.seconds:.0f} s"
        outcome += f" (best {current_study.value(best):.4f}, trial {best.number})"
    same = "" if trial.repeats is None else f", the settings of trial {trial.repeats}"
    return f"trial {trial.number} of {current_study.search.trials} ({changes}{same}): {outcome}"
