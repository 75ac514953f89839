"""`harness audit`: a planted index with shared codes, a clean one, and lists that only hit codes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.conftest import Harness
from tests.protocol.test_rolling_time import CASES, INDUSTRIAL, OFFICE, layout, made_reviews, minionerec

TARGETS = {f"u{user}": (7 * user + 7) % 24 for user in range(60)}  # the circle's last items
SHARED = sum(target < 4 for target in TARGETS.values())
VALID = sum((7 * user + 6) % 24 < 4 for user in range(60))


def index(name: str, code_of: dict[int, int]) -> str:
    """An index file of the toy with these first tokens; every other item has one of its own."""
    Path(name).write_text(json.dumps({f"i{item}": [f"<a_{code_of.get(item, item)}>", "<b_0>"] for item in range(24)}))
    return name


def test_shared_codes_are_counted_exactly(harness: Harness, toy: str) -> None:
    done = harness("audit", "codes", index("shared.json", {1: 0, 3: 2}), "-d", toy, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert (document["items"], document["codes"], document["shared_items"], document["groups"]) == (24, 22, 4, 2)
    assert document["largest_group"] == 2 and document["shared_items_share"] == pytest.approx(4 / 24)
    assert document["test"] == {"targets": 60, "shared": SHARED, "share": pytest.approx(SHARED / 60)}
    assert document["valid"]["shared"] == VALID and document["rankings"] is None
    assert document["least_added"]["recall@1"]["at_first_place"] == pytest.approx(SHARED / 120)
    table = harness("audit", "codes", "shared.json", "-d", toy)
    assert table.code == 0 and f"{SHARED} of 60" in table.out and "4 (16.67%)" in table.out


def test_what_codes_add_to_lists_is_measured(harness: Harness, toy: str) -> None:
    """Where the target shares its code, the lists name the other item of the code."""
    lists = {user: [f"i{target ^ 1 if target < 4 else target}"] for user, target in TARGETS.items()}
    Path("lists.json").write_text(json.dumps(lists))
    shared, clean = index("shared.json", {1: 0, 3: 2}), index("clean.json", {})
    done = harness("audit", "codes", shared, "-d", toy, "--rankings", "lists.json", "--json")
    assert done.code == 0, done.err
    measured = json.loads(done.out)["rankings"]
    assert measured["items"]["recall@10"] == pytest.approx(1 - SHARED / 60)
    assert measured["codes"]["recall@10"] == 1.0
    assert measured["added"]["recall@10"] == pytest.approx(SHARED / 60) and measured["file"] == "lists.json"
    done = harness("audit", "codes", clean, "-d", toy, "--rankings", "lists.json", "--json")
    document = json.loads(done.out)
    assert (document["shared_items"], document["largest_group"], document["test"]["shared"]) == (0, 1, 0)
    assert set(document["rankings"]["added"].values()) == {0.0}
    assert "codes add" in harness("audit", "codes", shared, "-d", toy, "--rankings", "lists.json").out


def test_lists_are_read_deep_enough_for_their_codes(harness: Harness, toy: str) -> None:
    """Items 0 to 21 have one code: of lists of all items, the last item is the second or third code."""
    Path("lists.json").write_text(json.dumps({user: [f"i{item}" for item in range(24)] for user in TARGETS}))
    name = index("one.json", dict.fromkeys(range(22), 0))
    measured = json.loads(harness("audit", "codes", name, "-d", toy, "--rankings", "lists.json", "--json").out)
    assert measured["rankings"]["codes"]["recall@5"] == 1.0


@pytest.mark.parametrize(
    ("category", "shared", "share"),
    [pytest.param(INDUSTRIAL, 317, "6.99", marks=pytest.mark.nightly), (OFFICE, 84, "1.73")],
)
def test_codes_of_minionerecs_layout(harness: Harness, tmp_path: Path, category: str, shared: int, share: str) -> None:
    """Pairs of items share codes, so many that they are the known number of test targets; then none do."""
    users, total, counts = CASES[category]
    reference = minionerec(made_reviews(users, users + total, seed=1))
    path = layout(tmp_path / "cases", category, reference)
    items = sorted({item for part in reference for _, history, target in part for item in (*history, target)})
    left, paired, times = shared, [], Counter(target for _, _, target in reference[2])
    for item in items:
        if 0 < times[item] <= left:
            left -= times[item]
            paired.append(item)
    paired += [item for item in items if not times[item]][: len(paired) % 2]
    clean = {item: [f"<a_{n // 64}>", f"<b_{n % 64}>"] for n, item in enumerate(items)}
    planted = clean | {twin: clean[item] for item, twin in zip(paired[::2], paired[1::2], strict=True)}
    for name, index, count in (("planted", planted, f"{shared}"), ("clean", clean, "0")):
        Path(f"{name}.json").write_text(json.dumps(index))
        done = harness("audit", "codes", f"{name}.json", "-d", path, "--protocol", "rolling-time")
        assert done.code == 0, done.err
        assert f"{count} of {counts[2]:,} ({share if name == 'planted' else '0.00'}%)" in done.out
    ties = harness("verify", path, "--protocol", "rolling-time", "--tie-seeds", "2")
    assert ties.code == 2 and "equal times cannot be seen" in ties.err


def test_an_index_of_another_catalogue_is_one_line(harness: Harness, toy: str) -> None:
    Path("other.json").write_text(json.dumps({"i0": ["<a_0>"]}))
    done = harness("audit", "codes", "other.json", "-d", toy)
    assert done.code == 2 and "23 items have no code" in done.err and len(done.err.splitlines()) <= 2


def test_the_card_of_a_data_set_and_of_lists(harness: Harness, toy: str) -> None:
    Path("lists.json").write_text(json.dumps({user: [f"i{target}"] for user, target in TARGETS.items()}))
    document = json.loads(harness("audit", "card", "-d", toy, "--json").out)
    groups = {part["name"]: part["users"] for part in document["groups"]}
    assert groups["memorised"] == groups["history to 20"] == 60 and groups["neither"] == 0
    assert document["rankings"] is None
    done = harness("audit", "card", "-d", toy, "--rankings", "lists.json", "--metric", "recall@1", "--json")
    measured = json.loads(done.out)["rankings"]
    means = {part["name"]: part["mean"] for part in measured["groups"]}
    assert (means["memorised"], means["one hop"]) == (1.0, None) and measured["lists"]["coverage"] == 1.0
    table = harness("audit", "card", "-d", toy, "--rankings", "lists.json")
    assert table.code == 0 and "memorised" in table.out and "coverage@10" in table.out
    assert harness("audit", "card", "-d", toy, "--metric", "nothing").code == 2
    cuts = [("--protocol", "global-time", "--set", f"protocol.cut=[{cut},0.9]") for cut in (0.3, 0.8)]
    cards = [json.loads(harness("audit", "card", "-d", toy, *cut, "--json").out) for cut in cuts]
    assert cards[0]["head_share_of_training"] != cards[1]["head_share_of_training"], "the cut is the user's"


def test_the_memory_probe_is_stored_for_the_board(harness: Harness, toy: str) -> None:
    titles = "".join(f"i{item},a box no {item}\n" for item in range(24))
    (Path(toy) / "items.csv").write_text("item,title\n" + titles)
    done = harness("audit", "memory", "tiny-random", "-d", toy, "--json")
    assert done.code == 0, done.err
    (file,) = Path("results/memory").iterdir()
    assert str(file) in done.err
    stored = json.loads(file.read_text())
    assert stored["backbone"] == "tiny-random" and stored["ids"] == json.loads(done.out)["ids"]
