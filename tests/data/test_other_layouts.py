"""Sequence files, RecBole's split files, MovieLens' raw files, and a single file in place of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.dataset import ItemText
from harness.data.loading import load_dataset
from harness.errors import InputError
from tests.data.test_readers import raw, write

SEQUENCES = {"7": ["3", "1", "2"], "u9": ["1", "2", "4", "3"], "8": ["4", "1", "2"]}


@pytest.mark.parametrize("name", ["user_sequence.txt", "sequential_data.txt", "beauty.txt"])
def test_a_line_a_user(name: str, tmp_path: Path) -> None:
    text = "".join(f"{user} {' '.join(items)}\n" for user, items in SEQUENCES.items())
    path = write(tmp_path / "gram", **{name.replace(".", "__"): text})
    data = load_dataset(path)
    assert raw(data) == SEQUENCES and data.name == "gram" and data.timestamps is None
    assert load_dataset(f"{path}/{name}").fingerprint == data.fingerprint
    assert data.notes[0] == "order within a user: as the file lists it"


def test_pairs_in_order(tmp_path: Path) -> None:
    text = "".join(f"{user} {item}\n" for user, items in SEQUENCES.items() for item in items)
    data = load_dataset(write(tmp_path / "sas", ml__txt=text) + "/ml.txt")
    assert raw(data) == SEQUENCES and "pairs" in data.source


def test_a_user_with_two_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: user 'a' has a line already \(line 1\)"):
        load_dataset(write(tmp_path, user_sequence__txt="a 1 2 3\nb 1 2\na 4 5\n"))


def test_prose_is_no_sequence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no interactions file of a known layout"):
        load_dataset(write(tmp_path, readme__txt="This folder holds the data.\nSee the paper, please.\n"))


def test_numbers_and_paths_in_lcrec_files(tmp_path: Path) -> None:
    texts = (
        '{"1": {"title": 1984, "brand": NaN, "categories": [["Books", "Prose"], ["Gifts"]]}, "2": {"title": "Dune"}}'
    )
    data = load_dataset(write(tmp_path / "shop", shop__inter__json='{"a": [1.0, 2.0, 1]}', shop__item__json=texts))
    assert data.items == ("1", "2") and data.text is not None
    assert data.text[0] == ItemText("1984", categories=("Books", "Prose"))


HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def test_recbole_splits_are_joined_by_time(tmp_path: Path) -> None:
    path = write(
        tmp_path / "shop",
        shop__train__inter=f"{HEADER}u\ta\t1\nu\tb\t2\nv\tb\t1\nv\tc\t5\n",
        shop__valid__inter=f"{HEADER}u\tc\t3\nv\ta\t6\n",
        shop__test__inter=f"{HEADER}u\td\t4\nv\td\t7\n",
        shop__item="item_id:token\ttitle:token_seq\na\tPen\nb\tInk\nc\tCap\nd\tNib\n",
    )
    data = load_dataset(path)
    assert raw(data) == {"u": ["a", "b", "c", "d"], "v": ["b", "c", "a", "d"]}
    assert data.text is not None and data.text[0] == ItemText("Pen")
    assert any("joined; the protocol cuts them again" in note for note in data.notes)
    assert load_dataset(f"{path}/shop.test.inter").fingerprint == data.fingerprint


def test_recbole_splits_without_times_follow_the_files(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\n"
    path = write(
        tmp_path / "shop",
        shop__train__inter=f"{header}u\ta\nv\tb\nu\tb\nv\tc\n",
        shop__valid__inter=f"{header}v\ta\nu\tc\n",
        shop__test__inter=f"{header}u\td\nv\td\n",
    )
    assert raw(load_dataset(path)) == {"u": ["a", "b", "c", "d"], "v": ["b", "c", "a", "d"]}


def test_recbole_splits_with_written_histories(tmp_path: Path) -> None:
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    path = write(
        tmp_path / "shop",
        shop__train__inter=f"{header}u\ta\tb\nv\tb\tc\n",
        shop__valid__inter=f"{header}u\ta b\tc\nv\tb c\ta\n",
        shop__test__inter=f"{header}u\ta b c\td\nv\tb c a\td\n",
    )
    assert raw(load_dataset(path)) == {"u": ["a", "b", "c", "d"], "v": ["b", "c", "a", "d"]}


@pytest.mark.parametrize("window", [3, 50])
def test_windows_of_histories_are_joined(window: int, tmp_path: Path) -> None:
    """Histories truncated to the latest items, a row for each item, as MiniOneRec's preparation writes them."""
    sequences = {"u": list("abcabbcadea"), "v": list("ccccd")}
    header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    parts: dict[str, str] = dict.fromkeys(("train", "valid", "test"), header)
    for user, row in sequences.items():
        for n in range(1, len(row)):
            part = "test" if n == len(row) - 1 else "valid" if n == len(row) - 2 else "train"
            parts[part] += f"{user}\t{' '.join(row[max(0, n - window) : n])}\t{row[n]}\n"
    path = write(tmp_path / "shop", **{f"shop__{part}__inter": text for part, text in parts.items()})
    assert raw(load_dataset(path)) == sequences


