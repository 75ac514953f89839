"""Names of columns and fields, written once; readers and writers of tables import them from here."""

from __future__ import annotations

USER = "user"
ITEM = "item"
TIMESTAMP = "timestamp"
RANK = "rank"
SCORE = "score"

TITLE = "title"
DESCRIPTION = "description"
BRAND = "brand"
CATEGORIES = "categories"
REVIEW = "review"
TEXT_FIELDS = (TITLE, DESCRIPTION, BRAND, CATEGORIES)

INTERACTIONS_CSV = "interactions.csv"
ITEMS_CSV = "items.csv"
INTERACTIONS_PARQUET = "interactions.parquet"
ITEMS_PARQUET = "items.parquet"
REVIEWS_PARQUET = "reviews.parquet"

# RecBole atomic files: names by RecBole's own defaults; a text field may go by several.
ATOMIC_USER = "user_id"
ATOMIC_ITEM = "item_id"
ATOMIC_TYPES = ("token", "token_seq", "float", "float_seq")
ATOMIC_TEXT = {
    TITLE: ("title", "movie_title", "item_name", "name"),
    DESCRIPTION: ("description",),
    BRAND: ("brand",),
    CATEGORIES: ("categories", "category", "genres", "genre", "class"),
}
ATOMIC_YEAR = "release_year"
