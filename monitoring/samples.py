"""Build the reference and current samples for drift detection: columns derived per product and period."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from monitoring.policy import Finding
from pricing.data.panel import Panel

Role = Literal["input", "target", "error"]
Kind = Literal["numerical", "categorical"]


@dataclass(frozen=True)
class MonitoredColumn:
    """A column monitored for drift.

    Attributes:
        column: Its name in the samples.
        role: Input of the model, its target, or its error.
        kind: Decides the distance measure.
        plain: Name for category managers.
        says: Exact definition.
    """

    column: str
    role: Role
    kind: Kind
    plain: str
    says: str


# Prices, stock and sales are scaled per product, so that large products do not dominate the distance.
# product_id is left out: with 50 products it always appears to drift.
MONITORED_COLUMNS = (
    MonitoredColumn(
        "price_level",
        "input",
        "numerical",
        "prices",
        "price, as a multiple of the product's own median in the reference",
    ),
    MonitoredColumn(
        "discount", "input", "numerical", "discounts", "how far the price lies below list price, as a fraction"
    ),
    MonitoredColumn(
        "comp_gap",
        "input",
        "numerical",
        "gap to the competitor",
        "how far the price lies above the competitor's, as a fraction",
    ),
    MonitoredColumn(
        "stock_cover", "input", "numerical", "stock", "opening stock, in periods of the product's own mean sales"
    ),
    MonitoredColumn("promotion", "input", "categorical", "promotions", "whether the offer is advertised"),
    MonitoredColumn("category", "input", "categorical", "mix of categories", "which category each row is of"),
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
)
# Without clipping, a few extreme ratios over near-zero sales would dominate every distance.
CLIP = {"price_level": (0.0, 5.0), "stock_cover": (0.0, 100.0), "demand_level": (0.0, 10.0), "error": (-10.0, 10.0)}


@dataclass(frozen=True)
class Samples:
    """The two samples compared by drift detection.

    Attributes:
        reference: One row per product and period of the reference; columns of WATCHED, `period` and `product`.
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
        joined: `Joined.frame`, for the forecast errors.
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
    usual = _median(chosen.price[:, first:start], chosen.present[:, first:start])
    errors = joined.loc[joined["scored"], ["product_id", "period", "forecast", "units_sold"]]
    if earlier is not None and first < start:
        begins = panel.dates[start] if joined.empty else min(panel.dates[start], joined["period"].min().to_datetime64())
        last_day = (begins - np.timedelta64(1, "D")).astype("datetime64[D]").astype(dt.date)
        known = earlier(chosen.product_ids.tolist(), first=panel.dates[first].astype(dt.date), last=last_day)
        errors = pd.concat([known.astype(errors.dtypes.to_dict()), errors]) if len(known) else errors
    past = _rows(chosen, range(first, start), typical=typical, usual=usual, errors=errors)
    now = _rows(chosen, range(start, total), typical=typical, usual=usual, errors=errors)
    last = panel.dates[-1] if total else "?"
    span = f"{panel.dates[start]} to {last} against {panel.dates[first]} to {panel.dates[max(start - 1, 0)]}"
    return Samples(past, now, findings, span)


def _rows(
    panel: Panel, periods: range, *, typical: np.ndarray, usual: np.ndarray, errors: pd.DataFrame
) -> pd.DataFrame:
    columns = slice(periods.start, periods.stop)
    product, period = np.nonzero(panel.present[:, columns])

    def at(values: np.ndarray) -> np.ndarray:
        return values[:, columns][product, period].astype(float)

    units = np.where(panel.censored[:, columns][product, period], np.nan, at(panel.units_sold))
    with np.errstate(invalid="ignore", divide="ignore"):
        frame = pd.DataFrame(
            {
                "product": product,
                "product_id": panel.product_ids[product],
                "period": pd.to_datetime(panel.dates[columns][period]),
                "price_level": at(panel.price) / usual[product],
                "discount": 1 - at(panel.price) / at(panel.list_price),
                "comp_gap": at(panel.price) / at(panel.comp_price) - 1,
                "stock_cover": at(panel.stock) / typical[product],
                "promotion": np.where(at(panel.is_promo) > 0, "promoted", "not promoted"),
                "category": panel.categories[product],
                "demand_level": units / typical[product],
            }
        )
    scale = dict(zip(panel.product_ids.tolist(), typical.tolist(), strict=True))
    known = errors.assign(
        error=(errors["forecast"] - errors["units_sold"]) / errors["product_id"].map(scale).astype(float)
    )
    frame = frame.merge(known[["product_id", "period", "error"]], on=["product_id", "period"], how="left")
    frame = frame.replace([np.inf, -np.inf], np.nan)
    for column, (low, high) in CLIP.items():
        frame[column] = frame[column].clip(low, high)
    # Evidently plots rows in the given order, so sort by time.
    return frame.drop(columns="product_id").sort_values(["period", "product"], ignore_index=True)


def mean_units(values: np.ndarray) -> np.ndarray:
    """(product,) mean over known periods; NaN where none is known."""
    known = np.isfinite(values)
    return np.where(
        known.any(axis=1), np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan
    )


def _median(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    out = np.full(len(values), np.nan)
    for row, (line, there) in enumerate(zip(values, present, strict=True)):
        if there.any():
            out[row] = np.median(line[there])
    return out
