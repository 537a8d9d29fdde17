"""Price as others would: double machine learning and a plain rule, log-log regression, LightGBM with a grid search.

The first two are the ones to beat, the others what most teams would try first. All are independent of the platform's
network and of its features.
"""

from collections.abc import Mapping

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from simulation.policies import DeliveryGaps
from simulation.rollforward import Requests

BLOCK_DAYS, FOLDS = 28, 4
START = -2.5
BETWEEN = 0.6  # spread of products within their category that the fixed shrinkage assumes
DAMPING = 0.5  # how far the reference's mark-up rule goes from the list price to the best price, in logs
UNKNOWN = 1e3  # standard error where prices never moved by more than they were expected to
LEAST_MEAN = 8.0  # units a day below which the log of a count says little
REALLY_CUT = 0.95  # of list price, below which an advertised price is really cut
LAG = 14  # days by which past sales lag, so that they are known between two refreshes
CANDIDATES = 41
PLAIN_DAMPING = 0.65  # how far the plain rule goes that is given the platform's own elasticities


def features(history: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, Floats]:
    """Lags and means of sales, calendar, promotion and competitor; the rows they belong to; log price over usual."""
    rows = history.sort_values(["product_id", "date"]).reset_index(drop=True)
    by = rows.groupby("product_id")
    usual = by["price"].transform("median")
    log_price = np.log(rows["price"] / usual).to_numpy()
    sold_out = rows["units_sold"] >= rows["stock"].fillna(np.inf)
    sales = np.log1p(rows["units_sold"] * np.exp(-START * log_price)).where(~sold_out)
    table = pd.DataFrame(
        {
            "weekday": rows["date"].dt.dayofweek,
            "year": rows["date"].dt.dayofyear,
            "product": pd.Categorical(rows["product_id"]).codes,
            "category": pd.Categorical(rows["category"]).codes,
            "holiday": rows["is_holiday"],
            "promo": rows["is_promo"],
            "competitor": np.log(rows["comp_price"] / usual),
        }
    )
    own = sales.groupby(rows["product_id"])
    for lag in (1, 2, 3, 7, 14):
        table[f"lag{lag}"] = own.shift(lag)
    for window in (7, 28, 56):
        table[f"mean{window}"] = own.transform(lambda s, w=window: s.shift(1).rolling(w, min_periods=3).mean())
    slow = pd.Series(log_price).groupby(rows["product_id"])
    table["price56"] = slow.transform(lambda s: s.shift(1).rolling(56, min_periods=7).mean())
    return rows, table, log_price


