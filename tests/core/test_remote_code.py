"""A stranger's model gives tensors and settings; its code and its pickles do nothing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.generative.models.backbone import blank_backbone, byte_tokenizer, init_random, load_backbone, tiny_shape
from harness.generative.tokenizers.text_encoder import encode, load_encoder
from tests import toys

ROOT = Path(__file__).parents[2]


def model(folder: Path) -> Path:
    """A minute Llama in a folder."""
    import torch

    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    init_random(tiny_shape(1, len(tokenizer)), 1, torch.float32).save_pretrained(folder)
    return folder


class Marks:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("kind", ["backbone", "encoder"])
def test_weights_as_pickles_are_not_read(kind: str, tmp_path: Path) -> None:
    folder, mark = model(tmp_path / "model"), tmp_path / "mark"
    context = toys.context(tmp_path)
    load_backbone(str(folder), None, "pretrained", context)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Marks(str(mark))))
    with pytest.raises(InputError, match=r"cannot be loaded.*safetensors"):
        if kind == "backbone":
            load_backbone(str(folder), None, "pretrained", context)
        else:
            encode(["a"], str(folder), "mean", 8, context)
    assert not mark.exists()


OWN = """
import os
from pathlib import Path
from harness.errors import InputError
from harness.core import environment as trust
from harness.generative.models.backbone import blank_backbone
folder, mark = Path(os.environ["FOLDER"]), Path(os.environ["MARK"])
try:
    blank_backbone(str(folder), None)
except InputError as error:
    print(error)
print(mark.exists())
os.environ[trust.REMOTE_CODE_VARIABLE] = "1"
try:
    blank_backbone(str(folder), None)
except InputError as error:
    pass
print(mark.exists())
"""


def test_code_of_a_repository_runs_only_where_the_user_says_so(tmp_path: Path) -> None:
    folder, mark = tmp_path / "own", tmp_path / "mark"
    folder.mkdir()
    about = {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.Own"}}
    (folder / "config.json").write_text(json.dumps(about))
    local = "from transformers import LlamaConfig\nclass Own(LlamaConfig):\n    model_type = 'own'\n"
    (folder / "configuration_own.py").write_text(f"open({str(mark)!r}, 'w')\n{local}")
    messages = {"FOLDER": str(folder), "MARK": str(mark), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **messages}
    environment.pop("HARNESS_TRUST_REMOTE_CODE", None)
    done = subprocess.run([sys.executable, "-c", OWN], cwd=ROOT, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert "set HARNESS_TRUST_REMOTE_CODE=1 if you trust it" in lines[0], done.stderr
    assert lines[1:] == ["False", "True"]


@pytest.mark.parametrize("path", ["../..", "/etc", "a/../../b"])
def test_an_encoder_names_no_file_outside_its_folder(path: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    modules = [{"path": path, "name": "0", "idx": 0, "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"cannot be loaded: .*path"):
        load_encoder(str(folder), "auto", 8, "cpu")


def test_an_encoders_own_module_is_not_imported(tmp_path: Path) -> None:
    folder, mark = model(tmp_path / "model"), tmp_path / "mark"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    (folder / "modules.json").write_text(json.dumps([{"path": "", "name": "0", "idx": 0, "type": "own.Own"}]))
    with pytest.raises(InputError, match="set HARNESS_TRUST_REMOTE_CODE=1 if you trust it"):
        load_encoder(str(folder), "auto", 8, "cpu")
    assert not mark.exists()


@pytest.mark.parametrize("change", [{"num_hidden_layers": 10**9}, {"num_hidden_layers": "x"}, {"hidden_size": -1}, {}])
def test_a_models_settings_that_no_model_has(change: dict[str, object], tmp_path: Path) -> None:
    folder = model(tmp_path / "model")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | change) if change else "[" * 5000)
    with pytest.raises(InputError, match=r"cannot be read|layers"):
        blank_backbone(str(folder), None)
