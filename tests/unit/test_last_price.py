import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.decision.last_price import last_prices

KNOWN = (6.6, 6.6, 6.6)  # nights that agree for long enough


def last(*nights: float, confirmed: int = 3, jump: float | None = 0.3, charged: tuple[bool, ...] = ()) -> float:
    shown = np.array([charged or (True,) * len(nights)])
    return float(last_prices(np.array([nights]), shown, largest_jump=jump, confirmed=confirmed)[0, 0])


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ((6.5,), 6.5),
        ((660.0,), 6.6),  # a fault of one night
        ((660.0, 660.0), 6.6),
        ((660.0, 660.0, 660.0), 660.0),  # charged for as long as confirms it
        ((660.0, 6.5, 660.0, 660.0), 6.5),
        ((660.0, 0.066, 660.0, 0.066), 6.6),  # no price in a row
        ((9.9, 9.5, 9.7), 9.7),  # a person's new price, which the platform then moves
        ((8.5, 10.9), 10.9),  # step by step, each within the jump
        ((3.3, 3.3, 3.3, 6.5), 6.5),  # a promotion, and the regular price again
        ((3.3, 3.3, 3.3, 6.5, 3.2, 6.6, 650.0), 6.6),
    ],
)
def test_a_price_further_away_counts_once_it_was_charged_for_some_periods_in_a_row(
    nights: tuple[float, ...], expected: float
) -> None:
    assert last(*KNOWN, *nights) == expected


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ((np.nan, np.nan), np.nan),
        ((np.nan, 6.6, 6.5), np.nan),
        ((np.nan, 6.6, 6.5, 6.4), 6.4),
        ((660.0, 6.6, 6.6), np.nan),  # a fault of its first night
        ((0.066, 6.6, 6.6), np.nan),
        ((660.0, 6.6, 6.6, 6.6), 6.6),
        ((6.6, 660.0, 6.6, 6.6, 6.6), 6.6),
    ],
)
def test_a_first_price_counts_once_it_was_charged_for_some_periods_in_a_row(
    nights: tuple[float, ...], expected: float
) -> None:
    assert last(*nights) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("start", [KNOWN, ()])
def test_a_price_that_is_only_carried_forward_confirms_nothing(start: tuple[float, ...]) -> None:
    shown = (*[True] * len(start), True, False, False)

    assert last(*start, 660.0, 660.0, 660.0, charged=shown) == pytest.approx(6.6 if start else np.nan, nan_ok=True)


def test_a_price_that_a_person_set_counts_at_once_and_until_another_is_confirmed() -> None:
    nights, shown = np.array([[10.0, 10.0, 10.0, 10.0, 10.0]]), np.ones((1, 5), bool)

    def after(place: int) -> float:
        moves = {place: (np.array([0]), np.array([15.0]))}
        return float(last_prices(nights, shown, largest_jump=0.3, confirmed=3, moves=moves)[0, 0])

    assert [after(place) for place in (5, 4, 3, 2)] == [15.0, 15.0, 15.0, 10.0]


@given(
    nights=st.lists(st.sampled_from([5.0, 6.0, 8.0, 50.0, 60.0, 500.0]), min_size=2, max_size=12),
    data=st.data(),
)
def test_night_by_night_or_at_once_the_last_price_is_the_same(nights: list[float], data: st.DataObject) -> None:
    """A refresh knows what was charged last, and the rows since its checkpoint."""
    prices = np.array([nights])
    shown = np.array([data.draw(st.lists(st.booleans(), min_size=len(nights), max_size=len(nights)))])
    settings = {"largest_jump": 0.3, "confirmed": 3}
    at_once = last_prices(prices, shown, **settings)

    known = last_prices(prices[:, :1], shown[:, :1], **settings)
    for night in range(2, len(nights) + 1):
        known = last_prices(prices[:, :night], shown[:, :night], before=known, seen=night - 1, **settings)

    np.testing.assert_array_equal(known, at_once)


@given(
    fault=st.floats(0.001, 1000).filter(lambda factor: not 0.7 <= factor <= 1.3),
    night=st.integers(0, 11),
    known=st.integers(1, 12),
)
def test_no_fault_of_a_night_moves_the_last_price(fault: float, night: int, known: int) -> None:
    nights = np.full(12, 10.0)
    nights[night] *= fault

    found = last(*nights[:known])

    assert found == 10.0 or (np.isnan(found) and known < 6)  # of a new product, two nights on either side of it
