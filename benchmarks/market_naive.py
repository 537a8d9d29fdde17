"""What most teams would try first on the market: log-log regression, and LightGBM with price as a feature."""

import lightgbm as lgb
import numpy as np
import pandas as pd

from pricing.arrays import Floats
from simulation.rollforward import Requests

LEAST_MEAN = 8.0  # units a day below which the log of a count says little
CUT = 0.95  # of list price, below which an advertised price is really cut
LAG = 14  # days by which past sales lag, so that they are known between two refreshes
CANDIDATES = 41


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
                "is_promo": (group["is_promo"] == 1) & (group["price"] < CUT * group["list_price"]),
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
