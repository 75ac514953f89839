"""Cases of `harness bench decode`: models, codes and prompts over the histories of a real data set.

A causal LM and a T5, each once in the engine and once in transformers, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from harness.core.seeding import derive_seed, generator
from harness.data.loading import load_dataset
from harness.generative.config import ScoreNormalization
from harness.generative.decoding.generate import Beams, Decodable, Decoding, Ranker, evenly_spaced, recommend
from harness.generative.decoding.hf_generate import PrefixTree, generate, with_grown_vocabulary
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import EMBEDDED, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.encoder_decoder import CodeT5
from harness.generative.models.precision import Precision
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.protocol import Protocol
from harness.protocol.requests import Requests
from harness.protocol.split import split

K = 256  # tokens of a level, as in the paper
LISTED = 20
SPREAD = 2.0  # factor on untrained logits, so that neighbours in a list differ by more than rounding
PROMPTS = {  # `instruction`: the form and length of the released LC-Rec and EAGER-LLM
    "instruction": "You are given an instruction that sets a task, and an input that goes with it. Write a response "
    "that does what the instruction asks for.\n\n### Instruction:\nA customer of a shop has bought the items below, "
    "named by their codes, in the order of time. Say which item the customer buys next, by its code.\n\n### Input:\n",
    "short": "Items this person chose, oldest first, and the one chosen next:",
}
Prompt = Literal["instruction", "short"]


@dataclass(frozen=True, eq=False)
class Case:
    """Users sorted by the length of their history, longest first, and the model of both sides."""

    model: Decodable
    hf_model: Any
    table: CodeTable
    requests: Requests
    prompt: Callable[[np.ndarray], list[int]]
    context: RunContext
    parameters: int

    def engine(
        self,
        beams: Beams,
        batch: int,
        normalise: ScoreNormalization = "vocabulary",
        precision: Precision = "float32",
        users: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists (users, 20) and their scores by the engine, of all users or of `sample_rows(users)`."""
        requests = self.requests if users is None else self.requests.take(self.sample_rows(users))
        decoding = Decoding(beams, batch, precision, normalise)
        predictions, _ = recommend(
            Ranker(self.model, CodeTrie(self.table), self.prompt), requests, LISTED, decoding, self.context
        )
        return predictions.items, predictions.scores

    def reference(self, tree: PrefixTree, users: Sequence[int], beams: int) -> tuple[np.ndarray, np.ndarray]:
        """Lists and scores of one batch of users by `generate`."""
        prompts = [self.prompt(self.requests.histories[user]) for user in users]
        items, scores = generate(self.hf_model, tree, prompts, beams)
        return items[:, :LISTED], scores[:, :LISTED]

    def sample_rows(self, users: int) -> np.ndarray:
        """Rows of at most `users` users, evenly spaced over the lengths."""
        return evenly_spaced(len(self.requests), users)

    def tree(self) -> PrefixTree:
        return PrefixTree(self.table, self.model.vocabulary, self.model.eos)


def device() -> str:
    """The device of benchmarks: a GPU if available."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def causal_case(
    dataset: str, users: int, items: int | None, prompt: Prompt, layers: int | None, context: RunContext
) -> Case:
    """SmolLM2-135M with `layers` layers (None: all) over the histories of `users` users, of at most `items` items."""
    requests, table = _data(dataset, users, items, context.seed)
    backbone = load_backbone(EMBEDDED, layers, "pretrained", context)
    torch.manual_seed(derive_seed(context.seed, "bench", "rows"))
    model = CodeLM(backbone, table.sizes).to(context.device).eval()
    with torch.no_grad():  # not frozen: autocast caches casts of trained weights only, as in a run
        model.scale.mul_(SPREAD)
    lead: list[int] = list(backbone.tokenizer(PROMPTS[prompt], add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    return Case(
        model,
        with_grown_vocabulary(model),
        table,
        requests,
        lambda history: [*lead, *(table.flat[history] + model.vocabulary).reshape(-1).tolist()],
        context,
        sum(p.numel() for p in model.body.parameters() if p.ndim == 2 and p is not model.embedding.weight),
    )


def t5_case(dataset: str, users: int, items: int | None, context: RunContext) -> Case:
    """TIGER's network with random weights, over the same histories."""
    requests, table = _data(dataset, users, items, context.seed)
    torch.manual_seed(derive_seed(context.seed, "bench", "t5"))
    model = CodeT5(table.sizes).to(context.device).eval()
    with torch.no_grad():
        model.t5.shared.weight.mul_(SPREAD)
    return Case(
        model,
        model.t5,
        table,
        requests,
        lambda history: (table.flat[history] + model.vocabulary).reshape(-1).tolist(),
        context,
        sum(p.numel() for p in model.parameters() if p.ndim == 2),
    )


def _data(dataset: str, users: int, items: int | None, seed: int) -> tuple[Requests, CodeTable]:
    """Test histories of randomly selected users, and codes of two random trees: two tokens of each an item."""
    data = load_dataset(dataset)
    rng = generator(seed, "bench", "decode")
    all_requests = split(data, Protocol()).test.requests
    sample = all_requests.take(rng.choice(len(all_requests), min(users, len(all_requests)), replace=False))
    histories = sample.histories if items is None else sample.histories.last(items)
    requests = replace(sample, histories=histories).take(np.argsort(-histories.lengths, kind="stable"))
    size = max(K, int(np.ceil(len(data.items) ** 0.5)))
    trees = [rng.permutation(size * size)[: len(data.items)] for _ in range(2)]
    digits = np.stack([part for tree in trees for part in np.divmod(tree, size)], axis=1)
    return requests, CodeTable(digits, (size,) * 4)
