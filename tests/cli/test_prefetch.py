"""`harness prefetch`: what is downloaded, and the errors. The hub is a stub; data sets come from raw files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import doctor
from tests.cli.conftest import Harness


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The calls of `snapshot_download`; `gone/away` does not exist."""
    calls: list[tuple[str, Any]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        calls.append((name, allow_patterns))
        if name == "gone/away":
            raise OSError("404 Client Error\nmore lines")
        return f"/cache/{name}"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    monkeypatch.delenv("HARNESS_TRUST_REMOTE_CODE", raising=False)
    return calls


def test_the_models_that_settings_name_are_downloaded(harness: Harness, hub: list[tuple[str, Any]]) -> None:
    sets = ("--set", "eager.backbone.name=some/llama", "--set", "eager.semantic.encoder=some/encoder")
    done = harness("prefetch", "eager-llm", "--profile", "gpu", *sets, "--json")  # for a machine with a GPU
    assert done.code == 0, done.err
    assert [row["path"] for row in json.loads(done.out)] == ["/cache/some/llama", "/cache/some/encoder"]
    assert [name for name, _ in hub] == ["some/llama", "some/encoder"]
    assert all("*.safetensors" in patterns and "*.py" not in patterns for _, patterns in hub)


def test_built_in_models_and_folders_need_no_download(harness: Harness, hub: list[tuple[str, Any]], toy: str) -> None:
    Path("own/llama").mkdir(parents=True)
    for sets in ((), ("--set", "eager.backbone.name=own/llama")):
        done = harness("prefetch", "eager-llm", "--profile", "smoke", *sets)
        assert done.code == 0 and "no download needed" in done.out, done.err
    done = harness("prefetch", "-d", toy)
    assert done.code == 0 and "no download needed" in done.out, done.err
    assert hub == []


def test_a_public_data_set_is_prepared_once(
    harness: Harness, hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    monkeypatch.setattr("harness.data.raw.prepare.prepare", lambda request, progress: prepared.append(request.name))
    monkeypatch.setattr("harness.data.catalog.CatalogueEntry.load", lambda self: None)
    done = harness("prefetch", "-d", "instruments", "-d", "instruments", "--json")
    assert done.code == 0 and prepared == ["instruments"], done.err
    monkeypatch.setattr("harness.data.catalog.CatalogueEntry.ready", lambda self: True)
    assert harness("prefetch", "-d", "instruments").code == 0 and prepared == ["instruments"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("prefetch", "nothing to download"),
        (
            "prefetch eager-llm --profile smoke --set eager.backbone.name=gone/away",
            "gone/away: cannot be downloaded (404 Client",
        ),
        ("prefetch eager-lm", "did you mean eager-llm"),
        ("prefetch -d instrumets", "did you mean instruments"),
    ],
)
def test_wrong_input(harness: Harness, hub: list[tuple[str, Any]], arguments: str, message: str) -> None:
    done = harness(*arguments.split())
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_offline_is_refused(harness: Harness, hub: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    done = harness("prefetch", "eager-llm")
    assert done.code == 2 and "HARNESS_OFFLINE=1 forbids" in done.err and hub == []


def test_no_pickles() -> None:
    assert not any(pattern.endswith((".bin", ".pt", ".pkl")) for pattern in doctor.PATTERNS)
