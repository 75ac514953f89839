"""`harness certify` and `harness verify`: recomputed metrics, changed files, equal times."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Harness


@pytest.fixture
def certificate(harness: Harness, toy: str, tmp_path: Path) -> Path:
    assert harness("run", "markov", "-d", toy).code == 0
    done = harness("certify", "markov", "-d", toy, "-o", "certificate")
    assert done.code == 0, done.err
    return tmp_path / "certificate"


def outcomes(harness: Harness, *arguments: str) -> tuple[int, dict[str, bool | None]]:
    done = harness("verify", *arguments, "--json")
    return done.code, {one["name"]: one["ok"] for one in json.loads(done.out)}


def test_a_certificate_holds_without_the_store(
    harness: Harness, toy: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = certificate.rename(certificate.parent / "moved")
    monkeypatch.chdir(elsewhere)  # where no folder has the data set's name
    code, checks = outcomes(harness, str(elsewhere))
    assert code == 0 and False not in checks.values()
    assert checks["ndcg@10"] and checks["recall@20"]
    assert checks["data set"] is None and checks["training"] is None  # toy is no registered name
    code, checks = outcomes(harness, str(elsewhere), "-d", toy)
    assert code == 0 and checks["data set"] and checks["split"] and checks["test targets"]
    checklist = (elsewhere / "checklist.md").read_text()
    for heading in ("Data", "Protocol", "Seeds and selection", "Hardware and cost", "Software", "Evaluation"):
        assert f"## {heading}" in checklist
    assert "metrics" in (elsewhere / "README.md").read_text()


@pytest.mark.parametrize("name", ["run.trec", "qrels.txt", "checklist.md"])
def test_a_changed_file_is_named(harness: Harness, certificate: Path, name: str) -> None:
    path = certificate / name
    path.write_text(path.read_text().replace("1", "2", 1))
    code, checks = outcomes(harness, str(certificate))
    assert code == 2 and checks[f"file {name}"] is False


def test_a_metric_that_the_lists_do_not_give_is_named(harness: Harness, certificate: Path) -> None:
    path = certificate / "certificate.json"
    document = json.loads(path.read_text())
    stated = document["record"]["metrics"]["test"]["ndcg@10"]
    document["record"]["metrics"]["test"]["ndcg@10"] = stated * (1 - 1e-15) - 1e-16
    path.write_text(json.dumps(document))
    code, checks = outcomes(harness, str(certificate))
    assert code == 2 and [name for name, ok in checks.items() if ok is False] == ["ndcg@10"]


def test_another_data_set_is_not_the_certificates(harness: Harness, toy: str, certificate: Path) -> None:
    lines = (Path(toy) / "interactions.csv").read_text().splitlines()
    (Path(toy) / "interactions.csv").write_text("\n".join(lines[:-1]) + "\n")
    code, checks = outcomes(harness, str(certificate), "-d", toy)
    assert code == 2 and checks["data set"] is False


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "record": {}, "files": {}}'])
def test_no_certificate(harness: Harness, certificate: Path, content: str) -> None:
    (certificate / "certificate.json").write_text(content)
    done = harness("verify", str(certificate))
    assert done.code == 2 and "certificate.json" in done.err and "Traceback" not in done.err


def timed_folder(folder: Path, *, tied: bool) -> str:
    """Thirty users with six items each; the last five of a user share one time, or all times differ."""
    folder.mkdir()
    with (folder / "interactions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "timestamp"])
        for user in range(30):
            for place in range(6):
                time = min(place, 1) if tied else place
                writer.writerow([f"u{user}", f"i{(user + place) % 9}", 1_000_000_000 + 1000 * time])
    return str(folder)


def bounds(report: dict) -> list[tuple[float, float]]:
    return [(values["min"], values["max"]) for model in report["models"].values() for values in model.values()]


def test_ties_move_targets_and_their_absence_does_not(harness: Harness, tmp_path: Path) -> None:
    tied, clear = timed_folder(tmp_path / "tied", tied=True), timed_folder(tmp_path / "clear", tied=False)
    reports = {}
    for name in (tied, clear):
        done = harness("verify", name, "--tie-seeds", "3", "--json")
        assert done.code == 0, done.err
        reports[name] = json.loads(done.out)
    moved = [order["test_targets_moved"] for order in reports[tied]["orders"]]
    assert moved[0] == 0 and all(share > 0.5 for share in moved[1:])
    assert reports[tied]["tied_interactions"] == 5 / 6 and reports[clear]["tied_interactions"] == 0
    assert {order["test_targets_moved"] for order in reports[clear]["orders"]} == {0}
    assert len({order["fingerprint"] for order in reports[clear]["orders"]}) == 1
    assert all(low == high for low, high in bounds(reports[clear]))
    assert any(low < high for low, high in bounds(reports[tied]))


def test_the_board_shows_the_spread_over_orders(harness: Harness, tmp_path: Path) -> None:
    tied = timed_folder(tmp_path / "tied", tied=True)
    assert harness("run", "markov", "-d", tied).code == 0
    assert "Order of equal times" not in harness("leaderboard", "-d", tied).out
    assert harness("verify", tied, "--tie-seeds", "2").code == 0
    board = harness("leaderboard", "-d", tied).out
    assert "Order of equal times: 2 other orders move" in board
    (document,) = json.loads(harness("leaderboard", "-d", tied, "--format", "json").out)
    assert set(document["ties"]["models"]) == {"mostpop", "markov", "itemknn"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy", "--tie-seeds", "1"), "--tie-seeds"),
        (("nothing", "--tie-seeds", "2"), "nothing"),
    ],
)
def test_wrong_input(harness: Harness, toy: str, arguments: tuple[str, ...], message: str) -> None:
    done = harness("verify", *arguments)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1


def test_data_without_times_have_no_ties(harness: Harness, toy: str) -> None:
    done = harness("verify", toy, "--order", "file", "--tie-seeds", "2")
    assert done.code == 2 and "no timestamps" in done.err


def test_a_data_set_is_checked_as_by_data_verify(harness: Harness, toy: str) -> None:
    assert harness("verify", toy, "--json").out == harness("data", "verify", toy, "--json").out
