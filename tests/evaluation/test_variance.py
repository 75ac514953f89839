"""Components of variance: planted ones are recovered, none is found where none is, and intervals keep their level."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.seeding import generator
from harness.evaluation.significance import Components, components, paired_difference

SD = {"tokenizer": 0.03, "model": 0.02, "residual": 0.01}


def simulated(
    random: np.random.Generator, size: tuple[int, int, int], sd: dict[str, float], noise: float = 0.3
) -> np.ndarray:
    """A metric a user: user + tokenizer + model + interaction + noise of the single user in the single run."""
    tokenizers, models, users = size
    effects = (
        random.normal(0, sd["tokenizer"], (tokenizers, 1, 1))
        + random.normal(0, sd["model"], (1, models, 1))
        + random.normal(0, sd["residual"], (tokenizers, models, 1))
    )
    return 0.2 + random.normal(0, 0.2, users) + effects + random.normal(0, noise, size)


def mean_variance(results: list[Components], source: str) -> float:
    return float(np.mean([one[source].variance for one in results]))


def test_planted_components_are_recovered() -> None:
    random = np.random.default_rng(1)
    result = [components(simulated(random, (6, 6, 400), SD)) for _ in range(150)]
    residual = SD["residual"] ** 2 + 0.3**2 / 400  # the noise of single users is in it
    assert mean_variance(result, "tokenizer") == pytest.approx(SD["tokenizer"] ** 2, rel=0.15)
    assert mean_variance(result, "model") == pytest.approx(SD["model"] ** 2, rel=0.15)
    assert mean_variance(result, "residual") == pytest.approx(residual, rel=0.08)
    users = (0.2**2 + 0.3**2 / 36) / 400
    assert mean_variance(result, "users") == pytest.approx(users, rel=0.03)
    truth = {"tokenizer": SD["tokenizer"] ** 2, "model": SD["model"] ** 2, "residual": residual, "users": users}
    for source, variance in truth.items():
        inside = [(one[source].low or 0) <= variance <= (one[source].high or 0) for one in result]
        assert 0.89 <= np.mean(inside) <= 1.0, source


def test_no_effect_of_the_tokenizer_gives_about_none() -> None:
    random = np.random.default_rng(2)
    result = [components(simulated(random, (6, 6, 400), SD | {"tokenizer": 0.0})) for _ in range(150)]
    assert mean_variance(result, "tokenizer") < 0.1 * mean_variance(result, "model")
    assert np.mean([one["tokenizer"].low == 0.0 for one in result]) > 0.93
    assert np.mean([one["model"].low == 0.0 for one in result]) < 0.2
    same = np.broadcast_to(simulated(random, (1, 4, 50), SD), (3, 4, 50))  # the same runs under every tokenizer seed
    assert components(same)["tokenizer"].variance == pytest.approx(0.0, abs=1e-12)
    assert components(same)["residual"].variance == pytest.approx(0.0, abs=1e-12)


def test_the_textbook_estimates_by_hand() -> None:
    """Two tokenizer seeds x two model seeds: every sum of squares is of one contrast."""
    means = np.array([[0.1, 0.2], [0.4, 0.3]])
    result = components(np.repeat(means[:, :, None], 3, axis=2) + np.array([-0.1, 0.0, 0.1]))
    interaction = (0.1 - 0.2 - 0.4 + 0.3) ** 2 / 4
    assert result["residual"].variance == pytest.approx(interaction)
    assert result["tokenizer"].variance == pytest.approx(max(0, (0.4 + 0.3 - 0.1 - 0.2) ** 2 / 4 - interaction) / 2)
    assert result["model"].variance == 0.0
    assert result["users"].variance == pytest.approx(0.01 / 3)
    assert result.mean == pytest.approx(0.25)


def test_one_factor_alone() -> None:
    random = np.random.default_rng(3)
    result = [components(simulated(random, (1, 5, 400), SD | {"tokenizer": 0.0})) for _ in range(200)]
    expected = SD["model"] ** 2 + SD["residual"] ** 2 + 0.3**2 / 400
    assert mean_variance(result, "model") == pytest.approx(expected, rel=0.15)
    assert [one.source for one in result[0].components] == ["model", "users"]
    inside = [(one["model"].low or 0) <= expected <= (one["model"].high or 0) for one in result]
    assert 0.91 <= np.mean(inside) <= 0.99


def test_the_least_difference_is_found_with_its_power() -> None:
    """Two methods that differ by `least_users` are told apart by the paired test about four times in five; and means
    of rows that differ by `least_rows` from what their seeds do, as often."""
    random = np.random.default_rng(4)
    quiet = dict.fromkeys(SD, 0.0)
    result = components(simulated(random, (2, 3, 500), quiet))
    hits = 0
    for number in range(100):
        values = simulated(random, (1, 2, 500), quiet)[0]
        p = paired_difference(values[0] + result.least_users, values[1], generator(number, "x"), 300).p
        hits += p <= 0.05
    assert 0.68 <= hits / 100 <= 0.92
    rows = components(simulated(random, (4, 9, 300), SD))
    seeds = sum(one.variance for one in rows.components[:3])
    assert rows.least_rows == pytest.approx(rows.least_seeds / 3)
    differences = random.normal(rows.least_rows, (2 * seeds / 9) ** 0.5, 4000)
    assert np.mean(np.abs(differences) > 1.96 * (2 * seeds / 9) ** 0.5) == pytest.approx(0.8, abs=0.03)


def test_cases_of_one_user_are_one_unit() -> None:
    random = np.random.default_rng(5)
    single = simulated(random, (3, 3, 80), SD)
    many = np.repeat(single, 5, axis=2)
    one, five = components(single), components(many, np.repeat(np.arange(80), 5))
    assert five["tokenizer"].variance == pytest.approx(one["tokenizer"].variance)
    assert five["users"].variance == pytest.approx(one["users"].variance) and five["users"].low is None
    assert (five.users, five.cases) == (80, 400) and five.least_users == pytest.approx(one.least_users)


@pytest.mark.parametrize("shape", [(3, 1, 9), (2, 2, 1), (3, 3)])
def test_too_few_values_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no components of variance"):
        components(np.zeros(shape))
