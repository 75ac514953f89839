"""One protocol, one data path and one set of metrics for EAGER-LLM and its baselines.

`load_dataset`, `run`, `evaluate`, `leaderboard`, `compare`, `ablate` and `tune` do in Python what the command line
does. Each is imported when it is first used, so that `import harness` loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.core.environment import configure_offline, package_version
from harness.core.moved_modules import install as install_moved_modules

if TYPE_CHECKING:
    from harness.data.loading import load_dataset
    from harness.experiments.api import ablate, tune
    from harness.reports.formats import compare, leaderboard
    from harness.runs.api import evaluate, run

    __version__: str

__all__ = ["__version__", "ablate", "compare", "evaluate", "leaderboard", "load_dataset", "run", "tune"]

configure_offline()
install_moved_modules()

_HOMES = {
    "load_dataset": "harness.data.loading",
    "run": "harness.runs.api",
    "evaluate": "harness.runs.api",
    "leaderboard": "harness.reports.formats",
    "compare": "harness.reports.formats",
    "ablate": "harness.experiments.api",
    "tune": "harness.experiments.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return package_version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
