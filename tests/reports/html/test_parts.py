"""Each part of the report by itself: the front, curves, groups, ablations, the code tree, commands, and colours."""

from __future__ import annotations

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from harness.reports.comparison import groups as groups_of
from harness.reports.comparison import ways
from harness.reports.html import build, cost, learning_curves, user_groups
from harness.reports.html.build import MOST, chosen, left_out
from harness.reports.html.document import COLOURS, shown, styles
from harness.reports.leaderboard import Board
from harness.reports.per_user import measured
from harness.store.run_store import Store
from tests.reports import shop
from tests.reports.conftest import Make
from tests.reports.shop import board
from tests.store.made import put


def looks(parts: Board) -> Any:
    return styles(row.model for row in parts.rows)


def test_the_front_leaves_out_leaks_and_rows_without_cost(store: Store) -> None:
    for model, value, seconds, leaks in (
        ("cheap", 0.1, 1.0, []),
        ("dear", 0.3, 100.0, []),
        ("beaten", 0.05, 50.0, []),
        ("leaky", 0.9, 2.0, [shop.LEAK]),
        ("outside", 0.8, None, []),
    ):
        put(store, model=model, value=value, leaks=leaks, cost={"train_seconds": seconds})
    result = board(store)
    (figure,) = cost.cost_figures(result, "ndcg@10", chosen(result, "ndcg@10"), looks(result))
    assert [view.label for view in figure.views] == ["training time", "ranking speed"]
    line, *marks = figure.views[0].plot.to_plotly_json()["data"]
    assert (list(line["x"]), list(line["y"])) == ([1.0, 100.0], [0.1, 0.3])
    assert {mark["name"]: mark["marker"]["symbol"].endswith("-open") for mark in marks}["leaky ‡"]
    assert "outside" not in {mark["name"] for mark in marks} and "outside" in figure.notes[0]
    table = {line.texts[0]: line.texts[3] for line in figure.views[0].sheet.lines}
    assert table == {"cheap": "yes", "dear": "yes", "beaten": "", "leaky ‡": ""}


def test_further_configurations_of_a_model_are_one_trace(store: Store) -> None:
    for n in range(6):
        configuration = {"configuration": str(n), "words": f"%{{x}} <b>{n}"}
        put(store, model="a", run_id=f"r{n}", value=0.1 + 0.01 * n, details=configuration)
    result = board(store)
    (figure,) = cost.cost_figures(result, "ndcg@10", chosen(result, "ndcg@10"), looks(result))
    _, faint, named = figure.views[0].plot.to_plotly_json()["data"]
    assert len(faint["x"]) == 5 and len(named["x"]) == 1 and not faint["showlegend"]
    assert max(faint["y"]) < named["y"][0] == pytest.approx(0.15)  # validation says the same here
    assert all("hovertemplate" not in one and "&lt;b&gt;" in one["hovertext"][0] for one in (faint, named))


def test_the_configuration_that_validation_chose_is_drawn(store: Store) -> None:
    """Not the one that happens to be best on test."""
    lucky = {"test": dict.fromkeys(list(_metrics(0)), 0.5), "valid": _metrics(0.1)}
    sound = {"test": dict.fromkeys(list(_metrics(0)), 0.4), "valid": _metrics(0.2)}
    put(store, model="a", run_id="x1", metrics=lucky, details={"configuration": "x"})
    put(store, model="a", run_id="x2", metrics=sound, details={"configuration": "y"})
    result = board(store)
    (row,) = chosen(result, "ndcg@10")
    assert row.run_ids == ("x2",) and "best on validation" in left_out(result, [row])
    for n in range(MOST + 3):
        put(store, model=f"m{n:02}", value=0.3 - 0.01 * n)
    many = board(store)
    samples = chosen(many, "ndcg@10")
    assert len(samples) == MOST and samples[0].model == "a" and f"the first {MOST}" in left_out(many, samples)


def _metrics(value: float) -> dict[str, float]:
    from harness.protocol.protocol import METRICS

    return dict.fromkeys(METRICS, value)


def test_curves_go_on_over_sessions(store: Store) -> None:
    put(store, model="a")
    (run,) = store.query()
    events: list[Any] = [
        {"event": "session", "seconds": 0.0},
        {"stage": "align", "step": 20, "loss": 2.0, "seconds": 9.0, "session_seconds": 10.0},
        {"event": "stage end", "stage": "align", "step": 20, "loss": 2.0, "seconds": 12.0},
        {"event": "session", "seconds": 0.0},
        {"stage": "align", "step": 40, "loss": 1.0, "valid": 0.25, "seconds": 18.0, "session_seconds": 4.0},
        {"stage": "recbole", "said": "loss: 3", "seconds": 5.0},
        {"stage": "train", "epoch": 1, "loss": None, "valid": True, "seconds": 6.0},
        {"stage": "behaviour", "step": 1, "loss": 7.0, "ndcg@10": 0.5, "seconds": 7.0},
    ]
    run.folder.log.write_text("\n".join(map(json.dumps, events)) + '\n{"cut sh')
    align, behaviour = learning_curves.curves(run)
    assert (align.steps, align.seconds, align.loss, align.valid) == ([20, 40], [10.0, 16.0], [2.0, 1.0], [None, 0.25])
    assert (behaviour.stage, behaviour.valid) == ("behaviour", [0.5])
    result = board(store)
    (valid, loss), notes = learning_curves.curve_figures(result.rows, looks(result))
    assert [view.label for view in valid.views] == ["seconds", "steps"] and notes == []
    assert [list(trace["x"]) for trace in valid.views[0].plot.to_plotly_json()["data"]] == [[16.0], [19.0]]
    assert [list(trace["x"]) for trace in valid.views[1].plot.to_plotly_json()["data"]] == [[40], [1]]
    assert [view.label for view in loss.views] == ["a, align", "a, behaviour"]


