"""The unit of a column of times is told from its span; a cut is read by the same rule; stats show the dates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from harness.data.loading import load_dataset
from harness.data.readers.times import read_times
from harness.data.statistics import describe
from harness.errors import InputError
from harness.protocol.protocol import Protocol, cut

MARCH = 1_551_398_400  # 2019-03-01, in seconds


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([str(MARCH), str(MARCH + 86_400)], "seconds"),
        ([f"{MARCH}.0", f"{MARCH + 86_400}.0"], "seconds"),
        ([f"{MARCH}000", f"{MARCH + 86_400}000"], "milliseconds"),
        ([f"{MARCH}000000", f"{MARCH + 86_400}000000"], "microseconds"),
        ([f"{MARCH}000000000", f"{MARCH + 86_400}000000000"], "nanoseconds"),
        (["20190301000000", "20190302000000"], "YYYYMMDDhhmmss"),
        (["201903010000", "201903020000"], "YYYYMMDDhhmm"),
        (["20190301", "20190302"], "YYYYMMDD"),
        (["2019-03-01", "2019-03-02"], "dates as text"),
        (["2019-03-01 00:00:00", "2019-03-02 00:00:00"], "dates as text"),
        (["2019-03-01T01:00:00+01:00", "2019-03-02T00:00:00Z"], "dates as text"),
        (["2019/03/01", "2019/3/2"], "dates as text"),
    ],
)
def test_the_same_two_days_in_every_unit(values: list[str], unit: str) -> None:
    read = read_times(values)
    assert unit in read.unit
    assert read.seconds.tolist() == [MARCH, MARCH + 86_400]


def test_a_column_of_numbers_that_are_an_order_stays_what_it_is() -> None:
    read = read_times(["1", "2", "30"])
    assert read.seconds.tolist() == [1, 2, 30] and "rather an order than dates" in read.notes()[0]
    assert read_times(np.array([978_300_760.0, 978_302_109.5])).seconds.tolist() == [978_300_760.0, 978_302_109.5]


@pytest.mark.parametrize("odd", ["-62135596800000", "1551398400", "99999999999999", "2019-03-01", "", "nan"])
def test_what_does_not_fit_the_column_is_no_time(odd: str) -> None:
    read = read_times([*[f"{MARCH + n}000" for n in range(9)], odd])
    if odd == "1551398400":  # as milliseconds a day of January 1970, which a time may be
        assert read.seconds[-1] == pytest.approx(1_551_398.4)
    else:
        assert np.isnan(read.seconds[-1])
    assert np.isfinite(read.seconds[:-1]).all() and read.unit.startswith("milliseconds")


def test_stats_show_first_and_last_date(tmp_path: Path) -> None:
    rows = "".join(f"u{u},i{(u + n) % 7},2018010{n + 1}120000\n" for u in range(4) for n in range(5))
    (tmp_path / "interactions.csv").write_text(f"user,item,timestamp\n{rows}")
    data = load_dataset(str(tmp_path))
    told = describe(data)
    assert (told["first"], told["last"]) == ("2018-01-01T12:00:00", "2018-01-05T12:00:00")
    assert any("YYYYMMDDhhmmss" in note and "2018-01-01 to 2018-01-05" in note for note in data.notes)
    with pytest.raises(InputError, match=r"training: the data reach from 2018-01-01T12:00:00 to 2018-01-05T12:00:00"):
        cut(data, Protocol(name="global-time", cut=(1_388_534_400, 1_420_070_400)))
    assert cut(data, Protocol(name="global-time", cut=("2018-01-03", "2018-01-04"))).times == (1514937600, 1515024000)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ((1628643414042, 1658002729837), (1628643414.042, 1658002729.837)),
        ((20180101, 20180630), (1514764800, 1530316800)),
        ((1514764800, 1530316800), (1514764800, 1530316800)),
        ((0.8, 0.9), (0.8, 0.9)),
        ((4, 5), (4, 5)),
    ],
)
def test_a_cut_may_be_in_another_unit(given: tuple[float, float], seconds: tuple[float, float]) -> None:
    assert Protocol(name="global-time", cut=given).cut == seconds


def test_a_cut_in_the_wrong_order_is_refused_in_any_unit() -> None:
    with pytest.raises(ValidationError, match="the first one smaller"):
        Protocol(name="global-time", cut=(1658002729837, 1628643414042))
