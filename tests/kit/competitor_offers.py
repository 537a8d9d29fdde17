"""Small tables of competitors' offers."""

from typing import Any

import pandas as pd

from pricing.sources.competitor_offers import COLUMNS, offers_from_table

PLAIN: dict[str, Any] = {"competitor": "Rival", "product_id": "P1", "price": 10.0, "currency": "EUR"}


def offers(*rows: dict[str, Any]) -> pd.DataFrame:
    """Offers as they stand in the history; `observed_at` and `seen_at` are texts, the second by default the first."""
    whole = [{**PLAIN, **row} for row in rows]
    seen = [row.pop("seen_at", row["observed_at"]) for row in whole]
    latest = pd.Timestamp("2100-01-01", tz="UTC")
    batch = offers_from_table(pd.DataFrame(whole), source="shops", seen_at=latest.to_pydatetime(), run_id="run-1")
    if len(batch.set_aside):
        raise ValueError(batch.set_aside[["reason", "found"]].to_dict("records"))
    found = batch.offers.assign(seen_at=pd.to_datetime(pd.Series(seen), utc=True).astype(COLUMNS["seen_at"]))
    return found[list(COLUMNS)]
