"""Read the prices that the platform gave to a shop, which are no surprise in its sales."""

import json

import numpy as np

from pricing.config import Config
from pricing.data.own_prices import Moves
from pricing.decision_log.read import read_moves
from pricing.objects import open_store
from pricing.paths import log_url
from pricing.registry.published_store import PRICE_FILES, published_url

_FILES_READ = 100  # newest price files: a price is charged within weeks of its file


def given_prices(config: Config) -> Moves:
    """Reads the prices that the platform gave: those of the decision log, and those of the newest price files.

    Raises:
        SourceError: The log cannot be read.
    """
    logged = read_moves(log_url(), until=np.datetime64(config.now().date(), "D"), peoples=True)
    store = open_store(published_url())
    keys = store.keys(f"{config.registry.model_name}/{PRICE_FILES}")[-_FILES_READ:]
    rows = [row for key in keys for row in json.loads(store.get(key) or b'{"rows": []}')["rows"]]
    approved = [row for row in rows if row["status"] == "approved"]
    return Moves(
        np.array([*logged.product_ids, *(row["product_id"] for row in approved)], np.str_),
        np.array([*logged.dates, *(row["from"] for row in approved)], "datetime64[D]"),
        np.array([*logged.price, *(row["new"] for row in approved)]),
        days=logged.days,
    )
