"""The benchmark of a feed's faults: each has a name that there is, and really spoils what it is put into."""

from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest

from benchmarks.feed_faults import BESIDE, FAULTS, LATER, SAME_NIGHT, Fault, Found, decisions_of, first_spoilt, report
from pricing.data.quality import MEANINGS
from simulation.market import MarketConfig, simulate


@cache
def sales() -> pd.DataFrame:
    return simulate(MarketConfig(products=8, days=160, seed=1, categories=2, future=1)).frame()


def test_there_are_22_faults_with_titles_of_their_own_and_names_that_there_are() -> None:
    assert len({fault.title for fault in FAULTS}) == len(FAULTS) == 22
    assert {fault.name for fault in FAULTS} | set().union(*BESIDE.values()) <= MEANINGS.keys()
    assert {fault.latest for fault in FAULTS} == {SAME_NIGHT, LATER}
    assert BESIDE.keys() <= {fault.title for fault in FAULTS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_each_fault_changes_sales_or_decisions_from_its_day_on_only(fault: Fault) -> None:
    before, day = sales(), first_spoilt(sales(), 1)
    rng = np.random.default_rng(0)
    whole = fault.name in ("column_gone", "column_renamed")

    for spoil, frame in ((fault.sales, before), (fault.decisions, decisions_of(before))):
        if spoil is not None:
            after = spoil(frame, day, rng)
            assert not after.equals(frame)
            if not whole and fault.name != "dates_swapped":
                pd.testing.assert_frame_equal(after[after["date"] < day], frame[frame["date"] < day])
    assert fault.sales or fault.decisions
    assert (day.day <= 12) & (day.day != day.month)


def test_decisions_are_charged_the_day_after() -> None:
    table = decisions_of(sales()).groupby("product_id")

    for _, one in table:
        assert one["current_price"].tolist()[1:] == one["recommended_price"].tolist()[:-1]


def test_the_page_counts_what_was_found_in_time_and_tells_what_came_beside() -> None:
    found = {fault.title: [Found(fault.latest, (), "stop")] for fault in FAULTS}
    found[FAULTS[0].title] = [Found(2, ((0, "contract"),), "stop")]
    found[FAULTS[1].title] = [Found(None, (), "")]

    page = report(found, {"calm": Counter({"nights": 9, "nights with any": 1, "stop price_unit": 1})})

    assert "**20 of 22 faults are rightly named in time in every shop.**" in page
    assert f"| {FAULTS[0].title} | `price_unit` | 0 | 0 of 1 | 2 | – | contract 1 |" in page
    assert "| calm | 9 | 1 | 0 | stop price_unit 1 |" in page
