"""Join decisions with the sales that followed: one row per decision in force, with price charged and units sold."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monitoring.decisions import in_force, period_start
from monitoring.policy import Finding, Level, counted
from pricing.data.counting_units import in_steps
from pricing.data.net_price import unit_profit
from pricing.data.panel import Panel
from pricing.decision.reasons import SWITCHED
from pricing.demand.evaluation import sales_moments, sales_transform, share_inside

# The log has prices to six digits, the panel in single precision; shops round to a cent.
PRICE_TOLERANCE = 0.0051
RANGE_TOLERANCE = 0.01
INTERVAL = 0.80  # nominal level of the intervals whose coverage is monitored

TEXTS: dict[str, tuple[Level, str]] = {
    "superseded": ("note", "{count} decision(s) were replaced by a later one for the same product and day"),
    "product_unknown": ("warning", "{count} decision(s) are for products that the sales do not know"),
    "before_sales": ("note", "{count} decision(s) are older than the sales given"),
    "waiting": ("note", "{count} decision(s) wait for their sales"),
    "truth_missing": ("note", "{count} decision(s) have no sales row on a day that the sales cover"),
    "undecided": ("note", "{count} product(s) sell without any decision in the log"),
    "censored": ("note", "{count} day(s) ended sold out"),
    "shelf_unknown": (
        "note",
        "{count} day(s) opened with nothing on the shelf, or sold out with no interval in the log; they count for no "
        "error",
    ),
    "hindsight": ("note", "{count} decision(s) price a day that their model had already seen; they count for no error"),
    "no_forecast": (
        "note",
        "{count} decision(s) say nothing about demand at the price that was charged: it lies outside the candidates, "
        "or no model answered",
    ),
    "held_out": ("note", "{count} decision(s) kept the price of a held-out product; they count as no answer by rule"),
    "fixed": (
        "note",
        "{count} decision(s) gave a price that a person had fixed (frozen or overridden); they are neither the model's "
        "nor answers by rule",
    ),
    "interval_absent": (
        "note",
        "{count} scored decision(s) were logged without their 80 % interval; its coverage is not judged on them",
    ),
}


@dataclass(frozen=True)
class Joined:
    """Decisions and their outcomes.

    Attributes:
        frame: One row per decision in force whose sales are known, sorted by date and product. Besides the log's
            columns: `period` (its first day), `age` (days of sales since it began, its own included), `units_sold`,
            `charged` (price charged), `cost` (per unit), `earned` (profit per unit, net of tax), `censored`, `demand`
            (expected units of demand at the price charged; NaN where the log has no forecast there), `forecast`
            (expected sales given the opening stock; equals `demand` where stock or forecast variance is unknown),
            `inside` (probability mass of the outcome inside the 80 % interval, 0…1; NaN where not scored or not
            logged), `pricing` ("followed", "kept" the old price, "overridden", or "fixed" where a person had frozen or
            overridden the price beforehand), `scorable` (could have been scored: the model decided, and there was stock
            to sell), `held_out` (fixed price, control group), `unidentified` (price kept because the elasticity is not
            identified), `comp_price_stale` (the competitor's price was too old to count), `earlier_weeks_error` (mean
            absolute error of the same weekday 1 to 4 weeks earlier, capped by the stock) and `scored` (enters the
            error).
        findings: What was left out or looks wrong, with counts.
        decisions: Number of decisions in the log.
        waiting: Number of decisions whose sales are not known yet.
        waiting_for: The first day that one of them waits for; None where none does.
        unmatched: `period` and `live` of decisions in force for days that the sales cover, without a row of sales.
    """

    frame: pd.DataFrame
    findings: list[Finding]
    decisions: int
    waiting: int
    waiting_for: dt.date | None = None
    unmatched: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"period": [], "live": []}))


def join(decisions: pd.DataFrame, panel: Panel, *, state_dates: Mapping[str, np.datetime64] | None = None) -> Joined:
    """Joins decisions with the panel of actual sales. Neither is modified.

    Args:
        decisions: From `load_decisions`.
        panel: Sales up to today, as corrected up to today.
        state_dates: Last day of data in each model version's states, where known. Decisions for days up to it were
            made in hindsight and are not scored.
    """
    days = 7 if panel.period == "week" else 1
    frame = decisions.assign(period=period_start(decisions["date"], first=panel.dates[0], days=days))
    valid = in_force(frame, days=days)
    superseded = int((~valid).sum())
    frame = frame[valid]
    product = _locate(panel.product_ids, frame["product_id"].to_numpy(dtype=str))
    unknown = product < 0
    column = ((frame["period"] - pd.Timestamp(panel.dates[0])).dt.days // days).to_numpy()
    waiting = column >= len(panel.dates)
    early = column < 0
    inside = ~(unknown | waiting | early)
    present = np.zeros(len(frame), dtype=bool)
    present[inside] = panel.present[product[inside], column[inside]]
    out = frame[present].copy()
    _add_truth(out, panel, product=product[present], column=column[present])
    out["age"] = (len(panel.dates) - column[present]) * days
    charged = out["charged"].to_numpy()
    out["demand"] = forecast_at(out["candidate_price"], out["candidate_units"], price=charged)
    # For unknown demand the rule gives a price with zero expected units, which is no forecast.
    out.loc[_has_reason(out, "demand_unknown"), "demand"] = np.nan
    out["held_out"] = _has_reason(out, "holdout")
    out["unidentified"] = _unidentified(out)
    out["comp_price_stale"] = _has_reason(out, "comp_price_stale")
    out["pricing"] = _pricing(out)
    fixed = (out["pricing"] == "fixed").to_numpy()
    hindsight = _hindsight(out, state_dates or {})
    no_forecast = out["demand"].isna().to_numpy() & ~hindsight
    unsure = _add_sales(out, size=_between(out["candidate_price"], out["candidate_size"], price=charged))
    out["scorable"] = ~(unsure | fixed | hindsight)
    out["scored"] = out["scorable"] & ~no_forecast
    out.loc[~out["scored"], "inside"] = np.nan
    sold = set(panel.product_ids[panel.present[:, -28:].any(axis=1)].tolist())
    counts = {
        "superseded": superseded,
        "product_unknown": int(unknown.sum()),
        "before_sales": int((early & ~unknown).sum()),
        "waiting": int((waiting & ~unknown).sum()),
        "truth_missing": int((inside & ~present).sum()),
        "undecided": len(sold - set(decisions["product_id"])),
        "censored": int(out["censored"].sum()),
        "shelf_unknown": int(unsure.sum()),
        "hindsight": int(hindsight.sum()),
        "no_forecast": int(no_forecast.sum()),
        "held_out": int(out["held_out"].sum()),
        "fixed": int(fixed.sum()),
        "interval_absent": int((out["scored"] & out["inside"].isna()).sum()),
    }
    findings = [item for code, count in counts.items() for item in counted(code, *TEXTS[code], count)]
    findings += _partial(out, frame[inside], panel)
    out = out.sort_values(["period", "product_id"]).reset_index(drop=True)
    days_due = frame.loc[waiting & ~unknown, "date"]
    due = None if days_due.empty else days_due.min().date()
    unmatched = frame.loc[~(waiting | early | present), ["period", "live"]]
    return Joined(out, findings, len(decisions), counts["waiting"], due, unmatched)


def forecast_at(
    prices: "pd.Series[Any]", units: "pd.Series[Any]", *, price: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Interpolates each decision's forecast at the price charged, log-log between its candidate prices.

    Args:
        prices: An ascending array of candidate prices per row.
        units: The expected units at each of them.
        price: (row,) price charged.

    Returns:
        (row,) units; NaN without candidates, or more than 1 % outside them.
    """
    logs = units.map(lambda values: np.log(np.maximum(np.asarray(values, dtype=float), 1e-9)))
    return np.exp(_between(prices, logs, price=price))


