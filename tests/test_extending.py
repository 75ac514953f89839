"""What `docs/extending.md` shows works as it stands; broken and greedy plug-ins stop nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import registry
from harness.core import plugins
from harness.data import catalog
from tests import toys
from tests.cli.conftest import ROOT, Harness, harness, toy  # noqa: F401  # fixtures
from tests.folders import FAKE, csv_folder

PAGE = ROOT / "docs/extending.md"


def files(folder: Path) -> dict[str, str]:
    """Writes the page's files into `folder`."""
    result = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S))
    for name, text in result.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return result


def test_a_model_in_a_file(harness: Harness, toy: str) -> None:  # noqa: F811
    text = files(Path())["my_model.py"]
    assert len([line for line in text.splitlines() if line.strip()]) <= 40, "config and imports besides 25 lines"
    done = harness("run", "./my_model.py:Model", "-d", toy, "--set", "my_model.size=5", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["model"] == "my_model:Model" and record["metrics"]["test"]["ndcg@10"] > 0.5
    assert record["cost"]["parameters"] is None, "not 0: the class does not state its size"
    assert "/my_model@Model/toy/" in record["path"].replace(os.sep, "/")
    result = harness("recommend", "my_model:Model", "--history", "i3", "-k", "1", "--json")
    assert json.loads(result.out)["recommendations"][0]["items"][0]["item"] == "i4", result.err
    repeated = harness("run", "my_model.py:Model", "--config", f"{record['path']}/config.yaml", "--json")
    assert json.loads(repeated.out)["run_id"] == record["run_id"], repeated.err
    result = harness("models", "./my_model.py:Model", "--json")
    assert [row["name"] for row in json.loads(result.out)["settings"]] == ["my_model.size", "my_model.smoothing"]
    done = harness("run", "./my_model.py:Model", "-d", toy, "--profile", "paper")
    assert done.code == 2 and "has no profile 'paper'; choose cpu, gpu, smoke" in done.err
    Path("my_model.py").write_text(text.replace("0.01", "0.02"))
    other = harness("run", "./my_model.py:Model", "-d", toy, "--set", "my_model.smoothing=0.01", "--json")
    assert json.loads(other.out)["run_id"] != record["run_id"], "the content of the file is part of the key"


def test_a_model_in_a_file_in_grids_and_studies(harness: Harness, toy: str) -> None:  # noqa: F811
    """As `harness run` takes it, in this process and in others; the printed command repeats the best settings."""
    files(Path())
    Path("grid.yaml").write_text("changes:\n  small:\n    my_model.size: 2\n")
    Path("space.yaml").write_text("space:\n  my_model.size: {low: 2, high: 8}\n")
    for workers in ((), ("--workers", "2", "--seeds", "2")):
        done = harness("ablate", "./my_model.py:Model", "-d", toy, "--grid", "grid.yaml", *workers, "--json")
        assert done.code == 0 and [row["n"] for row in json.loads(done.out)["rows"]] == [1, 1], done.err
    done = harness("tune", "./my_model.py:Model", "-d", toy, "--trials", "1")
    assert done.code == 2 and "my_model:Model has no search space of its own; give a .yaml file" in done.err
    done = harness("tune", "./my_model.py:Model", "-d", toy, "--space", "space.yaml", "--trials", "2")
    assert done.code == 0, done.err
    command = shlex.split(next(line for line in done.err.splitlines() if line.startswith("harness run ")))
    repeated = harness(*command[1:], "--json")
    assert repeated.code == 0 and json.loads(repeated.out)["effort"]["trials"] == 2, repeated.err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.py:Model", None, "no such file"),
        ("m.py:Other", "class Model: pass", "there is no 'Other'; it has Model"),
        ("m.py:Model", "class Model: pass", "Model is not a Recommender"),
        ("m.py:Model", "x = 1\nx.y\nclass Model: pass", "m.py line 2: AttributeError"),
        ("m.py:Model", "def", "m.py line 1: SyntaxError"),
        ("m.py:Model", "import sys\nsys.exit(3)", "m.py line 2: SystemExit: 3"),
        (
            "m.py:Model",
            "from harness.protocol.recommender import Recommender\nclass Model(Recommender): pass",
            "Model lacks _fit, _load, _recommend, _save",
        ),
    ],
)
def test_a_file_that_is_no_model(harness: Harness, name: str, text: str | None, message: str) -> None:  # noqa: F811
    if text is not None:
        Path("m.py").write_text(text)
    done = harness("run", f"./{name}")
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1, done.err


