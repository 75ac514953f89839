"""`harness data export --split`: the parts as files, and the ten lines of its page, end to end."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from harness.data.loading import load_dataset
from harness.protocol.protocol import Protocol
from harness.protocol.split import split
from tests.cli.conftest import Harness


def test_the_ten_lines_of_the_page(harness: Harness, toy: str) -> None:
    done = harness("data", "export", toy, "--split", "-o", "parts", "--json")
    assert done.code == 0, done.err
    code = re.findall(r"```python\n(.*?)```", Path("parts/README.md").read_text(encoding="utf-8"), flags=re.S)[0]
    assert len(code.strip().splitlines()) <= 10
    subprocess.run([sys.executable, "-c", code], cwd="parts", check=True)
    message = json.loads(Path("parts/split.json").read_text(encoding="utf-8"))["evaluate"]
    assert message in Path("parts/README.md").read_text(encoding="utf-8") and "rankings.json" in message
    command = [part.replace("rankings.json", "parts/rankings.json") for part in shlex.split(message)[1:]]
    measured = harness(*command, "--json")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["metrics"]["test"]["ndcg@10"] == 1.0, "the toy is a circle: what follows is known"


def test_the_parts_are_those_of_the_split(harness: Harness, toy: str) -> None:
    done = harness("data", "export", toy, "--split", "-o", "parts", "--set", "protocol.max_history=3", "--json")
    dataset = load_dataset(toy)
    result = split(dataset, Protocol(max_history=3))
    assert json.loads(done.out)["protocol"]["fingerprint"] == result.fingerprint
    with open("parts/train.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["user"] == "u1"]
    assert [row["item"] for row in first] == [dataset.items[item] for item in result.train.sequences[1]]
    assert [row["timestamp"] for row in first] == [str(time) for time in range(6)]
    for fold in (result.valid, result.test):
        histories = json.loads(Path(f"parts/{fold.requests.fold}_histories.json").read_text(encoding="utf-8"))
        assert len(histories) == len(fold.requests)
        assert histories["u1"] == [dataset.items[item] for item in fold.requests.histories[1]]
        with open(f"parts/{fold.requests.fold}.csv", encoding="utf-8") as file:
            answers = {row["user"]: row["item"] for row in csv.DictReader(file)}
        assert answers["u1"] == dataset.items[fold.targets.items[1]] and len(answers) == len(histories)


def test_what_is_refused(harness: Harness, toy: str) -> None:
    Path("full").mkdir()
    Path("full/x").write_text("x")
    for options, message in (
        (["-o", "parts"], "give --layout NAME, or --split alone"),
        (["-o", "parts", "--split", "--layout", "csv"], "give --layout NAME, or --split alone"),
        (["-o", "parts", "--layout", "csv", "--protocol", "global-time"], "a layout has no split"),
        (["-o", "full", "--split"], "there is something already"),
    ):
        done = harness("data", "export", toy, *options)
        assert done.code == 2 and message in done.err and not Path("parts").exists(), done.err
