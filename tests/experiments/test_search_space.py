"""Search spaces: every file that is shipped fits its model, and whatever is wrong with one is one clear line."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.experiments.trials import FIRST, Parameter, Space, read_space, suggest
from harness.experiments.tuning import Search, study
from harness.registry import MODELS, ModelEntry, model_entry
from harness.runs.job import RunOptions
from harness.store.run_store import Store

TUNED = [entry for entry in MODELS if entry.load().config_class.model_fields]


@pytest.mark.parametrize("entry", TUNED, ids=lambda entry: entry.name)
def test_each_model_with_settings_has_a_space_that_fits(entry: ModelEntry, toy: str, store: Store) -> None:
    titles = "".join(f"i{item},box {item}\n" for item in range(24))
    (Path(toy) / "items.csv").write_text(f"item,title\n{titles}")
    result = study(entry.name, Search(), RunOptions(dataset=toy, profile="cpu"), store)
    assert result.space.parameters and result.next_values()  # the configuration as it stands
    for parameter in result.space.parameters:
        for value in parameter.ends():
            result.job({parameter.key: value})  # each end alone is a whole configuration
    samples = suggest(result.space, [(result.next_values(), 0.1)], seed=1)
    assert list(samples) == [parameter.key for parameter in result.space.parameters]
    assert all(parameter.holds(samples[parameter.key]) for parameter in result.space.parameters)


@pytest.mark.parametrize("package", ["baselines.classic", "baselines.recbole", "baselines.rectools", "eager"])
def test_shipped_files_belong_to_models(package: str) -> None:
    names = {path.name.removesuffix(".yaml") for path in files(f"{package}.spaces").iterdir() if ".yaml" in path.name}
    assert names <= {entry.name for entry in MODELS} | {"default"} and names


def test_where_set_leaves_out_what_the_model_lacks(toy: str, store: Store, tmp_path: Path) -> None:
    space = tmp_path / "s.toml"
    rows = "recbole.inner_size = { choices = [128, 256], where_set = true }\n"
    space.write_text(f"[space]\nrecbole.dropout = {{ low = 0.1, high = 0.2, where_set = true }}\n{rows}")
    keys = {}
    for model in ("lightsans", "gru4rec"):
        result = study(model, Search(space=space), RunOptions(dataset=toy), store)
        keys[model] = list(result.space.document())
    assert keys == {"lightsans": ["recbole.dropout", "recbole.inner_size"], "gru4rec": ["recbole.dropout"]}


def test_kinds_of_values() -> None:
    parameters = (
        Parameter("a.whole", 1, 1000, log=True),
        Parameter("a.even", 2, 10, step=2),
        Parameter("a.rate", 1e-4, 1e-1, log=True),
        Parameter("a.grid", 0.1, 0.7, step=0.2),
        Parameter("a.lists", choices=([1, 2], None, True)),
    )
    space, attempts = Space("here", "", parameters), []
    for _ in range(12):
        attempts.append((suggest(space, attempts, seed=3), 0.5))
    for parameter in parameters:
        values = [values[parameter.key] for values, _ in attempts]
        assert all(parameter.holds(value) for value in values) and len({str(value) for value in values}) > 1
        assert parameter.choices or all(isinstance(value, int if parameter.whole else float) for value in values)
    assert suggest(space, attempts, seed=3) == suggest(space, attempts, seed=3) != suggest(space, attempts, seed=4)


def test_the_search_learns() -> None:
    """Behind the random trials, the values gather where the score is high (random draws: 3 of 20)."""
    space, attempts = (
        Space("here", "", (Parameter("a.width", 2, 32, step=2), Parameter("a.kind", choices=("a", "b")))),
        [],
    )
    for _ in range(40):
        values = suggest(space, attempts, seed=1)
        attempts.append((values, -abs(values["a.width"] - 8) - 4.0 * (values["a.kind"] == "b")))
    assert sum(abs(values["a.width"] - 8) <= 4 and values["a.kind"] == "a" for values, _ in attempts[20:]) > 8
    assert (
        len({json.dumps(values) for values, _ in attempts[:FIRST]}) == FIRST
    )  # drawn at random, each from its own seed


def test_values_outside_the_space_are_no_obstacle() -> None:
    """The configuration as it stands may lie where the search does not go."""
    space = Space("here", "", (Parameter("a.x", 1, 4), Parameter("a.y", choices=(1, 2))))
    assert suggest(space, [({"a.x": 99, "a.y": 7}, 0.9)], seed=1)["a.x"] <= 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space = 3", "space is 3, expected a table of settings"),
        ("[spase]\n", "unknown key 'spase'; did you mean space?"),
        ("[space]\n", "names no setting"),
        ('model = "sasrec"\n[space]\nfake.rate = { low = 0, high = 1 }', "made for model 'sasrec', not 'fake'"),
        ("[space]\nfake.rate = 3", "fake.rate is 3, expected a table"),
        ("[space]\nfake.rate = { lo = 1, high = 2 }", "fake.rate: unknown key 'lo'; did you mean low or log?"),
        ("[space]\nfake.rate = { low = 1 }", "a range has numbers low and high"),
        ('[space]\nfake.rate = { low = "a", high = 2 }', "a range has numbers low and high"),
        ("[space]\nfake.rate = { low = 3, high = 2 }", "is no range; low is at most high"),
        ("[space]\nfake.rate = { low = 0, high = 2, log = true }", "is no range"),
        ("[space]\nfake.rate = { low = 1, high = 2, log = 1 }", "log is 1, expected true or false"),
        ("[space]\nfake.rate = { low = 1, high = 2, log = true, step = 1 }", "log and step exclude each other"),
        ("[space]\nfake.rate = { choices = [] }", "choices is a list of values"),
        ("[space]\nfake.rate = { choices = [1], low = 2 }", "stands without low and high"),
        ("[space]\nprotocol.max_history = { low = 5, high = 20 }", "would measure trials under different rules"),
        ("[space]\nfake.rat = { low = 1, high = 2 }", "unknown setting 'fake.rat'; did you mean rate?"),
        ("[space]\nfeke.rate = { low = 1, high = 2 }", "unknown section 'feke'"),
        ('[space]\nfake.size = { choices = ["a", "b"] }', "fake.size is 'a', expected a valid integer"),
        ("[space\n", "not TOML"),
    ],
)
def test_what_is_wrong_is_said(toy: str, store: Store, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        study("fake", Search(space=tmp_path / "s.toml"), RunOptions(dataset=toy), store)
    assert message in str(caught.value) and "s.toml" in str(caught.value)


def test_set_and_searched_at_once_is_refused(toy: str, store: Store) -> None:
    with pytest.raises(InputError, match=r"fake.rate is set, and searched too"):
        study("fake", Search(), RunOptions(dataset=toy, sets=("fake.rate=0.2",)), store)


def test_a_model_without_a_space(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.experiments.trials.DEFAULT", "none")
    entry = ModelEntry("other", "sanity", "tests.fakes:Fake", "", "", "fake")
    with pytest.raises(InputError, match=r"--space: other has no search space of its own; give a .yaml file"):
        read_space(None, entry)
    with pytest.raises(InputError, match=r"none.toml: cannot be read"):
        read_space(Path("none.toml"), model_entry("fake"))
