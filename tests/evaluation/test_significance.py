"""Paired statistics: against scipy and ranx where they define the same thing, and against what must hold by chance."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from harness.core.seeding import generator
from harness.evaluation import significance
from harness.evaluation.metrics import per_user
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Targets


def trained(users: int, seeds: int, random: np.random.Generator, better: float = 0.0) -> np.ndarray:
    """ndcg a user of one model trained with several seeds: users differ in how easy they are, seeds in who is hit."""
    easy = np.random.default_rng(99).beta(0.4, 3, users) + better
    hit = random.random((seeds, users)) < easy
    return np.where(hit, 1 / np.log2(2 + random.integers(0, 10, (seeds, users))), 0.0)


def mean_of_differences(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(x - y, axis=axis)


@pytest.mark.parametrize("users", [2, 5, 11])
def test_the_exact_randomisation_test_is_scipys(users: int) -> None:
    random = np.random.default_rng(users)
    a, b = random.integers(0, 4, (2, users)) / 4  # ties, and differences of equal size
    actual = significance.permutation_test(a - b, random)
    reference = scipy.stats.permutation_test(
        (a, b), mean_of_differences, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert actual == pytest.approx(reference.pvalue, abs=1e-9)


def test_the_drawn_randomisation_test_agrees_with_the_counted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    apart = random.normal(0.3, 1, 14).round(1)
    exact = significance.permutation_test(apart, random)
    monkeypatch.setattr(significance, "EXACT", 0)
    samples = significance.permutation_test(apart, random, resamples=40_000)
    assert exact != samples and samples == pytest.approx(exact, abs=4 * np.sqrt(exact / 40_000))


def test_the_randomisation_test_is_ranxs_fisher_test_up_to_chance() -> None:
    from ranx.statistical_tests import fisher_randomization_test

    random = np.random.default_rng(4)
    a, b = trained(400, 1, random)[0], trained(400, 1, random, better=0.01)[0]
    result = significance.paired_difference(a, b, random)
    reference, _ = fisher_randomization_test.py_func(a, b, 3000, 0.05, 1)  # as Python: compiling it takes half a minute
    assert 0.05 < reference < 0.95 and result.p == pytest.approx(reference, abs=0.03)
    statistic = scipy.stats.ttest_rel(a, b).statistic
    assert result.effect is not None and result.effect * np.sqrt(400) == pytest.approx(statistic, abs=1e-9)


@pytest.mark.nightly
def test_wins_and_values_are_ranxs() -> None:
    from ranx import Qrels, Run, compare

    random = np.random.default_rng(5)
    users, items = np.arange(40), random.integers(0, 15, 40)
    lists = [np.array([random.permutation(15)[:12] for _ in users]) for _ in range(2)]
    scores = np.broadcast_to(np.arange(12.0, 0, -1), lists[0].shape)
    actual = [per_user(Predictions(users, ranked, scores), Targets(users, items))["ndcg@10"] for ranked in lists]
    result = significance.paired_difference(actual[0], actual[1], random)
    qrels = Qrels({f"u{user}": {f"i{item}": 1} for user, item in zip(users, items, strict=True)})
    runs = [
        Run({f"u{user}": {f"i{item}": 12.0 - n for n, item in enumerate(ranked[user])} for user in users}, name=name)
        for name, ranked in zip("ab", lists, strict=True)
    ]
    report = compare(qrels, runs, ["ndcg@10"], stat_test="student")
    counted = report.win_tie_loss["a", "b"]["ndcg@10"]
    assert (result.wins, result.ties, result.losses) == (counted["W"], counted["T"], counted["L"])
    assert result.mean_a == pytest.approx(report.results["a"]["ndcg@10"], abs=1e-9)
    assert result.mean_b == pytest.approx(report.results["b"]["ndcg@10"], abs=1e-9)
    tested = report.comparisons[frozenset("ab")]["ndcg@10"]["p_value"]
    assert scipy.stats.ttest_rel(actual[0], actual[1]).pvalue == pytest.approx(
        tested, abs=1e-9
    )  # on the same differences


def test_the_interval_is_scipys_percentile_bootstrap_up_to_chance() -> None:
    random = np.random.default_rng(6)
    apart = trained(300, 2, random).mean(axis=0) - trained(300, 1, random, better=0.05)[0]
    low, high = significance.bootstrap_ci(apart, random, resamples=20_000)
    reference = scipy.stats.bootstrap(
        (apart,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1), batch=500
    ).confidence_interval
    error = apart.std() / np.sqrt(300) * 0.06  # a quantile of 20,000 draws is known to about 2% of a standard error
    assert low == pytest.approx(reference.low, abs=error) and high == pytest.approx(reference.high, abs=error)


def test_the_interval_covers_the_truth_at_its_level() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        low, high = significance.bootstrap_ci(random.choice([-0.5, 0.0, 0.0, 1.0], 200), random, resamples=1000)
        covered += low <= 0.125 <= high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("seeds", [1, 3])
def test_two_seeds_of_one_model_differ_in_about_five_of_a_hundred(seeds: int) -> None:
    random = np.random.default_rng(8)
    result = []
    for _ in range(400):
        a, b = trained(300, seeds, random), trained(300, seeds, random)
        result.append(
            significance.permutation_test(a.mean(axis=0) - b.mean(axis=0), random, resamples=999) <= significance.ALPHA
        )
    assert 0.02 <= np.mean(result) <= 0.08  # 5% give or take three standard errors of 400 repeats


def test_a_family_over_two_seeds_of_one_model_finds_something_in_at_most_five_of_a_hundred() -> None:
    """The whole path of `harness compare`: three models that are seeds of one, three pairs, Holm."""
    random = np.random.default_rng(12)
    single, family = [], []
    for _ in range(400):
        seeds = trained(200, 3, random)
        result = [significance.paired_difference(a, b, random, resamples=199) for a, b in combinations(seeds, 2)]
        single.append(result[0].p <= significance.ALPHA)
        family.append(min(significance.holm([one.p for one in result])) <= significance.ALPHA)
    most = scipy.stats.binom.ppf(0.999, 400, significance.ALPHA)
    least = scipy.stats.binom.ppf(0.001, 400, significance.ALPHA)
    assert least <= sum(single) <= most  # zero-inflated values keep the level: neither more, nor never
    assert sum(family) <= most


def test_holm_is_its_definition() -> None:
    """The i-th smallest of m becomes max over j ≤ i of (m - j + 1) p_j, at most 1."""
    random = np.random.default_rng(13)
    for size in range(1, 9):
        values = random.random(size).round(1 if size % 2 else 6) / size  # some of them equal
        order = np.argsort(values, kind="stable")
        expected = np.empty(size)
        expected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(size, 0, -1)))
        assert significance.holm(values.tolist()) == pytest.approx(expected.tolist(), abs=1e-15)


def test_a_true_difference_is_found() -> None:
    random = np.random.default_rng(9)
    result = significance.paired_difference(trained(1000, 3, random, better=0.05), trained(1000, 3, random), random)
    assert result.p < 0.001 and 0 < result.low < result.difference < result.high and result.wins > result.losses


def test_seeds_are_averaged_before_users_are_compared() -> None:
    a = np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]])
    result = significance.paired_difference(a, np.array([0.5, 0.0, 1.0]), generator(1, "x"))
    assert (result.wins, result.ties, result.losses) == (0, 2, 1) and result.difference == pytest.approx(-1 / 6)
    assert result.mean_a == pytest.approx(1 / 3) and result.mean_b == 0.5 and result.users == 3


def test_the_same_lists_do_not_differ() -> None:
    a = np.array([0.1, 0.2, 0.7])
    result = significance.paired_difference(a, a, generator(1, "x"))
    assert (result.p, result.low, result.high, result.effect, result.ties) == (1.0, 0.0, 0.0, None, 3)


def test_the_seed_decides_the_digits() -> None:
    random = np.random.default_rng(10)
    a, b = trained(200, 1, random), trained(200, 1, random)
    assert significance.paired_difference(a, b, generator(1, "x")) == significance.paired_difference(
        a, b, generator(1, "x")
    )
    assert significance.paired_difference(a, b, generator(1, "x")) != significance.paired_difference(
        a, b, generator(2, "x")
    )


def test_cases_of_one_user_count_as_one_unit() -> None:
    """Each user's difference ten times over says no more than once, and as ten users' it would say too much."""
    random = np.random.default_rng(12)
    grouped = random.normal(0.1, 1, 60).round(2)
    users = np.repeat(np.arange(60), 10)
    single = significance.paired_difference(grouped, np.zeros(60), generator(1, "x"))
    many = significance.paired_difference(np.repeat(grouped, 10), np.zeros(600), generator(1, "x"), clusters=users)
    assert (many.users, many.cases, single.cases) == (60, 600, 60)
    assert many.difference == pytest.approx(single.difference) and many.least == pytest.approx(single.least)
    assert many.p == pytest.approx(single.p, abs=0.02)
    assert (many.low, many.high) == pytest.approx((single.low, single.high), abs=0.02)
    naive = significance.paired_difference(np.repeat(grouped, 10), np.zeros(600), generator(1, "x"))
    assert naive.high - naive.low < 0.5 * (many.high - many.low)


def test_users_of_unequal_size_have_the_ratio_estimators_error() -> None:
    """The bootstrap over users, and the linearised error behind the least difference, against what a fresh draw of
    users does; and the level of the test where users have nothing in common."""
    random = np.random.default_rng(13)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        sizes = random.geometric(0.2, 150)
        users = np.repeat(np.arange(150), sizes)
        return random.normal(0, 1, 150)[users] + random.normal(0, 1, len(users)), users

    spread = float(np.std([drawn()[0].mean() for _ in range(400)]))
    result = []
    for _ in range(150):
        apart, users = drawn()
        rng = np.random.default_rng(len(result))
        result.append(significance.paired_difference(apart, np.zeros(len(apart)), rng, 300, clusters=users))
    widths = np.mean([one.high - one.low for one in result]) / (2 * 1.96)
    assert widths == pytest.approx(spread, rel=0.12)
    assert np.mean([one.least for one in result]) / 2.8 == pytest.approx(spread, rel=0.12)
    assert np.mean([one.p <= 0.05 for one in result]) < 0.11
    assert np.mean([one.low <= 0 <= one.high for one in result]) > 0.88


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="not of the same users"):
        significance.paired_difference(np.zeros(3), np.zeros(4), generator(1, "x"))
    with pytest.raises(ValueError, match="not finite"):
        significance.paired_difference(np.array([np.nan]), np.zeros(1), generator(1, "x"))


def test_holm_is_the_textbooks() -> None:
    assert significance.holm([0.005, 0.04, 0.03, 0.01]) == pytest.approx([0.02, 0.06, 0.06, 0.03])
    assert significance.holm([0.9, 0.6]) == [1.0, 1.0] and significance.holm([]) == []


def test_holm_keeps_the_family_at_its_level() -> None:
    random = np.random.default_rng(11)
    any_found = [min(significance.holm(list(random.random(8)))) <= 0.05 for _ in range(4000)]
    assert np.mean(any_found) == pytest.approx(0.05, abs=0.012)


def test_the_seeds_test_is_scipys() -> None:
    a, b = [0.3, 0.5, 0.6], [0.2, 0.31, 0.25]
    reference = scipy.stats.permutation_test(
        (np.array(a), np.array(b)), lambda x, y: np.mean(x) - np.mean(y), n_resamples=np.inf, vectorized=False
    )
    assert significance.seeds_p(a, b) == pytest.approx(reference.pvalue, abs=1e-9)
    assert significance.seeds_p([0.1], [0.2, 0.3]) is None


def test_the_least_difference_is_found_with_its_power() -> None:
    """Of samples whose true difference is just that, four in five are significant."""
    least = significance.least_difference(0.3, 500)
    assert least == pytest.approx((1.959964 + 0.841621) * 0.3 / 500**0.5, rel=1e-6)
    rng = np.random.default_rng(4)
    samples = rng.normal(least, 0.3, size=(2_000, 500))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * 500**0.5
    assert 0.77 < (np.abs(t) > 1.959964).mean() < 0.83
    result = significance.paired_difference(samples[0], np.zeros(500), rng, resamples=100)
    assert result.least == pytest.approx(significance.least_difference(samples[0].round(12).std(ddof=1), 500))
