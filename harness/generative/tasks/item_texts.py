"""Texts of the text tasks: held-out items, training sequences without them, item texts, intentions and preferences.

Intentions and preferences come from a fixed rule in place of a large language model, or from a JSON file of generated
texts; docs/method.md, section 4, has the rule and the file's layout. A part of the file may be missing (the rule is
used then); one that is present must cover all items, or all users. Held-out items are in no text task, so that
comprehension is measured on text outside the training data.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.sparse import csr_matrix

from harness.core.json_files import read_json_object
from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.errors import InputError, unknown_name
from harness.generative.config import TasksConfig
from harness.protocol.split import TrainingData

Span = Literal["long", "short"]
WORD = r"[^\W\d_]{3,}"  # three or more letters
SHARED = 3  # minimal number of items with a word
COMMON = 0.5  # maximal share of items with a word
KEPT = 10  # words of an item
INTENTION_CATEGORIES, INTENTION_WORDS = 2, 4
TITLE_SHARE = 0.5  # maximal share of the title's words in an intention
# numbers of categories, brands and words in a preference
NAMED: dict[Span, tuple[int, int, int]] = {"long": (3, 2, 5), "short": (2, 1, 3)}
PARTS = ("items", "users")


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
    selected: list[str] = []
    for word, _ in item.words:
        if len(selected) == INTENTION_WORDS:
            break
        if word in item.title_words:
            if not secrets:
                continue
            secrets -= 1
        selected.append(word)
    brand = f"by {item.brand}" if item.brand else ""
    return _line(item.categories[-INTENTION_CATEGORIES:], brand, selected)


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
    ranked = ranked_words(weights, vectorizer.get_feature_names_out())
    rows = [
        tuple(islice((pair for pair in pairs if pair[0] not in excluded), KEPT))
        for pairs, excluded in zip(ranked, brand_words, strict=True)
    ]
    return rows, title_words


def ranked_words(weights: csr_matrix, names: np.ndarray) -> Iterator[list[tuple[str, float]]]:
    """The words of each row of `weights` (rows, words) with their weights, rounded, the largest first."""
    for begin, end in pairwise(weights.indptr):
        columns, values = weights.indices[begin:end], np.round(weights.data[begin:end], 9)
        yield [(str(names[columns[place]]), float(values[place])) for place in np.lexsort((columns, -values))]


def held_out_items(items: Sequence[str], share: float) -> np.ndarray:
    """True for about `share` of the raw item ids, bool (n_items,). A fixed hash of the id decides: the same items for
    every seed, split and order of the catalogue, and a larger share includes all items of a smaller one.

    >>> few, more = (held_out_items([f"i{n}" for n in range(1000)], share) for share in (0.05, 0.1))
    >>> bool(30 < few.sum() < 70), bool((more | ~few).all())
    (True, True)
    """
    digests = (hashlib.sha256(f"held out/{item}".encode()).digest()[:8] for item in items)
    places = np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64, len(items))
    return places < np.uint64(int(share * 2**64))


SPANS: tuple[Span, ...] = get_args(Span)


def read_texts(path: Path, data: TrainingData) -> tuple[list[str] | None, Mapping[Span, list[str]] | None]:
    """Intentions in the order of `data.items` and, by span, preferences in the order of `data.users`; None for a
    missing part. Raises `InputError` for missing or unknown ids and for values that are not texts."""
    content = read_json_object(path)
    for part, value in content.items():
        if part not in PARTS:
            raise unknown_name("part", part, PARTS, where=str(path))
        if not isinstance(value, dict):
            raise InputError(
                f"{part!r} is not an object of id: text", where=str(path), hint="see docs/method.md, section 4"
            )
    items: list[str] | None = None
    users: dict[Span, list[str]] | None = None
    if "items" in content:
        listed = _complete(content["items"], data.items, "item", path)
        items = [_text(text, f"item {item!r}", path) for item, text in zip(data.items, listed, strict=True)]
    if "users" in content:
        listed = _complete(content["users"], data.users, "user", path)
        users = {span: [] for span in SPANS}
        for user, value in zip(data.users, listed, strict=True):
            if not isinstance(value, dict) or set(value) != set(SPANS):
                hint = 'write {"long": "…", "short": "…"}'
                raise InputError("the value must be an object of two texts", where=f"{path} user {user!r}", hint=hint)
            for span, texts in users.items():
                texts.append(_text(value[span], f"user {user!r} {span}", path))
    return items, users


def _complete(value: Mapping[str, Any], ids: Sequence[str], kind: str, path: Path) -> list[Any]:
    """The values in the order of `ids`, which must equal the keys."""
    names = set(ids)
    missing, extra = [name for name in ids if name not in value], [name for name in value if name not in names]
    if missing or extra:
        words = []
        if missing:
            words.append(f"{len(missing)} of {len(ids)} {kind}s are missing ({missing[0]!r}, …)")
        if extra:
            words.append(f"{len(extra)} are not in this data set ({extra[0]!r}, …)")
        hint = "give the file that was generated for this data set"
        raise InputError(" and ".join(words), where=f"{path} {kind}s", hint=hint)
    return [value[name] for name in ids]


def _text(value: Any, owner: str, path: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError("the value must be a text", where=f"{path} {owner}", hint="write a non-empty string")
    return " ".join(value.split())


@dataclass(frozen=True, eq=False)
class TaskTexts:
    """`shown`: bool (n_items,), False for held-out items. `sequences`: training sequences without held-out items.
    `intentions`: one an item, `preferences[span]`: one a user, "" if there is none. `written`: their source, "rule" or
    "file"."""

    items: Sequence[ItemText]
    shown: np.ndarray
    sequences: RaggedArray
    intentions: Sequence[str]
    preferences: Mapping[Span, Sequence[str]]
    written: dict[str, str]

    def histories(self, span: Span, longest: int, recent: int) -> RaggedArray:
        """The items that a preference of this span describes and that its prompt contains."""
        return self.sequences.last(longest if span == "long" else min(recent, longest))


def task_texts(data: TrainingData, text: Sequence[ItemText], config: TasksConfig) -> TaskTexts:
    """All texts, from training interactions and item text only. Raises `InputError` if the file of generated texts does
    not fit the data set, and if all items are held out."""
    mask = ~held_out_items(data.items, config.held_out)
    if not mask.any():
        hint = "lower tasks.held_out"
        raise InputError("every item is held out of the text tasks", where=data.dataset, hint=hint)
    path = config.intentions
    items, users = (None, None) if path is None else read_texts(Path(path).expanduser(), data)
    written = {"intentions": "rule" if items is None else "file", "preferences": "rule" if users is None else "file"}
    empty: dict[Span, list[str]] = {span: [""] * data.n_users for span in SPANS}
    sequences = RaggedArray.of(row[mask[row]] for row in data.sequences)
    texts = TaskTexts(text, mask, sequences, items or [""] * data.n_items, empty if users is None else users, written)
    tasks = config.weights()
    needs_intentions = items is None and "itemsearch" in tasks
    needs_preferences = users is None and "preferenceobtain" in tasks
    item_traits = traits(text, mask, _reviews(data)) if needs_intentions or needs_preferences else []
    if needs_intentions:
        texts = replace(texts, intentions=[intention(item) for item in item_traits])
    if needs_preferences:
        past = {span: texts.histories(span, config.window - 1, config.recent) for span in SPANS}
        texts = replace(texts, preferences={span: preferences(item_traits, past[span], span) for span in SPANS})
    return texts


def _reviews(data: TrainingData) -> list[str] | None:
    """Reviews of each item in training interactions; None if the data set has no reviews."""
    if not data.reviews:
        return None
    fields: dict[str, list[str]] = {}
    for review in data.reviews:
        fields.setdefault(review.item, []).append(review.text)
    return [" ".join(fields.get(item, ())) for item in data.items]
