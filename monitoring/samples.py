"""Build the reference and current samples for drift detection: columns derived per product and period."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from monitoring.policy import Finding
from pricing.data.panel import Panel

Role = Literal["input", "target", "error", "price"]
Kind = Literal["numerical", "categorical"]
Among = Literal["all", "shop_priced", "priced", "asked"]


@dataclass(frozen=True)
class MonitoredColumn:
    """A column monitored for drift.

    Attributes:
        column: Its name in the samples.
        role: Input of the model that shop or market decide, its target, its error, or the prices that are ours: what
            follows from our own decisions is no input that drifts.
        kind: Decides the distance measure.
        plain: Name for category managers.
        says: Exact definition.
        among: The rows that it is looked at on: all of them, those of products whose prices the shop makes, those of
            products that we price, or those that a price was asked for.
        least: Mean change, in the column's own unit, below which nothing has drifted however still the reference was.
    """

    column: str
    role: Role
    kind: Kind
    plain: str
    says: str
    among: Among = "all"
    least: float = 0.0

    def values(self, frame: pd.DataFrame) -> "pd.Series[Any]":
        """The column on the rows that it is looked at on, absent values included."""
        if self.among == "shop_priced":
            return frame.loc[~frame["priced"], self.column]
        return frame[self.column] if self.among == "all" else frame.loc[frame[self.among], self.column]


_LEVEL = "as a multiple of the product's own median in the reference"
_SHOPS = "; of products whose prices the shop makes"
_OURS = "; of products that we price"
# Prices, costs, stock and sales are scaled per product, so that large products do not dominate the distance.
# product_id is left out: with 50 products it always appears to drift.
MONITORED_COLUMNS = (
    MonitoredColumn(
        "price_level", "input", "numerical", "prices", f"price, {_LEVEL}{_SHOPS}", among="shop_priced", least=0.02
    ),
    MonitoredColumn(
        "discount",
        "input",
        "numerical",
        "discounts",
        f"how far the price lies below list price, as a fraction{_SHOPS}",
        among="shop_priced",
        least=0.02,
    ),
    MonitoredColumn(
        "comp_gap",
        "input",
        "numerical",
        "gap to the competitor",
        f"how far the price lies above the competitor's, as a fraction{_SHOPS}",
        among="shop_priced",
        least=0.02,
    ),
    MonitoredColumn(
        "comp_level", "input", "numerical", "the competitor's prices", f"competitor's price, {_LEVEL}", least=0.02
    ),
    MonitoredColumn("cost_level", "input", "numerical", "costs", f"unit cost, where given, {_LEVEL}", least=0.02),
    MonitoredColumn("list_level", "input", "numerical", "list prices", f"list price, {_LEVEL}", least=0.02),
    MonitoredColumn(
        "stock_cover", "input", "numerical", "stock", "opening stock, in periods of the product's own mean sales"
    ),
    MonitoredColumn("promotion", "input", "categorical", "promotions", "whether the offer is advertised"),
    MonitoredColumn("category", "input", "categorical", "mix of categories", "which category each row is of"),
    MonitoredColumn(
        "request_comp",
        "input",
        "numerical",
        "the competitor's prices in requests",
        f"competitor's price that a request names, {_LEVEL}",
        among="asked",
        least=0.02,
    ),
    MonitoredColumn(
        "request_stock",
        "input",
        "numerical",
        "stock in requests",
        "stock that a request names, in periods of the product's own mean sales",
        among="asked",
    ),
    MonitoredColumn(
        "demand_level", "target", "numerical", "demand", "units sold, as a multiple of the product's own mean"
    ),
    MonitoredColumn(
        "error",
        "error",
        "numerical",
        "forecast errors",
        "forecast minus actual, as a multiple of the product's own mean sales",
    ),
    MonitoredColumn(
        "our_price_level", "price", "numerical", "our prices", f"price, {_LEVEL}{_OURS}", among="priced", least=0.02
    ),
    MonitoredColumn(
        "our_discount",
        "price",
        "numerical",
        "our discounts",
        f"how far the price lies below list price, as a fraction{_OURS}",
        among="priced",
        least=0.02,
    ),
    MonitoredColumn(
        "our_comp_gap",
        "price",
        "numerical",
        "our gap to the competitor",
        f"how far the price lies above the competitor's, as a fraction{_OURS}",
        among="priced",
        least=0.02,
    ),
)
# Drift of these is a matter for somebody; thresholds share `false_alarm` among them. Our own prices only inform.
WATCHED = sum(watched.role != "price" for watched in MONITORED_COLUMNS)
# Without clipping, a few extreme ratios over near-zero sales would dominate every distance.
CLIP = {
    **dict.fromkeys(("price_level", "comp_level", "cost_level", "list_level", "request_comp"), (0.0, 5.0)),
    **dict.fromkeys(("stock_cover", "request_stock"), (0.0, 100.0)),
    "demand_level": (0.0, 10.0),
    "error": (-10.0, 10.0),
}
NO_ERRORS = pd.DataFrame({"product_id": [], "period": pd.to_datetime([]), "forecast": [], "units_sold": []})
FOLLOWED = 0.5  # share of a product's decisions that are charged from which on its prices count as ours


@dataclass(frozen=True)
class Samples:
    """The two samples compared by drift detection.

    Attributes:
        reference: One row per product and period of the reference; the monitored columns, `period`, `product`,
            `priced` (we make the product's prices) and `asked` (a price was asked for).
        current: The same for the newest window.
        findings: Notes on the sampling.
        span: The dates of both, as text.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    findings: list[Finding]
    span: str


class EarlierErrors(Protocol):
    """Forecasts and sales of days whose decisions are not read any more: `MonitoringStore.errors`."""

    def __call__(self, products: Sequence[str], *, first: dt.date, last: dt.date) -> pd.DataFrame:
        """Returns columns `product_id`, `period`, `forecast` and `units_sold`."""
        ...


def take(
    panel: Panel,
    joined: pd.DataFrame,
    *,
    window: int,
    reference: int,
    rows: int,
    rng: np.random.Generator,
    earlier: EarlierErrors | None = None,
) -> Samples:
    """Takes the reference and current samples from the end of the panel.

    Args:
        panel: Actual sales.
        joined: `Joined.frame`, for the forecast errors, the requests, and which products we price.
        window: Number of newest periods in the current sample.
        reference: Most periods before them in the reference.
        rows: Most rows of the reference; beyond it whole products are left out, the same in both samples.
        rng: Draws the products to keep.
        earlier: Gives the errors of the reference before the first row of `joined`.
    """
    total = len(panel.dates)
    start = max(0, total - window)
    first = max(0, start - reference)
    findings = []
    count = len(panel.product_ids)
    keep = np.arange(count)
    if count * max(1, start - first) > rows:
        fit = max(1, rows // max(1, start - first))
        keep = np.sort(rng.choice(count, size=fit, replace=False))
        findings.append(
            Finding("sampled", "note", f"drift looks at {fit:,} of {count:,} products, drawn at random", fit)
        )
    chosen = panel.select(keep)
    typical = mean_units(chosen.units_sold[:, first:start])
    made = joined[joined["period"].between(pd.Timestamp(panel.dates[first]), pd.Timestamp(panel.dates[-1]))]
    known = NO_ERRORS
    if earlier is not None and first < start:
        begins = panel.dates[start] if made.empty else min(panel.dates[start], made["period"].min().to_datetime64())
        last_day = (begins - np.timedelta64(1, "D")).astype("datetime64[D]").astype(dt.date)
        known = earlier(chosen.product_ids.tolist(), first=panel.dates[first].astype(dt.date), last=last_day)
    rows_at = _Rows(
        chosen,
        typical=typical,
        usual={
            name: _median(values[:, first:start], chosen.present[:, first:start])
            for name, values in (
                ("price", chosen.price),
                ("comp_price", chosen.comp_price),
                ("unit_cost", chosen.unit_cost),
                ("list_price", chosen.list_price),
            )
        },
        priced=np.isin(chosen.product_ids, our_products(made)),
        made=made,
        earlier=known,
        before=pd.Timestamp(panel.dates[start]),
    )
    past, now = rows_at.take(range(first, start)), rows_at.take(range(start, total))
    span = f"{panel.dates[start]} to {panel.dates[-1]} against {panel.dates[first]} to {panel.dates[max(start - 1, 0)]}"
    return Samples(past, now, findings, span)


def our_products(joined: pd.DataFrame) -> list[str]:
    """The products whose prices are ours: of their live decisions at least half were charged.

    What a price of theirs does follows from our decisions, even on a day on which somebody overrode one.

    Args:
        joined: `Joined.frame`.
    """
    counts = joined["live"].astype(bool) & ~joined["held_out"].astype(bool) & (joined["pricing"] != "fixed")
    live = joined[counts]
    followed = (live["pricing"] == "followed").groupby(live["product_id"]).mean()
    return [str(product) for product in followed.index[followed >= FOLLOWED]]


@dataclass(frozen=True)
class _Rows:
    """Makes the rows of a sample.

    Attributes:
        panel: The products to look at.
        typical: (product,) mean units a period.
        usual: (product,) medians in the reference, by column of the panel.
        priced: (product,) True where we make the prices.
        made: Decisions that met their sales, in both samples.
        earlier: Errors of days before them, as `EarlierErrors` gives them.
        before: First day of the newest window.
    """

    panel: Panel
    typical: np.ndarray
    usual: dict[str, np.ndarray]
    priced: np.ndarray
    made: pd.DataFrame
    earlier: pd.DataFrame
    before: pd.Timestamp

    def take(self, periods: range) -> pd.DataFrame:
        panel, columns = self.panel, slice(periods.start, periods.stop)
        product, period = np.nonzero(panel.present[:, columns])

        def at(values: np.ndarray) -> np.ndarray:
            return values[:, columns][product, period].astype(float)

        units = np.where(panel.censored[:, columns][product, period], np.nan, at(panel.units_sold))
        cost = np.where(panel.cost_assumed[product], np.nan, at(panel.unit_cost))
        with np.errstate(invalid="ignore", divide="ignore"):
            price_level = at(panel.price) / self.usual["price"][product]
            discount = 1 - at(panel.price) / at(panel.list_price)
            gap = at(panel.price) / at(panel.comp_price) - 1
            frame = pd.DataFrame(
                {
                    "product": product,
                    "product_id": panel.product_ids[product],
                    "period": pd.to_datetime(panel.dates[columns][period]),
                    "priced": self.priced[product],
                    "price_level": price_level,
                    "discount": discount,
                    "comp_gap": gap,
                    "our_price_level": price_level,
                    "our_discount": discount,
                    "our_comp_gap": gap,
                    "comp_level": at(panel.comp_price) / self.usual["comp_price"][product],
                    "cost_level": cost / self.usual["unit_cost"][product],
                    "list_level": at(panel.list_price) / self.usual["list_price"][product],
                    "stock_cover": at(panel.stock) / self.typical[product],
                    "promotion": np.where(at(panel.is_promo) > 0, "promoted", "not promoted"),
                    "category": panel.categories[product],
                    "demand_level": units / self.typical[product],
                }
            )
        frame = frame.merge(self._decided(), on=["product_id", "period"], how="left")
        frame["asked"] = frame["asked"].eq(True)
        frame = frame.replace([np.inf, -np.inf], np.nan)
        for column, (low, high) in CLIP.items():
            frame[column] = frame[column].clip(low, high)
        # Evidently plots rows in the given order, so sort by time.
        return frame.drop(columns="product_id").sort_values(["period", "product"], ignore_index=True)

    def _decided(self) -> pd.DataFrame:
        """What the log tells of each product and period: the forecast's error, and what the request named."""
        typical = dict(zip(self.panel.product_ids.tolist(), self.typical.tolist(), strict=True))
        made, earlier = self.made, self.earlier
        scale = made["product_id"].map(typical)
        past = made[made["period"] < self.before]
        usual = past.groupby("product_id")["comp_price"].median()
        with np.errstate(invalid="ignore", divide="ignore"):
            before = (earlier["forecast"] - earlier["units_sold"]) / earlier["product_id"].map(typical).astype(float)
            error = (made["forecast"] - made["units_sold"]).where(made["scored"].astype(bool)) / scale.astype(float)
            decided = pd.DataFrame(
                {
                    "product_id": made["product_id"],
                    "period": made["period"],
                    "asked": np.ones(len(made), dtype=bool),
                    "error": error.astype(float),
                    "request_comp": (made["comp_price"] / made["product_id"].map(usual).astype(float)).astype(float),
                    "request_stock": (made["stock"] / scale.astype(float)).astype(float),
                }
            )
        if earlier.empty:
            return decided
        known = earlier[["product_id", "period"]].assign(
            asked=False, error=before, request_comp=np.nan, request_stock=np.nan
        )
        return pd.concat([known, decided]) if len(decided) else known


def mean_units(values: np.ndarray) -> np.ndarray:
    """(product,) mean over known periods; NaN where none is known."""
    known = np.isfinite(values)
    return np.where(
        known.any(axis=1), np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan
    )


def _median(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    out = np.full(len(values), np.nan)
    for row, (line, there) in enumerate(zip(values, present & np.isfinite(values), strict=True)):
        if there.any():
            out[row] = np.median(line[there])
    return out
