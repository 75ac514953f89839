"""`harness.leaderboard` and `harness.compare`, as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError, unknown_name
from harness.protocol.protocol import MAIN_METRIC, METRICS
from harness.reports.comparison import METRICS_SHOWN
from harness.reports.comparison import compare as paired_comparison
from harness.reports.leaderboard import _NO_PLACE, _NO_ROW, cells, place, select
from harness.reports.selection import choose
from harness.store.run_store import Store

if TYPE_CHECKING:
    import pandas as pd


def leaderboard(
    dataset: str | None = None, *, metric: str = MAIN_METRIC, results: str | Path = "results", published: bool = False
) -> pd.DataFrame:
    """All stored runs (of one data set, by name or folder) as a DataFrame, best first within each board.

    Columns: dataset, board (fingerprint of the rules and data: rows of different boards are not comparable), rank,
    model, family, n (seeds), one a metric with its `_std`, short, invalid, duplicate, seen, collision_rate,
    code_level_delta_ndcg@10, code_level_delta_recall@10, train_s, users_per_s, peak_mb, parameters, trials, search_s
    (of `harness tune`), passes (over the training data), note, leaks; where a language model was measured also
    `comprehension.STAGE.FIGURE`. `published` adds the papers' rows, without a rank, with `published.hand`,
    `published.source` and the known fields of their protocol. Raises `InputError` for an unknown metric or data set.
    """
    import pandas as pd

    if published:
        from harness.reports.published import published_boards

        boards = published_boards(Store(Path(results)), dataset, metric)
    else:
        boards = select(Store(Path(results)), dataset, metric)
    rows = [{**place(board), **cells(row)} for board in boards for row in board.rows]
    return pd.DataFrame(rows, columns=None if rows else list({**_NO_PLACE, **cells(_NO_ROW)}))


def compare(
    *runs: str, dataset: str | None = None, metrics: Sequence[str] = METRICS_SHOWN, results: str | Path = "results"
) -> pd.DataFrame:
    """Stored runs against each other, paired by user: a row for each pair and metric.

    `runs` are run ids or their beginnings, names of models (all their seeds), or ids of one configuration with commas.
    Columns: a, b, metric, the means and their difference with its interval, p, p_corrected (for the number of rows),
    significant, p_seeds. Raises `InputError` where runs are unknown or cannot be compared.
    """
    import pandas as pd

    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS, where="harness.compare")
    if len(runs) < 2:
        raise InputError("at least two runs are needed", where="harness.compare")
    location = dataset if dataset is not None and Path(dataset).is_dir() else None
    comparison = paired_comparison(choose(Store(Path(results)), list(runs), dataset), tuple(metrics), location)
    return pd.DataFrame(comparison.document()["comparisons"])
