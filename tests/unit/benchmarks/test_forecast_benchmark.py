"""The benchmark of forecasts of real sales: what it reads, who is held against whom, and what nobody is told."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forecast import ATOMS, atoms, judge, ranked_probability
from benchmarks.forecasters import SEARCH, _History
from tests.kit.demand_fakes import make_panel
from tests.kit.evaluation import fold_frame
from tests.kit.panels import put


def judged() -> pd.DataFrame:
    """Evaluation rows of a backtest with made-up forecasts."""
    rng = np.random.default_rng(0)
    told = {"q50": 5.0, "crps": 1.5, "pit_low": 0.3, "pit_high": 0.4}
    folds = [
        fold_frame(np.full((6, 7), 5.0), rng.poisson(5, (6, 7)), cutoff=f"2024-03-{day:02}", **told)
        for day in (1, 8, 15)
    ]
    frame = pd.concat(folds, ignore_index=True)
    return frame.assign(naive=frame["actual"] + 1.0, flat=frame["actual"] + 2.0)


@given(st.lists(st.floats(0, 1e4), min_size=7, max_size=7), st.floats(0, 2e4))
def test_the_crps_of_a_distribution_is_that_of_its_equally_likely_units(quantiles: list[float], actual: float) -> None:
    units = atoms(np.sort(np.array([quantiles])))

    found = ranked_probability(units, np.array([actual]))[0]

    slow = np.abs(units[0] - actual).mean() - np.abs(units[0][:, None] - units[0]).sum() / (2 * ATOMS**2)
    assert (np.diff(units[0]) >= -1e-9).all()
    assert units.min() >= 0
    assert found == pytest.approx(slow, abs=1e-6)


def test_all_are_scored_on_what_did_not_sell_out_and_the_difference_is_from_lightgbm() -> None:
    frame = judged()
    sold_out = frame["date"] == frame["date"].max()
    point = frame["actual"] + np.where(sold_out, 99.0, 3.0)
    frame = frame.assign(censored=sold_out, lightgbm=point, lightgbm_mean=point, lightgbm_crps=2.0, lightgbm_inside=1.0)

    found = judge(frame)

    scores, kept = found["scores"], frame[~sold_out]
    assert (found["rows"], found["cutoffs"]) == (len(kept), 3)
    for name, off in (("naive", 1.0), ("flat", 2.0), ("lightgbm", 3.0)):
        assert scores[name]["wape"] == pytest.approx(off / kept["actual"].mean())
    for kind in ("wape", "crps"):
        assert found["difference"][kind] == pytest.approx(scores["ours"][kind] - scores["lightgbm"][kind])


def test_lightgbm_is_told_nothing_that_was_sold_after_the_cutoff() -> None:
    panel, end = make_panel(periods=120), 80
    other = put(panel, np.s_[:, end + 1 :], units_sold=1e6, present=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        histories = [_History(each) for each in (panel, other)]
        told = [each.table(end, range(1, 15))[0] for each in histories]
        learnt = [[each.training(end, 14, relative=relative) for each in histories] for relative in SEARCH["relative"]]

    pd.testing.assert_frame_equal(*told)
    for pair in learnt:
        pd.testing.assert_frame_equal(*(data.data for data in pair))
        np.testing.assert_array_equal(*(data.get_label() for data in pair))
