"""Build the reference and current samples for drift detection: columns derived per product and period."""

import datetime as dt
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pricing.arrays import Floats
from pricing.data.findings import Finding
from pricing.data.panel import Panel

Role = Literal["input", "target", "error", "price"]
Kind = Literal["numerical", "categorical"]
Among = Literal["all", "shop_priced", "priced", "asked"]


@dataclass(frozen=True)
class MonitoredColumn:
    """A column monitored for drift."""

    column: str
    role: Role  # input that shop or market decide, target, error, or prices that are ours: no input that drifts
    plain: str  # name for category managers
    says: str  # exact definition
    among: Among = "all"  # rows looked at: of products that the shop prices, that we price, or that were asked for
    least: float = 0.0  # mean change, in the column's own unit, below which nothing drifted however still it was
    kind: Kind = "numerical"

    @property
    def method(self) -> str:
        """Evidently's name of the distance."""
        return {"numerical": "wasserstein", "categorical": "jensenshannon"}[self.kind]

    def values(self, frame: pd.DataFrame) -> "pd.Series[Any]":
        """The column on the rows that it is looked at on, absent values included."""
        if self.among == "shop_priced":
            return frame.loc[~frame["priced"], self.column]
        return frame[self.column] if self.among == "all" else frame.loc[frame[self.among], self.column]


_LEVEL = "as a multiple of the product's own median in the reference"
_COVER = "in periods of the product's own mean sales"
_STILL = 0.02  # of prices and costs, which may stand still for a year
_OFFERS = {  # what is watched of prices, by whoever makes them: column, plain name, and definition
    "price_level": ("prices", f"price, {_LEVEL}"),
    "discount": ("discounts", "how far the price lies below list price, as a fraction"),
    "comp_gap": ("gap to the competitor", "how far the price lies above the competitor's, as a fraction"),
}


# Prices, costs, stock and sales are scaled per product, so that large products do not dominate the distance.
# product_id is left out: with 50 products it always appears to drift.
MONITORED_COLUMNS = (
    *(
        MonitoredColumn(
            column, "input", plain, f"{says}; of products whose prices the shop makes", "shop_priced", least=_STILL
        )
        for column, (plain, says) in _OFFERS.items()
    ),
    MonitoredColumn("comp_level", "input", "the competitor's prices", f"competitor's price, {_LEVEL}", least=_STILL),
    MonitoredColumn("cost_level", "input", "costs", f"unit cost, where given, {_LEVEL}", least=_STILL),
    MonitoredColumn("list_level", "input", "list prices", f"list price, {_LEVEL}", least=_STILL),
    MonitoredColumn("stock_cover", "input", "stock", f"opening stock, {_COVER}"),
    MonitoredColumn("promotion", "input", "promotions", "whether the offer is advertised", kind="categorical"),
    MonitoredColumn("category", "input", "mix of categories", "which category each row is of", kind="categorical"),
    MonitoredColumn(
        "request_comp",
        "input",
        "the competitor's prices in requests",
        f"competitor's price that a request names, {_LEVEL}",
        "asked",
        least=_STILL,
    ),
    MonitoredColumn("request_stock", "input", "stock in requests", f"stock that a request names, {_COVER}", "asked"),
    MonitoredColumn("demand_level", "target", "demand", "units sold, as a multiple of the product's own mean"),
    MonitoredColumn(
        "error", "error", "forecast errors", "forecast minus actual, as a multiple of the product's own mean sales"
    ),
    *(
        MonitoredColumn(
            f"our_{column}", "price", f"our {plain}", f"{says}; of products that we price", "priced", least=_STILL
        )
        for column, (plain, says) in _OFFERS.items()
    ),
)
# Drift of these is a matter for somebody; thresholds share `false_alarm` among them. Our own prices only inform.
WATCHED = sum(watched.role != "price" for watched in MONITORED_COLUMNS)
# Without clipping, a few extreme ratios over near-zero sales would dominate every distance.
CLIP = {
    "price_level": (0.0, 5.0),
    "comp_level": (0.0, 5.0),
    "cost_level": (0.0, 5.0),
    "list_level": (0.0, 5.0),
    "request_comp": (0.0, 5.0),
    "stock_cover": (0.0, 100.0),
    "request_stock": (0.0, 100.0),
    "demand_level": (0.0, 10.0),
    "error": (-10.0, 10.0),
}
NO_ERRORS = pd.DataFrame({"product_id": [], "period": pd.to_datetime([]), "forecast": [], "units_sold": []})
FOLLOWED = 0.5  # share of a product's decisions that are charged from which on its prices count as ours