class Passed:
    """A pytest plug-in: the tests that passed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.names.append(report.nodeid)


def test_the_contract_suite_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: one of its own would import everything again."""
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    passed, modules = Passed(), set(sys.modules)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir=.", f"--basetemp={tmp_path / 'temporary'}"]
    try:
        code = pytest.main([*options, "test_my_model.py"], plugins=[passed])
    finally:
        for name in {"my_model", "test_my_model"} - modules:
            sys.modules.pop(name, None)
    assert code == 0 and len(passed.names) >= 12


def test_the_baseline_and_the_metric_of_the_page(harness: Harness, toy: str) -> None:  # noqa: F811
    files(Path())
    done = harness("run", "./my_baseline.py:Model", "-d", toy, "--json")
    assert done.code == 0, done.err
    path = Path(json.loads(done.out)["path"])
    stored = pd.read_parquet(path / "predictions.parquet")
    assert stored.groupby("rank")["item"].nunique().eq(1).all(), "one ranking for all users"
    result = harness("recommend", "my_baseline:Model", "--history", "i3", "-k", "3", "--json")
    listed = [row["item"] for row in json.loads(result.out)["recommendations"][0]["items"]]
    assert listed == stored.sort_values("rank")["item"].drop_duplicates().tolist()[:3]
    measured = subprocess.run([sys.executable, "my_metric.py", str(path)], capture_output=True, text=True, check=True)
    assert measured.stdout == "10 different items in the first ten places\n"


def test_the_data_set_of_the_page(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    files(Path())
    csv_folder(Path("my_package/shop"), toys.cycle(users=20, items=12, length=6))
    monkeypatch.syspath_prepend(str(Path().resolve()))
    point = EntryPoint("my-shop", "my_package.data:ENTRY", catalog.GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [point])
    row = next(row for row in json.loads(harness("datasets", "--json").out) if row["name"] == "my-shop")
    assert row["licence"] == "CC BY 4.0" and row["ready"]
    done = harness("run", "markov", "-d", "my-shop", "--json")
    assert done.code == 0 and json.loads(done.out)["dataset"]["name"] == "my-shop", done.err


def test_the_paths_that_the_page_promises() -> None:
    """Each module imports, and has the names that the snippets take from it."""
    text = PAGE.read_text(encoding="utf-8")
    promised = re.findall(r"`(harness[a-z._]*)`", text[text.index("Import from") : text.index("these paths are kept")])
    assert len(promised) == 8
    for module, names in re.findall(r"^from (harness\S+) import (.+)$", text, flags=re.M):
        assert module in promised
        assert all(hasattr(import_module(module), name) for name in names.split(", "))


class Point:
    """An entry point whose object is given, or fails."""

    def __init__(self, name: str, created: Any) -> None:
        self.name, self.made = name, created

    def load(self) -> Any:
        if isinstance(self.made, BaseException):
            raise self.made
        return self.made


def test_plugins_that_are_broken_or_take_a_name(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    points = [
        Point("bad", ImportError("no module named bad")),
        Point("odd", 3),
        Point("leaver", SystemExit("usage: leaver")),
        Point("thief", replace(FAKE, name="markov")),
        Point("good", replace(FAKE, name="good")),
        Point("late", replace(FAKE, name="late", target="no_such_module_here:Model")),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    plugins.warn.cache_clear()
    done = harness("models", "--json")
    names = [row["name"] for row in json.loads(done.out)]
    assert done.code == 0 and "good" in names and names.count("markov") == 1
    assert "plug-in 'bad' is skipped: ImportError: no module named bad" in done.err
    assert "plug-in 'leaver' is skipped: SystemExit: usage: leaver" in done.err
    assert "plug-in 'odd' is skipped: its object is int, not ModelEntry" in done.err
    assert "plug-in 'thief' is skipped: the model name 'markov' is taken by this program" in done.err
    assert registry.model_entry("markov").target == "baselines.classic.base:Markov"
    done = harness("run", "late")
    assert done.code == 2 and "the model 'late' cannot be loaded: ModuleNotFoundError" in done.err
