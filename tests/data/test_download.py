"""Downloads against a local server that drops, lies and answers with pages: never a partial file under its final name,
always a clear line, always a state that the same call continues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.environment import OFFLINE_VARIABLE as OFFLINE
from harness.data.download import RemoteFile, fetch
from harness.errors import InputError
from tests.data.server import BODY, SHA256, Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as state:
        yield state


def remote_file(server: Server, *more: str, size: int | None = len(BODY), sha256: str | None = SHA256) -> RemoteFile:
    return RemoteFile("raw.csv", (server.url(), *more), size, sha256)


def partial_size(folder: Path) -> int:
    """Bytes of the unfinished file; the final name must not be there."""
    assert not (folder / "raw.csv").exists()
    return (folder / "raw.csv.part").stat().st_size if (folder / "raw.csv.part").exists() else 0


class Bars:
    """Counts what is shown."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.steps = self.opened = self.closed = 0

    def open(self, name: str, total: int | None) -> Bars:
        self.opened, self.steps, self.total = self.opened + 1, 0, total
        return self

    def close(self, stage: object) -> None:
        self.closed += 1

    def advance(self, steps: int = 1, **output: float | str) -> None:
        self.steps += steps


def test_a_file_comes_whole_with_a_bar_and_is_fetched_once(server: Server, tmp_path: Path) -> None:
    bars = Bars()
    assert fetch(remote_file(server), tmp_path, bars).read_bytes() == BODY
    assert (bars.steps, bars.total, bars.opened, bars.closed) == (1024, 1024, 1, 1)
    fetch(remote_file(server), tmp_path)
    assert len(server.seen) == 1
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["raw.csv"]


def test_a_dropped_connection_is_continued_in_the_same_call(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop", "drop"]
    bars = Bars()
    assert fetch(remote_file(server), tmp_path, bars).read_bytes() == BODY
    assert server.seen[0] is None
    assert all(requested and requested.startswith("bytes=") for requested in server.seen[1:])
    assert server.sent == len(BODY), "no byte came twice"
    assert bars.steps == bars.total == 1024 and bars.opened == bars.closed == 3


def test_a_dropped_connection_is_continued_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"]
    with pytest.raises(
        InputError, match=r"524,288 (of 1,048,576 )?bytes.*524,288 bytes are kept, and the same command"
    ):
        fetch(remote_file(server), tmp_path, attempts=1)
    assert partial_size(tmp_path) == len(BODY) // 2
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY
    assert server.seen == [None, "bytes=524288-"]


def test_nearly_all_that_came_before_a_drop_is_kept(server: Server, tmp_path: Path) -> None:
    server.files, server.faults = {"raw.csv": BODY[:100_001]}, ["drop"]
    with pytest.raises(InputError, match="the same command continues"):
        fetch(RemoteFile("raw.csv", (server.url(),)), tmp_path, attempts=1)
    assert 50_000 - 2**14 <= partial_size(tmp_path) <= 50_000
    assert fetch(RemoteFile("raw.csv", (server.url(),)), tmp_path).read_bytes() == BODY[:100_001]


def test_another_source_continues_where_the_hash_is_known(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop", "404", ""]
    file = remote_file(server, server.url("mirror"), server.url("other-mirror"))
    assert fetch(file, tmp_path, attempts=1).read_bytes() == BODY
    assert server.seen == [None, "bytes=524288-", "bytes=524288-"]


def test_without_a_hash_only_the_same_content_of_the_same_source_is_continued(server: Server, tmp_path: Path) -> None:
    server.faults = ["drop"]
    with pytest.raises(InputError):
        fetch(remote_file(server, sha256=None), tmp_path, attempts=1)
    server.tag = '"two"'  # the file has changed meanwhile
    assert fetch(remote_file(server, sha256=None), tmp_path).read_bytes() == BODY
    assert server.sent == len(BODY) // 2 + len(BODY)


def test_a_server_that_cannot_continue_starts_anew(server: Server, tmp_path: Path) -> None:
    server.faults, server.ranges = ["drop"], False
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY
    assert server.sent == len(BODY) // 2 + len(BODY)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("short", "it has 1,000 bytes, where 1,048,576 are expected"),
        ("other", f"SHA-256 .*, where {SHA256[:16]}… is expected"),
        ("page", "an HTML page came instead"),
        ("404", "the server says 404"),
    ],
)
def test_a_wrong_answer_is_named_and_the_right_one_taken_later(
    server: Server, tmp_path: Path, fault: str, kind: str
) -> None:
    server.faults = [fault]
    with pytest.raises(InputError, match=kind):
        fetch(remote_file(server), tmp_path)
    assert len(server.seen) == 1, "a wrong file does not get right by asking again at once"
    assert partial_size(tmp_path) == 0
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("fault", ["short", "page", "404", "503"])
def test_a_wrong_answer_does_not_spoil_what_is_kept(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = ["drop", fault]
    for _ in range(2):
        with pytest.raises(InputError):
            fetch(remote_file(server), tmp_path, attempts=1)
    assert partial_size(tmp_path) == len(BODY) // 2
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY
    assert server.seen[-1] == "bytes=524288-"


def test_a_page_that_passes_for_data_is_seen_by_its_first_bytes(server: Server, tmp_path: Path) -> None:
    server.faults = ["plain page"]
    with pytest.raises(InputError, match="an HTML page came instead"):
        fetch(RemoteFile("raw.csv", (server.url(),)), tmp_path)
    assert partial_size(tmp_path) == 0


def test_a_kept_part_that_proves_wrong_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "raw.csv.part").write_bytes(b"x" * 1000)
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY
    assert server.seen == ["bytes=1000-", None]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["503", "503"]
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY


def test_no_server_at_all(tmp_path: Path) -> None:
    with serving() as removed:
        file = remote_file(removed)
    with pytest.raises(InputError, match=r"raw.csv: could not be downloaded .*ConnectionError.*put the file into"):
        fetch(file, tmp_path)


def test_offline_asks_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(InputError, match=f"{OFFLINE}=1 forbids"):
        fetch(remote_file(server), tmp_path)
    assert server.seen == []
    (tmp_path / "raw.csv").write_bytes(BODY)
    assert fetch(remote_file(server), tmp_path).read_bytes() == BODY


def test_a_wrong_file_under_the_final_name_is_named_not_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_bytes(BODY[1:])
    with pytest.raises(InputError, match=r"raw.csv: 1,048,575 bytes, where 1,048,576 are expected; remove it"):
        fetch(remote_file(server), tmp_path)
    assert server.seen == []
