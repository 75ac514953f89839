"""Precedence of settings, and one clear line for whatever does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.registry import model_entry
from harness.runs.config import ConfigFile, Settings, read_config, resolve
from harness.runs.job import RunOptions, plan
from tests.folders import FAKE, csv_folder


def settle(*sets: str, profile: str = "cpu", file: ConfigFile | None = None) -> Settings:
    return resolve(FAKE, profile, file or ConfigFile(), sets)


def test_later_layers_win(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("fake:\n  size: 20\n  layer: {width: 9}\n")
    file = read_config(path, FAKE)
    values = [
        settle().model.model_dump()["size"],
        settle(profile="smoke").model.model_dump()["size"],
        settle(profile="smoke", file=file).model.model_dump()["size"],
        settle("fake.size=30", profile="smoke", file=file).model.model_dump()["size"],
    ]
    assert values == [3, 7, 20, 30]  # the preset, the profile, the file, --set
    merged = settle(profile="smoke", file=file).model.model_dump()
    assert (merged["rate"], merged["layer"]) == (0.5, {"width": 9})


def test_values_have_yaml_types() -> None:
    done = settle("fake.rate=1e-3", "fake.levels=[3, 4]", "fake.kind=b", "fake.layer.width=8", "protocol.max_history=5")
    assert done.model.model_dump() == {
        "size": 3,
        "rate": 0.001,
        "kind": "b",
        "levels": (3, 4),
        "layer": {"width": 8},
        "peek": False,
        "words": None,
    }
    assert done.protocol.max_history == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fake.sise=3", "--set fake.sise=3: unknown setting 'fake.sise'; did you mean size?"),
        ("fake.layer.widht=3", "unknown setting 'fake.layer.widht'; did you mean width?"),
        ("fkae.size=3", "unknown section 'fkae'; did you mean fake?"),
        ("fake.size=many", "fake.size is 'many', expected a valid integer"),
        ("fake.size=true", "fake.size is True, expected a valid integer"),
        ("fake.size=2.5", "fake.size is 2.5, expected a valid integer"),
        ("fake.size=0", "fake.size is 0, expected greater than or equal to 1"),
        ("fake.size=", "fake.size is None, expected a valid integer"),
        ("fake.kind=c", "fake.kind is 'c', expected 'a' or 'b'"),
        ("fake.levels=3", "fake.levels is 3, expected a list, such as [3]"),
        ("fake.layer=3", "fake.layer is 3, expected"),
        ("fake.layer.width=x", "fake.layer.width is 'x', expected a valid integer"),
        ("protocol.name=random/1", "unknown protocol 'random/1'"),
        ("fake.size", "not of the form section.key=value"),
        ("fake=3", "not of the form section.key=value"),
        ("fake.size=[1", "--set fake.size=[1 line 1: not YAML"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        settle(text)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fake: 3", "section 'fake' is 3, expected a mapping"),
        ("faek: {size: 3}", "unknown section 'faek'"),
        ("model: sasrec", "the file is for model 'sasrec', not 'fake'"),
        ("model: sasrec\nrecbole: {}", "the file is for model 'sasrec', not 'fake'"),
        ("seed: x", "seed is 'x', expected an integer"),
        ("- 1", "not a mapping"),
        ("a: [", "not YAML"),
        ("fake:\n  size: 1\n  size: 2", "key 'size' is repeated (line 3)"),
        ("seed: 010", "seed is '010', expected an integer"),
        ("seed: 1:30", "seed is '1:30', expected an integer"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        read_config(path, FAKE)
    assert "mine.yaml" in str(raised.value) and message in str(raised.value)


def test_a_wrong_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("fake: {size: many}")
    with pytest.raises(InputError, match=r"mine\.yaml: fake\.size is 'many'"):
        settle(file=read_config(path, FAKE))


def test_profiles() -> None:
    assert settle(profile="gpu").model.model_dump()["size"] == 70
    with pytest.raises(InputError, match="fake has no profile 'paper'; choose cpu, gpu, smoke"):
        settle(profile="paper")
    with pytest.raises(InputError, match="did you mean smoke"):
        settle(profile="smok")


def test_auto_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    for observed, profile in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr("harness.runs.devices.cuda_available", lambda observed=observed: observed)
        assert settle(profile="auto").profile == profile


def test_options_stand_above_the_file(toy: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"dataset: {toy}\nseed: 5\nprofile: smoke\n")
    (job,) = plan("fake", RunOptions(config=path))
    assert (job.dataset, job.seed, job.settings.profile) == (toy, 5, "smoke")
    jobs = plan("fake", RunOptions(dataset="ml-100k", profile="cpu", seeds=(1, 2, 1), config=path))
    assert [(job.dataset, job.seed, job.settings.profile) for job in jobs] == [("ml-100k", n, "cpu") for n in (1, 2)]


def test_devices(toy: str) -> None:
    for device, message in (("gpu", "unknown device"), ("cuda:99", "is not available")):
        with pytest.raises(InputError, match=message):
            plan("fake", RunOptions(dataset=toy, device=device))
    with pytest.raises(InputError, match="-1 is not a seed"):
        plan("fake", RunOptions(dataset=toy, seeds=(-1,)))


@pytest.mark.parametrize("text", ["fake.size=9223372036854775808", "fake.levels=[1, -9223372036854775808]"])
def test_a_number_that_no_record_could_hold_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"a setting of fake is 9223372036854775808; give an integer below 2\^63"):
        settle(text)
    settle("fake.size=9223372036854775807")


def test_heads_have_to_share_the_dimensions_of_behaviour_vectors() -> None:
    sets = ["eager.behavior.heads=3", "eager.behavior.encoder=sasrec"]
    with pytest.raises(InputError, match=r"eager\.behavior: 16 dimensions \(dim\) cannot be shared by 3 heads"):
        resolve(model_entry("eager-llm"), "smoke", ConfigFile(), sets)
    resolve(model_entry("eager-llm"), "smoke", ConfigFile(), [*sets, "eager.behavior.dim=18"])
    resolve(model_entry("eager-llm"), "smoke", ConfigFile(), [*sets, "eager.behavior.encoder=din"])


def test_a_list_that_is_too_short_is_told_in_plain_words() -> None:
    with pytest.raises(InputError, match=r"eager\.index\.sources is \[\], expected a list of at least 1"):
        resolve(model_entry("eager-llm"), "smoke", ConfigFile(), ["eager.index.sources=[]"])


@pytest.mark.parametrize(("model", "section"), [("eager-llm", "eager"), ("tiger", "tiger"), ("lcrec", "lcrec")])
def test_a_ready_index_that_nothing_reads_is_refused(model: str, section: str) -> None:
    named = f"{section}.index.file=x.json"
    with pytest.raises(InputError, match="reads no file; set kind=file"):
        resolve(model_entry(model), "smoke", ConfigFile(), [named])
    resolve(model_entry(model), "smoke", ConfigFile(), [named, f"{section}.index.kind=file"])


def test_a_dataset_path_is_relative_to_the_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = csv_folder(tmp_path / "there" / "toy")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "there" / "run.yaml"
    for name in ("toy", "../there/toy", str(folder)):
        path.write_text(f"dataset: {name}\n")
        (job,) = plan("markov", RunOptions(config=path))
        assert Path(job.dataset).resolve() == folder
    path.write_text("dataset: ml-100k\n")
    assert plan("markov", RunOptions(config=Path("there/run.yaml")))[0].dataset == "ml-100k"


def test_a_former_section_is_read_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = model_entry("sasrec")
    path = tmp_path / "run.yaml"
    path.write_text("model: sasrec\nrecbole:\n  learning_rate: 1e-3\n")
    settings = resolve(entry, "smoke", read_config(path, entry), ["recbole.epochs=3"])
    assert (settings.model.learning_rate, settings.model.epochs) == (1e-3, 3)  # type: ignore[attr-defined]
    assert capsys.readouterr().err.count("the settings of sasrec are in the section 'rectools' now") == 2
    with pytest.raises(InputError, match="unknown setting"):
        resolve(entry, "smoke", read_config(None, entry), ["recbole.embedding_size=3"])
