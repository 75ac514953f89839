"""Results of other orders of equal timestamps, stored next to the runs: `ties/DATASET-FINGERPRINT.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from harness.core.files import write_result_file
from harness.store.run_key import folder_name


def tie_file(root: Path, dataset: str, fingerprint: str) -> Path:
    """Where the report of a data set under the protocol of that split fingerprint lies, or would lie."""
    return root / "ties" / f"{folder_name('data set', dataset)}-{fingerprint}.json"


def write_tie_report(root: Path, report: dict[str, Any]) -> Path:
    """Stores a report of `harness.runs.tie_orders.tie_report`. Raises `InputError` where that is not possible."""
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
