"""Join decisions with the sales that followed, by one query: a row per decision in force, its price and units sold."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pricing.arrays import Strings
from pricing.data.counting_units import in_steps
from pricing.data.findings import Finding, Level
from pricing.data.net_price import unit_profit
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.reasons import SWITCHED
from pricing.decision_log.read import open_log
from pricing.demand.evaluation import sales_moments, sales_transform, share_inside

CLOCK_SECONDS = 60
FEW = 50_000  # decisions that are read in seconds, however old they are: small shops are judged on longer windows
LAGS = 28  # days of sales before a decision's own that the query needs
INTERVAL = 0.80  # nominal level of the intervals whose coverage is monitored
# With one of these reasons the rule keeps prices because of a missing model, not of an unidentified elasticity.
NO_MODEL = ("no_model", "model_failed", "unknown_category")
# Of several decisions for a product and period the last one that was made before its end is in force. Forecasts are
# read off between the candidates, log-log; the log has prices to six digits, sales in single precision, shops round to
# a cent. No forecast: further than 1 % outside the candidates, or demand that the rule did not know.
_QUERY = """
    WITH sold AS (SELECT * REPLACE (CAST(period AS DATE) AS period) FROM sales),
    made AS (
        SELECT *, CAST(floor((date - CAST($first AS DATE)) / $days) * $days AS INTEGER) AS begun,
            CAST($first AS DATE) + begun AS period,
            "at" >= date + to_days(CAST($days AS INTEGER)) AS late, "at" > $latest AS ahead
        FROM decisions WHERE $only IS NULL OR product_id IN $only
        QUALIFY row_number() OVER (PARTITION BY decision_id ORDER BY "at", sequence) = 1),
    in_force AS (
        SELECT *, NOT late AND NOT ahead AS live, count(*) OVER () AS decisions,
            count(*) FILTER (late) OVER () AS lates, count(*) FILTER (ahead) OVER () AS aheads
        FROM made QUALIFY row_number() OVER
            (PARTITION BY product_id, period ORDER BY live DESC, "at" DESC, worker DESC, sequence DESC) = 1),
    met AS (
        SELECT d.* EXCLUDE (category), s.* EXCLUDE (product_id, period, stock, tax_rate),
            s.stock AS opening_stock, s.tax_rate AS tax, s.period IS NOT NULL AS met,
            d.product_id IN (FROM products) AS known,
            CASE WHEN charged BETWEEN candidate_price[1] * 0.99 AND candidate_price[-1] * 1.01 THEN charged END AS near,
            len(list_filter(candidate_price, lambda x: x <= charged)) AS below,
            greatest(1, least(len(candidate_price) - 1, below)) AS i,
            (SELECT avg(abs(s.units_sold - least(e.units_sold, coalesce(s.stock, 'infinity')))) FROM sold e
                WHERE e.product_id = s.product_id AND NOT e.censored
                AND s.period - e.period IN (7, 14, 21, 28)) AS earlier_weeks_error
        FROM in_force d LEFT JOIN sold s USING (product_id, period)),
    placed AS (
        SELECT *, CASE WHEN near IS NOT NULL THEN greatest(0, least(1,
            ln(near / candidate_price[i]) / ln(candidate_price[i + 1] / candidate_price[i]))) END AS w,
            candidate_units[i] AS lower, coalesce(candidate_units[i + 1], lower) AS upper
        FROM met)
    SELECT decision_id, product_id, category, source, model_version, recommended_price, confidence, expected_margin,
        current_price, comp_price, comp_price_age, current_stock AS stock, unit, "at", date, period, live, met, known,
        CAST($end AS DATE) - period AS age,
        units_sold, charged, cost, tax, opening_stock, censored, earlier_weeks_error,
        decisions, lates, aheads,
        CASE WHEN NOT list_contains(reasons, 'demand_unknown') THEN
            exp((1 - w) * ln(greatest(lower, 1e-9 + 0 * lower)) + w * ln(greatest(upper, 1e-9))) END AS demand,
        (1 - w) * candidate_size[i] + w * coalesce(candidate_size[i + 1], candidate_size[i]) AS size,
        list_contains(reasons, 'holdout') AS held_out, list_contains(reasons, 'comp_price_stale') AS comp_price_stale,
        source = 'rule' AND list_contains(reasons, 'elasticity_unidentified') AND NOT list_has_any(reasons, $no_model)
            AS unidentified,
        CASE WHEN list_has_any(reasons, $switched) THEN 'fixed'
            WHEN abs(charged - recommended_price) <= greatest(0.0051, 1e-3 * charged) THEN 'followed'
            WHEN abs(charged - current_price) <= greatest(0.0051, 1e-3 * charged) THEN 'kept'
            ELSE 'overridden' END AS pricing
    FROM placed ORDER BY period, product_id