def test_long_curves_are_thinned_and_silent_logs_are_said(store: Store) -> None:
    put(store, model="a")
    put(store, model="b")
    run = store.query()[0]
    lines = [{"stage": "s", "step": n, "loss": 1 / (n + 1), "seconds": float(n)} for n in range(10_000)]
    run.folder.log.write_text("\n".join(map(json.dumps, lines)))
    result = board(store)
    (loss,), notes = learning_curves.curve_figures(result.rows, looks(result))
    (trace,) = loss.views[0].plot.to_plotly_json()["data"]
    assert len(trace["x"]) == learning_curves.MOST and trace["x"][0] == 0 and trace["x"][-1] == 9999
    assert notes == ["No curve in the log of b."]


def test_groups_are_means_of_their_users(store: Store, make_run: Make) -> None:
    one, two = make_run("a", 1), make_run("a", 2, 5)
    base = measured(store.query())
    result = board(store)
    figures, notes = user_groups.group_figures(base, result.rows, ("ndcg@10",), looks(result))
    assert notes == []
    mean = (one + two) / 2
    for figure, (_, sizes) in zip(figures, ways(base.split).items(), strict=True):
        (trace,) = figure.views[0].plot.to_plotly_json()["data"]
        ranges = groups_of(sizes)
        expected = [float(mean[(sizes >= low) & (sizes <= high)].mean()) for low, high in ranges]
        assert list(trace["y"]) == pytest.approx(expected) and len(ranges) > 2
        assert all(up > 0 for up in trace["error_y"]["array"])


def test_commands(store: Store, make_run: Make, tmp_path: Path) -> None:
    make_run("a", 1)
    put(store, model="mine", family="external", seed=None, details={"file": "my lists.csv"})
    result = {run.record.model: run for run in store.query()}
    words = shlex.split(build.command(result["a"], store.root))
    expected = ["harness", "run", "a", "-d", str(tmp_path / "toy"), "--config", str(result["a"].folder.config)]
    assert words == [*expected, "--seed", "1", "--results", str(store.root)]
    words = shlex.split(build.command(result["mine"], Path("results")))
    assert words == [
        "harness",
        "evaluate",
        "my lists.csv",
        "-d",
        "toy",
        "--name",
        "mine",
        "--protocol",
        "leave-one-out",
    ]


def test_provenance(store: Store) -> None:
    put(store, model="a", env={"packages": {"torch": "2.1"}, "revision": "0123456789abcdef+"})
    put(store, model="b", env={"packages": {"torch": "2.2"}})
    put(store, model="c", env={"packages": {"torch": "2.2"}})
    table, places = build.run_sheets(board(store))
    heads = [column.name for column in table.columns]
    assert [line.texts[heads.index("environment")] for line in table.lines] == ["1", "2", "2"]
    assert table.lines[0].texts[heads.index("commit")] == "0123456789+"
    assert [line.texts[-1] for line in places.lines] == ["torch 2.1", "torch 2.2"]
    facts = build.facts(board(store))
    assert facts["data fingerprint"] == "d0" and facts["split fingerprint"] == "p0"
    assert "left in the lists" in facts["protocol"]


def _light(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, two: str) -> float:
    high, low = sorted((_light(one), _light(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_on_both_grounds() -> None:
    style = files("harness.reports.html").joinpath("page.css").read_text("utf-8")
    blocks = re.findall(r"--ground:[^}]*?(?=color-scheme)", style)
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]
    assert len(themes) == 4 and themes[1] == themes[2] and themes[0]["ground"] != themes[1]["ground"]
    for theme in themes[:2]:
        for ground in (theme["ground"], theme["raised"]):
            assert all(_contrast(theme[name], ground) >= 4.5 for name in ("ink", "faint", "link"))
        assert all(_contrast(colour, theme["ground"]) >= 3 for colour in COLOURS)


def test_styles_differ_by_more_than_colour() -> None:
    result = styles(f"m{n}" for n in range(10))
    assert len({(style.colour, style.dash) for style in result.values()}) == 10
    assert len({style.symbol for style in result.values()}) == 10
    assert styles(["b", "a"]) == styles(["a", "b"])


def test_text_of_plots_is_cut_and_flat() -> None:
    assert shown("a\n<b>\tc") == "a &lt;b&gt; c" and len(shown("x" * 999)) == 160
