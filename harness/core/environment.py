"""Where the harness keeps what it can make again: prepared data sets, vectors, dequantised backbones."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import InputError

VARIABLE = "HARNESS_HOME"


def home() -> Path:
    """`$HARNESS_HOME`, or the user's cache folder by the platform's convention; made where it is missing.

    Raises `InputError` where it cannot be made.
    """
    named = os.environ.get(VARIABLE)
    if named:
        folder = Path(named).expanduser()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("harness")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache folder cannot be made ({error.strerror})", where=str(folder), mend=f"set {VARIABLE} to another"
        ) from error
    return folder.resolve()
