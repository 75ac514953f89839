"""Former module paths still import, with a warning that names the new one."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from harness.core.moved_modules import MOVED, RENAMED


@pytest.mark.parametrize("former", sorted(MOVED))
def test_a_former_path_gives_the_same_objects(former: str) -> None:
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=rf"{former} is now {MOVED[former]}; the former path is removed"):
        old = import_module(former)
    new = import_module(MOVED[former])
    local = [name for name, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__]
    assert local
    for name in local:
        assert getattr(old, name) is getattr(new, name)
    for name, current in RENAMED.get(former, {}).items():
        assert getattr(old, name) is getattr(new, current)
    assert not hasattr(old, "no_such_name")


@pytest.mark.parametrize("name", ["harness.generative.codez", "harness.instruct", "harness.generative.instruct.x"])
def test_other_paths_are_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module(name)


def test_an_import_in_a_new_process() -> None:
    code = "from harness.data.catalogue import CatalogueEntry as former; from harness.data import catalog as now"
    code += "; print(former is now.CatalogueEntry)"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    assert "harness.data.catalogue is now harness.data.catalog" in done.stderr
