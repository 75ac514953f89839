"""`harness export`: a stored run's model as a folder that transformers loads, and wrong input in one line; a training
that runs away too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.cli.conftest import Harness
from tests.folders import lcrec_folder

QUICK = (
    "--profile", "smoke", "--set", "eager.tuning.max_steps=2", "--set", "eager.annealing.max_steps=2",
    "--set", "eager.comprehension.items=0", "--set", "eager.behavior.epochs=1", "--set", "eager.annealing.merge=false",
)  # fmt: skip


def test_a_stored_model_becomes_a_folder_that_transformers_loads(harness: Harness, tmp_path: Path) -> None:
    data = str(lcrec_folder(tmp_path / "shop"))
    run = json.loads(harness("run", "eager-llm", "-d", data, *QUICK, "--json").out)
    assert harness("run", "mostpop", "-d", data).code == 0
    done = harness("export", "eager-llm", "-o", "whole", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "run_id": run["run_id"], "model": "eager-llm", "dataset": run["dataset"]["name"], "path": "whole",
    }  # fmt: skip
    assert harness("export", run["run_id"][:12], "-o", "apart", "--adapter").code == 0
    assert Path("apart/adapter/adapter_model.safetensors").is_file() and not Path("whole/adapter").exists()
    tokenizer: Any = AutoTokenizer.from_pretrained("whole")
    codes = json.loads(Path("whole/item.index.json").read_text())
    ids = tokenizer("".join(codes["i3"]), add_special_tokens=False).input_ids
    assert len(ids) == len(codes["i3"])
    with torch.no_grad():
        merged, base = (
            AutoModelForCausalLM.from_pretrained(place).eval()(torch.tensor([ids])).logits
            for place in ("whole", "apart")
        )
    assert merged.shape == base.shape and not torch.equal(merged, base)
    for arguments, message in (
        (("eager-llm", "-o", "whole"), "whole: not an empty folder; name a new one"),
        (("mostpop", "-o", "new"), "mostpop is not a language model and cannot be exported; choose eager-llm or lcrec"),
        (("eager-lm", "-o", "new"), "unknown run 'eager-lm'; did you mean eager-llm?"),
    ):
        done = harness("export", *arguments)
        assert done.code == 2 and message in done.err, done.err
    file = tmp_path / "shop/toy.inter.json"
    rows = json.loads(file.read_text())
    rows["u0"].reverse()
    file.write_text(json.dumps(rows))
    done = harness("export", "eager-llm", "-o", "new")
    assert done.code == 2 and "has changed since the run; restore it" in done.err, done.err


def test_a_training_that_runs_away_is_said_in_words(harness: Harness, tmp_path: Path) -> None:
    data = str(lcrec_folder(tmp_path / "shop"))
    hot = ("--set", "eager.tuning.learning_rate=1e36", "--set", "eager.tuning.max_steps=9")
    done = harness("run", "eager-llm", "-d", data, *QUICK, *hot)
    assert done.code == 2 and "stage alignment: training diverged: the loss is nan at step" in done.err, done.err
    assert "lower its learning rate" in done.err and "Traceback" not in done.err
