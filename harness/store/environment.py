"""The environment of a run (Python, platform, packages, code version, git revision) and its cost.

Cost is wall seconds, and peak memory of this process and its children, as measured.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.core.environment import package_version
from harness.store.record import Env

if TYPE_CHECKING:
    import psutil

PACKAGES = (
    "numpy", "pandas", "pyarrow", "scipy", "torch", "transformers", "tokenizers", "peft", "safetensors", "gguf",
    "recbole", "ranx", "pydantic",
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("harness", "baselines", "eager")
MB = 2**20


def revision() -> str | None:
    """The git commit of this project's checkout, `+` behind it where files differ; None outside a checkout."""
    if not (ROOT / ".git").exists():
        return None
    commit = _git(ROOT, "rev-parse", "HEAD")
    return commit and commit + ("+" if _git(ROOT, "status", "--porcelain", "--untracked-files=no") else "")


def source_mark() -> str:
    """The program's version and a hash of its own Python files: equal where two machines run the same program."""
    mark = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        mark.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{package_version()}-{mark.hexdigest()[:16]}"


def environment(code_version: int | str) -> Env:
    """The record's `env`: of the packages those that can change results, where they are installed."""
    packages = {"harness": package_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return Env(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages,
        code_version=str(code_version),
        revision=revision(),
    )


def _git(root: Path, *arguments: str) -> str | None:
    try:
        completed = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() or None if completed.returncode == 0 else None


class MemoryWatch:
    """The highest memory while its block runs.

    Samples the resident memory of the process and its children together four times a second. Between samples the
    kernel's own high-water mark tells, where it rose during the block: that of this process, and that of the largest
    child that has ended.
    """

    PERIOD = 0.25

    def __init__(self) -> None:
        self.peak_mb = 0.0  # known when the block has ended, in units of 2**20 bytes
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._marks = _high_water()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._sample()
        risen = [now for previous, now in zip(self._marks, _high_water(), strict=True) if now > previous]
        self.peak_mb = max([self._peak, *risen]) / MB

    def _watch(self) -> None:
        while not self._done.wait(self.PERIOD):
            self._sample()

    def _sample(self) -> None:
        import psutil

        self._peak = max(self._peak, resident_bytes(psutil.Process()))


def resident_bytes(process: psutil.Process) -> int:
    """Resident memory of a process and all below it."""
    import psutil

    total = process.memory_info().rss
    for child in process.children(recursive=True):
        with suppress(psutil.Error):  # it has ended since
            total += child.memory_info().rss
    return total


def _high_water() -> tuple[int, int]:
    try:
        import resource
    except ImportError:  # Windows
        return (0, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    current, children = (
        resource.getrusage(owner).ru_maxrss for owner in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return current * unit, children * unit


def reset_device_memory(device: str) -> None:
    """Begins the count of `device_memory_mb` anew."""
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def device_memory_mb(device: str) -> float | None:
    """The most memory that tensors held on a CUDA device in this process; None elsewhere. Never imports torch."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return None
    return torch.cuda.max_memory_allocated(device) / MB
