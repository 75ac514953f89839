"""Ranked lists for `Requests`: users are batched by prompt length, the common prefix of all prompts is computed once.

The composition of a batch does not change the lists. An out-of-memory error halves the batch; beams and precision stay.
A prompt that exceeds the model's context loses the oldest items of its history, and is counted. With several processes
each user is ranked by one of them, and all processes get all lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from harness.core.hashing import fingerprint
from harness.errors import InputError, InvalidPredictions
from harness.generative.config import ScoreNormalization
from harness.generative.decoding.beam_search import MAX_BLOCK, Decodable, Search, beam_search, rank_all
from harness.generative.models.precision import Precision, autocast
from harness.generative.models.readers import PromptBatch
from harness.generative.training.checkpoint import PartialResults, state_digest
from harness.generative.trie import CodeTrie
from harness.protocol.context import SINGLE_PROCESS, ProcessGroup, RunContext, shard
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests

BEST = 10  # depth of beam recall
# How `_recommend_together` reduces the fields of the processes' reports.
SUMMED = (
    "users_expected", "users_scored", "short", "invalid", "duplicate", "shortened_prompts", "dropped_items",
    "prompt_tokens",
)  # fmt: skip
SMALLEST = ("batch", "shared_tokens")
EXHAUSTIVE_USERS = 8  # batch size of exhaustive search, which bounds the key-value cache
Beams = int | Literal["all"]
Prompt = Callable[[np.ndarray], list[int]]


@dataclass(frozen=True)
class Ranker:
    """What generates lists: a model, the trie of its item codes, and `prompt(history)`, the token ids of a user's
    prompt."""

    model: Decodable
    trie: CodeTrie
    prompt: Prompt


@dataclass(frozen=True)
class Decoding:
    """Settings of list generation. `beams="all"` scores every item. `filter_viewed`: exclude items of the history.
    `resume`: lists are stored in `RunContext.checkpoint` as they are computed, and a call for the same lists of the
    same model continues, with any batch size."""

    beams: Beams
    batch: int
    precision: Precision
    normalise: ScoreNormalization = "level"
    resume: bool = False
    filter_viewed: bool = False


@dataclass
class DecodeReport:
    """Report of decoding for the run's record. `beams`: at least the number of requested items; `reader`: class of the
    prefix decoder (`SharedReader` is faster); `batch`: smallest batch size after out-of-memory errors, of
    `batch_asked`; `shortened_prompts`: users whose history exceeded the context, `dropped_items`: items they lost;
    `shared_tokens`: length of the common prefix; `lost`: items that the beams of some users missed
    (`beam_recall_loss`), if measured."""

    beams: Beams
    normalise: ScoreNormalization
    precision: Precision
    batch_asked: int
    batch: int
    reader: str = ""
    codes: int = 0
    users_expected: int = 0
    users_scored: int = 0
    short: int = 0
    invalid: int = 0
    duplicate: int = 0
    shortened_prompts: int = 0
    dropped_items: int = 0
    shared_tokens: int = 0
    prompt_tokens: int = 0
    lost: dict[str, float] | None = None


def recommend(
    ranker: Ranker, requests: Requests, k: int, decoding: Decoding, context: RunContext
) -> tuple[Predictions, DecodeReport]:
    """Up to `k` items a user, and the report. In several processes each ranks every `size`-th user, and all get all
    lists.

    Raises `InputError` if a prompt without history exceeds the model's context, `InvalidPredictions` if a list is
    shorter than the trie and the beams allow, or has invalid items.
    """
    rank = _recommend_alone if context.world.size == 1 else _recommend_together
    return rank(ranker, requests, k, decoding, context)


def _recommend_alone(
    ranker: Ranker, requests: Requests, k: int, decoding: Decoding, context: RunContext
) -> tuple[Predictions, DecodeReport]:
    model, trie = ranker.model, ranker.trie
    beams = decoding.beams if decoding.beams == "all" else max(decoding.beams, k)
    report = DecodeReport(beams, decoding.normalise, decoding.precision, decoding.batch, decoding.batch)
    depth = trie.levels + (decoding.normalise == "vocabulary")
    model.eval()
    prompts = truncate_prompts(requests, ranker.prompt, model.limit - depth, report)
    lead = common_prefix(prompts)
    suffixes = [ids[len(lead) :] for ids in prompts]
    report.codes, report.shared_tokens, report.prompt_tokens = trie.codes, len(lead), sum(map(len, prompts))
    longest = max(map(len, prompts), default=0) + depth
    with (
        torch.inference_mode(),
        autocast(context.device, decoding.precision),
        context.stage(f"generating ({requests.fold})", len(requests)) as bar,
    ):
        reader = model.reader(lead, longest, depth * (MAX_BLOCK if beams == "all" else beams))
        report.reader = type(reader).__name__
        search = Search(model, trie.on(context.device), reader, decoding.normalise)

        def ranked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            batch = PromptBatch.of([suffixes[row] for row in rows], context.device)
            viewed = [requests.histories[int(row)] for row in rows] if decoding.filter_viewed else None
            if beams == "all":
                return rank_all(search, batch, k, viewed)
            return beam_search(search, batch, beams, k, viewed)

        items, scores = np.full((len(requests), k), NO_ITEM), np.zeros((len(requests), k))
        shards = _shards(search, requests, prompts, k, decoding, context)
        missing = np.ones(len(requests), dtype=bool)
        if (stored := shards.done()) is not None:
            rows, (items[rows], scores[rows]) = stored
            missing[rows] = False
            report.users_scored = len(rows)
            bar.advance(len(rows))
        for rows, pair in _in_batches(ranked, [len(ids) for ids in suffixes], np.flatnonzero(missing), report):
            items[rows], scores[rows] = pair
            shards.add(rows, *pair)
            bar.advance(len(rows))
        shards.flush()
    predictions = Predictions(requests.cases, items, scores)
    _check(predictions, trie, report, requests if decoding.filter_viewed else None)
    return predictions, report


def _shards(
    search: Search,
    requests: Requests,
    prompts: Sequence[Sequence[int]],
    k: int,
    decoding: Decoding,
    context: RunContext,
) -> PartialResults:
    """Stored partial results, in a folder named by a hash of everything that determines the lists."""
    if not decoding.resume or context.checkpoint is None:
        return PartialResults(None)
    tokens = np.array([token for ids in prompts for token in ids], np.int64)
    pair = (requests.cases, np.array([len(ids) for ids in prompts], np.int64), tokens)
    model_state = [state_digest(search.model), search.trie.fingerprint]
    if decoding.filter_viewed:
        model_state += ["without viewed", requests.histories.values]
    mark = fingerprint(*pair, k, decoding.beams, decoding.normalise, decoding.precision, *model_state)
    return PartialResults(context.checkpoint / "lists" / f"{requests.fold}-{mark}")


def evenly_spaced(total: int, expected: int) -> np.ndarray:
    """At most `expected` of `total` positions, evenly spaced.

    >>> evenly_spaced(9, 3).tolist(), evenly_spaced(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.unique(np.linspace(0, total - 1, min(total, expected)).astype(np.int64))


def count_missed(items: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Number of the exact top items (`BEST`, or as many as `exact` has) that are not in the top of a list, int64
    (users,)."""
    pairs = zip(items[:, :BEST].tolist(), exact[:, :BEST].tolist(), strict=True)
    return np.array([len({item for item in best if item != NO_ITEM} - set(value)) for value, best in pairs], np.int64)


def beam_recall_loss(items: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """For the record: number of users, and how many of the exact top 10 their beams miss, mean and maximum."""
    positions = count_missed(items, exact)
    if not len(positions):
        return {"users": 0}
    return {
        "users": len(positions),
        f"missed_of_{BEST}_mean": float(positions.mean()),
        f"missed_of_{BEST}_most": int(positions.max()),
    }


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix of all prompts that leaves each at least one token.

    >>> common_prefix([[7, 7, 1], [7, 7, 2, 3]]), common_prefix([[7, 7], [7, 7, 1]])
    ([7, 7], [7])
    """
    if not prompts:
        return []
    shared = min(map(len, prompts)) - 1
    first = list(prompts[0])
    while any(list(prompt[:shared]) != first[:shared] for prompt in prompts):
        shared -= 1
    return first[:shared]


def truncate_prompts(requests: Requests, prompt: Prompt, room: int, report: DecodeReport) -> list[list[int]]:
    """Each user's prompt of at most `room` tokens: the oldest items of a history are dropped."""
    prompts = []
    for history in requests.histories:
        ids, dropped = prompt(history), 0
        while len(ids) > room and dropped < len(history):
            dropped += 1
            ids = prompt(history[dropped:])
        if len(ids) > room:
            raise InputError(
                f"a prompt without history has {len(ids)} tokens, the model's context leaves {room} before a code",
                hint="choose a backbone with a longer context",
            )
        report.shortened_prompts += dropped > 0
        report.dropped_items += dropped
        prompts.append(list(ids))
    return prompts


def _in_batches(
    ranked: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    lengths: Sequence[int],
    rows: np.ndarray,
    report: DecodeReport,
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Ranks the users `rows` from the longest prompt to the shortest, so that an out-of-memory error occurs early.
    Padding is limited to the tokens of a search step, so that prompts of similar length share a batch."""
    rows = rows[np.argsort(-np.asarray(lengths, dtype=np.int64)[rows], kind="stable")]
    slack = MAX_BLOCK if report.beams == "all" else report.beams
    if report.beams == "all":
        report.batch = min(report.batch, EXHAUSTIVE_USERS)
    while len(rows):
        near = [lengths[rows[0]] - lengths[row] <= slack for row in rows[: report.batch]]
        batch = rows[: sum(near)]
        try:
            pair = ranked(batch)
        except RuntimeError as error:
            # CUDA's own error, or the message of the CPU's allocator
            is_out_of_memory = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
            if len(batch) == 1 or not is_out_of_memory:
                raise
            report.batch = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        report.users_scored += len(batch)
        rows = rows[len(batch) :]
        yield batch, pair


def _check(predictions: Predictions, trie: CodeTrie, report: DecodeReport, viewed: Requests | None) -> None:
    """Sets the counts of the report. Raises if lists are shorter than possible or have invalid items; `viewed`:
    requests whose histories are excluded."""
    ordered = np.sort(predictions.items, axis=1)
    k, remaining = predictions.items.shape[1], np.full(len(predictions.cases), trie.n_items)
    if viewed is not None:
        remaining -= [len(np.unique(history)) for history in viewed.histories]
    promised = np.minimum(k, remaining)
    report.users_expected = len(predictions.cases)
    report.short = int((predictions.lengths < k).sum())
    report.invalid = int(((predictions.items < NO_ITEM) | (predictions.items >= trie.n_items)).sum())
    report.duplicate = int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).sum())
    cut = int((predictions.lengths < promised).sum())
    if cut or report.invalid or report.duplicate or report.users_scored != report.users_expected:
        raise InvalidPredictions(
            f"decoding {report.users_expected} users gave {report.users_scored} lists, {cut} of them shorter than "
            f"{promised.max(initial=0)}, {report.invalid} invalid and {report.duplicate} duplicate items"
        )


def _recommend_together(
    ranker: Ranker, requests: Requests, k: int, decoding: Decoding, context: RunContext
) -> tuple[Predictions, DecodeReport]:
    world = context.world
    own_requests = requests.take(shard(world, len(requests)))
    # partial results are in the main process's folder, if it exists on this machine
    shared = world.broadcast_object(str(context.checkpoint) if context.checkpoint and decoding.resume else None)
    folder = Path(shared) if shared is not None and Path(shared).is_dir() else None
    own_context = replace(context, world=SINGLE_PROCESS, checkpoint=folder)
    ranked, report = _recommend_alone(ranker, own_requests, k, decoding, own_context)
    items, scores = (_in_order(world, rows, len(requests)) for rows in (ranked.items, ranked.scores))
    return Predictions(requests.cases, items, scores), _reduced(world, report)


def _in_order(world: ProcessGroup, rows: np.ndarray, total: int) -> np.ndarray:
    """The rows of all processes in their original order."""
    combined = np.empty((total, *rows.shape[1:]), rows.dtype)
    for rank, part in enumerate(world.all_gather(rows)):
        combined[rank :: world.size] = part
    return combined


def _reduced(world: ProcessGroup, report: DecodeReport) -> DecodeReport:
    """The reports of all processes as one."""
    counts = np.array([[getattr(report, name) for name in (*SUMMED, *SMALLEST)]], np.int64)
    gathered = np.concatenate(world.all_gather(counts))
    summed = dict(zip(SUMMED, gathered.sum(axis=0).tolist(), strict=False))
    active = gathered[gathered[:, 0] > 0] if (gathered[:, 0] > 0).any() else gathered  # those that had users
    smallest = dict(zip(SMALLEST, active[:, len(SUMMED) :].min(axis=0).tolist(), strict=True))
    return replace(report, **summed, **smallest)
