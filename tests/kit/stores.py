"""A chain whose stores share each product's elasticity, of known truth: price residuals, forecasts and sales."""

from dataclasses import dataclass, replace

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.demand.batches import build_table
from pricing.demand.estimation import Estimates, estimate_round
from pricing.demand.falsification import UNTESTED, FalsificationTests
from pricing.demand.nuisances import EventForecast
from pricing.demand.price_changes import select_sample
from pricing.demand.regression import Residuals, Shift, regress
from pricing.demand.shrinkage import PosteriorElasticities, shrink
from tests.kit.demand_fakes import make_norms, make_panel

DAYS = 3  # scored periods of a price change
OFFSET = -2.0  # elasticity in the forecasts
MOVES = 0.6  # share of the fortnights with a price change


@dataclass(frozen=True)
class ChainConfig:
    """Size and noise of a chain.

    Attributes:
        products: Products.
        stores: Series of each product.
        fortnights: Length of the history.
        units: Mean sales of a series a period.
        own_shock: Standard deviation of the log demand shock of a series in a fortnight.
        common_shock: The same of all series of one product.
        common_prices: Whether all stores of a product change its price together.
        differ: Standard deviation of the stores' elasticities around their product's, which the model takes for 0.
    """

    products: int = 12
    stores: int = 12
    fortnights: int = 26
    units: float = 8.0
    own_shock: float = 0.15
    common_shock: float = 0.0
    common_prices: bool = False
    differ: float = 0.0


@dataclass(frozen=True)
class Chain:
    """What was scored of a chain's price changes, and the truth.

    Attributes:
        residuals: Events of all series.
        parent: (series,) row of its product.
        category: (product,) row of its category.
        elasticity: (product,) true elasticity, the mean of its stores'.
        of_series: (series,) true elasticity.
    """

    residuals: Residuals
    parent: Ints
    category: Ints
    elasticity: Floats
    of_series: Floats


def draw_chain(config: ChainConfig, *, seed: int) -> Chain:
    """Draw a chain: prices at random, demand with shocks that the forecasts do not know."""
    rng = np.random.default_rng(seed)
    products, stores, fortnights = config.products, config.stores, config.fortnights
    category = np.arange(products) % 3
    elasticity = -2.5 + rng.normal(0, 0.3, 3)[category] + rng.normal(0, 0.5, products)
    shape = (products, stores, fortnights)
    of_prices = (products, 1, fortnights) if config.common_prices else shape
    price = np.broadcast_to(rng.normal(0, 0.08, of_prices), shape)
    moved = np.broadcast_to(rng.random(of_prices) < MOVES, shape)
    own = elasticity[:, None] + rng.normal(0, 1, (products, stores)) * config.differ
    shock = rng.normal(0, config.own_shock, shape)
    shock += rng.normal(0, 1, (products, 1, fortnights)) * config.common_shock
    usual = config.units * np.exp(rng.normal(0, 0.5, (products, stores)))
    level_error = rng.normal(0, 0.1, (products, stores, 1))
    actual = usual[:, :, None] * np.exp(own[:, :, None] * price + shock + level_error)
    product, store, fortnight = (np.repeat(each, DAYS) for each in np.nonzero(moved))
    where = product, store, fortnight
    size = np.full(len(product), 20.0)
    units = rng.negative_binomial(size, size / (size + actual[where]))
    nothing = np.zeros(len(product))
    residuals = Residuals(
        product=product * stores + store,
        cluster=fortnight,
        units=units.astype(np.float64),
        mean=usual[product, store] * np.exp(OFFSET * price[where]),
        price=price[where],
        routine=nothing,
        size=size,
        weekend=nothing,
        advertised=nothing,
        censored=nothing,
    )
    return Chain(residuals, np.arange(products * stores) // stores, category, elasticity, own.ravel())


def select(residuals: Residuals, rows: Ints | Bools) -> Residuals:
    return Residuals(**{name: values[rows] for name, values in vars(residuals).items()})


def estimate(chain: Chain, *, shared: bool) -> Estimates:
    """Estimate the elasticities: one a product, or one a series."""
    series = len(chain.parent)
    parent = chain.parent if shared else np.arange(series)
    found = regress(chain.residuals, weekend=0.0, parent=parent, category=np.zeros(series, int))
    return as_estimates(found)


def as_estimates(found: Shift) -> Estimates:
    """Take a regression's result for the estimates of a round whose falsification tests found nothing."""
    return Estimates(
        value=OFFSET + found.value,
        error=found.error,
        category_information=found.category_information,
        level=OFFSET + found.mean,
        level_error=found.mean_error,
        step=0.0,
        moved=0.0,
        bias=found.drift,
        shift=found,
        checks=FalsificationTests(UNTESTED, UNTESTED, UNTESTED, {}),
    )


def as_if_independent(chain: Chain, separate: Estimates) -> Estimates:
    """Average the series' estimates by precision, as if they were independent; one estimate a product."""
    products = len(chain.elasticity)
    weight = 1.0 / separate.error**2
    total = np.bincount(chain.parent, weight, products)
    return replace(
        separate,
        value=np.bincount(chain.parent, weight * separate.value, products) / total,
        error=1.0 / np.sqrt(total),
    )


def posterior(chain: Chain, known: Estimates) -> PosteriorElasticities:
    """Shrink estimates, of products or of series; no chain has a bias that no test sees."""
    category = chain.category if len(known.value) == len(chain.category) else chain.category[chain.parent]
    return shrink(known.value, known.error, category=category, centre=np.zeros(3), bias=known.bias / -known.level)


def estimate_chain() -> tuple[Estimates, Ints]:
    """A round on six series, the first four of one product, priced weekly at random; and the parent of each."""
    rng = np.random.default_rng(1)
    panel = make_panel(products=6, periods=240)
    truth = np.array([-3.0] * 4 + [-1.5, -2.5])[:, None]
    log_price = np.repeat(rng.normal(0, 0.08, (6, 35)), 7, axis=1)[:, :240]
    panel = replace(
        panel,
        present=np.ones((6, 240), bool),
        price=(10.0 * np.exp(log_price)).astype(np.float32),
        units_sold=rng.poisson(30.0 * np.exp(truth * log_price)).astype(np.float32),
        stock=np.full((6, 240), np.nan, np.float32),
        is_promo=np.zeros((6, 240), np.float32),
        parent_ids=np.array(["Q"] * 4 + ["P4", "P5"]),
    )
    norms = replace(make_norms(panel), weekend=np.zeros(6, np.float32))
    table = build_table(panel, norms=norms, category=np.arange(6) % 2)
    sample = select_sample(panel, table, tested=None, own=None)
    sample = replace(sample, residual=table.log_price[sample.moves.product, sample.moves.at].astype(float))
    events = sample.everything
    expected = 30.0 * np.exp(-2.0 * table.log_price[events.product, events.at])
    forecast = EventForecast(expected, np.full(len(events), 1e4))
    return estimate_round(sample, table, forecast, norms=norms, so_far=None, doubt=0.0, least=0.0), sample.parent
