"""`harness bench decode`: the engine's beam search against transformers' `generate` with a correct constraint.

Cases are a causal LM and a T5, each once in the engine and once in transformers, with the same weights, codes and
prompts over the histories of a real data set. Both sides rank the same users. The reference ranks different batches in
each round, so that every list is compared; rates are per user. Users are sorted by length on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from harness.bench.timing import MIN_ROUNDS, Options, Outcome, Side, bench_context, paired, seconds_of
from harness.core.seeding import derive_seed, generator
from harness.data.loading import load_dataset
from harness.errors import InputError, unknown_name
from harness.generative.config import ScoreNormalization
from harness.generative.decoding.generate import (
    Beams,
    Decodable,
    Decoding,
    Ranker,
    count_missed,
    evenly_spaced,
    recommend,
)
from harness.generative.exporting import PrefixTree, generate, with_grown_vocabulary
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
USERS, BATCH, BEAMS = 32, 8, 20
REFERENCE_BATCHES, ENGINE_BATCHES = (1, 4, 16), (16, 64)  # further batch sizes for `best`
TOLERANCE = 1e-3  # of scores
INEXACT_USERS = 16  # users ranked in the modes that are not exact
RECALL_USERS = 4  # users whose items are all scored, to measure the recall of beams


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


def language_model(
    table: CodeTable, prompt: str, layers: int | None, context: RunContext
) -> tuple[CodeLM, Callable[[np.ndarray], list[int]]]:
    """SmolLM2-135M with random rows for the codes, and the token ids of the prompt for a history of items."""
    backbone = load_backbone(EMBEDDED, layers, "pretrained", context)
    torch.manual_seed(derive_seed(context.seed, "bench", "rows"))
    model = CodeLM(backbone, table.sizes).to(context.device).eval()
    with torch.no_grad():  # not frozen: autocast caches casts of trained weights only, as in a run
        model.scale.mul_(SPREAD)
    lead: list[int] = list(backbone.tokenizer(PROMPTS[prompt], add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    return model, lambda history: [*lead, *(table.flat[history] + model.vocabulary).reshape(-1).tolist()]


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


@dataclass(frozen=True)
class DecodeOptions(Options):
    """`settings`: value of `--beams`, `20` or `20,50,all`: the first is timed, and each is compared with exhaustive
    scoring. `best`: also search the best batch size of each side."""

    settings: str = str(BEAMS)
    model: str = "smollm2"
    prompt: str = "instruction"
    best: bool = False


def measure(options: DecodeOptions) -> Outcome:
    """Runs the benchmark. Raises `InputError` for invalid settings, before anything is computed."""
    settings = parse_beams(options.settings)
    beams = settings[0]
    if beams == "all" or beams < LISTED:
        raise InputError(f"--beams begins with {beams}", hint=f"begin with {LISTED} or more: 20,all")
    case = _case(options)
    users, batch = len(case.requests), min(options.batch or BATCH, len(case.requests))
    reference = _Reference(case, beams, batch, options.rounds)
    case.engine(beams, batch, users=2)
    reference.warm()
    candidate = Side(f"engine, {beams} beams", lambda: case.engine(beams, batch), users)
    reference_side = Side(f"generate, {beams} beams", reference.turn, reference.per_turn * batch)
    timed = paired(candidate, reference_side, rounds=options.rounds, warm=False)
    items, scores = timed.results[0]
    checks = reference.compared(items, scores)
    parts: dict[str, Any] = {"best": _best(case, beams, batch, timed.reference.per_second)} if options.best else {}
    parts["apart"] = _inexact_modes(case, beams, batch, items, timed.reference.per_second)
    if len(settings) > 1:
        parts["lost"] = _beam_recall(case, settings)
    fields = {"users": users, "items": case.table.n_items, "beams": beams, "batch": batch, "model": options.model}
    lengths = [len(case.prompt(history)) for history in case.requests.histories]
    fields |= {"prompt": options.prompt, "mean_prompt_tokens": float(np.mean(lengths)), "parameters": case.parameters}
    fields |= {"dataset": options.dataset or "ml-100k", "layers": options.layers, "seed": options.seed}
    return Outcome("decode", "users", checks["identical"], timed, fields, checks, parts)


def parse_beams(text: str) -> list[Beams]:
    """Parses `20,50,all`.

    >>> parse_beams("20,50,all")
    [20, 50, 'all']
    """
    settings: list[Beams] = []
    for word in text.split(","):
        word = word.strip()
        if word != "all" and not (word.isdigit() and int(word) > 0):
            raise InputError(f"{word!r} is not a number of beams", where="--beams", hint="give numbers or all")
        settings.append("all" if word == "all" else int(word))
    return settings


def _case(options: DecodeOptions) -> Case:
    """SmolLM2-135M, or TIGER's network with random weights, over histories of a data set."""
    if options.model not in ("smollm2", "t5"):
        raise unknown_name("model", options.model, ("smollm2", "t5"), where="--model")
    if options.model == "smollm2" and options.prompt not in PROMPTS:
        raise unknown_name("prompt", options.prompt, PROMPTS, where="--prompt")
    context = bench_context(options.seed)
    requests, table = _data(options.dataset or "ml-100k", options.users or USERS, options.items, options.seed)
    if options.model == "t5":
        torch.manual_seed(derive_seed(context.seed, "bench", "t5"))
        t5 = CodeT5(table.sizes).to(context.device).eval()
        with torch.no_grad():
            t5.t5.shared.weight.mul_(SPREAD)
        weights = sum(p.numel() for p in t5.parameters() if p.ndim == 2)
        return Case(
            t5,
            t5.t5,
            table,
            requests,
            lambda row: (table.flat[row] + t5.vocabulary).reshape(-1).tolist(),
            context,
            weights,
        )
    model, prompt = language_model(table, options.prompt, options.layers, context)
    weights = sum(p.numel() for p in model.body.parameters() if p.ndim == 2 and p is not model.embedding.weight)
    return Case(model, with_grown_vocabulary(model), table, requests, prompt, context, weights)


