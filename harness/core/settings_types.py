"""Files that settings name: made absolute where they are read, so that a stored configuration works from anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, model_validator

# A built-in name, a hub name, or a folder, which alone begins with ~.
UserName = Annotated[str, AfterValidator(lambda name: os.path.expanduser(name) if name.startswith("~") else name)]
UserFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class ReadyIndex(BaseModel):
    """Base of the sections that say how codes are made: a `kind`, and with `kind="file"` the `file` of ready ones."""

    @model_validator(mode="after")
    def _file_is_read(self) -> Self:
        kind, file = getattr(self, "kind", None), getattr(self, "file", None)
        if file is not None and kind != "file":
            raise ValueError(f"kind={kind} makes codes and reads no file; say kind=file for those of {file.name}")
        return self
