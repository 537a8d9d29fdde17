"""Read the decision log into a table: one row per valid decision, and findings on the others."""

import datetime as dt

import numpy as np
import pandas as pd

from monitoring.policy import Finding, counted
from pricing.decision_log.read import open_log

NUMBERS = [
    *("recommended_price", "confidence", "expected_units", "expected_margin"),
    *("current_price", "list_price", "unit_cost", "stock", "comp_price"),
    *("comp_price_used", "comp_price_age", "unit"),
]
TEXTS = (
    *("decision_id", "product_id", "category", "worker", "source", "reasons", "strategy", "model_version"),
    "experiment",
)
COLUMNS = (*TEXTS, *NUMBERS, "at", "date", "sequence", "candidate_price", "candidate_units", "candidate_size")
CLOCK_SECONDS = 60
FEW = 50_000  # decisions that are read in seconds, however old they are: small shops are judged on longer windows
# Of several decisions of one day for one product and date, live ones and others apart, the one in force.
_QUERY = """
    WITH given AS (
        SELECT * REPLACE (experiment || '/' || arm AS experiment, array_to_string(reasons, ' ') AS reasons,
                list_transform(candidate_price, lambda x: coalesce(x, 'nan')) AS candidate_price,
                list_transform(candidate_units, lambda x: coalesce(x, 'nan')) AS candidate_units,
                list_transform(candidate_size, lambda x: coalesce(x, 'nan')) AS candidate_size),
            current_stock AS stock, "at" >= date + to_days(CAST($days AS INTEGER)) AS late, "at" > $latest AS ahead,
            "at" < lag("at") OVER (PARTITION BY worker ORDER BY sequence) - to_seconds($clock) AS back
        FROM decisions QUALIFY row_number() OVER (PARTITION BY decision_id ORDER BY "at", sequence) = 1)
    SELECT {columns}, NOT late AND NOT ahead AS live,
        count(*) OVER () AS decisions, count(*) FILTER (late) OVER () AS late,
        count(*) FILTER (ahead) OVER () AS ahead, count(*) FILTER (back) OVER () AS back
    FROM given
    QUALIFY row_number() OVER (PARTITION BY product_id, date, live ORDER BY "at" DESC, worker DESC, sequence DESC) = 1
    ORDER BY "at", sequence, worker
"""


def load_decisions(
    url: str,
    *,
    now: dt.datetime,
    days: int = 1,
    known: bool = False,
    since: dt.date | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Reads a decision log into a table with the columns COLUMNS, in log order, and findings.

    `date` is a timestamp, `at` is in UTC, `reasons` are joined by spaces, candidates are arrays. Of several decisions
    of one product and date only the one in force is returned; the others are counted. So a shop that asks for a price
    with every page takes no more memory than one decision a product and day. `live` marks decisions made before the
    end of the period they price, by a clock that is not ahead of `now`.

    Args:
        url: The log's address.
        now: Current time, with a time zone; later decisions come from a wrong clock.
        days: Days of a period of the sales.
        known: Whether decisions were seen before, so that a log without any has lost them.
        since: Earlier days are left out, but those that hold the newest FEW decisions. None: none is.

    Raises:
        SourceError: The log cannot be read.
    """
    given = {"days": days, "latest": now + dt.timedelta(seconds=CLOCK_SECONDS), "clock": CLOCK_SECONDS}
    with open_log(url, since=since, few=FEW) as (con, damaged):
        frame = con.execute(_QUERY.format(columns=", ".join(f'"{name}"' for name in COLUMNS)), given).df()
    counts = {name: int(frame[name].max()) if len(frame) else 0 for name in ("decisions", "late", "ahead", "back")}
    frame = frame[[*COLUMNS, "live"]].assign(
        at=frame["at"].astype("datetime64[ms, UTC]"),
        date=frame["date"].astype("datetime64[ns]"),
        **{name: frame[name].astype("float64") for name in NUMBERS},
        **{name: frame[name].astype("object").where(frame[name].notna(), None) for name in TEXTS},
    )
    findings = [
        *counted(
            "log_damaged", "warning", "{count} line(s) of the decision log are cut, or of another format", damaged
        ),
        *counted(
            "clock_ahead",
            "warning",
            "{count} decision(s) claim to come from the future: a clock is wrong, and they tell nothing about today",
            counts["ahead"],
        ),
        *counted("clock_back", "warning", "{count} time(s) a worker's clock was set back", counts["back"]),
        *counted(
            "decided_late", "note", "{count} decision(s) were made after the days they price: a replay", counts["late"]
        ),
        *counted(
            "superseded",
            "note",
            "{count} decision(s) were replaced by a later one for the same product and day",
            counts["decisions"] - len(frame),
        ),
    ]
    if frame.empty:
        findings.append(_empty(lost=known or damaged > 0))
    return frame, findings


def _empty(*, lost: bool) -> Finding:
    """The finding on a log without decisions that were given to a shop: a fault only where there were some before."""
    if lost:
        return Finding("log_empty", "breach", "the decision log has lost its decisions: nothing can be scored")
    text = "no price has been decided yet, so there is nothing to compare with sales; pricing price logs with --applied"
    return Finding("no_decisions", "warning", text)


def _late(frame: pd.DataFrame, *, days: int) -> "pd.Series[bool]":
    late: pd.Series[bool] = frame["at"].dt.tz_localize(None) >= frame["date"] + pd.Timedelta(days=days)
    return late


def period_start(dates: "pd.Series[pd.Timestamp]", *, first: np.datetime64, days: int) -> "pd.Series[pd.Timestamp]":
    """Returns the first day of each date's period, on the grid that starts at `first` with steps of `days`."""
    origin = pd.Timestamp(first)
    return origin + pd.to_timedelta((dates - origin).dt.days // days * days, unit="D")


def in_force(frame: pd.DataFrame, *, days: int = 1) -> "pd.Series[bool]":
    """Marks the decision in force among several for one product and period, whoever made them.

    It is the last one made before the priced period, of so many `days`, ended; where all were made later, the last of
    them.
    """
    order = frame.assign(_late=_late(frame, days=days)).sort_values(
        ["_late", "at", "worker", "sequence"], ascending=[False, True, True, True]
    )
    newest = ~order.duplicated(["product_id", "period"], keep="last")
    return newest.reindex(frame.index)
