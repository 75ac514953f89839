"""Item features for RecBole's feature-aware models, from item texts by a fixed rule.

Three fields: categories, brand, and words of the title. A token is used if at least `SHARED` and at most `COMMON` of
the items with training interactions have it; a field has its `MOST` most frequent tokens. Of a title the `TITLE_WORDS`
words of highest TF-IDF weight are used. Items without training interactions get features from the same tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from baselines.recbole.model_table import ALL, BRAND, CATEGORIES, FIELDS, WORDS
from harness.data.dataset import ItemText
from harness.data.ragged import RaggedArray
from harness.errors import InputError

WORD = r"[^\W\d_]{3,}"  # runs of three letters and more


SHARED, COMMON, MOST = 3, 0.5, 200


TITLE_WORDS = 6


def item_features(text: Sequence[ItemText], mask: np.ndarray, *, location: str) -> dict[str, RaggedArray]:
    """Tokens of each item, numbered from 0 within a field: `categories`, `brand`, `words`, and `features`, which is all
    of them with numbers that do not overlap.

    `shown`, bool (n_items,): which items have training interactions. Raises `InputError` where no item has a token.
    """
    by_name = {
        CATEGORIES: [tuple(dict.fromkeys(entry.categories)) for entry in text],
        BRAND: [(entry.brand,) if entry.brand else () for entry in text],
        WORDS: _title_words([entry.title for entry in text], mask),
    }
    fields = {name: _numbered(by_name[name], mask) for name in FIELDS}
    if not any(len(rows.values) for rows in fields.values()):
        message = f"no category, brand or title word is shared by {SHARED} items and by at most half of them"
        hint = "give items categories or titles, or choose a model without item features"
        raise InputError(f"{message}: there are no item features", where=location, hint=hint, code="empty-data")
    sizes = [int(rows.values.max(initial=-1)) + 1 for rows in fields.values()]
    starts = np.cumsum([0, *sizes])
    feature_rows = [
        np.concatenate([rows[item] + start for rows, start in zip(fields.values(), starts, strict=False)])
        for item in range(len(text))
    ]
    return {**fields, ALL: RaggedArray.of(feature_rows)}


def _numbered(rows: Sequence[Sequence[str]], mask: np.ndarray) -> RaggedArray:
    counts = Counter(chain.from_iterable(rows[item] for item in np.flatnonzero(mask).tolist()))
    limit = COMMON * int(mask.sum())
    telling = [(-count, name) for name, count in counts.items() if SHARED <= count <= limit]
    number = {name: place for place, (_, name) in enumerate(sorted(telling)[:MOST])}
    return RaggedArray.of([np.array([number[name] for name in row if name in number], dtype=np.int64) for row in rows])


def _title_words(titles: Sequence[str], mask: np.ndarray) -> list[tuple[str, ...]]:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=WORD, stop_words="english", min_df=SHARED, max_df=COMMON)
    try:
        vectorizer.fit([titles[item] for item in np.flatnonzero(mask).tolist()])
    except ValueError:  # not one word that several titles share
        return [()] * len(titles)
    weights = csr_matrix(vectorizer.transform(titles))
    names = vectorizer.get_feature_names_out()
    chosen = []
    for begin, end in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
        columns, values = weights.indices[begin:end], np.round(weights.data[begin:end], 9)
        best = np.lexsort((columns, -values))[:TITLE_WORDS]
        chosen.append(tuple(str(names[columns[place]]) for place in best))
    return chosen
