"""`Job`: the complete specification of one run; `plan`: jobs from the user's options.

`harness.runs.run` executes a job.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import config_files
from harness.core.hashing import file_sha256, fingerprint
from harness.core.plugins import model_name
from harness.data.catalog import catalogue_entries
from harness.data.dataset import PLACEHOLDER, Dataset, require_text, with_text
from harness.data.loading import check_order, load_dataset
from harness.data.reading import PLAIN, Reading
from harness.errors import InputError
from harness.protocol.recommender import ModelConfig, TextModelConfig
from harness.registry import ModelEntry, model_entry
from harness.runs.config import TUNING, Settings, file_overrides, protocol_sets, read_config, resolve
from harness.runs.devices import resolve_device
from harness.runs.tracking import TrackerSpec, parse_trackers
from harness.store.record import Outcome, TuningEffort
from harness.store.run_store import StoredRun

if TYPE_CHECKING:
    from harness.protocol.recommender import Recommender
    from harness.protocol.split import Split

DATASET = "ml-100k"
SEED = 1


@dataclass(frozen=True)
class RunOptions:
    """The user's options besides the model; None and empty: the value of the `--config` file, else the default.
    `elsewhere`: the runs are executed on other machines, whose devices need not exist here."""

    dataset: str | None = None
    profile: str | None = None
    seeds: tuple[int, ...] = ()
    sets: tuple[str, ...] = ()
    config: Path | None = None
    device: str | None = None
    protocol: str | None = None
    order: str | None = None
    track: tuple[str, ...] = ()
    elsewhere: bool = False
    reading: Reading = PLAIN


@dataclass(frozen=True)
class Job:
    """One run. `dataset`: a registered name or the absolute path of a folder or file; `order`: order of a user's rows
    in the files, `reading`: other options of reading. `effort` (how the settings were chosen), `command` (the argument
    list that repeats the run) and `track` are recorded and not part of the key."""

    entry: ModelEntry
    dataset: str
    settings: Settings
    seed: int
    device: str = "cpu"
    order: str = "time"
    effort: TuningEffort = field(default_factory=TuningEffort)
    track: tuple[TrackerSpec, ...] = ()
    reading: Reading = PLAIN
    command: tuple[str, ...] = ()

    @property
    def needs_text(self) -> bool:
        """Whether every item must have text."""
        return "text" in self.entry.needs and self.settings.model.reads_text()

    def data(self, *, whole_text: bool = True) -> Dataset:
        """The data set as the model sees it. Raises `InputError` for errors of the readers and, with `whole_text`, for
        items without text if the model needs it and `missing_text` is `refuse`."""
        dataset = load_dataset(self.dataset, self.order, self.reading)
        if not self.needs_text:
            return dataset
        model = self.settings.model
        missing = model.missing_text if isinstance(model, TextModelConfig) else "refuse"
        if missing == "drop":
            dataset = with_text(dataset)
        elif missing == "empty":
            dataset = replace(dataset, placeholder=PLACEHOLDER)
        if whole_text:
            require_text(dataset.model_text, dataset.items, location=dataset.name, section=self.entry.section)
        return dataset

    def recommender(self) -> Recommender[Any]:
        """A new model with the job's configuration."""
        return self.entry.load()(self.settings.model)

    def outcome(self, dataset: Dataset, split: Split) -> Outcome:
        """Everything that determines the metrics."""
        files = self.settings.model.files(split.train)
        return Outcome(
            model=self.entry.name,
            configuration=self.settings.model.model_dump(mode="json"),
            code_version=self.entry.code_version(),
            # Ids follow the source's order, which breaks ties: the order of rows is part of the key.
            data="/".join((dataset.fingerprint, split.train.fingerprint, *map(_digest, files))),
            protocol=split.key,
            seed=self.seed,
        )

    def configuration(self) -> dict[str, Any]:
        """The resolved configuration as plain values: `settings` of the record, and the content of a
        `--config` file."""
        return {
            "model": self.entry.name,
            **({"file": self.entry.file} if self.entry.file else {}),
            "dataset": self.dataset,
            "order": self.order,
            **({"data": self.reading.document()} if self.reading.document() else {}),
            "profile": self.settings.profile,
            "seed": self.seed,
            "protocol": self.settings.protocol.model_dump(mode="json"),
            self.entry.section: self.settings.model.model_dump(mode="json"),
        }

    def config_yaml(self) -> str:
        """The configuration as a `--config` file that repeats this job."""
        return config_files.write({**self.configuration(), **tuning_section(self.effort)})


