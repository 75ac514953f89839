"""Estimates the memory and time of a profile on this machine, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.errors import InputError
from harness.protocol.split import split
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.runs.devices import cuda_available


def estimate(
    model: str,
    profile: str,
    dataset: str | None,
    sets: Sequence[str] = (),
    order: str = "time",
    reading: Reading | None = None,
) -> dict[str, Any]:
    """The model's estimate (JSON-able) under `profile` with `sets`, on the best device; without a data set it has no
    time. Raises `InputError` for unknown names and for models without an estimate."""
    entry = model_entry(model)
    settings = resolve(entry, profile, ConfigFile(), sets)
    data = None if dataset is None else split(load_dataset(dataset, order, reading), settings.protocol).train
    fields = entry.load()(settings.model).estimate(data, "cuda" if cuda_available() else "cpu")
    if not fields:
        raise InputError(f"{model} has no estimate", where="--model", hint="use eager-llm")
    return {"model": model, "profile": settings.profile, "dataset": dataset, **fields}
