"""Loss of a training step: cross-entropy of responses (item codes or text), and the auxiliary loss of a method.

Two engines with equal values and gradients if dropout is off. `shared`: all next items of a user are trained in one
pass over the sequence, the common prefix of the prompts is computed once, other samples are packed without padding.
`plain`: every next item is a padded row with its complete prompt, as in most implementations; the reference.

A token's probability is normalised over the tokens of its kind (`level`: a code token's level, the backbone's
vocabulary for text), over the children of its prefix in the trie of item codes (`children`, as in beam search with
`normalise=children`: the probabilities of all codes sum to one), or over text and codes together (`vocabulary`, as in
`generate`). With `vocabulary` the response of a code ends with the end-of-sequence token. It is predicted from the
state of the code's last token, from which a sequence also continues with the next item: it is a target and never an
input, so that one pass over a sequence stays exact.

If several processes compute a step, or one process in several parts, each computes its samples' share of the step's
means over all terms (tokens, items): the shares sum to the loss of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from harness.generative.config import Engine, LossNormalise
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.heads import LevelLogits, SampledRows, text_logsumexp
from harness.generative.models.packing import Branches, PackedStates, read_apart, read_packed, read_padded
from harness.generative.tasks.prompts import IGNORED, CodePrompts, Prompts, Sample
from harness.generative.trie import CodeTrie
from harness.protocol.context import SINGLE_PROCESS, ProcessGroup, shard
from harness.protocol.predictions import NO_ITEM

Counts = tuple[int, ...]
SAMPLED = 0.2  # maximal share of a level's tokens that are children, for products with the children alone
S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Cost:
    """`counts`: number of terms of each of the part's means, over all processes. `share(counts)` computes this
    process's share of the step's loss, a scalar, given the counts of all parts of the step together."""

    counts: Counts
    share: Callable[[Counts], torch.Tensor]

    def value(self) -> torch.Tensor:
        """The loss of a step of this part only."""
        return self.share(self.counts)


def together(costs: list[Cost]) -> Counts:
    """The counts of a step of these parts.

    >>> together([Cost((3, 1), torch.tensor), Cost((5, 0), torch.tensor)])
    (8, 1)
    """
    return tuple(sum(counts) for counts in zip(*(cost.counts for cost in costs), strict=True))


def child_cross_entropy(
    trie: CodeTrie, level_logits: LevelLogits, states: torch.Tensor, level: int, prefixes: torch.Tensor,
    digits: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """-log p of one token a state, float32 (n,): the tokens `digits` (n,) of `level` after the trie nodes `prefixes`
    (n,) of depth `level`, predicted from `states` (n, width); log p = logit - log Σ exp(logits of the children). The
    loss of an only child is 0, and its state is not read. On the CPU, logits of a large level are computed for the
    children alone."""
    fan = trie.fan(level, prefixes)
    rows = torch.nonzero(fan > 1)[:, 0]
    if not len(rows):
        return states[:, :0].sum(dim=1).float()  # zeros in the autograd graph
    states_read, chosen_digits, fan = states[rows], digits[rows], fan[rows]
    if level == 0:
        logits, every = level_logits(states_read, level), trie.digit[1]
        target_logits = logits.gather(1, chosen_digits[:, None])[:, 0]
        total = (logits if len(every) == logits.shape[1] else logits[:, every]).logsumexp(dim=-1)
    else:
        owner, children = trie.listed(level, prefixes[rows], fan)
        if states.device.type == "cpu" and len(children) <= SAMPLED * len(rows) * trie.sizes[level]:
            sampled = SampledRows(functional.pad(fan.cumsum(0), (1, 0)), children)
            values = level_logits(states_read, level, sampled)
            target_logits = values[children == chosen_digits[owner]]
        else:
            logits = level_logits(states_read, level)
            values, target_logits = logits[owner, children], logits.gather(1, chosen_digits[:, None])[:, 0]
        total = _logsumexp(values, owner, len(rows))
    return total.new_zeros(len(states)).index_put((rows,), total - target_logits)


def _logsumexp(values: torch.Tensor, owner: torch.Tensor, count: int) -> torch.Tensor:
    """log Σ exp of the values of each owner, (count,)."""
    top = torch.full((count,), float("-inf"), device=values.device, dtype=values.dtype)
    top = top.scatter_reduce(0, owner, values.detach(), "amax")
    return torch.zeros_like(top).index_add(0, owner, (values - top[owner]).exp()).log() + top


class AuxiliaryLoss(Protocol):
    """A loss on summary states, with parameters that a stage trains together with the model."""

    sequential_only: bool  # whether responses of text tasks have no item (`NO_ITEM`)

    def sample_negatives(self, n_items: int, rng: np.random.Generator) -> np.ndarray:
        """Negative items of a step, int64."""
        ...

    def denominator(self, items: np.ndarray) -> int:
        """Number of responses among those of `items` (n,) or `NO_ITEM` that the loss is a mean over."""
        ...

    def __call__(self, states: torch.Tensor, items: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """The loss (a scalar) of summary `states` (n, width) of responses of `items` (n,) or `NO_ITEM`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters."""
        ...


@dataclass(frozen=True, eq=False)
class Targets:
    """Flat positions of the predicting states, their labels, the item whose code each label is part of (`NO_ITEM`:
    text); flat positions of the summary states, and their items or `NO_ITEM`."""

    places: np.ndarray
    labels: np.ndarray
    label_items: np.ndarray
    ends: np.ndarray
    items: np.ndarray

    def naming_none(self) -> Targets:
        """The same targets without items."""
        return replace(self, items=np.full_like(self.items, NO_ITEM))


@dataclass(frozen=True)
class Losses:
    """Losses of one model on one device; `term` is the auxiliary loss. The summary state of a response is the one at
    its last token; for an item the last token of its code, without the end-of-sequence token. Logits are divided by
    `temperature` through their states, which needs a linear head."""

    model: CodeLM
    prompts: Prompts | CodePrompts
    term: AuxiliaryLoss | None
    device: str
    engine: Engine = "shared"
    normalise: LossNormalise = "level"
    world: ProcessGroup = SINGLE_PROCESS
    trie: CodeTrie | None = None  # for `children`; on the model's device
    temperature: float = 1.0

    def windows(self, windows: Sequence[np.ndarray], template: int, samples: np.ndarray) -> Cost:
        """Next-item loss at every position of each window (item ids, oldest first): mean over response tokens, plus the
        auxiliary loss with the negatives `samples`."""
        items = np.concatenate([window[1:] for window in windows])
        tokens = self.prompts.codes.shape[1] + (self.normalise == "vocabulary")

        def share(step: Counts) -> torch.Tensor:
            read, targets = self.read_windows(self._own(windows), template)
            return self._cost(read, targets, samples, self._own_counts(step, len(windows)))

        return Cost((len(items) * tokens, self._responses(items)), share)

    def rows(self, samples: Sequence[Sample], sample: np.ndarray) -> Cost:
        """Mean over the response tokens of text-task samples, plus the auxiliary loss with the negatives `sample`."""
        all_targets = self._targets(samples, np.zeros(len(samples), np.int64))
        nameless = self.term is not None and self.term.sequential_only
        all_targets = all_targets.naming_none() if nameless else all_targets

        def share(step: Counts) -> torch.Tensor:
            read, targets = self.read_rows(self._own(samples))
            targets = targets.naming_none() if nameless else targets
            return self._cost(read, targets, sample, self._own_counts(step, len(samples)))

        return Cost((len(all_targets.labels), self._responses(all_targets.items)), share)

    def read_windows(self, windows: Sequence[np.ndarray], template: int) -> tuple[PackedStates, Targets]:
        """States and targets of `windows`, in the order of the items."""
        lead = self.prompts.lead(template)
        if self.engine == "plain":
            return self.read_rows(list(self.alone(windows, lead)))
        levels = self.prompts.codes.shape[1]
        read = read_packed(self.model, [self.prompts.codes[window].reshape(-1) for window in windows], lead)
        items = np.concatenate([window[1:] for window in windows])
        starts = [begin + levels * np.arange(1, len(w)) for begin, w in zip(read.begins, windows, strict=True)]
        # the states before each token, and the last
        positions = np.concatenate(starts)[:, None] + np.arange(-1, levels)
        labels = np.column_stack([self.prompts.codes[items], np.full(len(items), self.model.eos)])
        tokens = slice(0, levels + (self.normalise == "vocabulary"))
        owners = np.repeat(items, labels[:, tokens].shape[1])
        return read, Targets(
            positions[:, tokens].reshape(-1), labels[:, tokens].reshape(-1), owners, positions[:, -1], items
        )

    def read_rows(self, samples: Sequence[Sample]) -> tuple[PackedStates, Targets]:
        """States and targets of `samples`; the common prefix of all prompts is computed once."""
        sequences = [np.asarray(sample.ids, np.int64) for sample in samples]
        if self.engine == "plain":
            read = read_padded(self.model, sequences)
            return read, self._targets(samples, read.begins)
        lead = _common(samples)
        read = read_packed(self.model, [sequence[len(lead) :] for sequence in sequences], lead)
        return read, self._targets(samples, read.begins - len(lead))

    def group_costs(self, histories: Sequence[np.ndarray], groups: np.ndarray) -> torch.Tensor:
        """-log p of each token of the codes of items `groups` (n, group) after the prompts of n `histories`, float32
        (n, group, tokens), with the end-of-sequence token for `vocabulary`. Each prompt is computed once."""
        codes, (_, size) = self.prompts.codes, groups.shape
        levels, lead = codes.shape[1], self.prompts.lead()
        tokens = levels + (self.normalise == "vocabulary")
        branches = Branches(levels * np.array([len(history) for history in histories]), max(1, tokens - 1))
        pairs = zip(histories, groups, strict=True)
        sequences = [np.concatenate([codes[h].reshape(-1), codes[g, : branches.width].reshape(-1)]) for h, g in pairs]
        reader = read_apart if self.engine == "plain" else read_packed
        read = reader(self.model, sequences, lead, branches)
        first = np.broadcast_to((read.begins + branches.trunk)[:, None, None], (*groups.shape, 1))
        later = first + branches.width * np.arange(size)[:, None] + np.arange(tokens - 1)
        places = np.concatenate([first - 1, later], axis=2)
        labels = np.concatenate([codes[groups], np.full((*groups.shape, 1), self.model.eos)], axis=2)[..., :tokens]
        owners, empty = np.repeat(groups, tokens), np.empty(0, np.int64)
        costs = self._costs(read, Targets(places.reshape(-1), labels.reshape(-1), owners, empty, empty))
        return costs.reshape(places.shape)

    def alone(self, windows: Sequence[np.ndarray], lead: list[int]) -> Iterator[Sample]:
        """Each target of each window as a sample with its complete prompt."""
        for window in windows:
            codes = self.prompts.codes[window]
            for place in range(1, len(window)):
                prompt, response = lead + codes[:place].reshape(-1).tolist(), codes[place].tolist()
                yield Sample(prompt + response, [IGNORED] * len(prompt) + response, int(window[place]))

    def _targets(self, samples: Sequence[Sample], begins: np.ndarray) -> Targets:
        places, labels, owners, ends = [], [], [], []
        for sample, begin in zip(samples, begins, strict=True):
            selected = np.asarray(sample.labels)
            trained = np.flatnonzero(selected != IGNORED)
            places.append(begin + trained - 1)
            labels.append(selected[trained])
            item = NO_ITEM if sample.item is None else sample.item
            owners.append(np.where(selected[trained] >= self.model.vocabulary, item, NO_ITEM))
            if sample.item is not None:
                trained = trained[selected[trained] >= self.model.vocabulary]  # without the end-of-sequence token
                if self.normalise == "vocabulary" and selected[-1] != self.model.eos:
                    places.append(begin + trained[-1:])
                    labels.append(np.array([self.model.eos]))
                    owners.append(np.array([NO_ITEM]))
            ends.append(begin + trained[-1])
        items = [NO_ITEM if sample.item is None else sample.item for sample in samples]
        columns = [np.concatenate(part) for part in (places, labels, owners)]
        return Targets(columns[0], columns[1], columns[2], np.array(ends), np.array(items))

    def _own(self, samples: Sequence[S]) -> Sequence[S]:
        """This process's samples; the first sample, with weight zero, if there are fewer samples than processes."""
        if self.world.size == 1:
            return samples
        return [samples[number] for number in shard(self.world, len(samples))] or samples[:1]

    def _own_counts(self, step: Counts, samples: int) -> Counts:
        """The denominators of a step, zeros in a process without any of the `samples`."""
        return step if self.world.rank < samples else (0, 0)

    def _responses(self, items: np.ndarray) -> int:
        return 0 if self.term is None else self.term.denominator(items)

    def _cost(self, read: PackedStates, targets: Targets, samples: np.ndarray, step: Counts) -> torch.Tensor:
        """This process's share. `step`: labels, and responses in the auxiliary loss, of the step in all processes."""
        if self.normalise == "vocabulary":
            loss = self._costs(read, targets).mean()
        else:
            loss = torch.cat(list(self._by_kind(read, targets))).mean()
        loss = loss * _weight(len(targets.labels), step[0])
        if self.term is None:
            return loss
        term = self.term(read[targets.ends], self._tensor(targets.items), self._tensor(samples))
        return loss + term * _weight(self.term.denominator(targets.items), step[1])

    def _costs(self, read: PackedStates, targets: Targets) -> torch.Tensor:
        """-log p of each label, (labels,), in their order."""
        if self.normalise == "vocabulary":
            states = self._predicting(read, targets.places)
            return self.model.vocabulary_logsumexp(states) - self._chosen(states, targets.labels)
        order = np.argsort(np.argsort(self._level(targets.labels), kind="stable"))
        return torch.cat(list(self._by_kind(read, targets)))[self._tensor(order)]

    def _level(self, labels: np.ndarray) -> np.ndarray:
        """The level of each label, -1 for text."""
        return np.searchsorted(self.model.offsets, labels - self.model.vocabulary, side="right") - 1

    def _predicting(self, read: PackedStates, places: np.ndarray) -> torch.Tensor:
        states = read[places]
        return states if self.temperature == 1 else states / self.temperature

    def _by_kind(self, read: PackedStates, targets: Targets) -> Iterator[torch.Tensor]:
        """-log p of each label, normalised over its kind: text first, then level by level."""
        flat, level_logits = targets.labels - self.model.vocabulary, self.model.levels()
        level = self._level(targets.labels)
        for kind in np.unique(level):
            selected = level == kind
            states, labels = self._predicting(read, targets.places[selected]), targets.labels[selected]
            if kind < 0:
                yield text_logsumexp(states, self.model.text_head, self.model.head) - self._chosen(states, labels)
            else:
                digits = self._tensor(flat[selected] - self.model.offsets[kind])
                items = self._tensor(targets.label_items[selected])
                yield self._code_cost(level_logits, states, int(kind), items, digits)

    def _code_cost(
        self, level_logits: LevelLogits, states: torch.Tensor, level: int, items: torch.Tensor, digits: torch.Tensor
    ) -> torch.Tensor:
        """-log p of a code token of `level` for each state, (n,)."""
        if self.normalise != "children":
            return functional.cross_entropy(level_logits(states, level), digits, reduction="none")
        assert self.trie is not None
        prefixes = self.trie.prefixes[items, level]
        return child_cross_entropy(self.trie, level_logits, states, level, prefixes, digits)

    def _chosen(self, states: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        """Logit of one label a state, (n,)."""
        label = self._tensor(labels)
        flat, last = label - self.model.vocabulary, self.model.vocabulary - 1
        text = self.model.text_head[label.clamp(max=last)]
        code = functional.embedding(flat.clamp(min=0), self.model.code_out) * self.model.scale
        return self.model.finish((states.float() * torch.where((flat >= 0)[:, None], code, text)).sum(dim=-1), label)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self.device)


def _weight(current: int, everywhere: int) -> float:
    """Weight of a mean over `current` terms in the mean over all."""
    return current / everywhere if everywhere else 0.0


def _common(samples: Sequence[Sample]) -> list[int]:
    """The common prefix of all samples, without the states that predict labels; empty for a single sample."""
    if len(samples) < 2:
        return []
    first = min(next(place for place, label in enumerate(sample.labels) if label != IGNORED) for sample in samples)
    heads = np.array([sample.ids[: max(first - 1, 0)] for sample in samples], np.int64)
    differ = np.flatnonzero((heads != heads[0]).any(axis=0))
    return heads[0, : differ[0] if len(differ) else None].tolist()
