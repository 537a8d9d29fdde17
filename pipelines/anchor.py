"""Change anchors: regular prices that the platform's own prices never change, set by a person with a reason."""

from collections.abc import Mapping

import click
import mlflow
import numpy as np
import pandas as pd

from pipelines.steps.anchors import register_with_anchors
from pipelines.steps.change import put_in_force
from pipelines.steps.production import production
from pipelines.steps.verdict import nothing_to_do
from pricing.config import read_config_file
from pricing.data.anchors import Anchors
from pricing.data.panel import STEP_DAYS
from pricing.data.source import read_sales
from pricing.errors import RegistryError, SourceError, nearest
from pricing.registry import CHAMPION
from pricing.registry.version import LoadedVersion
from pricing.runtime.cli import POSITIVE, flag, job
from pricing.runtime.mlflow_runs import tracked_run

_COLUMNS = ("product_id", "list_price")
FURTHEST = 0.5  # largest relative change without --force, since the allowed price band moves along
_NAMED = 5  # most products listed in the record


@job("anchor", unattended=True)
@click.option("--product_id", metavar="ID", help="the product whose anchor moves")
@click.option("--list_price", type=POSITIVE, metavar="PRICE", help="its new regular price, currency units")
@click.option("--file", "table", metavar="CSV", help=f"many at once: columns {','.join(_COLUMNS)}")
@flag("--force", help=f"also where a price moves by more than {FURTHEST:.0%}")
@click.option("--reason", required=True, metavar="WORDS", help="why, for the record")
def main(
    *,
    config: str | None,
    product_id: str | None,
    list_price: float | None,
    table: str | None,
    force: bool,
    reason: str,
) -> int:
    """Moves the regular prices that the platform's own prices never move."""
    if (product_id is None) != (list_price is None) or (product_id is None) == (table is None):
        raise click.UsageError("give either --product_id with --list_price, or --file")
    wished = _read(table) if table else {str(product_id): float(list_price or 0)}
    file = read_config_file(config)
    with tracked_run("anchor", config=file.config, reason=reason), production(file.config) as access:
        if access.registry.versions():  # without versions there is no record to reconcile
            access.record_manual_change()
        champion = access.registry.at(CHAMPION)
        if champion is None:
            raise RegistryError(
                f"{access.registry.model_name} has no {CHAMPION}, so no anchors are in force yet: train and promote a "
                "version first (pricing train --sales WHERE, then pricing promote), which sets them"
            )
        version = access.fetch(champion.number)
        moves = _moves(version.anchors, wished)
        if not moves:
            return nothing_to_do("these anchors are there already")
        far = {name: (old, new) for name, (old, new) in moves.items() if abs(new / old - 1) > FURTHEST}
        if far and not force:
            raise click.UsageError(
                f"{_words(far)}: by more than {FURTHEST:.0%}, and prices follow into the band around it; check the "
                "prices, or say --force true"
            )

        anchors = _moved(version, moves)
        number = register_with_anchors(version, anchors, access=access, parent=champion.number)
        mlflow.log_dict({name: {"from": old, "to": new} for name, (old, new) in moves.items()}, "anchors.json")
        words = _words(moves)
        print(words)
        wanted = access.change("anchor", number, champion=champion, why=f"{reason}: {words}")
        note = f"Version {champion.number} with other anchors is version {number}: {wanted.why}."
        return put_in_force(access, wanted, file.config, holds_only=version.holds_only, note=note)


def _read(path: str) -> dict[str, float]:
    """Reads product → regular price from a table.

    Raises:
        SourceError: It cannot be read, lacks a column, has a product twice, or a price that is not above 0.
    """
    table = read_sales(path, columns=_COLUMNS)
    if not {*_COLUMNS} <= {*table.columns} or table.empty:
        raise SourceError(f"{path}: expected rows with the columns {', '.join(_COLUMNS)}")
    prices = pd.to_numeric(table["list_price"], errors="coerce")
    bad = table[~((prices > 0) & np.isfinite(prices)) | table["product_id"].duplicated()]
    if len(bad):
        found = f"{bad['product_id'].iloc[0]!r} with list_price {bad['list_price'].iloc[0]!r}"
        raise SourceError(f"{path}, row {bad.index[0] + 1}: expected each product once, above 0; found {found}")
    return dict(zip(table["product_id"].astype(str).tolist(), prices.tolist(), strict=True))


def _moves(anchors: Anchors, wished: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Returns product → (old anchor, new anchor) where they differ.

    Raises:
        RegistryError: A product is unknown.
    """
    known = set(anchors.product_ids.tolist())
    unknown = [name for name in wished if name not in known]
    if unknown:
        near = nearest(unknown[0], sorted(known), cutoff=0.0)
        raise RegistryError(
            f"the {CHAMPION} has no anchor of {len(unknown)} product(s), first {unknown[0]!r}; nearest known: {near!r}"
        )
    names = list(wished)
    old = anchors.columns(np.array(names))["list_price"].astype(np.str_).astype(float).tolist()
    pairs = {name: (before, wished[name]) for name, before in zip(names, old, strict=True)}
    return {name: (before, new) for name, (before, new) in pairs.items() if np.float32(before) != np.float32(new)}


def _moved(version: LoadedVersion, moves: Mapping[str, tuple[float, float]]) -> Anchors:
    """Returns a version's anchors with new ones, which count from the period after its states on."""
    products = np.array(list(moves))
    prices = np.array([new for _, new in moves.values()])
    since = version.facts.state_date + np.timedelta64(STEP_DAYS[version.facts.period], "D")
    return version.anchors.moved(products, prices, date=since, unit_cost=version.facts.known_costs(products))


def _words(moves: Mapping[str, tuple[float, float]]) -> str:
    first = [f"{name} {old:g} → {new:g}" for name, (old, new) in list(moves.items())[:_NAMED]]
    return ", ".join(first) + (f" and {len(moves) - _NAMED} more" if len(moves) > _NAMED else "")
