"""What RecBole 1.2.1 needs before it can be imported beside today's NumPy: called in the worker's process only.

Each patch reaches the whole process, which is why RecBole has one of its own. Knows nothing of models and data.
"""

from __future__ import annotations

import numpy as np

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


def undo_imports() -> None:
    """Takes back what importing RecBole's models does to the process; called after the import.

    `recbole.model.sequential_recommender.sine` switches torch's anomaly detection on for everybody, which checks every
    gradient for NaN and makes a SASRec step take nearly twice its time. RecBole's trainer looks at the loss for NaN.
    """
    import torch

    torch.autograd.set_detect_anomaly(False)
