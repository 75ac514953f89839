"""Names and aliases of columns and fields, shared by readers and writers."""

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

RATING = "rating"
EXTRA_TEXT = ("features", "details")  # of Amazon 2023: lists and pairs of text that follow the description

# What a column of a user's table may be called, most telling first; case, blanks and punctuation do not count.
ALIASES: dict[str, tuple[str, ...]] = {
    USER: (
        USER, "user_id", "uid", "username", "reviewer_id", "customer", "customer_id", "visitor_id", "member_id",
        "account_id", "client_id", "session_id", "session",
    ),
    ITEM: (
        ITEM, "item_id", "iid", "parent_asin", "asin", "product", "product_id", "sku", "movie_id", "book_id",
        "business_id", "track_id", "song_id", "article_id", "news_id", "video_id", "game_id", "poi_id", "isbn",
        "items", "item_ids", "item_list", "item_id_list",
    ),
    TIMESTAMP: (
        TIMESTAMP, "time", "unix_timestamp", "unix_review_time", "event_time", "created_at", "datetime", "date", "ts",
        "t_dat", "timestamps",
    ),
    RATING: (RATING, "ratings", "overall", "stars", "score", "rate"),
    TITLE: (TITLE, "name", "item_name", "movie_title", "product_title", "product_name", "item_title", "prod_name"),
    DESCRIPTION: (DESCRIPTION, "desc", "text", "detail_desc", "abstract", "summary", "item_description"),
    BRAND: (BRAND, "store", "manufacturer", "brand_name"),
    CATEGORIES: (CATEGORIES, "category", "genres", "genre", "item_category", "class", "tags"),
}  # fmt: skip
