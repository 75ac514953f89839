"""Patches of RecBole 1.2.1 for current NumPy and pandas, applied in the worker process before RecBole's import.

They affect the whole process.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

# `recbole.config.Config` sets np.float, np.complex and np.unicode from these names, which NumPy 2.0 took away.
NUMPY_NAMES = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}


def apply() -> None:
    """Makes this process fit for RecBole. Safe to call twice.

    `torch.load(weights_only=False)` is not among the patches: RecBole's own checkpoints are pickles, and none is ever
    written or read here (`checkpoint` keeps safetensors and JSON instead).
    """
    for name, kind in NUMPY_NAMES.items():
        if not hasattr(np, name):
            setattr(np, name, kind)
    if pd.Series.agg is not _agg:
        pd.Series.agg = pd.Series.aggregate = _agg  # type: ignore[method-assign]
    # RecBole fills missing values in a way that does nothing since pandas 3; `atomic` writes none
    warnings.filterwarnings("ignore", message="A value is being set on a copy of a DataFrame")


_pandas_agg = pd.Series.agg


def _agg(self: pd.Series, func: Any = None, axis: Any = 0, *args: Any, **kwargs: Any) -> Any:
    """RecBole asks a column of arrays for `agg(len)` and means each one's length; pandas 3 gives the column's."""
    return self.map(len) if func is len else _pandas_agg(self, func, axis, *args, **kwargs)


def undo_imports() -> None:
    """Takes back what importing RecBole's models does to the process; called after the import.

    `recbole.model.sequential_recommender.sine` switches torch's anomaly detection on for everybody, which checks every
    gradient for NaN and makes a SASRec step take nearly twice its time. RecBole's trainer looks at the loss for NaN.
    """
    import torch

    torch.autograd.set_detect_anomaly(False)
