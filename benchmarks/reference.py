"""Price as others would: double machine learning and a plain rule, apart from the platform's network and features."""

from collections.abc import Mapping

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pricing.arrays import Floats
from simulation.policies import DeliveryGaps, RecentSales
from simulation.rollforward import Requests

BLOCK_DAYS, FOLDS = 28, 4
START = -2.5
BETWEEN = 0.6  # spread of products within their category that the fixed shrinkage assumes
DAMPING = 0.5  # how far the reference's mark-up rule goes from the list price to the best price, in logs
UNKNOWN = 1e3  # standard error where prices never moved by more than they were expected to
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
        self._recent = RecentSales()
        self._usual: dict[str, float] = {}
        self.refresh(history)

    def refresh(self, rows: pd.DataFrame) -> None:
        """Learns what usually sells from newly recorded rows; the elasticities stay."""
        served = self._recent.add(rows)
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
