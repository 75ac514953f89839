"""Former module paths, importable for one more version with a `DeprecationWarning`.

Covers the paths that the documentation of the former layout named for plug-ins and scripts. Any other path
is a `ModuleNotFoundError` as usual.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "harness.data.catalogue": "harness.data.catalog",
    "harness.files": "harness.core.files",
    "harness.fingerprint": "harness.core.hashing",
    "harness.generative.adapter": "harness.generative.models.lora",
    "harness.generative.backbone": "harness.generative.models.backbone",
    "harness.generative.code_lm": "harness.generative.models.decoder_lm",
    "harness.generative.codes": "harness.generative.item_codes",
    "harness.generative.heads": "harness.generative.models.heads",
    "harness.generative.instruct.losses": "harness.generative.training.losses",
    "harness.generative.instruct.prompts": "harness.generative.tasks.prompts",
    "harness.generative.rqvae": "harness.generative.tokenizers.rqvae",
    "harness.generative.trust": "harness.core.environment",
    "harness.generative.tuning": "harness.generative.training.trainer",
    "harness.jobs.api": "harness.runs.api",
    "harness.locks": "harness.core.locks",
    "harness.seeding": "harness.core.seeding",
}
RENAMED = {"harness.generative.tuning": {"Group": "ParameterGroup", "Plan": "TrainingConfig", "tune": "train"}}


class MovedModules(MetaPathFinder, Loader):
    """Finds the keys of `MOVED` and the packages that they lie in; each is a module that forwards its names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MOVED:
            return ModuleSpec(fullname, self)
        if any(name.startswith(f"{fullname}.") for name in MOVED):
            return ModuleSpec(fullname, None, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        former, current = module.__name__, MOVED[module.__name__]
        message = f"{former} is now {current}; the former path is removed in the next version"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        source, renamed = import_module(current), RENAMED.get(former, {})

        def forward(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(source, renamed.get(name, name))

        vars(module)["__getattr__"] = forward


def install() -> None:
    """Adds the finder behind all others, so that it is asked only for what is not found. Repeated calls do nothing."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
