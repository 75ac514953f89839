"""The command under `torchrun` and `accelerate launch`: one run, one voice; a process that dies; what is not shared."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness.errors import AbortedByMain, InputError, PeerLost
from harness.generative.training.checkpoint import read_snapshot
from harness.protocol.context import SINGLE_PROCESS, ProcessGroup, Sharding, peer_errors
from harness.runs.devices import check_address, first_here, place
from harness.runs.distributed import accelerates_sharding, device_named, placed
from harness.runs.job import RunOptions, plan
from tests import toys
from tests.distributed.cases import ROOT, started
from tests.folders import csv_folder
from tests.waiting import PATIENCE, wait_for

BY_ACCELERATE = (  # with `--cpu` it would start one process alone
    "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no",
    "--main_process_port=0",
)  # fmt: skip
SHORT = {"tiger.training.max_steps": 4, "tiger.index.rqvae.epochs": 2, "tiger.decode.batch": 8}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy cycle with item titles, of 23 users."""
    data = toys.cycle(users=23, length=10)
    folder = csv_folder(tmp_path_factory.mktemp("data") / "toy", data)
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "title"])
        writer.writerows([item, text.title] for item, text in zip(data.items, data.text or (), strict=True))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def command(toy: Path, results: Path, **settings: Any) -> list[str]:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in {**SHORT, **settings}.items()]
    return ["run", "tiger", "-d", str(toy), "--profile=smoke", f"--results={results}", *sets]


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe, requested = subprocess.PIPE, [sys.executable, "-m", *arguments]
    with subprocess.Popen(
        requested, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            out, message = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # what it has started too
            raise
    return subprocess.CompletedProcess(requested, process.returncode, out, message)


def lists(run: str) -> pd.DataFrame:
    return pd.read_parquet(Path(run) / "predictions.parquet")[["user", "rank", "item"]]


@pytest.mark.nightly
def test_one_run_by_two_processes_of_torchrun_and_found_again_by_accelerate(toy: Path, tmp_path: Path) -> None:
    alone = harness.run("tiger", str(toy), profile="smoke", set=SHORT, results=tmp_path / "alone")
    requested = [*command(toy, tmp_path / "both"), "--json"]
    done = launched("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "harness", *requested)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["run_id"] == alone.record.run_id, "the number of processes decides nothing"
    assert document["cost"]["device"] == "2 x cpu (gloo)" and alone.record.cost.device == "cpu"
    assert document["details"]["processes"]["number"] == 2
    peaks = document["details"]["processes"]["peak_memory_mb"]
    assert document["cost"]["peak_memory_mb"] == pytest.approx(sum(peaks)) and min(peaks) > 50
    assert document["integrity"]["users_scored"] == 23
    assert document["metrics"]["test"] == pytest.approx(alone.record.metrics.test)
    pd.testing.assert_frame_equal(lists(document["path"]), lists(alone.path))
    assert done.stderr.count("stored in") == 1, "the first speaks for all"
    assert [path.name for path in Path(document["path"]).parent.iterdir() if not path.name.startswith(".")] == [
        document["run_id"]
    ]

    repeated = launched("accelerate.commands.accelerate_cli", *BY_ACCELERATE, "-m", "harness", *requested)
    assert repeated.returncode == 0, repeated.stderr
    assert json.loads(repeated.stdout) == document and repeated.stderr.count("is complete already") == 1


@pytest.mark.nightly
def test_a_process_that_dies_ends_the_run_with_one_line_and_it_is_continued(toy: Path, tmp_path: Path) -> None:
    long = {"tiger.training.max_steps": 100_000, "tiger.training.epochs": 100_000, "tiger.training.every": 1}
    requested = command(toy, tmp_path, **long)
    with started("harness", *requested, HARNESS_DEBUG="0") as (first, second):
        stored = "runs/tiger/*/*/checkpoint/tiger.safetensors"
        wait_for(lambda: bool(list(tmp_path.glob(stored))) or first.poll() is not None, "a state that is kept")
        assert first.poll() is None and second.poll() is None, first.communicate()[1]
        second.send_signal(signal.SIGKILL)
        _, message = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1
    lines = [line for line in message.splitlines() if line.startswith("harness")]
    assert len(lines) == 1 and "another process of this run has ended; the same command resumes the run" in lines[0]
    (path,) = tmp_path.glob(stored)
    stage = read_snapshot(path)
    assert stage is not None and stage[0]["step"] > 0
    assert not list(tmp_path.glob("runs/tiger/*/*/result.json"))


@pytest.mark.nightly
def test_what_cannot_be_shared_is_made_by_one(toy: Path, tmp_path: Path) -> None:
    arguments = ("run", "mostpop", "-d", str(toy), f"--results={tmp_path}", "--json")
    with started("harness", *arguments) as (first, second):
        messages, silent = first.communicate(timeout=PATIENCE), second.communicate(timeout=PATIENCE)
    assert (first.returncode, second.returncode) == (0, 0), messages[1]
    assert json.loads(messages[0])["cost"]["device"] == "cpu"
    assert "mostpop runs in one process; the other 1 are idle" in messages[1]
    assert silent == ("", "")


@pytest.mark.nightly
def test_wrong_input_is_said_once(tmp_path: Path) -> None:
    with started("harness", "run", "tigger", f"--results={tmp_path}") as (first, second):
        messages, silent = first.communicate(timeout=PATIENCE), second.communicate(timeout=PATIENCE)
    assert (first.returncode, second.returncode) == (2, 2)
    (line,) = messages[1].splitlines()
    assert line.startswith("harness: unknown model 'tigger'; did you mean tiger or ")
    assert silent == ("", "")


def test_other_commands_are_the_first_processs(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from harness.cli.app import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["models"]) == 0 and capfd.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert main(["models"]) == 0 and "tiger" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ({}, (0, 1)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, (0, 1)),
        ({"WORLD_SIZE": "4"}, (0, 1)),  # a cluster's own habit: no launcher has given us a rank
        ({"WORLD_SIZE": "4", "RANK": "3"}, (3, 4)),
        ({"WORLD_SIZE": "4", "RANK": "4"}, "RANK=4 of WORLD_SIZE=4"),
        ({"WORLD_SIZE": "four", "RANK": "3"}, "WORLD_SIZE='four' is not a number"),
        ({"WORLD_SIZE": "4", "RANK": "-1"}, "RANK='-1' is not a number"),
    ],
)
def test_who_is_who(messages: dict[str, str], expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in messages.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, tuple):
        assert place() == expected and first_here()
    else:
        with pytest.raises(InputError, match=expected):
            place()
    with pytest.raises(InputError, match="MASTER_ADDR"):
        check_address()


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ({}, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, Sharding(reshard=True)),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false"},
            Sharding(reshard=False),
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, "set fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "1", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "cannot be offloaded"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "backbone.checkpointing=true in the run",
        ),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed has its own optimiser and training loop; use FSDP"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM has"),
    ],
)
def test_what_accelerate_was_configured_to(
    messages: dict[str, str], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    for name, value in messages.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            accelerates_sharding()
        return
    assert accelerates_sharding() == expected
    loading = os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"]
    assert loading == ("true" if expected is None else "false"), "each process reads its backbone itself"


def test_each_process_has_a_card_of_its_own(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (job,) = plan("mostpop", RunOptions(dataset=str(toy)))
    both, selected = ProcessGroup(1, 2), list[int]()
    assert placed(job, both) is job and device_named(job, both) == "2 x cpu (gloo)"
    cards = replace(job, device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert placed(cards, both).device == "cuda:1" and selected == [1]
    assert device_named(placed(cards, both), both) == "2 x cuda (nccl)"
    assert placed(cards, SINGLE_PROCESS) is cards and device_named(cards, SINGLE_PROCESS) == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 2 on this machine, which has 2 GPUs"):
        placed(cards, both)
    with pytest.raises(InputError, match="2 processes cannot share 'cuda:1'"):
        placed(replace(job, device="cuda:1"), both)


def test_who_says_what(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from harness.cli.output import interrupted, report_error

    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (
        report_error(InputError("no")) == 2 and report_error(AbortedByMain("no")) == 2 and capfd.readouterr().err == ""
    )
    assert interrupted() == 130 and capfd.readouterr().err == ""
    assert report_error(PeerLost("gone")) == 1
    assert capfd.readouterr().err == "harness, process 3 of 4: gone\n"
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert report_error(InputError("no file")) == 2
    assert capfd.readouterr().err == "harness, process 3 of 4: no file\n"


def test_what_the_transport_says_becomes_words() -> None:
    with pytest.raises(PeerLost, match="the same command resumes the run"), peer_errors():
        raise RuntimeError("Connection closed by peer")
