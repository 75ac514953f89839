"""Item text as TF-IDF vectors, for the training-free models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from harness.data.dataset import ItemText
from harness.errors import InputError

Field = Literal["title", "description", "brand", "categories"]
TITLED: tuple[Field, ...] = ("title", "brand", "description")
UNTITLED: tuple[Field, ...] = ("brand", "categories", "description")
# Words of more items than this are left out: they carry little information and cost most in a product of vectors. A
# share of the items, and at least the second number.
COMMON, FEWEST = 0.5, 20


def tfidf(
    text: Sequence[ItemText], fields: Sequence[Field] | None, *, location: str
) -> tuple[sparse.csr_array, tuple[Field, ...]]:
    """One row an item, float64, of length 1 (zeros for an item without words), so that the product of two rows is their
    cosine: `(1 + log count) * (1 + log((1 + items) / (1 + items with the word)))`, words in lower case. Also returns
    the fields that were read.

    Without `fields`: title, brand and description; where no item has a title, categories in its place. Raises
    `InputError`, which names the data set `location`, if no word is left.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = tuple(fields or (TITLED if any(entry.title for entry in text) else UNTITLED))
    documents = [_document(entry, chosen) for entry in text]
    try:
        result = TfidfVectorizer(sublinear_tf=True, max_df=max(int(COMMON * len(text)), FEWEST)).fit_transform(
            documents
        )
    except ValueError as error:  # the vocabulary is empty
        message = f"no item has a word of its own in {', '.join(chosen)}"
        raise InputError(
            message, where=location, hint="choose fields that this data set has", code="empty-data"
        ) from error
    vectors = sparse.csr_array(result, dtype=np.float64)
    vectors.sort_indices()  # fixes the order of summation in products
    return vectors, chosen


def _document(entry: ItemText, fields: Sequence[Field]) -> str:
    message = {"title": entry.title, "description": entry.description, "brand": entry.brand}
    message["categories"] = " ".join(entry.categories)
    return " ".join(message[field] for field in fields)
