"""Files of installed packages, located without importing the package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def packaged_folder(files: str) -> Path | None:
    """The folder of `package:folder/inside`, or None where the package or the folder is not there."""
    package, _, inside = files.partition(":")
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(root) / inside).is_dir():
            return folder
    return None
