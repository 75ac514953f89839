"""The environment of a run: Python, platform, package versions, the method's code version, git revision."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.core.environment import package_version
from harness.store.record import Env

PACKAGES = (
    "numpy", "pandas", "pyarrow", "scipy", "torch", "transformers", "tokenizers", "peft", "safetensors", "gguf",
    "recbole", "ranx", "pydantic",
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("harness", "baselines", "eager")


def packages() -> dict[str, str]:
    """Versions of the packages that can change results, this project first; those not installed are left out."""
    entries = {"harness": package_version()}
    for name in PACKAGES:
        try:
            entries[name] = version(name)
        except PackageNotFoundError:
            continue
    return entries


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
    """The record's `env`."""
    return Env(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=packages(),
        code_version=str(code_version),
        revision=revision(),
    )


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
