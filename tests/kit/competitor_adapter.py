"""The adapter that docs/competitor_prices.md shows, for a format that is not ours."""

import datetime as dt
from typing import Any

from pricing.sources.competitor_offers import AnswerPage


def listings(payload: Any) -> AnswerPage:
    offers = [
        {
            "competitor": each["seller"]["name"],
            "ean": each["gtin"],
            "price": each["amount_minor"] / 100,
            "currency": each["currency"],
            "in_stock": each["availability"] == "InStock",
            "observed_at": dt.datetime.fromtimestamp(each["checked"], dt.UTC),
        }
        for each in payload["data"]
    ]
    return AnswerPage(offers, payload["links"]["next"])
