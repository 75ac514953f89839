"""The leaderboard: seeds become one row, and what may not be compared stands apart."""

from __future__ import annotations

import csv
import gc
import io
import json
import statistics
import time
from pathlib import Path

import pytest
import yaml

import harness
from benchmarks.leaderboard_scale import pattern, write_store
from harness.errors import InputError
from harness.protocol.protocol import METRICS
from harness.reports import selection
from harness.reports.formats import row_texts, sheet
from harness.reports.leaderboard import Board, Row, boards, select, standing
from harness.reports.tables import sheets_drawn
from harness.reports.values import metric_text
from harness.store import run_store
from harness.store.record import Record
from harness.store.run_store import Store
from tests.reports.conftest import render
from tests.store.made import put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Model `b` over three seeds, `a` with one seed in two configurations."""
    store = Store(tmp_path / "results")
    for seed, value in ((1, 0.30), (2, 0.40), (3, 0.50)):
        put(store, model="b", seed=seed, value=value, cost={"peak_memory_mb": 100.0 * seed})
    put(store, model="a", value=0.2, details={"configuration": "a1", "size": 3})
    put(store, model="a", value=0.6, details={"configuration": "a2", "size": 4}, run_id="seed1-a2")
    return store


def test_seeds_become_mean_and_deviation(store: Store) -> None:
    (board,) = boards(store.query())
    assert [(row.rank, row.model, len(row.seeds)) for row in board.rows] == [(1, "a", 1), (2, "b", 3), (3, "a", 1)]
    b = board.rows[1]
    assert b.mean("ndcg@10") == pytest.approx(0.4) and b.std("ndcg@10") == pytest.approx(0.1)
    assert b.seeds == (1, 2, 3) and b.note == "" and b.cost["peak_mb"] == 300.0
    assert board.rows[0].std("ndcg@10") is None and board.incomparable_because == ""


def test_notes_tell_single_seeds_and_configurations(store: Store) -> None:
    (board,) = boards(store.query())
    assert board.rows[0].note == "single seed; configuration=a2, size=4"
    assert board.rows[2].note == "single seed; configuration=a1, size=3"


def notes_of(store: Store, model: str) -> list[str]:
    """The notes of a model's rows, in the order of run ids, without the number of seeds."""
    (board,) = boards(store.query())
    rows = sorted((row for row in board.rows if row.model == model), key=lambda row: row.run_ids)
    return [row.note.removeprefix("single seed; ") for row in rows]


def put_settings(store: Store, number: int, values: dict[str, object], **fields: object) -> None:
    details = {"configuration": str(number)}
    put(store, model="p", run_id=f"seed1-{number}", settings={"p": values, **fields}, details=details)


def test_the_row_of_the_usual_settings_says_what_it_has(store: Store) -> None:
    """Three rows, two of which share each setting: the one without anything unusual is told as well."""
    for number, (lr, width) in enumerate([(0.1, 8), (0.2, 8), (0.1, 16)]):
        put_settings(store, number, {"lr": lr, "width": width, "layers": 2})
    assert notes_of(store, "p") == ["lr=0.1, width=8", "lr=0.2, width=8", "lr=0.1, width=16"]


def test_a_difference_behind_many_others_is_named(store: Store) -> None:
    """Rows 1 and 2 differ from row 0 in five settings, and from each other in the last one only."""
    for number, last in enumerate([0, 1, 2]):
        shared = {name: min(number, 1) for name in "abcd"}
        put_settings(store, number, {**shared, "last": last})
    notes = notes_of(store, "p")
    assert len(set(notes)) == 3
    assert all(f"last={n}" in note for n, note in enumerate(notes)), notes


def test_rows_of_equal_settings_are_told_by_their_files_or_ids(store: Store) -> None:
    put_settings(store, 0, {"lr": 0.1}, dataset="one", order="time")
    put_settings(store, 1, {"lr": 0.1}, dataset="one", order="file")
    assert notes_of(store, "p") == ["order=time", "order=file"]
    put_settings(store, 2, {"lr": 0.1}, dataset="one", order="file")
    assert notes_of(store, "p") == ["order=time", "order=file, seed1-1", "order=file, seed1-2"]