def _between(prices: "pd.Series[Any]", values: "pd.Series[Any]", *, price: NDArray[np.floating]) -> NDArray[np.float64]:
    """(row,) values at the price charged, linear in log price; NaN without values or outside the candidates."""
    result = np.full(len(price), np.nan)
    for row, (x, y, at) in enumerate(zip(prices, values, price, strict=True)):
        x = np.asarray(x, dtype=float)  # noqa: PLW2901
        if len(y) and x[0] * (1 - RANGE_TOLERANCE) <= at <= x[-1] * (1 + RANGE_TOLERANCE):
            result[row] = np.interp(np.log(at), np.log(x), y)
    return result


def _add_sales(out: pd.DataFrame, *, size: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Adds `forecast` and `inside`: expected sales given the stock, as in backtests.

    Args:
        out: With expected demand and units sold; modified.
        size: (row,) dispersion of the demand's negative binomial; NaN where there is none.

    Returns:
        (row,) True where the outcome cannot score the forecast: see `pricing.demand.baselines.sales_rows`.
    """
    unit = out["unit"].to_numpy(dtype=float)
    opening = out["opening_stock"].fillna(np.inf).to_numpy()
    sold = np.minimum(out["units_sold"].to_numpy(), np.where(opening > 0, opening, np.inf))
    units, demand = in_steps(sold, unit), out["demand"].to_numpy() / unit
    shelf = in_steps(opening, unit)
    expected, _ = sales_moments(mean=demand, size=size, shelf=shelf)
    out["forecast"] = unit * np.where(np.isfinite(expected), expected, demand)
    low, high = sales_transform(units, mean=demand, size=size, shelf=shelf)
    out["inside"] = share_inside(low, high, level=INTERVAL)
    unsure = np.where(np.isfinite(size), shelf <= 0, out["censored"].to_numpy())
    return np.asarray(unsure, dtype=np.bool_)


def _add_truth(out: pd.DataFrame, panel: Panel, *, product: NDArray[np.integer], column: NDArray[np.integer]) -> None:
    out["units_sold"] = panel.units_sold[product, column].astype(float)
    out["charged"] = panel.price[product, column].astype(float)
    out["cost"] = panel.unit_cost[product, column].astype(float)
    out["earned"] = unit_profit(out["charged"], out["cost"], tax_rate=panel.tax_rates()[product, column].astype(float))
    out["opening_stock"] = panel.stock[product, column].astype(float)
    out["censored"] = panel.censored[product, column]
    out["category"] = panel.categories[product]
    weeks = 1 if panel.period == "week" else 7
    errors = []
    clean = np.where(panel.present & ~panel.censored, panel.units_sold, np.nan)
    shelf = out["opening_stock"].fillna(np.inf).to_numpy()
    for lag in range(1, 5):
        past = column - lag * weeks
        before = np.minimum(np.where(past >= 0, clean[product, np.maximum(past, 0)], np.nan), shelf)
        errors.append(np.abs(out["units_sold"].to_numpy() - before))
    stack = np.stack(errors)  # (lag, row)
    known = np.isfinite(stack)
    total = np.where(known, stack, 0.0).sum(axis=0)
    out["earlier_weeks_error"] = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _has_reason(out: pd.DataFrame, reason: str) -> NDArray[np.bool_]:
    """(row,) True where the decision has this reason code."""
    return np.array([reason in codes.split() for codes in out["reasons"]], dtype=bool)


# With one of these reasons the rule keeps prices because of a missing model, not of an unidentified elasticity.
_NO_MODEL = ("no_model", "model_failed", "unknown_category")


def _unidentified(out: pd.DataFrame) -> NDArray[np.bool_]:
    """(row,) True where the price was kept because the elasticity is not identified."""
    held = _has_reason(out, "elasticity_unidentified") & (out["source"] == "rule").to_numpy()
    for reason in _NO_MODEL:
        held &= ~_has_reason(out, reason)
    return held


def _locate(ids: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.intp]:
    """Returns the row of each of `wanted` in the sorted `ids`, -1 where absent."""
    if not len(wanted):
        return np.zeros(0, dtype=np.intp)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, -1)


def _pricing(out: pd.DataFrame) -> NDArray[np.str_]:
    charged = out["charged"].to_numpy()
    slack = np.maximum(PRICE_TOLERANCE, 1e-3 * charged)
    followed = np.abs(charged - out["recommended_price"].to_numpy()) <= slack
    kept = np.abs(charged - out["current_price"].to_numpy()) <= slack
    fixed = np.logical_or.reduce([_has_reason(out, reason) for reason in sorted(SWITCHED)])
    return np.where(fixed, "fixed", np.where(followed, "followed", np.where(kept, "kept", "overridden")))


def _hindsight(out: pd.DataFrame, state_dates: Mapping[str, np.datetime64]) -> NDArray[np.bool_]:
    seen = out["model_version"].map({version: pd.Timestamp(day) for version, day in state_dates.items()})
    return (out["period"] <= pd.to_datetime(seen)).to_numpy(dtype=bool)


def _partial(out: pd.DataFrame, due: pd.DataFrame, panel: Panel) -> list[Finding]:
    """Finds a newest period with incomplete sales: its share of known outcomes is well below the month before."""
    newest = pd.Timestamp(panel.dates[-1])
    asked = due.groupby("period").size()
    share = (out.groupby("period").size() / asked).fillna(0.0)
    before = share[share.index < newest].tail(28)
    if newest not in share.index or before.empty or share[newest] >= 0.8 * before.mean():
        return []
    text = (
        f"sales of {newest:%Y-%m-%d} are in for {share[newest]:.0%} of its decisions, usually {before.mean():.0%}: "
        "that day's figures are provisional"
    )
    return [Finding("truth_partial", "warning", text, int(asked[newest]))]
