"""A preparation that is killed goes on where it was, with the same result, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from harness.core import timer
from harness.data import local_store
from harness.data.download import Progress
from harness.data.raw import prepare as module
from harness.data.raw import streams
from harness.data.raw.prepare import Request, prepare
from harness.data.raw.streams import RawFileHandle
from harness.errors import InputError
from tests.data.raw import files


class Killed(BaseException):
    """In place of SIGKILL: nothing may clean up after it but what a killed process would not reach either."""


class Lines:
    """Counts the lines that are read anew from each file, and dies at the `fatal`-th of all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, int] = {}
        self.fatal: int | None = None
        complete = streams.ResumableRows._rest
        monkeypatch.setattr(timer, "KEEP_SECONDS", -1.0)  # a part a row

        def counted(
            local: streams.ResumableRows,
            result: RawFileHandle,
            read: streams.Read,
            reached: int,
            progress: Progress | None,
        ) -> Iterator[tuple[int, Any]]:
            for line, row in complete(local, result, read, reached, progress):
                if sum(self.seen.values()) == self.fatal:
                    raise Killed
                self.seen[result.path.name] = self.seen.get(result.path.name, 0) + 1
                yield line, row

        monkeypatch.setattr(streams.ResumableRows, "_rest", counted)

    def reset(self, fatal: int | None = None) -> None:
        self.seen, self.fatal = {}, fatal


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    return Lines(monkeypatch)


def beauty(folder: Path) -> Path:
    """Reviews and metadata of 2014: both are read line by line; one item stands there twice."""
    rows = files.core_rows()
    files.reviews_2014(folder, rows)
    items = [f"I{n}" for n in range(5)]
    files.metadata_2014(folder, [*items, "I2", "other"], description="\ud83d loud", categories=[["Music", "Loud"]])
    return folder


REVIEWS, META = "reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"


def test_each_row_is_read_once_whenever_it_is_killed(
    tmp_path: Path, own_home: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = beauty(tmp_path / "raw")
    complete = prepare(Request("amazon2014:Beauty", raw))
    assert lines.seen == {REVIEWS: 25, META: 7}
    for fatal in (1, 2, 24, 25, 26, 31):
        monkeypatch.setenv("HARNESS_HOME", str(tmp_path / f"home-{fatal}"))
        lines.reset(fatal)
        with pytest.raises(Killed):
            prepare(Request("amazon2014:Beauty", raw))
        assert local_store.find("beauty") is None
        lines.reset()
        repeated = prepare(Request("amazon2014:Beauty", raw))
        assert repeated.fresh and repeated.story == complete.story
        # the row at which it died had not got its part yet
        assert sum(lines.seen.values()) in (32 - fatal, 33 - fatal)
        data = tmp_path / f"home-{fatal}" / "data"
        assert sorted(path.name for path in data.iterdir()) == sorted(p.name for p in (own_home / "data").iterdir())


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[:60] + b"\x00\xff" + raw[62:], lambda _: b""])
def test_a_damaged_part_and_those_behind_it_are_read_again(
    tmp_path: Path, own_home: Path, lines: Lines, damage: Callable[[bytes], bytes]
) -> None:
    raw = beauty(tmp_path / "raw")
    lines.fatal = 20
    with pytest.raises(Killed):
        prepare(Request("amazon2014:Beauty", raw))
    (folder,) = local_store.unfinished("beauty")
    part = sorted((folder / "interactions").glob("*.parquet"))[10]
    part.write_bytes(damage(part.read_bytes()))
    lines.reset()
    done = prepare(Request("amazon2014:Beauty", raw))
    assert lines.seen == {REVIEWS: 15, META: 7} and done.story["result"]["interactions"] == 25


def test_other_raw_files_begin_anew_and_a_wrong_one_leaves_nothing(
    tmp_path: Path, own_home: Path, lines: Lines
) -> None:
    raw = beauty(tmp_path / "raw")
    lines.fatal = 20
    with pytest.raises(Killed):
        prepare(Request("amazon2014:Beauty", raw))
    files.reviews_2014(raw, files.core_rows(5, 6))
    files.metadata_2014(raw, [f"I{n}" for n in range(6)])
    lines.reset()
    assert prepare(Request("amazon2014:Beauty", raw)).story["result"]["interactions"] == 30
    assert lines.seen == {REVIEWS: 30, META: 6} and local_store.unfinished("beauty") == []
    files.put(raw / META, files.json_lines([]) + "{'asin': 'I0', 'title': 'T'}\n{'asin': \n")
    with pytest.raises(InputError, match="line 2"):
        prepare(Request("amazon2014:Beauty", raw, bad_lines=0))
    (folder,) = local_store.unfinished("beauty")
    assert not (folder / "metadata").exists()


def test_another_name_that_begins_with_it_is_left_alone(tmp_path: Path, own_home: Path) -> None:
    raw = files.set_2018(tmp_path / "raw")
    actual = own_home / "data" / ".instruments-tie1=0123.unfinished"
    half = own_home / "data" / ".instruments-tie1=abcd.tmp"
    for folder in (actual, half):
        folder.mkdir(parents=True)
    prepare(Request("instruments", raw))
    assert actual.is_dir() and half.is_dir()


def test_two_at_once_read_once(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = files.set_2018(tmp_path / "raw")
    built: list[str] = []
    build = module.build

    def slow(*value: Any) -> Any:
        built.append("built")
        return build(*value)

    monkeypatch.setattr(module, "build", slow)
    fresh: list[bool] = []
    threads = [Thread(target=lambda: fresh.append(prepare(Request("instruments", raw)).fresh)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["built"] and sorted(fresh) == [False, False, True]


def test_a_header_and_blank_lines_are_no_rows_and_do_not_shift_the_rest(
    tmp_path: Path, own_home: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CSV with something amiss for the fast way is read line by line, also after a kill."""
    rows = files.core_rows()
    raw = tmp_path / "raw"
    body = "\n\n".join(f"{item},{user},{rating},{time}" for user, item, rating, time in rows)
    files.put(raw / "Musical_Instruments.csv", f"\n{body}\n")
    files.metadata_2018(raw, [f"I{n}" for n in range(5)])
    monkeypatch.setattr("harness.data.raw.interactions._read_fast", lambda *_: None)
    complete = prepare(Request("instruments", raw))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "other"))
    lines.reset(fatal=7)
    with pytest.raises(Killed):
        prepare(Request("instruments", raw))
    lines.reset()
    assert prepare(Request("instruments", raw)).story == complete.story
    assert lines.seen["Musical_Instruments.csv"] == 18
