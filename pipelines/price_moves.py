"""Measure how far a promotion or a rollback would move prices, judge it, and log it with the job's run."""

import datetime as dt
from collections.abc import Mapping

import mlflow
import numpy as np

from pricing.config import ConfigFile
from pricing.config_models import PriceMovesConfig
from pricing.decision.pricer import Pricer
from pricing.registry.gates import Verdict, price_moves_gate
from pricing.registry.price_moves import PriceMoves, list_prices, measure_moves, sample_requests
from pricing.registry.version import LoadedVersion
from pricing.served_config import served_config

MOST_PRODUCTS = 1000  # that are priced, at most: a sample within categories
SHOWN = 10  # prices that the report lists
_LOGGED = 1000  # prices in the run's table


def judge_moves(
    candidate: LoadedVersion,
    champion: LoadedVersion | None,
    *,
    names: Mapping[str, str],
    file: ConfigFile,
    limits: PriceMovesConfig,
) -> tuple[Verdict, str]:
    """Prices a sample of the catalogue by both versions, and judges how far prices move.

    Both price with the settings that they are served with, but without `serving.largest_jump`: it would hide how far
    the version itself goes.

    Args:
        candidate: The version that is to become champion.
        champion: The champion; None where there is none, or it cannot be read.
        names: Their numbers, as "candidate" and "champion".
        file: The configuration file that the job was given.
        limits: The thresholds.

    Returns:
        The verdict, and a table of the prices that would move furthest.
    """
    facts = champion.facts if champion is not None else None
    last = max(version.demand.state_date for version in (candidate, champion) if version is not None)
    requests = sample_requests(candidate.facts, facts, size=MOST_PRODUCTS, day=last + dt.timedelta(days=1))
    moves = measure_moves(
        requests,
        _served(candidate, file, name=names["candidate"]),
        None if champion is None else _served(champion, file, name=names["champion"]),
        listed=list_prices(np.array([request.product_id for request in requests]), candidate.facts, facts),
        today=last,
    )
    verdict, table = price_moves_gate(moves, limits), moves.table(SHOWN)
    _log(moves, verdict)
    return verdict, table


def _served(version: LoadedVersion, file: ConfigFile, *, name: str) -> Pricer:
    return version.pricer(version=name, config=served_config(version.config, file, name=name).config)


def _log(moves: PriceMoves, verdict: Verdict) -> None:
    mlflow.log_text(moves.table(_LOGGED), "price_moves.md")
    if verdict.figure is not None:
        mlflow.log_metric("price_moves/log_ratio", verdict.figure)
