"""Laws of the closed loop: what the platform charges comes back as its sales, and its prices stay where they may be."""

import numpy as np
import pytest

from pricing.config import Config, load_config
from tests.kit.closed_loop import OPTIONAL, LoopResult, Shop, TrueDemand, run_nights

ELASTICITIES = (1.5, 2.5, 3.5)
MARGINS = (0.25, 0.35, 0.45)  # within 0.10 of the one assumed
CENT = 0.005
NIGHTS, RECENT = 36, 28  # in the last week a night reads no price that a person set
SUBSETS = ((), *((name,) for name in OPTIONAL), OPTIONAL)


def every_product() -> Shop:
    """A product of each elasticity at each margin."""
    elasticity, margin = (grid.ravel() for grid in np.meshgrid(ELASTICITIES, MARGINS))
    count = len(margin)
    return Shop(elasticity, margin, list_price=np.full(count, 10.0), level=np.full(count, 10.0))


def loop(config: Config, *, columns: tuple[str, ...] = (), echo: bool = False) -> LoopResult:
    shop = every_product()
    demand = TrueDemand(shop)
    return run_nights(
        shop,
        config,
        learn=lambda *_: demand,
        refresh=lambda same, _: same,
        columns=columns,
        history=70,
        nights=NIGHTS,
        recent=RECENT,
        echo=echo,
    )


@pytest.mark.parametrize("columns", SUBSETS, ids=lambda names: "+".join(names) or "needed columns alone")
def test_a_loop_with_demand_known_exactly_converges_inside_its_limits_and_costs_little(
    columns: tuple[str, ...],
) -> None:
    nights = loop(load_config(), columns=columns)

    low, high = load_config().decision.guardrails.band
    assert (nights.price >= low * nights.anchor - CENT).all()
    assert (nights.price <= high * nights.anchor + CENT).all()
    assert nights.moved().max() < 0.02
    assert nights.against_holding.min() >= 0.98


@pytest.mark.parametrize(
    ("columns", "echo"), [((), False), (("list_price",), True), (("list_price", "unit_cost"), True)]
)
def test_anchors_alone_keep_prices_inside_the_band_even_where_the_shop_hands_our_price_back_as_list_price(
    columns: tuple[str, ...], echo: bool
) -> None:
    config = load_config()
    guardrails = config.decision.guardrails.model_copy(update={"seen": None, "max_move": None})
    bare = config.model_copy(update={"decision": config.decision.model_copy(update={"guardrails": guardrails})})

    nights = loop(bare, columns=columns, echo=echo)

    low, high = guardrails.band
    assert (nights.price >= low * nights.anchor - CENT).all()
    assert (nights.price <= high * nights.anchor + CENT).all()
