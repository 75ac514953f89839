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
        (["2019030100", "2019030200"], "YYYYMMDDhh"),
        (["20190301", "20190302"], "YYYYMMDD"),
        (["2019-03-01", "2019-03-02"], "dates as text"),
        (["2019-03-01 00:00:00", "2019-03-02 00:00:00"], "dates as text"),
        (["2019-03-01T01:00:00+01:00", "2019-03-02T00:00:00Z"], "dates as text"),
        (["2019/03/01", "2019/3/2"], "dates as text"),
        (["2019-03-01 12:00:00 AM", "2019-03-02 12:00 AM".replace(" AM", ":00 AM")], "%Y-%m-%d"),
        (["Fri Mar 01 2019 00:00:00 GMT+0000 (UTC)", "Sat Mar 02 2019 00:00:00 GMT+0000 (UTC)"], "GMT%z"),
        (["2019-03-01 00:00:00 UTC", "2019-03-02 00:00:00 UTC"], "dates as text"),
        (["Fri Mar 01 00:00:00 +0000 2019", "Fri Mar 01 16:00:00 -0800 2019"], "%a %b %d %H:%M:%S %z %Y"),
        (["Fri, 01 Mar 2019 00:00:00 GMT", "Sat, 02 Mar 2019 00:00:00 GMT"], "%a, %d %b %Y"),
        (["03 1, 2019", "03 2, 2019"], "%m %d, %Y"),
        (["Mar 1, 2019", "Mar 2, 2019"], "%b %d, %Y"),
        (["1 March 2019", "2 March 2019"], "%d %B %Y"),
        (["01.03.2019", "02.03.2019"], "%d.%m.%Y"),
        (["01/Mar/2019:00:00:00 +0000", "02/Mar/2019:00:00:00 +0000"], "%d/%b/%Y"),
        (["636869952000000000", "636870816000000000"], ".NET ticks"),
        (["131958720000000000", "131959584000000000"], "Windows file times"),
    ],
)
def test_the_same_two_days_in_every_unit(values: list[str], unit: str) -> None:
    read = read_times(values)
    assert unit in read.unit
    assert read.seconds.tolist() == [MARCH, MARCH + 86_400]


def test_day_and_month_are_told_apart_by_the_whole_column() -> None:
    days = ["2/1/2019", "2/13/2019 ", "2/28/2019"]
    assert read_times(days).unit.endswith("%m/%d/%Y")
    assert read_times(["1/2/2019 4:05 PM", "13/2/2019 5:00 AM"]).seconds[0] == 1_549_037_100
    assert np.isnan(read_times(["1/2/2019", "3/4/2019"]).seconds).all()  # both may be
    assert np.isnan(read_times([*["1/2/2019", "3/4/2019", "5/6/2019"] * 50, "13/2/2019"]).seconds).any()


def test_a_column_of_numbers_that_are_an_order_stays_what_it_is() -> None:
    read = read_times(["1", "2", "30"])
    assert read.seconds.tolist() == [1, 2, 30] and "rather an order than dates" in read.notes()[0]
    assert read_times(np.array([978_300_760.0, 978_302_109.5])).seconds.tolist() == [978_300_760.0, 978_302_109.5]


@pytest.mark.parametrize("odd", ["-62135596800000", "1551398400", "99999999999999", "2019-03-01", "", "nan"])
def test_what_does_not_fit_the_column_is_no_time(odd: str) -> None:
    read = read_times([*[f"{MARCH + n}000" for n in range(9)], odd])
    assert np.isnan(read.seconds[-1])
    assert np.isfinite(read.seconds[:-1]).all() and read.unit.startswith("milliseconds")


@pytest.mark.parametrize(("large", "small"), [(1000, 1), (10**6, 1000), (10**9, 10**6), (10**9, 1)])
def test_a_column_of_two_units_is_not_read_as_one(large: int, small: int) -> None:
    read = read_times([str((MARCH + n) * (large if n % 2 else small)) for n in range(40)])
    assert np.isnan(read.seconds[::2]).all() and np.isfinite(read.seconds[1::2]).all()


def test_the_zero_of_the_clock_among_later_times_is_a_warning() -> None:
    assert "2 timestamps are 1970" in read_times(["0", "0", *(str(MARCH + n) for n in range(9))]).warnings()[0]
    assert not read_times(["0", "1", "2"]).warnings()


def test_stats_show_first_and_last_date(tmp_path: Path) -> None:
    rows = "".join(f"u{u},i{(u + n) % 7},2018010{n + 1}120000\n" for u in range(4) for n in range(5))
    (tmp_path / "interactions.csv").write_text(f"user,item,timestamp\n{rows}")
    data = load_dataset(str(tmp_path))
    description = describe(data)
    assert (description["first"], description["last"]) == ("2018-01-01T12:00:00", "2018-01-05T12:00:00")
    assert any("YYYYMMDDhhmmss" in note and "2018-01-01 to 2018-01-05" in note for note in data.notes)
    with pytest.raises(InputError, match=r"training: the data reach from 2018-01-01T12:00:00 to 2018-01-05T12:00:00"):
        cut(data, Protocol(name="global-time", cut=(1_388_534_400, 1_420_070_400)))
    assert cut(data, Protocol(name="global-time", cut=("2018-01-03", "2018-01-04"))).times == (1514937600, 1515024000)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ((1628643414042, 1658002729837), (1628643414.042, 1658002729.837)),
        ((20180101, 20180630), (1514764800, 1530316800)),
        ((1514764800, 1530316800), (1514764800, 1530316800)),
        ((0.8, 0.9), (0.8, 0.9)),
        ((4, 5), (4, 5)),
    ],
)
def test_a_cut_may_be_in_another_unit(value: tuple[float, float], seconds: tuple[float, float]) -> None:
    assert Protocol(name="global-time", cut=value).cut == seconds


def test_a_cut_in_the_wrong_order_is_refused_in_any_unit() -> None:
    with pytest.raises(ValidationError, match="the first one smaller"):
        Protocol(name="global-time", cut=(1658002729837, 1628643414042))
