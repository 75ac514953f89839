"""Results of audits, stored next to the runs: memory probes of language models, and other orders of equal times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from harness.core.files import write_result_file
from harness.core.hashing import fingerprint
from harness.store.record import folder_name


def memory_file(root: Path, dataset: tuple[str, str], backbone: str) -> Path:
    """Where the probe lies, or would lie; `dataset` is its name and its fingerprint, `backbone` the setting
    `backbone.name`."""
    name, content = dataset
    return root / "memory" / f"{folder_name('data set', name)}-{fingerprint(content, backbone)}.json"


def write_memory_probe(root: Path, dataset: tuple[str, str], probe: dict[str, Any]) -> Path:
    """Stores a result of `memory_probe`; a newer one takes the place of an older one. Raises `InputError` where that is
    not possible."""
    path = memory_file(root, dataset, probe["backbone"])
    content = orjson.dumps({**probe, "fingerprint": dataset[1]}, option=orjson.OPT_INDENT_2)
    write_result_file(path, lambda temporary: temporary.write_bytes(content))
    return path


def read_memory_probe(root: Path, dataset: tuple[str, str], backbone: str) -> dict[str, Any] | None:
    """The stored probe; None where there is none, or none that can be read."""
    try:
        probe = orjson.loads(memory_file(root, dataset, backbone).read_bytes())
    except (OSError, ValueError):
        return None
    return probe if isinstance(probe, dict) and "ids" in probe else None


def tie_file(root: Path, dataset: str, fingerprint: str) -> Path:
    """Where the report of a data set under the protocol of that split fingerprint lies, or would lie."""
    return root / "ties" / f"{folder_name('data set', dataset)}-{fingerprint}.json"


def write_tie_report(root: Path, report: dict[str, Any]) -> Path:
    """Stores a report of `harness.runs.dataset_check.tie_report`. Raises `InputError` where that is not possible."""
    path = tie_file(root, report["dataset"], report["protocol_fingerprint"])
    content = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    write_result_file(path, lambda temporary: temporary.write_bytes(content))
    return path


def read_tie_report(root: Path, dataset: str, fingerprint: str) -> dict[str, Any] | None:
    """The stored report; None where there is none, or none that can be read."""
    try:
        report = orjson.loads(tie_file(root, dataset, fingerprint).read_bytes())
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and "models" in report else None
