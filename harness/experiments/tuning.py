"""`harness tune`: plans a study, and runs its trials one after the other up to its limits.

A `Study` is a search of one model's settings by a validation metric, and its trials. Trial 0 has the default settings,
so that a study never ends below them; `harness.experiments.trials` samples the others. Studies are stored in
`RESULTS/tuning/`, separate from runs, and are on no leaderboard. The split of a trial has no test cases. A stored study
is continued: the next trial depends only on the previous trials and the seed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.files import RESULTS_HINT, remove_stale_temp_files, write_result_text, writing_results
from harness.core.hashing import fingerprint
from harness.core.locks import acquire_lock
from harness.data.dataset import Dataset
from harness.errors import InputError, unknown_name
from harness.evaluation.metrics import compute_metrics
from harness.experiments.grid import line
from harness.experiments.subprocess_run import RunOutcome
from harness.experiments.trials import FIRST, Space, Trial, append_trial, read_space, read_trials, suggest, version
from harness.protocol.context import Reporter
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by
from harness.registry import model_entry
from harness.runs.job import Job, RunOptions, plan, settings_hash
from harness.runs.run import context_of, ranked
from harness.store.event_log import EventLog, RunReporter, read_events, seconds_between
from harness.store.record import TuningEffort, folder_name, model_folder
from harness.store.run_store import RunFolder, Store

BEGUN, DONE = "trial", "trial end"  # the events between which a trial's clock runs


def without_test(split: Split) -> Split:
    """The split without its test cases."""
    missing = np.empty(0, dtype=np.int64)
    return replace(split, test=EvaluationSplit(split.test.requests.take(missing), Targets(missing, missing)))


def attempt(job: Job, split: Split, path: Path, reporter: Reporter) -> dict[str, float]:
    """The validation metrics of one configuration. `path` holds its configuration, its log, and, while it runs, the
    checkpoint from which an interrupted trial continues. Exceptions of the model pass through."""
    folder, split = RunFolder(path), without_test(split)
    with writing_results(folder.checkpoint):
        folder.checkpoint.mkdir(parents=True, exist_ok=True)
        remove_stale_temp_files(path)  # a kill may have left a partial file; the study's lock is held
    write_result_text(folder.config, job.config_yaml())
    log = EventLog(folder.log)
    log.write(event=BEGUN)
    context = replace(
        context_of(job, split, RunReporter(log, reporter)), checkpoint=folder.checkpoint, run_dir=folder.path
    )
    recommender = job.recommender()
    recommender.fit(split.train, context)
    metrics = compute_metrics(ranked(recommender, split.valid.requests, context, split.protocol), split.valid.targets)
    log.write(event=DONE, **metrics)
    return metrics


def seconds(path: Path) -> float:
    """The duration of a trial, over all its sessions."""
    return seconds_between(read_events(RunFolder(path).log), BEGUN, DONE)


@dataclass(frozen=True)
class Search:
    """The user's options. `trials` and `timeout` (seconds) bound the study over all its sessions."""

    trials: int = 20
    timeout: float | None = None
    metric: str = "ndcg@10"
    space: Path | None = None