class _Reference:
    """The reference over all users, some batches a round, each round with short and long histories. Scores are
    requested: they cost `generate` a copy of the logits of a step, below 1% of its time."""

    def __init__(self, case: Case, beams: int, batch: int, rounds: int) -> None:
        self.case, self.beams, self.tree = case, beams, case.tree()
        users = np.arange(len(case.requests))
        total = len(users) - len(users) % batch
        self.batches = [users[begin : begin + batch] for begin in range(0, total, batch)]
        if total < len(users):  # the last batch is filled with users of the previous one
            self.batches.append(users[-batch:])
        self.rounds, self.per_turn = rounds, -(-len(self.batches) // rounds)
        self._turn = 0
        self.lists: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def warm(self) -> None:
        """An untimed first call."""
        self.case.reference(self.tree, [len(self.case.requests) - 1], self.beams)

    def turn(self) -> None:
        """The batches of the next round; a round with one batch less repeats one."""
        turn = self._turn % self.rounds
        values = self.batches[turn :: self.rounds]
        values += [self.batches[turn % len(self.batches)]] * (self.per_turn - len(values))
        for batch in values:
            items, scores = self.case.reference(self.tree, batch.tolist(), self.beams)
            self.lists |= {user: (items[row], scores[row]) for row, user in enumerate(batch.tolist())}
        self._turn += 1

    def compared(self, items: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Whether each user's list equals the reference's, and the largest difference of scores."""
        users = sorted(self.lists)
        reference = np.stack([self.lists[user][0] for user in users])
        equal = (reference == items[users]).all(axis=1)
        listed = reference >= 0
        separate = np.abs(np.stack([self.lists[user][1] for user in users]) - scores[users])[listed]
        limit = float(separate.max(initial=0.0))
        return {
            "identical": bool(equal.all()) and len(users) == len(items) and limit <= TOLERANCE,
            "users_compared": len(users),
            "users_identical": int(equal.sum()),
            "largest_score_difference": limit,
            "score_tolerance": TOLERANCE,
        }


def _best(case: Case, beams: int, batch: int, value: float) -> dict[str, Any]:
    """Users a second of both sides at their best batch size, each size measured once."""
    tree, reference, engine = case.tree(), {batch: value}, {}
    for size in REFERENCE_BATCHES:
        users = case.sample_rows(size).tolist()
        reference[size] = len(users) / seconds_of(lambda users=users: case.reference(tree, users, beams))[0]
    for size in sorted({batch, *ENGINE_BATCHES}):
        engine[size] = len(case.requests) / seconds_of(lambda size=size: case.engine(beams, size))[0]
    engine_batch, reference_batch = max(engine, key=engine.__getitem__), max(reference, key=reference.__getitem__)
    return {
        "ratio": engine[engine_batch] / reference[reference_batch],
        "batch": {"ours": engine_batch, "reference": reference_batch},
        "per_second": {"ours": engine[engine_batch], "reference": reference[reference_batch]},
        "tried": {"ours": engine, "reference": reference},
    }


def _inexact_modes(case: Case, beams: int, batch: int, exact: np.ndarray, reference: float) -> dict[str, Any]:
    """The modes with other scores: speed against the reference, and overlap of the lists."""
    modes: tuple[tuple[ScoreNormalization, Precision], ...] = (
        ("level", "float32"),
        ("vocabulary", "bfloat16"),
        ("level", "bfloat16"),
    )
    rows = case.sample_rows(INEXACT_USERS)
    entries = {}
    for normalise, precision in modes:
        rounds = [
            seconds_of(lambda mode=(normalise, precision): case.engine(beams, batch, *mode, users=len(rows)))
            for _ in range(MIN_ROUNDS)
        ]
        rate = len(rows) / float(np.median([seconds for seconds, _ in rounds]))
        items, _ = rounds[-1][1]
        overlap = _overlap(items, exact[rows])
        entries[f"{normalise} {precision}"] = {"per_second": rate, "ratio": rate / reference, "overlap": overlap}
    return entries


def _beam_recall(case: Case, settings: list[Beams]) -> dict[str, Any]:
    """The items of the exact top 10 that beams miss, for a few users."""
    users = min(RECALL_USERS, len(case.requests))
    seconds, (exact, _) = seconds_of(lambda: case.engine("all", users, users=users))
    entries: dict[str, Any] = {"users": users, "all": {"per_second": users / seconds}}
    for beams in settings:
        if beams != "all":
            items, _ = case.engine(beams, users, users=users)
            dropped = count_missed(items, exact)
            entries[str(beams)] = {"missed_of_10_mean": float(dropped.mean()), "missed_of_10_most": int(dropped.max())}
    return entries


def _overlap(items: np.ndarray, exact: np.ndarray) -> float:
    """Mean overlap of the lists."""
    return float(np.mean([len(set(a) & set(b)) / LISTED for a, b in zip(items, exact, strict=True)]))
