"""Measures `harness data prepare instruments` on a raw set: seconds, peak memory, and what is left.

    python benchmarks/prepare_scale.py FOLDER [--from ratings|reviews]

prints one JSON document. The command runs in a process of its own with a cache folder of its own; the peak is what the
operating system counted for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KIB = 1024 if sys.platform != "darwin" else 1


def measure(folder: Path, source: str) -> dict[str, float | int | str]:
    """One preparation from scratch."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as raw:
        for inside in ("Metadata", "Ratings" if source == "ratings" else "Review"):
            (Path(raw) / inside).symlink_to((folder / inside).resolve())
        command = [sys.executable, "-m", "harness", "data", "prepare", "instruments", "--raw", raw, "--json"]
        environment = {**os.environ, "HARNESS_HOME": home}
        began = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB
    story = json.loads(done.stdout)
    result = {key: story["result"][key] for key in ("users", "items", "interactions", "fingerprint")}
    raw_rows = story["steps"][0]["interactions"]
    return {
        "source": source,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak / 2**30, 2),
        "rows": raw_rows,
        "metadata_lines": story["text"]["records"],
        **result,
    }


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", choices=("ratings", "reviews"), default="ratings")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.folder, asked.source), indent=1))


if __name__ == "__main__":
    main()
