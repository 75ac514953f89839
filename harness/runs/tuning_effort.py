"""The tuning effort of a run's settings in its record, also for runs stored before the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.core import config_files
from harness.core.files import write_result_text
from harness.core.hashing import fingerprint
from harness.protocol.recommender import ModelConfig
from harness.store.event_log import EventLog
from harness.store.record import TuningEffort
from harness.store.run_store import Reservation, StoredRun

SECTION = "tuning"  # of a configuration file: provenance of its settings


def chosen(model: str, config: ModelConfig) -> str:
    """Hash of the settings that a study selected, to detect changed settings."""
    return fingerprint(model, config.model_dump(mode="json"))


def effort_of(model: str, config: ModelConfig, tuning_effort: TuningEffort | None) -> TuningEffort:
    """The effort of a run: of the study in the configuration file, else one trial (none for a model
    without settings)."""
    if tuning_effort is None:
        return TuningEffort(trials=1 if type(config).model_fields else 0)
    return tuning_effort.model_copy(update={"changed": tuning_effort.configuration != chosen(model, config)})


def block(effort: TuningEffort | None) -> dict[str, Any]:
    """The section of a configuration file; empty if no study selected the settings."""
    if effort is None or effort.study is None:
        return {}
    return {SECTION: effort.model_dump(mode="json", exclude={"changed"})}


def update_effort(claim: Reservation, effort: TuningEffort, note: Callable[[str], None]) -> StoredRun:
    """The stored run, with the study's effort in its record if the study has more trials than the record.

    Equal settings are the same run, which is not repeated. Only `effort` changes; the change is logged, and written to
    the run's configuration.
    """
    stored = claim.stored
    assert stored is not None
    tuning_effort = stored.record.effort
    if effort.study is None or effort.changed or (tuning_effort is not None and tuning_effort.trials >= effort.trials):
        return stored
    EventLog(stored.folder.log).write(
        event="effort", before=None if tuning_effort is None else tuning_effort.trials, **block(effort)
    )
    content = config_files.read(stored.folder.config) if stored.folder.config.exists() else None
    if content is not None:
        write_result_text(stored.folder.config, config_files.write({**content, **block(effort)}))
    record = claim.update_record(stored.record.model_copy(update={"effort": effort}))
    note(f"{record.run_id} is already stored; its record now has {effort.trials} trials as tuning effort")
    return replace(stored, record=record)
