"""The key of a run: its path, derived from everything that determines its outcome and from nothing else.

Profile and device are not part of it: a profile acts through the settings, which are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.hashing import fingerprint
from harness.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")


@dataclass(frozen=True)
class RunKey:
    """`RESULTS/runs/MODEL/DATASET/RUN_ID/`."""

    model: str
    dataset: str
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """What determines the metrics of a run. `configuration` is the resolved configuration of the model."""

    model: str
    configuration: Mapping[str, Any]
    code_version: int | str
    data: str
    protocol: str
    seed: int | None

    @property
    def settings(self) -> str:
        """Hash of the model, its settings and its code version: runs that share it differ by seed or data only."""
        return fingerprint(self.model, dict(self.configuration), str(self.code_version))

    @property
    def run_id(self) -> str:
        """Readable first, unique after: `seed1-0123456789abcdef`."""
        mark = fingerprint(self.settings, self.data, self.protocol, self.seed)
        return f"external-{mark}" if self.seed is None else f"seed{self.seed}-{mark}"


def model_folder(model: str) -> str:
    """What the runs of a model lie under; raises as `folder_name`.

    >>> model_folder("recbole:STAMP")
    'recbole@STAMP'
    """
    return folder_name("model", model.replace(":", "@"))  # some file systems allow no colon


def folder_name(kind: str, name: str) -> str:
    """`name` as one folder of the store. Raises `InputError` where it cannot be a folder name.

    >>> folder_name("model", "eager-llm")
    'eager-llm'
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} name {name!r} cannot name a folder of results",
            hint="use letters, digits and . _ + @ - only, beginning with a letter or a digit",
        )
    return name
