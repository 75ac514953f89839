"""RecBole's sequential models as recommenders: RecBole trains and scores, the harness evaluates.

RecBole 1.2.1 needs patches of the process for current NumPy and pandas, so it runs in a child process
(`baselines.worker`) and is never imported here.
"""

from __future__ import annotations

import warnings
from typing import Any


def apply_patches() -> None:
    """Makes this process fit for RecBole, before its import. Safe to call twice.

    `torch.load(weights_only=False)` is not among the patches: RecBole's own checkpoints are pickles, and none is ever
    written or read here (`worker.TrainingCheckpoint` has safetensors and JSON instead).
    """
    import numpy as np
    import pandas as pd

    # `recbole.config.Config` sets np.float, np.complex and np.unicode from these names, which NumPy 2.0 took away.
    for name, kind in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
        if not hasattr(np, name):
            setattr(np, name, kind)
    pandas_agg = pd.Series.agg
    if pandas_agg.__name__ != "length_agg":

        def length_agg(self: pd.Series, func: Any = None, axis: Any = 0, *args: Any, **kwargs: Any) -> Any:
            """RecBole asks a column of arrays for `agg(len)` and means each length; pandas 3 gives the column's."""
            return self.map(len) if func is len else pandas_agg(self, func, axis, *args, **kwargs)

        pd.Series.agg = pd.Series.aggregate = length_agg  # type: ignore[method-assign]
    # RecBole fills missing values in a way that does nothing since pandas 3; `data.write` writes none
    warnings.filterwarnings("ignore", message="A value is being set on a copy of a DataFrame")
