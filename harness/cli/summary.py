"""What `run` and `evaluate` end with: the metrics of each run, and its place in the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli.output import console, note, print_json, print_plain

if TYPE_CHECKING:
    from harness.runs.run import Finished
    from harness.store.run_store import Store


def conclude(done: Sequence[Finished], store: Store, *, as_json: bool) -> None:
    """Tables to stdout, or to stderr beside the JSON document (a list of them where there are several runs)."""
    from harness.protocol.protocol import MAIN_METRIC
    from harness.reports import formats
    from harness.reports.leaderboard import boards, standing

    for finished in done:
        if finished.reused:
            note(f"{finished.record.run_id} is complete already, from {finished.record.finished:%Y-%m-%d %H:%M} UTC")
        print_plain(formats.metrics_table(finished.record), as_json=as_json)
    record = done[-1].record
    found = boards(store.query(record.dataset.name), MAIN_METRIC)
    board, row = standing(found, record.run_id)
    width = console(as_json=as_json).width
    print_plain(formats.table([board], MAIN_METRIC, width), as_json=as_json)
    print_plain(formats.place_text(board, row, MAIN_METRIC), as_json=as_json)
    for finished in done:
        note(f"stored in {finished.path}")
    if as_json:
        documents = [finished.document() for finished in done]
        print_json(documents if len(documents) > 1 else documents[0])