def reference_elasticities(history: pd.DataFrame) -> pd.DataFrame:
    """Elasticities by double machine learning, one row a product.

    LightGBM nuisances for units (Poisson, offset by the start) and log price, cross-fitted over blocks of 28 days; then
    quasi-Poisson residual on residual per product, and fixed shrinkage towards the category.

    Returns:
        Indexed by product_id: elasticity, error, category.
    """
    rows, table, log_price = features(history)
    fold = ((rows["date"] - rows["date"].min()).dt.days // BLOCK_DAYS % FOLDS).to_numpy()
    sold_out = (rows["units_sold"] >= rows["stock"].fillna(np.inf)).to_numpy()
    units = rows["units_sold"].to_numpy(float)
    mean, residual = np.zeros(len(rows)), np.zeros(len(rows))
    for number in range(FOLDS):
        train, test = (fold != number) & ~sold_out, fold == number
        base = np.log(units[train].mean())
        demand = lgb.LGBMRegressor(
            objective="poisson", n_estimators=150, learning_rate=0.08, num_leaves=31, min_child_samples=50, verbose=-1
        )
        demand.fit(table[train], units[train], init_score=base + START * log_price[train])
        mean[test] = np.exp(demand.predict(table[test], raw_score=True) + base + START * log_price[test])
        price = lgb.LGBMRegressor(n_estimators=60, learning_rate=0.05, num_leaves=15, min_child_samples=100, verbose=-1)
        price.fit(table[fold != number], log_price[fold != number])
        residual[test] = log_price[test] - price.predict(table[test])
    out = pd.DataFrame(index=pd.Index(np.unique(rows["product_id"]), name="product_id"))
    out["category"] = rows.groupby("product_id")["category"].last()
    fortnight = ((rows["date"] - rows["date"].min()).dt.days // 14).to_numpy()
    out["raw"], out["error"] = START, UNKNOWN
    for product, at in rows[~sold_out].groupby("product_id").indices.items():
        where = np.flatnonzero(~sold_out)[at]
        shift, error = _slope(units[where], mean[where], residual[where], fortnight[where])
        out.loc[product, ["raw", "error"]] = START + shift, error
    return _shrink(out)


def _slope(units: Floats, mean: Floats, price: Floats, cluster: NDArray[np.int64]) -> tuple[float, float]:
    if np.ptp(price) < 1e-6:
        return 0.0, UNKNOWN
    weight = 1 / (1 + mean / 10)
    columns = np.stack([np.ones_like(price), price])
    beta = np.zeros(2)
    for _ in range(25):
        fitted = mean * np.exp(np.clip(beta @ columns, -3, 3))
        bread = (columns * (weight * fitted)) @ columns.T + 1e-9 * np.eye(2)
        beta = beta + np.clip(np.linalg.solve(bread, columns @ (weight * (units - fitted))), -1, 1)
    moments = columns * (weight * (units - fitted))
    sums = np.stack([np.bincount(cluster, moment) for moment in moments])
    variance = np.linalg.solve(bread, np.linalg.solve(bread, sums @ sums.T).T)
    return float(beta[1]), float(np.sqrt(variance[1, 1]))


def _shrink(out: pd.DataFrame) -> pd.DataFrame:
    weight = 1 / (out["error"] ** 2 + BETWEEN**2)
    total = weight.groupby(out["category"]).transform("sum")
    category = (weight * out["raw"]).groupby(out["category"]).transform("sum") / total
    own = 1 / out["error"] ** 2
    out["elasticity"] = (own * out["raw"] + category / BETWEEN**2) / (own + 1 / BETWEEN**2)
    out["elasticity"] = out["elasticity"].clip(-8.0, -1.05)
    return out


class MarkUp:
    """A plain rule: part of the way from list to cost × e / (e − 1), and dearer when stock would run out.

    Args:
        history: Rows of the data contract.
        elasticities: Indexed by product_id: elasticity, category.
        damping: How far it goes from the list price to the best price, in logs, one number or by product; 1 is all the
            way.
        assumed_cost: The share of the list price that it takes for the cost, where the platform is not shown that.
    """

    def __init__(
        self,
        history: pd.DataFrame,
        elasticities: pd.DataFrame,
        *,
        damping: float | Mapping[str, float] = DAMPING,
        assumed_cost: float | None = None,
    ) -> None:
        self._damping, self._assumed, self._gaps = damping, assumed_cost, DeliveryGaps(history)
        self._elasticity = elasticities["elasticity"].to_dict()
        self._category = elasticities.groupby("category")["elasticity"].mean().to_dict()
        self._overall = float(elasticities["elasticity"].mean())
        self._recent = history.iloc[:0]
        self._usual: dict[str, float] = {}
        self.refresh(history)

    def refresh(self, rows: pd.DataFrame) -> None:
        """Learns what usually sells from newly recorded rows; the elasticities stay."""
        recent = pd.concat([self._recent, rows]) if len(self._recent) else rows
        recent = recent[recent["date"] > recent["date"].max() - pd.Timedelta(days=28)].copy()
        self._recent = recent
        served = recent[recent["units_sold"] < recent["stock"]]
        own = served["product_id"].map(self._elasticity).fillna(self._overall)
        restated = served["units_sold"] * np.exp(-own * np.log(served["price"] / served["list_price"]))
        self._usual |= restated.groupby(served["product_id"]).mean().to_dict()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        pairs = zip(requests.product_id, requests.category, strict=True)
        size = -np.array([self._elasticity.get(p, self._category.get(c, self._overall)) for p, c in pairs])
        cost = requests.unit_cost if self._assumed is None else requests.list_price * self._assumed
        best = cost * size / np.maximum(size - 1, 0.05)
        part = self._damping
        far = np.array([part.get(p, 0.0) for p in requests.product_id]) if isinstance(part, Mapping) else part
        damped = requests.list_price * (best / requests.list_price) ** far
        damped = np.clip(damped, requests.lowest, requests.highest)
        usual = np.array([self._usual.get(product, 0.0) for product in requests.product_id])
        expected = usual * (damped / requests.list_price) ** -size * self._gaps.days_left(requests)
        dearer = damped * np.maximum(expected / np.maximum(requests.stock, 0.5), 1.0) ** (1 / size)
        return np.clip(dearer, requests.lowest, requests.highest)


def log_log_elasticities(history: pd.DataFrame) -> dict[str, float]:
    """Ordinary least squares of log units on log price, one slope a category.

    With product effects, the competitor's price, promotion, holiday, weekday and month; days without a sale, with
    sales cut off by stock, and products that sell little are left out. An advertisement counts where the price is
    cut, as the data contract says. That is how it is usually done with care, and it is nearly unbiased where prices
    were set blind to demand.
    """
    rows = history[(history["units_sold"] > 0) & (history["units_sold"] < history["stock"])].dropna()
    rows = rows[rows.groupby("product_id")["units_sold"].transform("mean") >= LEAST_MEAN]
    slopes = {}
    for category, group in rows.groupby("category"):
        date = group["date"].dt
        columns = pd.DataFrame(
            {
                "price": np.log(group["price"]),
                "comp_price": np.log(group["comp_price"]),
                "is_promo": (group["is_promo"] == 1) & (group["price"] < REALLY_CUT * group["list_price"]),
                "is_holiday": group["is_holiday"],
                **{f"weekday {day}": date.dayofweek == day for day in range(1, 7)},
                **{f"month {month}": date.month == month for month in range(2, 13)},
            }
        ).astype(float)
        product = group["product_id"]
        units = np.log(group["units_sold"])
        within = columns - columns.groupby(product).transform("mean")
        slopes[str(category)] = float(
            np.linalg.lstsq(within.to_numpy(), (units - units.groupby(product).transform("mean")).to_numpy())[0][0]
        )
    return slopes


class LogLog:
    """The price that is best for a product with the regression's elasticity: cost × e / (e − 1)."""

    def __init__(self, history: pd.DataFrame) -> None:
        self.elasticities = log_log_elasticities(history)
        self._otherwise = float(np.median(list(self.elasticities.values())))

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        size = -np.array([self.elasticities.get(category, self._otherwise) for category in requests.category])
        size = np.maximum(size, 1.001)
        return np.clip(requests.unit_cost * size / (size - 1), requests.lowest, requests.highest)


class GridSearch:
    """LightGBM forecasts units with price as a feature; of a grid of prices it takes the most profitable."""

    def __init__(self, history: pd.DataFrame, *, seed: int = 0) -> None:
        self._products = {name: code for code, name in enumerate(sorted(history["product_id"].unique()))}
        self._categories = {name: code for code, name in enumerate(sorted(history["category"].unique()))}
        rows = history.sort_values(["product_id", "date"])
        usual = rows.groupby("product_id")["units_sold"].transform(
            lambda units: units.shift(LAG).rolling(28, min_periods=7).mean()
        )
        served = rows["units_sold"] < rows["stock"]
        columns = self._columns(rows, usual=usual.to_numpy())[served]
        self._model = lgb.LGBMRegressor(
            objective="poisson", n_estimators=300, learning_rate=0.05, random_state=seed, n_jobs=2, verbose=-1
        ).fit(columns, rows.loc[served, "units_sold"])
        self._recent = rows
        self._usual: dict[str, float] = {}
        self.refresh(rows.iloc[:0])

    def refresh(self, rows: pd.DataFrame) -> None:
        """Takes in what sold lately; the model stays as it is."""
        recent = pd.concat([self._recent, rows]) if len(rows) else self._recent
        self._recent = recent[recent["date"] > recent["date"].max() - pd.Timedelta(days=28)]
        self._usual = self._recent.groupby("product_id")["units_sold"].mean().to_dict()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning."""
        share = np.linspace(0, 1, CANDIDATES)
        grid = requests.lowest[:, None] + (requests.highest - requests.lowest)[:, None] * share
        frame = pd.DataFrame(
            {
                "date": pd.Timestamp(requests.date),
                "product_id": requests.product_id,
                "category": requests.category,
                "list_price": requests.list_price,
                "comp_price": requests.comp_price,
                "is_promo": requests.is_promo,
                "is_holiday": requests.is_holiday,
            }
        )
        usual = np.array([self._usual.get(product, np.nan) for product in requests.product_id])
        wide = frame.loc[np.repeat(frame.index, CANDIDATES)].assign(price=grid.ravel())
        units = self._model.predict(self._columns(wide, usual=np.repeat(usual, CANDIDATES))).reshape(grid.shape)
        best = np.argmax((grid - requests.unit_cost[:, None]) * units, axis=1)
        return grid[np.arange(len(grid)), best]

    def _columns(self, rows: pd.DataFrame, *, usual: Floats) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "price": rows["price"],
                "ratio": rows["price"] / rows["list_price"],
                "rival": rows["comp_price"] / rows["list_price"],
                "list_price": rows["list_price"],
                "is_promo": rows["is_promo"].astype(float),
                "is_holiday": rows["is_holiday"].astype(float),
                "weekday": rows["date"].dt.dayofweek,
                "day": rows["date"].dt.dayofyear,
                "usual": usual,
                "product": rows["product_id"].map(self._products).astype(float),
                "category": rows["category"].map(self._categories).astype(float),
            }
        )