"""
TEXTS: dict[str, tuple[Level, str]] = {
    "log_damaged": ("warning", "{count} line(s) of the decision log are cut, or of another format"),
    "clock_ahead": ("warning", "{count} decision(s) claim to come from the future: a clock is wrong"),
    "decided_late": ("note", "{count} decision(s) were made after the days they price: a replay"),
    "superseded": ("note", "{count} decision(s) were replaced by a later one for the same product and day"),
    "product_unknown": ("warning", "{count} decision(s) are for products that the sales do not know"),
    "before_sales": ("note", "{count} decision(s) are older than the sales given"),
    "waiting": ("note", "{count} decision(s) wait for their sales"),
    "truth_missing": ("note", "{count} decision(s) have no sales row on a day that the sales cover"),
    "undecided": ("note", "{count} product(s) sell without any decision in the log"),
    "censored": ("note", "{count} day(s) ended sold out"),
    "shelf_unknown": (
        "note",
        "{count} day(s) opened with an empty shelf, or sold out without a logged interval; they count for no error",
    ),
    "hindsight": ("note", "{count} decision(s) price a day that their model had already seen; they count for no error"),
    "no_forecast": (
        "note",
        "{count} decision(s) tell no demand at the price charged: it lies outside the candidates, or no model answered",
    ),
    "held_out": ("note", "{count} decision(s) kept the price of a held-out product; they count as no answer by rule"),
    "fixed": ("note", "{count} decision(s) gave a price that a person had fixed; they count as no answer by rule"),
    "interval_absent": (
        "note",
        "{count} scored decision(s) were logged without an interval, whose coverage is unknown",
    ),
}


@dataclass(frozen=True)
class Joined:
    """Decisions and their outcomes.

    `frame` has one row per decision in force whose sales are known, by date and product. Besides the log's columns:
    `period` (its first day), `live` (made before the end of what it prices, by a clock that is right), `age` (days of
    sales since it began, its own included), `units_sold`, `charged` (price), `cost` (per unit), `earned` (profit per
    unit, net of tax), `censored`, `demand` (expected units at the price charged; NaN where the log has no forecast
    there), `forecast` (expected sales given the opening stock), `inside` (probability mass of the outcome inside the
    80 % interval, 0…1; NaN where not scored or not logged), `pricing` ("followed", "kept" the old price, "overridden",
    or "fixed" by a person beforehand), `scorable` (could have been scored: the model decided, and there was stock to
    sell), `held_out` (control group), `unidentified` (price kept because the elasticity is not identified),
    `comp_price_stale`, `earlier_weeks_error` (mean absolute error of the same weekday 1 to 4 weeks earlier, capped by
    the stock) and `scored` (enters the error).
    """

    frame: pd.DataFrame
    findings: list[Finding]  # what was left out or looks wrong, with counts
    decided: pd.DataFrame  # `at`, `date`, `period` and `live` of each decision in force, with or without sales
    waiting: int  # decisions whose sales are not known yet
    waiting_for: dt.date | None  # the first day that one of them waits for
    unmatched: pd.DataFrame  # the rows of `decided` for days that the sales cover, without a row of sales

    @property
    def decisions(self) -> int:
        """Number of decisions in force."""
        return len(self.decided)


def join(
    url: str,
    panel: Panel,
    *,
    now: dt.datetime,
    known: bool = False,
    since: dt.date | None = None,
    state_dates: Mapping[str, np.datetime64] | None = None,
    only: Strings | None = None,
) -> Joined:
    """Joins the decision log with the panel of actual sales.

    Decisions after `now` come from a wrong clock. Where any were `known` before, a log without any has lost them. Days
    before `since` are left out, but those that hold the newest FEW decisions. Those for days up to their version's
    `state_dates`, the last day of data in its states, were made in hindsight and are not scored. Where the sales are
    of a sample, decisions on others than `only` these products are left out.

    Raises:
        SourceError: The log cannot be read.
    """
    rows, damaged = _read(url, panel, now=now, since=since, only=only)
    days = STEP_DAYS[panel.period]
    early = rows["age"] > days * len(panel.dates)
    waiting = rows["known"] & (rows["age"] <= 0)
    absent = (rows["age"] > 0) & ~early & ~rows["met"]
    frame = rows[rows["met"]].reset_index(drop=True)
    left_out = _score(frame, state_dates=state_dates or {})
    sold = panel.product_ids[panel.present[:, -28:].any(axis=1)]
    of_log = rows[["aheads", "lates", "decisions"]].max().fillna(0).astype(int)  # the same in every row
    counts = {
        "log_damaged": damaged,
        "clock_ahead": of_log["aheads"],
        "decided_late": of_log["lates"],
        "superseded": of_log["decisions"] - len(rows),
        "product_unknown": int((~rows["known"]).sum()),
        "before_sales": int((early & rows["known"]).sum()),
        "waiting": int(waiting.sum()),
        "truth_missing": int((absent & rows["known"]).sum()),
        "undecided": len(set(sold.tolist()) - set(rows["product_id"])),
        **left_out,
    }
    findings = [_counted(check, count) for check, count in counts.items() if count]
    if rows.empty:
        findings.append(_without_decisions(lost=bool(known or damaged)))
    due = rows.loc[waiting, "date"]
    decided = rows[["at", "date", "period", "live"]]
    return Joined(
        frame=frame.drop(columns=["met", "known", "tax", "size", "decisions", "lates", "aheads"]),
        findings=findings,
        decided=decided,
        waiting=counts["waiting"],
        waiting_for=None if due.empty else due.min().date(),
        unmatched=decided[absent],
    )


def _read(
    url: str, panel: Panel, *, now: dt.datetime, since: dt.date | None, only: Strings | None
) -> tuple[pd.DataFrame, int]:
    """Reads the decisions in force, each with its sales where they are known; also returns how many lines are cut."""
    days = STEP_DAYS[panel.period]
    first = panel.dates[0].astype("datetime64[D]").astype(dt.date)
    given = {
        "first": first,
        "end": first + dt.timedelta(days=days * len(panel.dates)),
        "days": days,
        "only": None if only is None else only.tolist(),
        "latest": now + dt.timedelta(seconds=CLOCK_SECONDS),
        "no_model": NO_MODEL,
        "switched": sorted(SWITCHED),
    }
    with open_log(url, since=since, few=FEW) as (con, damaged):
        ((oldest,),) = con.execute("SELECT min(date) FROM decisions").fetchall()
        con.register("sales", _sales(panel, since=oldest))
        con.register("products", pd.DataFrame({"product_id": panel.product_ids}))
        rows = con.execute(_QUERY, given).df()
    return rows.assign(**{name: rows[name].astype("datetime64[ns]") for name in ("date", "period")}), damaged


def _without_decisions(*, lost: bool) -> Finding:
    """Returns the finding on a log without decisions: a fault only where it has lost them."""
    if lost:
        text = "the log has lost its decisions: nothing can be scored"
        return Finding("log_empty", "breach", sentence=text)
    text = "no price has been decided yet, so that nothing can be scored; pricing price logs with --applied"
    return Finding("no_decisions", "warning", sentence=text)


def _counted(check: str, count: int) -> Finding:
    level, text = TEXTS[check]
    return Finding(check, level, rows=int(count), sentence=text.format(count=f"{count:,}"))


def _sales(panel: Panel, *, since: dt.date | None) -> pd.DataFrame:
    """One row per product and period with sales, from a while before a day on, in double precision."""
    first = panel.dates[0] if since is None else np.datetime64(since - dt.timedelta(days=LAGS + 7), "D")
    start = int(np.searchsorted(panel.dates, first))
    product, column = np.nonzero(panel.present[:, start:])
    at = (product, column + start)
    values = {
        "units_sold": panel.units_sold,
        "charged": panel.price,
        "cost": panel.unit_cost,
        "stock": np.where(np.isfinite(panel.shelf), panel.shelf, np.nan),
        "tax_rate": panel.tax_rates(),
    }
    return pd.DataFrame(
        {
            "product_id": panel.product_ids[product],
            "period": panel.dates[at[1]].astype("datetime64[s]"),
            **{name: value[at].astype(float) for name, value in values.items()},
            "censored": panel.censored[at],
            "category": panel.categories[product],
        }
    )


def _score(out: pd.DataFrame, *, state_dates: Mapping[str, np.datetime64]) -> dict[str, int]:
    """Adds what is computed from the query's columns; returns how many rows are left out of the error, and why.

    `forecast` and `inside` are expected sales given the stock, as in backtests. An outcome of which nobody knows what
    the shelf could give scores no forecast: see `pricing.demand.baselines.sales_rows`.
    """
    out["censored"] = out["censored"].astype(bool)
    out["earned"] = unit_profit(out["charged"], out["cost"], tax_rate=out["tax"])
    seen = out["model_version"].map({version: pd.Timestamp(day) for version, day in state_dates.items()})
    hindsight = (out["period"] <= pd.to_datetime(seen)).to_numpy(dtype=bool)
    fixed = (out["pricing"] == "fixed").to_numpy()
    no_forecast = out["demand"].isna().to_numpy() & ~hindsight
    unit = out["unit"].to_numpy(dtype=float)
    size = out["size"].to_numpy()  # NaN where no dispersion is logged
    opening = out["opening_stock"].fillna(np.inf).to_numpy()
    sold = np.minimum(out["units_sold"].to_numpy(), np.where(opening > 0, opening, np.inf))
    demand = out["demand"].to_numpy() / unit
    shelf = in_steps(opening, unit)
    expected, _ = sales_moments(mean=demand, size=size, shelf=shelf)
    out["forecast"] = unit * np.where(np.isfinite(expected), expected, demand)
    low, high = sales_transform(in_steps(sold, unit), mean=demand, size=size, shelf=shelf)
    unsure = np.where(np.isfinite(size), shelf <= 0, out["censored"].to_numpy()).astype(bool)
    out["scorable"] = ~(unsure | fixed | hindsight)
    out["scored"] = out["scorable"] & ~no_forecast
    out["inside"] = np.where(out["scored"], share_inside(low, high, level=INTERVAL), np.nan)
    return {
        "censored": int(out["censored"].sum()),
        "shelf_unknown": int(unsure.sum()),
        "hindsight": int(hindsight.sum()),
        "no_forecast": int(no_forecast.sum()),
        "held_out": int(out["held_out"].sum()),
        "fixed": int(fixed.sum()),
        "interval_absent": int((out["scored"] & out["inside"].isna()).sum()),
    }
