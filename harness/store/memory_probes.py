"""What `harness audit memory` found of a language model and a data set, stored beside the runs:
`memory/DATASET-MARK.json`, with a mark of the data set's content and the model's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from harness.core.files import write_result_file
from harness.core.hashing import fingerprint
from harness.store.run_key import folder_name


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
