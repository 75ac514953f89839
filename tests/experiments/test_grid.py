"""Grid files: what they may say, what is refused, and that every row of EAGER-LLM's own grid is a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core import plugins
from harness.errors import InputError
from harness.experiments.grid import FromBase, Grid, named_grids, read_grid
from harness.registry import model_entry
from harness.runs.job import RunOptions, plan
from tests.folders import FAKE

ORDERS = {"clustered": "leaves clustered", "released": "leaves as released"}  # the row that is the base itself


def grid(folder: Path, text: str, name: str = "g.toml") -> Grid:
    path = folder / name
    path.write_text(text)
    return read_grid(str(path), FAKE)


def test_changes_and_products(tmp_path: Path) -> None:
    result = grid(
        tmp_path,
        """
about = "sizes"
base = "plain"
settings = { "fake.kind" = "b" }
[changes."wide layer"]
fake.layer.width = 9
fake.rate = "1e-3"
[product]
fake.size = [1, 2]
fake.levels = [[1], [1, 2]]
""",
    )
    assert (result.name, result.about, result.settings) == ("g", "sizes", ("fake.kind=b",))
    assert [cell.name for cell in result.cells] == [
        "plain", "wide layer", "size=1, levels=[1]", "size=1, levels=[1, 2]", "size=2, levels=[1]",
        "size=2, levels=[1, 2]",
    ]  # fmt: skip
    assert result.cells[1].sets() == ("fake.layer.width=9", "fake.rate=1e-3") and result.cells[0].sets() == ()


def test_toml_is_read_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins.warn.cache_clear()
    one = grid(tmp_path, '[changes.a]\nfake.size = 2\n[changes.b]\n"fake.layer" = { width = 3 }\n')
    assert "g.toml: TOML is read for one more version" in capsys.readouterr().err
    two = grid(tmp_path, "changes:\n  a: {fake.size: 2}\n  b:\n    fake:\n      layer: {width: 3}\n", "g.yaml")
    assert one.cells == two.cells and one.cells[2].sets() == ("fake.layer.width=3",)
    assert capsys.readouterr().err == ""


def test_a_value_of_the_base(tmp_path: Path) -> None:
    result = grid(tmp_path, '[changes.a]\nfake.rate.from_base = "cost.train_seconds"\n')
    cell = result.cells[1]
    assert (
        cell.needs_base
        and not result.cells[0].needs_base
        and cell.changes == (("fake.rate", FromBase("cost.train_seconds")),)
    )
    assert cell.sets({"cost": {"train_seconds": 12.345}}) == ("fake.rate=12.3",) and cell.sets() == ("fake.rate=60.0",)
    with pytest.raises(InputError, match=r"no number at cost\.train_seconds"):
        cell.sets({"cost": {"train_seconds": None}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[chnages.a]\nfake.size = 1", "unknown key 'chnages'; did you mean changes?"),
        ("about = 1", "about is 1, expected text"),
        ("product = 1", "product is 1, expected a table"),
        ("[changes]\na = 1", "changes.a names no setting"),
        ("[changes.a]", "changes.a names no setting"),
        ("about = 'x'", "changes nothing"),
        ("[product]\nfake.size = 1", "product.fake.size is 1, expected a list"),
        ("[product]\nfake.size = []", "product.fake.size is [], expected a list"),
        (f"[product]\nfake.size = {list(range(1, 1002))}", "the product has 1001 rows"),
        ("[changes.base]\nfake.size = 1", "two rows are called 'base'"),
        ("[changes.a]\nprotocol.max_history = 5", "protocol.max_history would measure this row under other rules"),
        ("model = 'other'\n[changes.a]\nfake.size = 1", "made for model 'other', not 'fake'"),
        ("[changes.a", "not TOML"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        grid(tmp_path, text)
    assert message in str(raised.value) and "g.toml" in str(raised.value) and "\n" not in str(raised.value)


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fake has no grid of its own; give a \.yaml"):
        read_grid(None, FAKE)
    with pytest.raises(InputError, match=r"no\.toml: cannot be read"):
        read_grid(str(tmp_path / "no.toml"), FAKE)
    with pytest.raises(InputError, match="unknown grid 'papr'; did you mean paper"):
        read_grid("papr", model_entry("eager-llm"))


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu", "paper"])
def test_every_row_of_the_paper_grid_is_a_configuration_of_its_own(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = model_entry("eager-llm")
    monkeypatch.setattr("harness.runs.devices.cuda_available", lambda: False)
    result = read_grid(None, entry)
    assert result.name == "paper" and result.cells[0].name == "full"
    assert sorted(named_grids(entry)) == ["components", "paper"]
    record = {"details": {"model": {"stages": {"alignment": {"seconds": 61.25}, "annealing": {"seconds": 7.5}}}}}
    observed: dict[str, str] = {}
    base: dict[str, Any] = {}
    for cell in result.cells:
        sets = (*result.settings, *cell.sets(record))
        (job,) = plan("eager-llm", RunOptions(profile=profile, device="cpu", sets=sets))
        settings = job.settings.model.model_dump(mode="json")
        base = base or settings
        of_tasks = cell.name.startswith(("no task", "sequential task alone"))
        if cell.name == ORDERS[base["index"]["order"]] or (of_tasks and profile == "cpu"):
            assert settings == base
            continue
        written = job.config_yaml()
        assert written not in observed, f"{cell.name} is the same run as {observed[written]}"
        observed[written] = cell.name
        stated = {key.removeprefix("eager.") for key, _ in cell.changes}
        assert changed(base, settings) == stated - same(base, cell.name), "a row changes what it says and nothing else"
    assert len(observed) == (13 if profile == "cpu" else 19)


def test_every_row_of_the_components_grid_changes_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runs.devices.cuda_available", lambda: False)
    result = read_grid("components", model_entry("eager-llm"))
    observed: dict[str, str] = {}
    for cell in result.cells:
        (job,) = plan("eager-llm", RunOptions(profile="cpu", device="cpu", sets=(*result.settings, *cell.sets({}))))
        written = job.config_yaml()
        assert written not in observed, f"{cell.name} is the same run as {observed[written]}"
        observed[written] = cell.name
    assert result.cells[0].changes == () and len(observed) == 24


def changed(one: dict[str, Any], two: dict[str, Any], above: str = "") -> set[str]:
    """The settings in which two configurations differ."""
    result: set[str] = set()
    for key, value in one.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and isinstance(two[key], dict):
            result |= changed(value, two[key], f"{name}.")
        elif value != two[key]:
            result.add(name)
    return result


def same(base: dict[str, Any], name: str) -> set[str]:
    """What a row states although some profile has it already: no upper bound on steps, a small random Llama."""
    stages = [stage for stage in ("tuning", "annealing") if base[stage]["max_steps"] is None]
    remote = {f"{stage}.max_steps" for stage in stages}
    if base["backbone"]["name"] == "random-llama":
        remote |= {"backbone.name", "backbone.width"}
    return remote if "equal time" in name else set()