def test_other_data_or_rules_stand_apart(store: Store) -> None:
    put(store, model="c", value=0.9, protocol={"fingerprint": "p1", "exclude_history": True})
    put(store, model="d", value=0.9, dataset={"fingerprint": "d1", "users": 6}, protocol={"fingerprint": "p2"})
    put(store, model="e", value=0.9, dataset={"name": "other"})
    result = boards(store.query())
    names = [(board.dataset.name, [row.model for row in board.rows]) for board in result]
    assert names == [("other", ["e"]), ("toy", ["a", "b", "a"]), ("toy", ["c"]), ("toy", ["d"])]
    assert result[0].incomparable_because == ""
    assert all(field in result[2].incomparable_because for field in ("exclude_history=True", "protocol.fingerprint=p1"))
    assert "max_history" not in result[2].incomparable_because and "dataset.users=6" in result[3].incomparable_because
    assert result[3].rows[0].rank == 1


def test_the_metric_decides_the_order(store: Store) -> None:
    put(store, model="z", metrics={"test": dict.fromkeys(METRICS, 0.0) | {"recall@1": 0.99}})
    assert boards(store.query(), "recall@1")[0].rows[0].model == "z"
    assert boards(store.query(), "mrr@10")[0].rows[-1].model == "z"
    with pytest.raises(InputError, match=r"did you mean ndcg@10"):
        boards(store.query(), "ndgc@10")


def test_a_run_finds_its_place(store: Store) -> None:
    board, row = standing(boards(store.query()), "seed2-b")
    assert (row.rank, row.model, board.dataset.name) == (2, "b", "toy")
    with pytest.raises(InputError):
        standing(boards(store.query()), "none")


def test_select_knows_stored_and_registered_names(store: Store) -> None:
    assert len(select(store, "toy")) == 1 and select(store, "ml-100k") == []
    with pytest.raises(InputError, match="did you mean toy"):
        select(store, "toi")


def test_the_dataframe(store: Store) -> None:
    frame = harness.leaderboard("toy", results=store.root)
    assert frame["rank"].tolist() == [1, 2, 3] and frame["model"].tolist() == ["a", "b", "a"]
    assert frame["ndcg@10_std"][1] == pytest.approx(0.1) and frame["board"].unique().tolist() == ["p0"]
    empty = harness.leaderboard(results=store.root / "none")
    assert list(empty.columns) == list(frame.columns) and empty.empty


def test_csv_and_json_keep_every_digit(store: Store) -> None:
    put(store, model="third", value=1 / 3)
    result = boards(store.query())
    rows = list(csv.DictReader(io.StringIO(render(result, "csv", "ndcg@10"))))
    assert {row["model"]: float(row["ndcg@10"]) for row in rows}["third"] == 1 / 3
    (board,) = json.loads(render(result, "json", "ndcg@10"))
    assert [row["model"] for row in board["rows"]] == ["a", "b", "third", "a"]
    assert board["rows"][1]["ndcg@10_std"] == statistics.stdev([0.3, 0.4, 0.5])
    assert board["rows"][1]["run_ids"] == ["seed1-b", "seed2-b", "seed3-b"] and board["protocol"]["fingerprint"] == "p0"


def test_markdown_and_table_round(store: Store) -> None:
    result = boards(store.query())
    markdown = render(result, "markdown", "ndcg@10").splitlines()
    assert len({line.count("|") for line in markdown if line.startswith("|")}) == 1
    assert "0.4000 ± 0.1000" in markdown[5] and "1.2M" in markdown[5]
    text = render(result, "table", "recall@20")
    assert "recall@20" in text and "0.4000 ± 0.1000" in text
    assert "single seed; configuration=a2, size=4" in render(result, "table", "ndcg@10")
    assert metric_text(None) == "-" and metric_text(0.06) == "0.0600"


def test_a_broken_list_shows(store: Store) -> None:
    put(store, model="broken", value=0.01, integrity={"invalid": 3})
    row = boards(store.query())[0].rows[-1]
    assert row_texts(row, "ndcg@10")["short"] == "5, invalid 3"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_terminal_loses_columns_not_digits(store: Store, width: int) -> None:
    from rich.console import Console

    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(sheets_drawn([sheet(board, "ndcg@10") for board in boards(store.query())], width))
    assert captured.get().count("0.4000 ± 0.1000") >= 1 and "…" not in captured.get()


