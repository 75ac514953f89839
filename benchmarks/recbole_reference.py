"""Does RecBole, left alone, find what our adapter finds? SASRec by RecBole's own pipeline beside `recbole:SASRec`.

The data set is exported as RecBole's atomic files; RecBole splits it (leave one out), trains every prefix of the
training part, stops early on its own ndcg@10, ranks the whole catalogue and scores the test items itself. Settings and
budget are those of our run under the same profile. Nothing of the harness's split or metrics takes part.

    python benchmarks/recbole_reference.py DATASET [--profile cpu] [--seed 1] [--results results]

prints one JSON document and ends with 1 where the two ndcg@10 differ by more than 10%.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MODEL, NAME = "SASRec", "reference"
TOLERANCE = 0.1
# What decides the outcome besides the split; the rest of our settings are paths, protocol and devices.
OURS = ("epochs", "stopping_step", "learning_rate", "weight_decay", "train_batch_size", "eval_batch_size",
        "MAX_ITEM_LIST_LENGTH", "n_layers", "n_heads", "hidden_size", "inner_size", "hidden_dropout_prob",
        "attn_dropout_prob", "loss_type", "train_neg_sample_args")  # fmt: skip


def alone(folder: Path) -> dict[str, Any]:
    """RecBole's own run on the atomic files in `folder`; in a process of its own, because the patches reach it all."""
    from baselines.recbole import patches

    patches.apply()
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    given = torch.load  # RecBole reads back the checkpoint that it has just written, a pickle
    torch.load = lambda *args, **options: given(*args, **{**options, "weights_only": False})
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    config = Config(model=MODEL, dataset=NAME, config_dict=asked["settings"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    config["epochs"] = max(1, min(config["epochs"], asked["max_samples"] // len(train.dataset)))
    patches.undo_imports()
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(MODEL)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid, verbose=False)
    scores = trainer.evaluate(test, load_best_model=True)
    return {
        "valid": float(trainer.best_valid_score),
        "test": float(scores["ndcg@10"]),
        "samples": len(train.dataset),
        "cases": len(test.dataset),
        "items": int(dataset.item_num) - 1,
        "epochs": len(trainer.train_loss_dict),
    }


def reference(data: Any, settings: dict[str, Any], max_samples: int) -> dict[str, Any]:
    """Exports `data` and has RecBole run on it alone."""
    from harness.data.export import POSITION, export

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        exported = export(data, "recbole", folder / "exported")
        (folder / NAME).mkdir()
        inter = next(exported.folder.glob("*.inter"))
        inter.rename(folder / NAME / f"{NAME}.inter")
        timed = "timestamp" if data.timestamps is not None else POSITION
        settings = {
            **settings,
            "data_path": str(folder),
            "checkpoint_dir": str(folder / "saved"),
            "TIME_FIELD": timed,
            "load_col": {"inter": ["user_id", "item_id", timed]},
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "metrics": ["NDCG"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "metric_decimal_place": 6,
            "show_progress": False,
            "use_gpu": False,
            "gpu_id": "",
        }
        (folder / "asked.json").write_text(json.dumps({"settings": settings, "max_samples": max_samples}))
        began = time.monotonic()
        subprocess.run(
            [sys.executable, __file__, "--alone", str(folder)], cwd=folder, check=True, stdout=sys.stderr,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return {**told, "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", default="results")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        told = alone(asked.alone)
        (asked.alone / "told.json").write_text(json.dumps(told), encoding="utf-8")
        return
    if asked.dataset is None:
        parser.error("give a data set")
    import harness
    from baselines.recbole.recommender import RecBoleConfig

    ours = harness.run(
        "recbole:SASRec", asked.dataset, profile=asked.profile, seed=asked.seed, results=asked.results, device="cpu"
    ).record.document()
    config = RecBoleConfig(model=MODEL, **RecBoleConfig.profiles[asked.profile])
    settings = {name: config.settings(ours["protocol"]["max_history"])[name] for name in OURS}
    theirs = reference(
        harness.load_dataset(asked.dataset), {**settings, "seed": asked.seed}, config.max_samples or sys.maxsize
    )
    ratio = ours["metrics"]["test"]["ndcg@10"] / theirs["test"]
    said = {"valid": ours["metrics"]["valid"]["ndcg@10"], "test": ours["metrics"]["test"]["ndcg@10"]}
    print(json.dumps({"ours": said, "recbole_alone": theirs, "ratio": round(ratio, 4)}, indent=1))
    sys.exit(abs(ratio - 1) > TOLERANCE)


if __name__ == "__main__":
    main()
