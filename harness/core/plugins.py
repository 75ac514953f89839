"""What installed packages and single files add: loaded one by one, so that a broken one stops nothing but itself."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path, PurePath
from types import ModuleType
from typing import TypeVar

from harness.errors import InputError, escape_control, truncate

EntryT = TypeVar("EntryT")
ENDING = ".py"


def plugins(points: Iterable[EntryPoint], kind: type[EntryT]) -> Iterator[tuple[str, EntryT]]:
    """Where each entry point comes from, in words, and its object, which must be a `kind`. One that cannot be loaded
    is left out, with one line on stderr that names it."""
    for point in points:
        source = _source(point)
        try:
            entry = point.load()
        except Exception as error:  # anything may be wrong in somebody else's package
            warn(f"{source} is left out: {type(error).__name__}: {error}")
            continue
        if isinstance(entry, kind):
            yield source, entry
        else:
            warn(f"{source} is left out: its object is {type(entry).__name__}, not {kind.__name__}")


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
    """The file and the class of `PATH.py:CLASS`. Raises `InputError` for a file that is not there."""
    place, _, attribute = name.rpartition(":")
    path = Path(place).expanduser().absolute()
    if not path.is_file():
        raise InputError(
            "no such file", where=str(path), hint="check the path; it is written FILE.py:CLASS", code="missing-file"
        )
    return path, attribute


def from_file(name: str) -> object:
    """The class that `PATH.py:CLASS` names. Raises `InputError` for a file that cannot be run or lacks the class."""
    path, attribute = file_parts(name)
    module = _module(path, digest(path))
    if not hasattr(module, attribute):
        classes = sorted(name for name, value in vars(module).items() if isinstance(value, type))
        raise InputError(
            f"there is no {attribute!r}",
            where=str(path),
            hint=f"it has {', '.join(classes) or 'no class'}",
            code="bad-plugin",
        )
    return getattr(module, attribute)


def class_in_file(target: str, kind: type) -> type:
    """The class that `PATH.py:CLASS` names, which derives from `kind` and fills all of it. Raises `InputError`."""
    path, attribute = file_parts(target)
    result = from_file(target)
    if not (isinstance(result, type) and issubclass(result, kind)):
        hint = f"derive it from {kind.__module__}.{kind.__name__}"
        raise InputError(f"{attribute} is no {kind.__name__}", where=str(path), hint=hint, code="bad-plugin")
    if missing := sorted(getattr(result, "__abstractmethods__", ())):
        raise InputError(
            f"{attribute} lacks {', '.join(missing)}",
            where=str(path),
            hint="docs/extending.md shows each",
            code="bad-plugin",
        )
    return result


def model_name(target: str) -> str:
    """What the runs of `PATH.py:CLASS` are stored under.

    >>> model_name("models/my-model.py:Model")
    'my_model:Model'
    """
    place, _, attribute = target.rpartition(":")
    return re.sub(r"\W", "_", PurePath(place).stem) + f":{attribute}"


def digest(path: Path) -> str:
    """The content of a file, as it stands in a run's key."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@cache
def _module(path: Path, content: str) -> ModuleType:
    """The file as a module, run once in a process. Modules beside it can be imported."""
    name = f"harness_file_{path.stem}_{content}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody else's file does
        del sys.modules[name]
        line = _line(error, path)
        message = f"{type(error).__name__}: {error}"
        raise InputError(
            message, where=f"{path} line {line}" if line else str(path), hint="correct the file", code="bad-plugin"
        ) from error
    return module


def _line(error: Exception, path: Path) -> int | None:
    """The line of the file at which it failed."""
    result, step = getattr(error, "lineno", None), error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            result = step.tb_lineno
        step = step.tb_next
    return result
