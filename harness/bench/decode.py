"""`harness bench decode`: the engine's search against transformers' `generate` with a correct constraint.

Both sides rank the same users of a real data set with the same model, codes and prompts. The reference takes its
batches in turns over the rounds, so that every user is ranked by both sides and every list is compared; a rate is per
user. Users are sorted by length on both sides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.bench.decode_cases import LISTED, PROMPTS, Case, Prompt, causal_case, device, t5_case
from harness.bench.timing import FEWEST, Options, Outcome, Side, paired
from harness.core.environment import cache_dir
from harness.errors import InputError, unknown_name
from harness.generative.config import ScoreNormalization
from harness.generative.decoding.generate import Beams, count_missed
from harness.generative.models.precision import Precision
from harness.protocol.context import RunContext

USERS, BATCH, BEAMS = 32, 8, 20
REFERENCE_BATCHES, OUR_BATCHES = (1, 4, 16), (16, 64)  # tried, beside the common one, for each side's best
TOLERANCE = 1e-3  # between scores
APART_USERS = 16  # that the other modes rank
LOST_USERS = 4  # whose whole catalogue is scored, where it is asked what a beam loses


@dataclass(frozen=True)
class DecodeOptions(Options):
    """`settings`: the value of `--beams`, `20` or `20,50,all`: the first is measured, and each is compared with scoring
    all items. `best`: also search the best batch size of each side."""

    settings: str = str(BEAMS)
    model: str = "smollm2"
    prompt: str = "instruction"
    best: bool = False


def measure(options: DecodeOptions) -> Outcome:
    """Runs the benchmark. Raises `InputError` for invalid settings, before anything is computed."""
    settings = parse_beams(options.settings)
    beams = settings[0]
    if beams == "all" or beams < LISTED:
        raise InputError(f"--beams {beams} comes first", hint=f"begin with {LISTED} or more, as in 20,all")
    case = _case(options)
    users, batch = len(case.requests), min(options.batch or BATCH, len(case.requests))
    reference = _Reference(case, beams, batch, options.rounds)
    case.ours(beams, batch, users=2)
    reference.warm()
    side = Side(f"engine, {beams} beams", lambda: case.ours(beams, batch), users)
    current_side = Side(f"generate, {beams} beams", reference.turn, reference.per_turn * batch)
    timed = paired(side, current_side, rounds=options.rounds, warm=False)
    items, scores = timed.made[0]
    checks = reference.compared(items, scores)
    parts: dict[str, Any] = {"best": _best(case, beams, batch, timed.reference.per_second)} if options.best else {}
    parts["apart"] = _apart(case, beams, batch, items, timed.reference.per_second)
    if len(settings) > 1:
        parts["lost"] = _lost(case, settings)
    lock = {"users": users, "items": case.table.n_items, "beams": beams, "batch": batch, "model": options.model}
    lengths = [len(case.prompt(history)) for history in case.requests.histories]
    lock |= {"prompt": options.prompt, "mean_prompt_tokens": float(np.mean(lengths)), "parameters": case.parameters}
    lock |= {"dataset": options.dataset or "ml-100k", "layers": options.layers, "seed": options.seed}
    return Outcome("decode", "users", checks["identical"], timed, lock, checks, parts)


def parse_beams(text: str) -> list[Beams]:
    """`20,50,all` as values.

    >>> parse_beams("20,50,all")
    [20, 50, 'all']
    """
    settings: list[Beams] = []
    for word in text.split(","):
        word = word.strip()
        if word != "all" and not (word.isdigit() and int(word) > 0):
            raise InputError(f"{word!r} is no number of beams", where="--beams", hint="give numbers or all: 20,50,all")
        settings.append("all" if word == "all" else int(word))
    return settings


def _case(options: DecodeOptions) -> Case:
    context = RunContext(options.seed, cache_dir() / "artefacts", device())
    dataset, users = options.dataset or "ml-100k", options.users or USERS
    if options.model == "t5":
        return t5_case(dataset, users, options.items, context)
    if options.model != "smollm2":
        raise unknown_name("model", options.model, ("smollm2", "t5"), where="--model")
    if options.prompt not in PROMPTS:
        raise unknown_name("prompt", options.prompt, PROMPTS, where="--prompt")
    prompt: Prompt = "short" if options.prompt == "short" else "instruction"
    return causal_case(dataset, users, options.items, prompt, options.layers, context)


class _Reference:
    """The reference over all users, some batches a round, each round with short and long histories. Scores are
    requested: they cost `generate` a copy of the logits of a step, below 1% of its time."""

    def __init__(self, case: Case, beams: int, batch: int, rounds: int) -> None:
        self.case, self.beams, self.tree = case, beams, case.tree()
        users = np.arange(len(case.requests))
        total = len(users) - len(users) % batch
        self.batches = [users[begin : begin + batch] for begin in range(0, total, batch)]
        if total < len(users):  # the last batch is filled up with users that are ranked twice
            self.batches.append(users[-batch:])
        self.rounds, self.per_turn = rounds, -(-len(self.batches) // rounds)
        self._turn = 0
        self.found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def warm(self) -> None:
        """A first call, untimed."""
        self.case.reference(self.tree, [len(self.case.requests) - 1], self.beams)

    def turn(self) -> None:
        """The batches of the next round; a round that has one less does one again."""
        turn = self._turn % self.rounds
        values = self.batches[turn :: self.rounds]
        values += [self.batches[turn % len(self.batches)]] * (self.per_turn - len(values))
        for batch in values:
            items, scores = self.case.reference(self.tree, batch.tolist(), self.beams)
            self.found |= {user: (items[row], scores[row]) for row, user in enumerate(batch.tolist())}
        self._turn += 1

    def compared(self, items: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        """Whether each user's ordered list is the reference's, and how far scores differ at most."""
        users = sorted(self.found)
        theirs = np.stack([self.found[user][0] for user in users])
        same = (theirs == items[users]).all(axis=1)
        listed = theirs >= 0
        separate = np.abs(np.stack([self.found[user][1] for user in users]) - scores[users])[listed]
        limit = float(separate.max(initial=0.0))
        return {
            "identical": bool(same.all()) and len(users) == len(items) and limit <= TOLERANCE,
            "users_compared": len(users),
            "users_identical": int(same.sum()),
            "largest_score_difference": limit,
            "score_tolerance": TOLERANCE,
        }


def _best(case: Case, beams: int, batch: int, value: float) -> dict[str, Any]:
    """Users a second of both sides at the batch that suits each best, of those tried once."""
    tree, theirs, own = case.tree(), {batch: value}, {}
    for size in REFERENCE_BATCHES:
        users = case.some(size).tolist()
        theirs[size] = len(users) / _seconds(lambda users=users: case.reference(tree, users, beams))
    for size in sorted({batch, *OUR_BATCHES}):
        own[size] = len(case.requests) / _seconds(lambda size=size: case.ours(beams, size))
    own_value, reference = max(own, key=lambda size: own[size]), max(theirs, key=lambda size: theirs[size])
    return {
        "ratio": own[own_value] / theirs[reference],
        "batch": {"ours": own_value, "reference": reference},
        "per_second": {"ours": own[own_value], "reference": theirs[reference]},
        "tried": {"ours": own, "reference": theirs},
    }


def _apart(case: Case, beams: int, batch: int, exact: np.ndarray, reference: float) -> dict[str, Any]:
    """The modes that are not exact: speed against the reference, and the overlap of the lists."""
    modes: tuple[tuple[ScoreNormalization, Precision], ...] = (
        ("level", "float32"),
        ("vocabulary", "bfloat16"),
        ("level", "bfloat16"),
    )
    return {
        f"{normalise} {precision}": _mode(case, (normalise, precision), beams, batch, exact, reference)
        for normalise, precision in modes
    }


def _mode(
    case: Case, mode: tuple[ScoreNormalization, Precision], beams: int, batch: int, exact: np.ndarray, reference: float
) -> dict[str, float]:
    items: list[np.ndarray] = []
    rows = case.some(APART_USERS)
    seconds = [
        _seconds(lambda: items.append(case.ours(beams, batch, *mode, users=len(rows))[0])) for _ in range(FEWEST)
    ]
    rate = len(rows) / float(np.median(seconds))
    return {"per_second": rate, "ratio": rate / reference, "overlap": _overlap(items[-1], exact[rows], LISTED)}


def _lost(case: Case, settings: list[Beams]) -> dict[str, Any]:
    """The share of the exact top 10 that beams miss, for a few users."""
    users = min(LOST_USERS, len(case.requests))
    exact: list[np.ndarray] = []
    seconds = _seconds(lambda: exact.append(case.ours("all", users, users=users)[0]))
    entries: dict[str, Any] = {"users": users, "all": {"per_second": users / seconds}}
    for beams in settings:
        if beams != "all":
            items, _ = case.ours(beams, users, users=users)
            dropped = count_missed(items, exact[0])
            entries[str(beams)] = {"missed_of_10_mean": float(dropped.mean()), "missed_of_10_most": int(dropped.max())}
    return entries


def _overlap(items: np.ndarray, exact: np.ndarray, depth: int) -> float:
    """The mean overlap of two lists."""
    return float(np.mean([len(set(a[:depth]) & set(b[:depth])) / depth for a, b in zip(items, exact, strict=True)]))


def _seconds(run: Any) -> float:
    start_time = time.perf_counter()
    run()
    return time.perf_counter() - start_time