@dataclass(frozen=True)
class Samples:
    """The two samples compared by drift detection.

    Both have a row per product and period: the monitored columns, `period`, `product`, `priced` (we make the product's
    prices) and `asked` (a price was asked for).
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    findings: list[Finding]
    span: str  # the dates of both


EarlierErrors = Callable[..., pd.DataFrame]  # `MonitoringStore.errors`


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

    The current one has the newest `window` periods, the other at most `reference` periods before them and `rows` rows;
    beyond these whole products are left out of both, drawn by `rng`. `joined` is `Joined.frame`, for the forecast
    errors, the requests, and which products we price; `earlier` gives errors before its first row.
    """
    total = len(panel.dates)
    products = len(panel.product_ids)
    findings = []
    start = max(0, total - window)
    first = max(0, start - reference)
    chosen = panel
    fit = max(1, rows // max(1, start - first))
    if products > fit:
        chosen = panel.select(np.sort(rng.choice(products, size=fit, replace=False)))
        text = f"drift looks at {fit:,} of {products:,} products, drawn at random"
        findings.append(Finding("sampled", "note", rows=fit, sentence=text))
    before = pd.Timestamp(panel.dates[start])
    newest = pd.Timestamp(panel.dates[-1])
    made = joined[joined["period"].between(pd.Timestamp(panel.dates[first]), newest)]
    known = NO_ERRORS
    if earlier is not None and first < start:
        until = min(before, made["period"].min()).date() - dt.timedelta(days=1)
        known = earlier(chosen.product_ids.tolist(), first=panel.dates[first].astype(dt.date), last=until)
    sold = chosen.units_sold[:, first:start]
    count = np.isfinite(sold).sum(axis=1)
    typical = np.where(count > 0, np.nan_to_num(sold).sum(axis=1) / np.maximum(count, 1), np.nan)
    frame = _of_sales(chosen, past=slice(first, start), typical=typical)
    scale = dict(zip(chosen.product_ids.tolist(), typical.tolist(), strict=True))
    frame = frame.merge(_decided(made, known, scale=scale, before=before), on=["product_id", "period"], how="left")
    frame["asked"] = frame["asked"].eq(True)
    frame = frame.replace([np.inf, -np.inf], np.nan)
    for column, (low, high) in CLIP.items():
        frame[column] = frame[column].clip(low, high)
    frame["priced"] = frame["product_id"].isin(our_products(made))
    # Evidently plots rows in the given order, so sort by time.
    frame = frame.drop(columns="product_id").sort_values(["period", "product"], ignore_index=True)
    span = f"{panel.dates[start]} to {panel.dates[-1]} against {panel.dates[first]} to {panel.dates[max(start - 1, 0)]}"
    now = frame["period"] >= before
    return Samples(frame[~now].reset_index(drop=True), frame[now].reset_index(drop=True), findings, span)


def our_products(joined: pd.DataFrame) -> list[str]:
    """The products whose prices are ours: of their live decisions at least half were charged.

    What a price of theirs does follows from our decisions, even on a day on which somebody overrode one.
    """
    counts = joined["live"].astype(bool) & ~joined["held_out"].astype(bool) & (joined["pricing"] != "fixed")
    live = joined[counts]
    followed = (live["pricing"] == "followed").groupby(live["product_id"]).mean()
    return [str(product) for product in followed.index[followed >= FOLLOWED]]


def _of_sales(panel: Panel, *, past: slice, typical: Floats) -> pd.DataFrame:
    """Returns the columns that come from sales, by product and period from the reference on."""
    product, period = np.nonzero(panel.present[:, past.start :])
    at = (product, period + past.start)

    def level(values: Floats) -> Floats:
        with warnings.catch_warnings(action="ignore"):  # of products without any
            usual = np.nanmedian(np.where(panel.present[:, past], values[:, past], np.nan), axis=1)
        relative: Floats = values[at].astype(float) / usual[product].astype(float)
        return relative

    price = panel.price[at].astype(float)
    units = panel.units_sold[at].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        ours = {
            "price_level": level(panel.price),
            "discount": 1 - price / panel.list_price[at].astype(float),
            "comp_gap": price / panel.comp_price[at].astype(float) - 1,
        }
        return pd.DataFrame(
            {
                "product": product,
                "product_id": panel.product_ids[product],
                "period": pd.to_datetime(panel.dates[at[1]]),
                **ours,
                **{f"our_{name}": values for name, values in ours.items()},
                "comp_level": level(panel.comp_price),
                "cost_level": np.where(panel.cost_assumed[product], np.nan, level(panel.unit_cost)),
                "list_level": level(panel.list_price),
                "stock_cover": panel.stock[at].astype(float) / typical[product],
                "promotion": np.where(panel.is_promo[at] > 0, "promoted", "not promoted"),
                "category": panel.categories[product],
                "demand_level": np.where(panel.censored[at], np.nan, units) / typical[product],
            }
        )


def _decided(
    made: pd.DataFrame, earlier: pd.DataFrame, *, scale: Mapping[str, float], before: pd.Timestamp
) -> pd.DataFrame:
    """Returns the columns that come from the log: each forecast's error, and what its request named.

    `made` are decisions that met their sales, `earlier` errors of days before them, as `EarlierErrors` gives them,
    `scale` mean units a period by product, and `before` is the first day of the newest window.
    """
    typical = made["product_id"].map(scale).astype(float)
    usual = made[made["period"] < before].groupby("product_id")["comp_price"].median()
    with np.errstate(invalid="ignore", divide="ignore"):
        off = (earlier["forecast"] - earlier["units_sold"]) / earlier["product_id"].map(scale).astype(float)
        error = (made["forecast"] - made["units_sold"]).where(made["scored"].astype(bool)) / typical
        decided = made[["product_id", "period"]].assign(
            asked=True,
            error=error.astype(float),
            request_comp=(made["comp_price"] / made["product_id"].map(usual).astype(float)).astype(float),
            request_stock=(made["stock"] / typical).astype(float),
        )
    if earlier.empty:
        return decided
    known = earlier[["product_id", "period"]].assign(asked=False, error=off, request_comp=np.nan, request_stock=np.nan)
    return pd.concat([known, decided]) if len(decided) else known