def test_no_configuration_file_is_read_and_a_long_table_is_laid_out_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    for size in range(210):
        put(store, model="a", run_id=f"seed1-{size}", details={"configuration": str(size), "size": size})
    read: list[Path] = []
    real = Path.read_text

    def counted(self: Path, *arguments: str | None, **options: str | None) -> str:
        read.append(self)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    result = boards(store.query())
    assert not read  # the records hold the settings
    assert {row.note for row in result[0].rows} >= {f"single seed; configuration={n}, size={n}" for n in range(210)}
    with monkeypatch.context() as patched:
        patched.setattr("harness.reports.tables.to_rich", None)
        assert "size=209" in text_of(result, 100)
    assert len({line.rindex("single") for line in text_of(result, 240).splitlines() if "single" in line}) == 1


def text_of(boards: list[Board], width: int) -> str:
    from rich.console import Console

    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(sheets_drawn([sheet(board, "ndcg@10") for board in boards], width))
    return captured.get()


def test_what_codes_would_score_is_a_column(store: Store) -> None:
    for seed, rate in ((1, 0.01), (2, 0.03)):
        delta = {"ndcg@10": rate / 2, "recall@10": rate}
        put(store, model="tiger", seed=seed, codes={"collision_rate": rate, "code_level_delta": delta})
    (board,) = boards(store.query())
    rows = {row.model: row_texts(row, "ndcg@10", ("integrity",)) for row in board.rows}
    names = ("collisions", "code Δ ndcg@10", "code Δ recall@10")
    assert [rows["tiger"][name] for name in names] == ["2.00%", "0.0100", "0.0200"]
    assert [rows["b"][name] for name in names] == ["", "", ""]
    frame = harness.leaderboard(results=store.root).set_index("model")
    assert frame.loc["tiger", "code_level_delta_recall@10"] == pytest.approx(0.02)
    assert "code Δ" not in render([board], "markdown", "ndcg@10")


def test_settings_come_from_the_record_or_from_config_yaml(store: Store) -> None:
    settings = {"model": "p", "seed": 1, "protocol": {"name": "x"}, "p": {"lr": 0.1, "name": "y: z", "sizes": [1, 2]}}
    expected = {"p.lr": "0.1", "p.name": "y: z", "p.sizes": "[1, 2]"}
    for number, schema in enumerate((1, 2)):
        fields = {"settings": None, "command": None} if schema == 1 else {"settings": settings}
        put(store, model="p", run_id=f"seed1-{number}", schema=schema, **fields)
    older, newer = (run for run in store.query() if run.record.model == "p")
    older.folder.config.write_text(yaml.safe_dump({**settings, "tuning": {"trials": 3}}))
    newer.folder.config.write_text("p:\n  lr: 0.9\n")
    for row in selection.settings([older, newer]):
        assert {key: value for key, value in row.items() if "." in key} == expected
    older.folder.config.write_text("{")
    assert older.settings == {}


def test_the_spread_is_the_sample_deviation() -> None:
    values = [0.1, 0.2, 0.4, 0.7]
    assert Row("a", "x", (), {"ndcg@10": values}, {}, {}).std("ndcg@10") == pytest.approx(
        statistics.stdev(values), abs=1e-15
    )


def test_many_runs_are_read_without_a_search_for_garbage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 runs take `benchmarks/leaderboard_scale.py`; a twentieth of the runs here, in
    processor time, with room for a busy machine."""
    write_store(tmp_path, 500, 3, pattern(None))
    states: list[bool] = []
    real = run_store.read_record

    def watched(path: Path) -> Record:
        states.append(gc.isenabled())
        return real(path)

    monkeypatch.setattr(run_store, "read_record", watched)
    begun = time.process_time()
    (board,) = boards(Store(tmp_path).query())
    seconds = time.process_time() - begun
    assert sum(len(row.seeds) for row in board.rows) == 500 and board.rows[0].std("ndcg@10") is not None
    assert states == [False] * 500 and gc.isenabled() and seconds < 1.0
