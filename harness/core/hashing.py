"""Content hashes: equal content has equal fingerprints on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

LENGTH = 16  # hexadecimal digits of SHA-256: 64 bits


def fingerprint(*parts: Any) -> str:
    """SHA-256 over JSON-able values and NumPy arrays, truncated to 16 hexadecimal digits.

    Arrays are hashed with type, shape and little-endian bytes; mappings by sorted keys.

    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    import numpy as np  # not at the top: the registry, which hashes files, starts without it

    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part)
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
        digest.update(b"\x00")
    return digest.hexdigest()[:LENGTH]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal digits. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