def plan(model: str, options: RunOptions) -> list[Job]:
    """One job a seed. Raises `InputError` for invalid options, before data are read."""
    entry = entry_of(model, options.config)
    file = read_config(options.config, entry)
    order = check_order(options.order or file.top.get("order") or "time")
    sets = (*protocol_sets(options.protocol), *options.sets)
    settings = resolve(entry, options.profile or file.top.get("profile") or "auto", file, sets)
    device = resolve_device(options.device, settings.profile, is_elsewhere=options.elsewhere)
    settings = replace(settings, model=settings.model.resolved(device))
    name = options.dataset if options.dataset is not None else file.top.get("dataset")
    dataset = located(DATASET if name is None else name)
    value = file.top.get("seed")
    seeds = options.seeds or (SEED if value is None else value,)
    for seed in seeds:
        check_seed(seed)
    effort = effort_of(entry.name, settings.model, file.effort)
    track = parse_trackers(options.track)
    reading = options.reading if options.reading != PLAIN else Reading.of(file.top.get("data"), str(file.path))
    words = ["harness", "run", entry.argument, "-d", dataset, "--profile", settings.profile]
    rest = data_words(order, reading) + ([] if options.device is None else ["--device", options.device])
    rest += set_words((*file_overrides(entry, settings.profile, file, device), *sets))
    job = Job(entry, dataset, settings, seeds[0], device, order, effort, track, reading)
    commands = {seed: (*words, "--seed", str(seed), *rest) for seed in seeds}
    return [replace(job, seed=seed, command=command) for seed, command in commands.items()]


def data_words(order: str, reading: Reading) -> list[str]:
    """The arguments of a command that say how files are read."""
    return [*([] if order == "time" else ["--order", order]), *reading.options()]


def set_words(sets: Iterable[str]) -> list[str]:
    """`--set` before each assignment."""
    return [word for text in sets for word in ("--set", text)]


def entry_of(model: str, config: Path | None) -> ModelEntry:
    """The model's registry entry. A class in a file is also found by its stored name, if `config` is the stored
    configuration of such a run, which has the path."""
    try:
        return model_entry(model)
    except InputError:
        message = None if config is None else config_files.read(config).get("file")
        if isinstance(message, str) and model_name(message) == model:
            return model_entry(message)
        raise


def check_seed(seed: int) -> None:
    """Raises `InputError` for an invalid seed: the record stores it as a 64-bit JSON integer."""
    if not 0 <= seed < 2**63:
        raise InputError(f"{seed} is not a seed", where="--seed", hint="give an integer from 0, below 2^63")


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)[:16]
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check the path") from error


def located(dataset: str) -> str:
    """Names are unchanged; folders and files become absolute, so that a stored configuration works from anywhere."""
    folder = Path(dataset).expanduser()
    is_known = not dataset or dataset in catalogue_entries()  # "" would be the working directory
    return str(folder.resolve()) if not is_known and folder.exists() else dataset


def settings_hash(model: str, config: ModelConfig) -> str:
    """Hash of the settings that a study selected, to detect changed settings."""
    return fingerprint(model, config.model_dump(mode="json"))


def effort_of(model: str, config: ModelConfig, tuning_effort: TuningEffort | None) -> TuningEffort:
    """The effort of a run: of the study in the configuration file, else one trial (none for a model
    without settings)."""
    if tuning_effort is None:
        return TuningEffort(trials=1 if type(config).model_fields else 0)
    return tuning_effort.model_copy(update={"changed": tuning_effort.configuration != settings_hash(model, config)})


def tuning_section(effort: TuningEffort) -> dict[str, Any]:
    """The section of a configuration file; empty if no study selected the settings."""
    if effort.study is None:
        return {}
    return {TUNING: effort.model_dump(mode="json", exclude={"changed"})}


def command_of(runs: Sequence[StoredRun]) -> str:
    """The shell command of runs that differ by seed only. A data folder is given by its stored name, a ranking file by
    its name. For a record of schema 1 the stored `config.yaml` is used."""
    record = runs[0].record
    words = record.command
    if not words and record.seed is None:
        words = ["harness", "evaluate", "PREDICTIONS", "-d", record.dataset.name, "--name", record.model]
    elif not words:
        folder = runs[0].folder
        words = ["harness", "run", record.model, "-d", "", "--config", str(folder.config), "--seed", str(record.seed)]
    else:
        words = list(words)
    if words[1] == "evaluate":
        words[2] = Path(words[2]).name
    words[words.index("-d") + 1] = record.dataset.name
    if "--seed" in words:
        place = words.index("--seed")
        words[place : place + 2] = [word for run in runs for word in ("--seed", str(run.record.seed))]
    return shlex.join(words)
