"""Parts that several pages share: the shop, its price table, a product's row in words, counts of reasons."""

from collections import Counter
from functools import lru_cache
from typing import Any

from flask import abort, current_app

from console import words
from console.shop import Shop
from console.worklist import STATES, Pick, Worklist
from pricing.decision.reasons import BIT


def current_shop() -> Shop:
    """The shop of the application that answers the request."""
    shop: Shop = current_app.extensions["shop"]
    return shop


def current_table() -> Worklist:
    """The price table with what people decided on it; aborts with 503 where there is none yet."""
    shop = current_shop()
    table = shop.standing()
    if table is None:
        why = shop.trouble.get("prices", "pricing price makes one")
        abort(503, f"There is no price table yet: {why}")
    return table


def line(table: Worklist, row: int) -> dict[str, Any]:
    """A row of the table by the names of its columns, with what its figures mean in words."""
    shop = current_shop()
    text = {name: str(values[row]) for name, values in table.text.items()}
    number = {name: float(values[row]) for name, values in table.number.items()}
    meaning = {
        "product": text["product_id"],
        "before": float(table.before[row]),
        "change": float(table.change[row]),
        "why": table.why(row, shop.decision),
        "binds": words.binding(int(table.bits[row])),
        "cover": words.cover(number["current_stock"], number["expected_units"], shop.period),
        "state": STATES[table.state[row]],
    }
    return text | number | meaning


@lru_cache(maxsize=1)
def reasons_by_frequency(table: Worklist) -> dict[str, int]:
    """The reasons and limits that any product has, with the number of products; the most frequent first."""
    counts = Counter({code: table.counted(table.matching(Pick(reason=code)))[0] for code in BIT})
    return {code: number for code, number in counts.most_common() if number}