@dataclass
class Study:
    """A study in progress. `base` is the job whose settings are varied."""

    base: Job
    space: Space
    search: Search
    options: RunOptions
    store: Store
    dataset: Dataset
    split: Split
    trials: list[Trial] = field(default_factory=list)

    @property
    def name(self) -> str:
        """A hash of everything that determines the trials, but not their number."""
        run_id = self.base.outcome(self.dataset, self.split).run_id
        ranges = [asdict(parameter) for parameter in self.space.parameters]
        return f"seed{self.base.seed}-{fingerprint(run_id, ranges, self.search.metric)}"

    @property
    def path(self) -> Path:
        """`RESULTS/tuning/MODEL/DATASET/STUDY/`."""
        names = (model_folder(self.base.entry.name), folder_name("data set", self.dataset.name), self.name)
        return self.store.root.joinpath("tuning", *names)

    @property
    def journal(self) -> Path:
        """Optuna's journal of the trials."""
        return self.path / "trials.journal"

    @property
    def best_config(self) -> Path:
        """The best settings, as `harness run MODEL --config` takes them."""
        return self.path / "best.yaml"

    @property
    def best(self) -> Trial | None:
        """The first of the trials with the highest metric."""
        trials = [trial for trial in self.trials if trial.state == "complete"]
        return max(trials, key=self.value, default=None)  # max keeps the first of equals

    @property
    def seconds(self) -> float:
        """The duration of all trials, failed ones included."""
        return sum(trial.seconds for trial in self.trials)

    def value(self, trial: Trial) -> float:
        return trial.metrics[self.search.metric]

    def effort(self) -> TuningEffort:
        """The `effort` in the record of a run with the best settings."""
        counted = [trial for trial in self.trials if trial.repeats is None]
        best = self.best
        return TuningEffort(
            trials=sum(trial.state == "complete" for trial in counted),
            failed=sum(trial.state == "failed" for trial in counted),
            seconds=round(self.seconds, 3),
            timeout=self.search.timeout,
            metric=self.search.metric,
            study=self.name,
            space=self.space.document(),
            configuration=None
            if best is None
            else settings_hash(self.base.entry.name, self.job(best.values).settings.model),
        )

    def job(self, values: dict[str, Any]) -> Job:
        """The base with some settings changed. Raises `InputError` where they do not fit together."""
        sets = tuple(line(key, json.dumps(value)) for key, value in values.items())
        try:
            (job,) = plan(self.base.entry.argument, replace(self.options, sets=(*self.options.sets, *sets)))
        except InputError as error:
            message = (error.where or "").removeprefix("--set ")
            if message not in sets:
                raise
            message_place = f"{self.space.where}: {message}"
            raise InputError(error.what, where=message_place, hint=error.hint, code=error.code) from error
        return job

    def best_job(self) -> Job:
        """The best settings, with the study's effort. Raises `InputError` where no trial gave a score."""
        if self.best is None:
            reasons = dict.fromkeys(trial.reason for trial in self.trials)
            raise InputError(f"no trial of this study gave a score: {next(iter(reasons), 'none was made')}")
        return replace(self.job(self.best.values), effort=self.effort())

    def document(self) -> dict[str, Any]:
        """The study as plain values."""
        best = self.best
        return {
            "study": self.name,
            "model": self.base.entry.name,
            "dataset": self.dataset.name,
            "split": self.split.fingerprint,
            "seed": self.base.seed,
            "metric": self.search.metric,
            "space": self.space.document(),
            "sampler": {"optuna": version(), "random_trials": FIRST},
            "best": None if best is None else best.number,
            "effort": self.effort().model_dump(mode="json"),
            "trials": [asdict(trial) for trial in self.trials],
        }

    def settle(self, trial: Trial) -> None:
        """Stores a trial: first its outcome, then the best settings so far."""
        self.trials.append(trial)
        append_trial(self.journal, self.space, trial, self.value(trial) if trial.state == "complete" else None)
        if self.best is not None:
            write_result_text(self.best_config, self.best_job().config_yaml())
        self._clear(trial)

    def _clear(self, trial: Trial) -> None:
        """Removes the checkpoint of a trial."""
        shutil.rmtree(self._folder(trial.number, trial.mark) / "checkpoint", ignore_errors=True)

    def _folder(self, number: int, mark: str) -> Path:
        return self.path / "trials" / f"{number:04}-{mark[:8]}"

    def read(self) -> None:
        """Reads the stored trials. Raises `InputError` for a file that is no journal of a study."""
        self.trials = read_trials(self.journal)
        for trial in self.trials:  # a kill may have come before `settle` removed it
            self._clear(trial)

    def next_values(self) -> dict[str, Any]:
        """The changes of the next trial."""
        attempted = [(t.values, self.value(t) if t.state == "complete" else None) for t in self.trials]
        if attempted:
            return suggest(self.space, attempted, self.base.seed)
        return {p.key: value for p in self.space.parameters if (value := value_of(self.base, p.key)) is not None}

    def attempt(self, reporter: Callable[[], AbstractContextManager[Reporter]]) -> Trial:
        """Makes and stores the next trial. Ctrl-C passes through and leaves its checkpoint."""
        number, values = len(self.trials), self.next_values()
        try:
            job = self.job(values)
        except InputError as error:  # values that each fit, but not together
            trial = Trial(number, values, fingerprint(values), "failed", reason=str(error))
        else:
            trial = self._tried(number, values, job, reporter)
        self.settle(trial)
        return trial

    def _tried(
        self, number: int, values: dict[str, Any], job: Job, reporter: Callable[[], AbstractContextManager[Reporter]]
    ) -> Trial:
        mark = settings_hash(job.entry.name, job.settings.model)
        if equal_trials := [trial for trial in self.trials if trial.mark == mark and trial.repeats is None]:
            return replace(equal_trials[0], number=number, values=values, seconds=0.0, repeats=equal_trials[0].number)
        folder = self._folder(number, mark)
        try:
            with reporter() as current_reporter:
                metrics = attempt(job, self.split, folder, current_reporter)
        except Exception as error:
            outcome = RunOutcome.of(error)
            return Trial(number, values, mark, "failed", {}, seconds(folder), outcome.reason, outcome.trace)
        return Trial(number, values, mark, "complete", metrics, seconds(folder))


def value_of(job: Job, key: str) -> Any:
    """The value of a job's configuration at a dotted key; None where there is none."""
    section, *names = key.split(".")
    result: Any = job.settings.model.model_dump(mode="json") if section == job.entry.section else None
    for name in names:
        result = result.get(name) if isinstance(result, dict) else None
    return result


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
    repeated = "" if trial.repeats is None else f", the settings of trial {trial.repeats}"
    return f"trial {trial.number} of {current_study.search.trials} ({changes}{repeated}): {outcome}"
