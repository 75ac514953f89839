"""Names of data sets and files: which are valid as folders of results, the conversion of others, hidden files."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from harness.core.hashing import fingerprint

FIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")
UNFIT = re.compile(r"[^A-Za-z0-9._+@-]+")


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's: macOS puts `._NAME` beside each file that it copies or zips."""
    return path.name.startswith(".")


def safe_name(name: str) -> str:
    """A name that can be a folder of results: letters without accents, other marks as one hyphen; a hash of the name
    where nothing is left of it.

    >>> safe_name("my shop é"), safe_name("ml-1m")
    ('my-shop-e', 'ml-1m')
    """
    if FIT.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = UNFIT.sub("-", plain).strip("-").lstrip("._+@-")
    return plain or f"data-{fingerprint(name)[:8]}"
