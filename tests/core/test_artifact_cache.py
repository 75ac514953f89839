"""A kept entry: found under its key alone, and never taken where its content is not what was written."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.artifact_cache import CacheEntry, Key, sha256_of

PARTS = {"method": "m/1", "settings": {"epochs": 3, "rate": 0.1}, "seed": 1, "rows": "abc", "device": "cpu"}


def entry(folder: Path, **changes: object) -> CacheEntry:
    key = Key("vectors", {**PARTS, **changes})
    return CacheEntry(key, folder / f"v-{key.digest}.json")


@pytest.fixture
def stored_entry(tmp_path: Path) -> CacheEntry:
    result = entry(tmp_path)
    file = tmp_path / "v.bin"
    file.write_bytes(bytes(range(256)) * 40)
    result.write([file], {"passes": 3})
    return result


def test_the_same_key_finds_it(stored_entry: CacheEntry, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry(tmp_path).read() == {"passes": 3} and entry(tmp_path).state() == "kept"
    assert entry(tmp_path, settings={"rate": 0.1, "epochs": 3}).read() == {"passes": 3}, "the order of names is free"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"method": "m/2"}, "method"),
        ({"settings": {"epochs": 4, "rate": 0.1}}, "settings.epochs"),
        ({"settings": {"epochs": 3, "rate": 0.2}}, "settings.rate"),
        ({"settings": {"epochs": 3, "rate": 0.1, "more": None}}, "settings.more"),
        ({"seed": 2}, "seed"),
        ({"rows": "abd"}, "rows"),
        ({"device": "cuda"}, "device"),
    ],
    ids=str,
)
def test_another_part_misses_it_and_the_part_is_named(
    stored_entry: CacheEntry, tmp_path: Path, change: dict[str, object], part: str
) -> None:
    other = entry(tmp_path, **change)
    assert other.key.digest != stored_entry.key.digest and other.read() is None and other.state() == "missing"
    assert [each.part for each in other.closest("v-*.json") or ()] == [part]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit": _flip,
    "cut off": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", ["content", "manifest"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_is_never_taken(
    stored_entry: CacheEntry, tmp_path: Path, how: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    DAMAGE[how](tmp_path / "v.bin" if name == "content" else stored_entry.manifest)
    assert stored_entry.read() is None
    message = capfd.readouterr().err
    if (how, name) == ("gone", "manifest"):  # then it counts as unfinished
        assert stored_entry.state() == "missing" and not message
    else:
        assert stored_entry.state() == "damaged" and message.startswith("warning: ") and "computed again" in message


def test_a_manifest_of_another_key_is_no_hit(stored_entry: CacheEntry, tmp_path: Path) -> None:
    other = entry(tmp_path, seed=2)
    stored_entry.manifest.rename(other.manifest)
    assert other.read() is None and other.state() == "damaged"


def test_an_edited_manifest_is_no_hit(stored_entry: CacheEntry) -> None:
    document = json.loads(stored_entry.manifest.read_text())
    document["details"]["passes"] = 4
    stored_entry.manifest.write_text(json.dumps(document))
    assert stored_entry.read() is None


def test_a_file_is_read_once_and_anew_where_it_may_have_changed_within_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that tells times in ticks: two changes of as many bytes, and one time."""
    file, read = tmp_path / "file", list[str]()
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *value: read.append("read") or digest(*value))

    def written(content: bytes, at: float) -> str:
        file.write_bytes(content)
        os.utime(file, (at, at))
        return sha256_of(file)

    now = float(int(time.time() + 60))  # however long this takes
    assert written(b"a", now) != written(b"b", now) and len(read) == 2
    first = written(b"a", now - 600)
    assert len(read) == 3 and sha256_of(file) == first and len(read) == 3
    assert written(b"b", now - 500) != first and len(read) == 4
