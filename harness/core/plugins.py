"""Plugins: models and data sets of installed packages and of single files.

They are loaded one by one; a broken one is skipped with a warning.

`packaged_folder` locates files of an installed package without importing it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import ModuleType
from typing import TypeVar

from harness.core.hashing import file_sha256
from harness.errors import InputError, escape_control, truncate

EntryT = TypeVar("EntryT")
ENDING = ".py"


def plugins(points: Iterable[EntryPoint], kind: type[EntryT]) -> Iterator[tuple[str, EntryT]]:
    """Source (in words) and object of each entry point; the object must be a `kind`. One that cannot be loaded is
    skipped with a warning on stderr."""
    for point in points:
        source = _source(point)
        try:
            entry = point.load()
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            warn(f"{source} is skipped: {type(error).__name__}: {error}")
            continue
        if isinstance(entry, kind):
            yield source, entry
        else:
            warn(f"{source} is skipped: its object is {type(entry).__name__}, not {kind.__name__}")


def _source(point: EntryPoint) -> str:
    package = getattr(getattr(point, "dist", None), "name", None)
    name = f"plug-in {getattr(point, 'name', '') or getattr(point, 'value', '')!r}"
    return f"{name} of the package {package}" if package else name


@cache
def warn(line: str) -> None:
    """One line on stderr, once in a process."""
    print(f"warning: {escape_control(' '.join(truncate(line).split()))}", file=sys.stderr)


def is_file_target(name: str) -> bool:
    """Whether a name is `PATH.py:CLASS`.

    >>> is_file_target("./my_model.py:Model"), is_file_target("recbole:SHAN")
    (True, False)
    """
    return name.rpartition(":")[0].endswith(ENDING)


def file_parts(name: str) -> tuple[Path, str]:
    """Path and class name of `PATH.py:CLASS`. Raises `InputError` if the file does not exist."""
    place, _, attribute = name.rpartition(":")
    path = Path(place).expanduser().absolute()
    if not path.is_file():
        raise InputError(
            "no such file", where=path, hint="check the path; it is written FILE.py:CLASS", code="missing-file"
        )
    return path, attribute


def from_file(name: str) -> object:
    """The class that `PATH.py:CLASS` names. Raises `InputError` if the file fails or lacks the class."""
    path, attribute = file_parts(name)
    module = _module(path, digest(path))
    if not hasattr(module, attribute):
        classes = sorted(name for name, value in vars(module).items() if isinstance(value, type))
        raise _bad_plugin(f"there is no {attribute!r}", path, f"it has {', '.join(classes) or 'no class'}")
    return getattr(module, attribute)


def class_in_file(target: str, kind: type) -> type:
    """The class that `PATH.py:CLASS` names, a concrete subclass of `kind`. Raises `InputError`."""
    path, attribute = file_parts(target)
    plugin = from_file(target)
    if not (isinstance(plugin, type) and issubclass(plugin, kind)):
        hint = f"derive it from {kind.__module__}.{kind.__name__}"
        raise _bad_plugin(f"{attribute} is not a {kind.__name__}", path, hint)
    if missing := sorted(getattr(plugin, "__abstractmethods__", ())):
        raise _bad_plugin(f"{attribute} lacks {', '.join(missing)}", path, "docs/extending.md shows each")
    return plugin


def _bad_plugin(message: str, where: Path | str, hint: str) -> InputError:
    return InputError(message, where=where, hint=hint, code="bad-plugin")


def model_name(target: str) -> str:
    """Name under which runs of `PATH.py:CLASS` are stored.

    >>> model_name("models/my-model.py:Model")
    'my_model:Model'
    """
    place, _, attribute = target.rpartition(":")
    return re.sub(r"\W", "_", PurePath(place).stem) + f":{attribute}"


def digest(path: Path) -> str:
    """Hash of a file's content for a run's key."""
    return file_sha256(path)[:12]


@cache
def _module(path: Path, content: str) -> ModuleType:
    """The file as a module, executed once in a process. It can import modules of its folder."""
    name = f"harness_file_{path.stem}_{content}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        del sys.modules[name]
        line = _line(error, path)
        place = f"{path} line {line}" if line else path
        raise _bad_plugin(f"{type(error).__name__}: {error}", place, "correct the file") from error
    return module


def _line(error: BaseException, path: Path) -> int | None:
    """Line of the file that raised the error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else getattr(error, "lineno", None)


def packaged_folder(files: str) -> Path | None:
    """The folder of `package:folder/inside`, or None where the package or the folder is not there."""
    package, _, inside = files.partition(":")
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(root) / inside).is_dir():
            return folder
    return None
