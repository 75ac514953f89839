"""The rule for intentions and preferences, and what it may never look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.data.dataset import ItemText, Review
from harness.data.ragged import RaggedArray
from harness.generative.config import TasksConfig
from harness.generative.tasks.item_texts import (
    COMMON,
    INTENTION_WORDS,
    Traits,
    held_out_items,
    intention,
    preferences,
    task_texts,
    traits,
)
from tests import toys

PENS = [
    ItemText(f"Orion gel pen {name}", "A smooth gel pen for daily writing", "Orion", ("Supplies", "Writing", "Pens"))
    for name in ("crimson", "azure", "olive")
]
TAPES = [
    ItemText(f"Sticko tape {name}", "Clear adhesive tape for parcels", "Sticko", ("Supplies", "Packing"))
    for name in ("wide", "narrow", "double")
]
OTHERS = [ItemText(f"Thing {name}", "", "", ("Supplies",)) for name in ("one", "two", "six", "ten")]
ITEMS = (*PENS, *TAPES, *OTHERS)
SHOWN = np.ones(len(ITEMS), bool)


def test_an_intention_says_the_kind_and_not_the_title() -> None:
    expected = traits(ITEMS, SHOWN)
    requested = intention(expected[0])
    assert requested.startswith("Writing, Pens; by Orion; ")
    words = requested.rpartition("; ")[2].split(", ")
    assert set(words) <= {"smooth", "gel", "pen", "daily", "writing"} and len(words) <= INTENTION_WORDS
    assert "crimson" not in requested, "a word that no other item has would give the item away"
    assert "orion" not in words, "the brand is named already"
    assert len(set(words) & expected[0].title_words) <= len(expected[0].title_words) / 2


def test_common_categories_and_words_say_nothing() -> None:
    expected = traits(ITEMS, SHOWN)
    assert all("Supplies" not in item.categories for item in expected) and COMMON == 0.5
    assert intention(expected[6]) == "", "nothing tells a thing from others"


def test_no_more_than_half_of_a_title_is_given_away() -> None:
    words = tuple((word, 1 - place / 10) for place, word in enumerate(("one", "two", "red", "blue", "far")))
    item = Traits((), "", words, frozenset(("one", "two", "red", "blue")))
    assert intention(item) == "one, two, far"
    single = Traits((), "", (("one", 1.0),), frozenset(("one",)))
    assert intention(single) == ""


def test_preferences_count_and_the_recent_go_first_among_equals() -> None:
    expected = traits(ITEMS, SHOWN)
    history = RaggedArray.of([[0, 1, 3], [3, 0], [0, 3], []])
    long = preferences(expected, history, "long")
    assert long[0].startswith("Writing, Pens, Packing; by Orion and Sticko; ")
    assert long[1].startswith("Writing, Pens, Packing; ") and long[2].startswith("Packing, Writing, Pens; ")
    assert long[3] == ""
    short = preferences(expected, history, "short")
    assert short[0].startswith("Writing, Pens; by Orion; ") and len(short[0]) < len(long[0])


def test_the_rule_never_looks_at_items_that_are_not_shown() -> None:
    output = SHOWN.copy()
    output[[1, 4]] = False
    other = list(ITEMS)
    other[1], other[4] = ItemText("gel " * 9, "smooth adhesive", "Orion", ("Packing",) * 3), ItemText("tape")
    assert traits(ITEMS, output) == traits(other, output)
    assert traits(ITEMS, output)[1] == Traits()
    assert traits(ITEMS, SHOWN) != traits(other, SHOWN)


def test_reviews_bring_words_of_their_own() -> None:
    reviews = ["leaky refill", "refill leaky", "leaky refill", *[""] * 7]
    with_them = traits(ITEMS, SHOWN, reviews)
    assert "leaky" in dict(with_them[0].words) and "leaky" not in dict(traits(ITEMS, SHOWN)[0].words)


def test_a_catalogue_without_a_shared_word_has_no_words() -> None:
    single = (ItemText("alpha"), ItemText("beta"), ItemText(title="", categories=("x",)))
    assert all(item.words == () for item in traits(single, np.ones(3, bool)))


def test_swapping_held_out_interactions_changes_no_text() -> None:
    """A canary: other validation and test items, equal training parts, equal texts of every kind."""
    clean = toys.cycle()
    swapped = toys.dataset([np.concatenate([row[:-2], row[:2][::-1]]) for row in clean.sequences], 24, clean.text)
    result = []
    for data in (clean, swapped):
        train = toys.split(data).train
        texts = task_texts(train, train.text or (), TasksConfig(held_out=0.2))
        result.append((texts.intentions, texts.preferences, texts.sequences.values.tolist(), texts.shown.tolist()))
    assert result[0] == result[1]
    assert any(result[0][0]) and any(result[0][1]["long"]) and any(result[0][1]["short"])


def test_reviews_of_held_out_interactions_change_no_text() -> None:
    data = toys.cycle()
    users = [
        (user, data.items[row[0]], data.items[row[-1]]) for user, row in zip(data.users, data.sequences, strict=True)
    ]
    training = tuple(Review(user, first, "sturdy lid") for user, first, _ in users if len(first) == 2)  # i0 to i9
    held_out = tuple(Review(user, last, "sturdy hinge" + user) for user, _, last in users)
    result = [
        task_texts(train, train.text or (), TasksConfig())
        for reviews in (None, training, (*training, *held_out))
        for train in [toys.split(replace(data, reviews=reviews)).train]
    ]
    assert result[1].intentions == result[2].intentions and result[1].preferences == result[2].preferences
    assert result[1].intentions != result[0].intentions and any("lid" in text for text in result[1].intentions)


def test_held_out_items_are_told_by_their_raw_id_alone() -> None:
    names = [f"item {n}" for n in range(400)]
    mask = held_out_items(names, 0.1)
    turned = held_out_items(names[::-1], 0.1)[::-1]
    assert (mask == turned).all() and 20 < mask.sum() < 65
    assert not held_out_items(names, 0.0).any()
