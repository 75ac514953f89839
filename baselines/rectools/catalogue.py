"""Which transformer models RecTools has, read from its files: RecTools itself is never imported on this side."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import InputError, unknown_name

TARGET = "baselines.rectools.recommender:RecToolsRecommender"
SECTION = "rectools"
CLASS = re.compile(r"^class (\w+)Model\(TransformerModelBase\[", re.MULTILINE)


@cache
def rectools_models() -> tuple[str, ...]:
    """Names of the transformer models of the installed RecTools, without the `Model` at their end."""
    spec = find_spec("rectools")
    if spec is None or not spec.submodule_search_locations:
        mend = "install RecTools and what it imports from this project's constraints.txt with pip install --no-deps"
        raise InputError("RecTools is not installed", mend=mend)
    folder = Path(next(iter(spec.submodule_search_locations))) / "models" / "nn" / "transformers"
    sources = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    return tuple(sorted(name for source in sources for name in CLASS.findall(source)))


def check_model(name: str) -> str:
    """The name as RecTools spells it, for upper or lower case. Raises `InputError` for a model that it lacks."""
    for known in rectools_models():
        if known.lower() == name.lower():
            return known
    raise unknown_name("RecTools model", name, list(rectools_models()))


def describe(name: str) -> dict[str, Any]:
    """The registry's fields for `rectools:NAME`. Raises `InputError` as `check_model` does."""
    exact = check_model(name)
    return {
        "name": f"rectools:{exact}",
        "family": "rectools",
        "target": TARGET,
        "description": f"RecTools' {exact}",
        "paper": "",
        "section": SECTION,
        "preset": (("model", exact),),
    }
