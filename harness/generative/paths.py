"""A file that a setting names: made absolute where it is read, so that a stored configuration works from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

UserFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