FILMS = {"1": ("Cité perdue, La (1995)", ("Drama", "Sci-Fi")), "2": ("Plain (1996)", ("Comedy",))}
RATED = [("9", "1", "5", "978300760"), ("9", "2", "3", "978302109"), ("8", "2", "4", "978300275")]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_movielens_as_published(encoding: str, tmp_path: Path) -> None:
    one, hundred, latest = tmp_path / "one", tmp_path / "hundred", tmp_path / "latest"
    for folder in (one, hundred, latest):
        folder.mkdir()
    (one / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATED))
    dat = "".join(f"{item}::{title}::{'|'.join(genres)}\n" for item, (title, genres) in FILMS.items())
    (one / "movies.dat").write_bytes(dat.encode(encoding))
    names = ["unknown", "Comedy", "Drama", "Sci-Fi"]
    (hundred / "u.data").write_text("".join("\t".join(row) + "\n" for row in RATED))
    (hundred / "u.genre").write_text("".join(f"{name}|{n}\n" for n, name in enumerate(names)))
    marks = {item: "|".join(str(int(name in genres)) for name in names) for item, (_, genres) in FILMS.items()}
    films = "".join(f"{item}|{title}|01-Jan-1995||http|{marks[item]}\n" for item, (title, _) in FILMS.items())
    (hundred / "u.item").write_bytes(films.encode(encoding))
    header = "userId,movieId,rating,timestamp\n"
    (latest / "ratings.csv").write_text(header + "".join(",".join(row) + "\n" for row in RATED))
    rows = "".join(f'{item},"{title}",{"|".join(genres)}\n' for item, (title, genres) in FILMS.items())
    (latest / "movies.csv").write_text(f"movieId,title,genres\n{rows}", encoding="utf-8")
    for folder in (one, hundred, latest):
        data = load_dataset(str(folder))
        assert raw(data) == {"9": ["1", "2"], "8": ["2"]}, folder
        assert data.text is not None
        assert {item: (text.title, text.categories) for item, text in zip(data.items, data.text, strict=True)} == FILMS
        assert any("ratings are not used" in note for note in data.notes)
    assert load_dataset(str(latest / "ratings.csv")).fingerprint == load_dataset(str(latest)).fingerprint


def test_a_file_of_an_atomic_or_lcrec_data_set(tmp_path: Path) -> None:
    atomic = write(tmp_path / "a", shop__inter=f"{HEADER}u\ta\t2\nu\tb\t1\n")
    assert raw(load_dataset(f"{atomic}/shop.inter")) == {"u": ["b", "a"]}
    lcrec = write(tmp_path / "l", Toy__inter__json='{"u": ["b", "a"]}', Other__inter__json='{"u": ["z"]}')
    assert raw(load_dataset(f"{lcrec}/Toy.inter.json")) == {"u": ["b", "a"]}
    with pytest.raises(InputError, match="2 interactions files"):
        load_dataset(lcrec)


def test_json_files_of_any_name(tmp_path: Path) -> None:
    path = write(tmp_path, sequential_data__json='{"u": ["b", "a"], "v": ["a", "b"]}')
    assert raw(load_dataset(f"{path}/sequential_data.json")) == {"u": ["b", "a"], "v": ["a", "b"]}
    review = '{{"reviewerID": "{}", "asin": "{}", "overall": 5.0, "unixReviewTime": {}, "reviewTime": "01 2, 2014"}}\n'
    lines = "".join(review.format(*row) for row in (("u", "a", 9), ("u", "b", 3), ("v", "a", 4)))
    write(tmp_path, Pens_5__json=lines)
    assert raw(load_dataset(f"{path}/Pens_5.json")) == {"u": ["b", "a"], "v": ["a"]}


def test_several_tables_without_a_known_name_ask_for_one_of_them(tmp_path: Path) -> None:
    one = "user,item,timestamp\nu,a,1\nu,b,2\n"
    path = write(tmp_path, march__csv=one, april__csv=one)
    with pytest.raises(InputError, match=r"april\.csv, march\.csv: give one of them"):
        load_dataset(path)
    assert raw(load_dataset(f"{path}/march.csv")) == {"u": ["a", "b"]}
