"""Intentions and preferences by a fixed rule, which replaces the large language model of the official pipeline.

An intention is a possible query of a user who will choose an item; a preference describes the common properties of a
history. Both consist of categories, brands and words that are characteristic (TF-IDF over titles, descriptions and
reviews of training interactions) and shared by several items, so that they do not identify one item. docs/method.md has
the complete rule; `harness/generative/tasks/item_texts.py` reads generated texts instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray

Span = Literal["long", "short"]
WORD = r"[^\W\d_]{3,}"  # three or more letters
SHARED = 3  # minimal number of items with a word
COMMON = 0.5  # maximal share of items with a word
KEPT = 10  # words of an item
INTENTION_CATEGORIES, INTENTION_WORDS = 2, 4
TITLE_SHARE = 0.5  # maximal share of the title's words in an intention
# numbers of categories, brands and words in a preference
NAMED: dict[Span, tuple[int, int, int]] = {"long": (3, 2, 5), "short": (2, 1, 3)}


@dataclass(frozen=True)
class Traits:
    """Categories and brand of an item in plain text, and its words with their TF-IDF weights, best first."""

    categories: tuple[str, ...] = ()
    brand: str = ""
    words: tuple[tuple[str, float], ...] = ()
    title_words: frozenset[str] = field(default_factory=frozenset)


def traits(text: Sequence[ItemText], mask: np.ndarray, reviews: Sequence[str] | None = None) -> list[Traits]:
    """Traits of the items in `mask` (bool (n_items,)); empty for the others, whose text is not read.

    `reviews[i]`: text of training interactions with item `i`, or "".
    """
    items: list[int] = np.flatnonzero(mask).tolist()
    words, title_words = _words(text, items, reviews)
    counts = Counter(category for i in items for category in set(text[i].categories))
    traitses = [Traits()] * len(text)
    for row, i in enumerate(items):
        telling = tuple(c for c in dict.fromkeys(text[i].categories) if counts[c] <= COMMON * len(items))
        traitses[i] = Traits(telling, text[i].brand, words[row], title_words[row])
    return traitses


def intention(item: Traits) -> str:
    """The last (most specific) categories, the brand, and the words of highest weight; "" if there are none.

    At most half of the title's words are included.

    >>> stapler = Traits(("Staplers",), "Swing", (("desktop", 0.9), ("stapler", 0.5), ("grip", 0.4)),
    ...                  frozenset(("swing", "desktop", "stapler")))
    >>> intention(stapler)
    'Staplers; by Swing; desktop, grip'
    """
    secrets = int(len(item.title_words) * TITLE_SHARE)
    chosen: list[str] = []
    for word, _ in item.words:
        if len(chosen) == INTENTION_WORDS:
            break
        if word in item.title_words:
            if not secrets:
                continue
            secrets -= 1
        chosen.append(word)
    brand = f"by {item.brand}" if item.brand else ""
    return _line(item.categories[-INTENTION_CATEGORIES:], brand, chosen)


def preferences(items: Sequence[Traits], histories: RaggedArray, span: Span) -> list[str]:
    """Common properties of each history (item ids, oldest first); "" if nothing is known of its items.

    The most frequent categories and brands and the words of highest total weight; ties go to the most recent.
    """
    return [_preference([items[i] for i in history], NAMED[span]) for history in histories]


def _preference(history: Sequence[Traits], pair: tuple[int, int, int]) -> str:
    categories: Counter[str] = Counter()
    brands: Counter[str] = Counter()
    words: dict[str, float] = {}
    for item in reversed(history):  # Counter orders equal counts by first occurrence
        categories.update(item.categories)
        brands.update([item.brand] if item.brand else [])
        for word, weight in item.words:
            words[word] = words.get(word, 0.0) + weight
    kinds, makers, themes = (
        [name for name, _ in counter.most_common(n)]
        for counter, n in zip((categories, brands, Counter(words)), pair, strict=True)
    )
    return _line(kinds, f"by {' and '.join(makers)}" if makers else "", themes)


def _line(categories: Sequence[str], brand: str, words: Sequence[str]) -> str:
    return "; ".join(part for part in (", ".join(categories), brand, ", ".join(words)) if part)


def _words(
    text: Sequence[ItemText], items: Sequence[int], reviews: Sequence[str] | None
) -> tuple[list[tuple[tuple[str, float], ...]], list[frozenset[str]]]:
    """The `KEPT` words of highest TF-IDF weight of each of `items`, and the distinct words of its title."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=WORD, stop_words="english", sublinear_tf=True, min_df=SHARED, max_df=COMMON, dtype=np.float64
    )
    split = vectorizer.build_analyzer()
    title_words = [frozenset(split(text[i].title)) for i in items]
    brand_words = [frozenset(split(" ".join((text[i].brand, *text[i].categories)))) for i in items]  # named separately
    documents = [" ".join((text[i].title, text[i].description, reviews[i] if reviews else "")) for i in items]
    try:
        weights = csr_matrix(vectorizer.fit_transform(documents))
    except ValueError:  # no word is shared by several items
        return [()] * len(items), title_words
    names = vectorizer.get_feature_names_out()
    rows = []
    for begin, end, excluded in zip(weights.indptr[:-1], weights.indptr[1:], brand_words, strict=True):
        columns, values = weights.indices[begin:end], np.round(weights.data[begin:end], 9)
        ranked = ((str(names[columns[j]]), float(values[j])) for j in np.lexsort((columns, -values)))
        rows.append(tuple(islice((pair for pair in ranked if pair[0] not in excluded), KEPT)))
    return rows, title_words
