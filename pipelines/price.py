"""Price a file of requests, or every product, by a version from the registry or a folder; log and write the prices."""

import datetime as dt
import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import mlflow
import pandas as pd

from pipelines.steps.control import control_in_force
from pipelines.steps.decisions import price_lines, read_requests, write
from pipelines.steps.pricing import Pricing, price_parts, price_place
from pipelines.steps.production import production
from pipelines.steps.sales import PLANS, with_calendars, with_plan
from pricing.config import Config, read_config_file, served_config
from pricing.data.panel import STEP_DAYS
from pricing.data.source import read_sales
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.every_product import day_priced, on_sale, requests_for_all_products
from pricing.decision.limits import EDGE
from pricing.decision.product_facts import RECENT, ProductFacts
from pricing.decision.switches import Control
from pricing.errors import SourceError
from pricing.objects import open_store
from pricing.paths import pricing_home
from pricing.registry import CHAMPION
from pricing.registry.published_store import published_url, put_prices
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.cli import DAY, FILE, flag, job, typed
from pricing.runtime.mlflow_runs import tracked_run

NAMED = 5  # products that are not priced and are named
SHOWN = 8  # prices that the job prints
STALE = 2  # state age in periods above which a refresh is advised
_SUFFIXES = (".csv", ".parquet")


@job("price", unattended=True)
@click.option(
    "--requests",
    "where",
    metavar="WHERE",
    help="requests, one a row, wherever sales can lie; absent: every product for today, or for the first period after "
    "the version's states where that is later or today lies beyond its horizon",
)
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="decisions, .csv or .parquet; absent: prices.csv in PRICING_HOME, and the console has them, too; of a version "
    "of partitions, files in prices/MODEL/day=DATE, and what changes once more in changed/, which the console has",
)
@click.option("--version", metavar="N", help="version, alias or a version's folder; absent: the champion")
@click.option("--today", "day", type=DAY, metavar="DATE", help="the day that answers; absent: today")
@flag(
    "--applied",
    help="these prices go on the shelf: they are logged, and monitoring compares them with the sales that follow; "
    "absent: they are only looked at",
)
def main(
    *,
    config: str | None,
    where: str | None,
    output: Path | None,
    version: str | None,
    day: dt.datetime | None,
    applied: bool,
) -> int:
    """Prices a file of requests, or every product of a version."""
    file = read_config_file(config)
    settings = file.config
    today = day.date() if day else settings.now().date()
    if output is not None and output.suffix not in _SUFFIXES:
        raise SourceError(f"--output {output}: expected a name that ends in {' or '.join(_SUFFIXES)}")
    with tracked_run("price", config=settings), _opened(version, settings) as (found, name):
        loaded = with_calendars(found, settings.data, names=PLANS)  # of coming days, on which no state rests
        served = served_config(loaded.config, file, name=name)
        print("".join(f"note: {line}\n" for line in served.lines(name, file=file.path)), end="")
        facts = with_plan(loaded.facts, loaded.config.data)
        asked = Pricing(
            folder=found.folder,
            name=name,
            checksum=str(found.meta["checksum"]),
            settings=settings,
            served=served.config,
            plans=(facts.promotions, facts.planned_deliveries),
            control=_control(settings),
            today=today,
            day=day_priced(facts, today=today, horizon=found.config.demand.horizon),
            applied=applied,
        )
        priced = _priced(asked, facts, where=where, output=output, partitioned=bool(loaded.partitions))
        if output is None and version is None and where is None:  # for the console: what the champion's prices are
            table = gzip.compress(priced.changed.to_csv(index=False).encode())
            at = dt.datetime.now(dt.UTC)
            put_prices(open_store(published_url()), table, model=settings.registry.model_name, at=at)
        _record(priced.decisions, version=name, applied=applied)
    print(f"{len(priced.decisions):,} decisions by version {name} in {priced.place}")
    print("\n".join(_lines(priced, asked, facts)))
    return 0


class _Priced(NamedTuple):
    decisions: pd.DataFrame
    changed: pd.DataFrame  # those of them that people look at: all, or of a version of partitions what changes
    place: str


def _priced(
    asked: Pricing, facts: ProductFacts, *, where: str | None, output: Path | None, partitioned: bool
) -> _Priced:
    """Prices the requests `where` they are, or every product on sale, and writes the decisions."""
    if where is None:
        gone = facts.product_ids[~on_sale(facts)].tolist()
        if gone:
            print(
                f"{len(gone):,} products are not priced: no row in the last {RECENT} {facts.period}s, or no sale for "
                f"longer than chance and no known stock (data.zero_run): {', '.join(gone[:NAMED])}"
            )
        if partitioned and output is None:
            decisions, changed = price_parts(asked, len(facts.product_ids))
            return _Priced(decisions, changed, f"{price_place()}/{asked.prefix}")
        requests = requests_for_all_products(facts, day=asked.day)
        empty = sum(request.current_stock == 0 for request in requests)
        if empty:
            print(f"{empty:,} products had nothing left on {facts.state_date} and are priced so")
    else:
        requests = read_requests(read_sales(where), where=where)
    decisions = asked.price(requests)
    place = output or pricing_home() / "prices.csv"
    write(decisions, place)
    return _Priced(decisions, decisions, str(place))


@contextmanager
def _opened(version: str | None, config: Config) -> Iterator[tuple[LoadedVersion, str]]:
    """Yields the requested version and its name; one from the registry is in a folder that is deleted afterwards."""
    if version is not None and Path(version).is_dir():
        yield load(version), Path(version).resolve().name
        return
    with production(config) as access:
        number = access.registry.find(version or CHAMPION).number
        yield access.fetch(number), number


def _control(config: Config) -> Control:
    """Reads what people have switched and tried, and prints which prices they have set, and how to end that."""
    control = control_in_force(config, at=dt.datetime.now(dt.UTC))
    if control.switches:
        lines = "".join(
            f"\n  {switch.action} of {switch.whose} by {switch.by}: {switch.reason}" for switch in control.switches
        )
        print(f"in force over the model's prices ({typed('unfreeze')} ends them):{lines}")
    return control


def _record(decisions: pd.DataFrame, *, version: str, applied: bool) -> None:
    mlflow.set_tags({"version": version, "applied": str(applied).lower()})
    mlflow.log_metric("decisions", float(len(decisions)))
    if len(decisions):
        mlflow.log_metric("confidence", float(decisions["confidence"].mean()))
        for source, share in decisions["source"].value_counts(normalize=True).items():
            mlflow.log_metric(f"share/{source}", float(share))


def _lines(priced: _Priced, asked: Pricing, facts: ProductFacts) -> Iterator[str]:
    """Yields what a person should know of the prices: how old their states are, what moves, and a few of them."""
    step = asked.served.decision.price_step
    age = (asked.today - facts.state_date.astype(dt.date)).days
    stale = ": refresh carries them forward" if age > STALE * STEP_DAYS[facts.period] else ""
    yield f"its states end on {facts.state_date}, {max(age, 0):,} days before the day that answers{stale}"
    yield from _approved(asked.control, facts, step=step)
    if len(priced.decisions):
        yield from _summary(priced.decisions, step=step)
        yield from price_lines(priced.changed.nlargest(SHOWN, "expected_gain"))
        yield "logged as applied" if asked.applied else "only looked at; with --applied true they count as charged"


def _approved(control: Control, facts: ProductFacts, *, step: float) -> Iterator[str]:
    """Yields a line on how many approved prices the sales show, to half a `step` of prices; none without any."""
    approved = control.switches.approved
    if not approved:
        return
    price = dict(zip(facts.product_ids.tolist(), facts.price.tolist(), strict=True))
    charged = sum(abs(price.get(product, math.inf) - wanted) < step / 2 + EDGE for product, wanted in approved.items())
    others = len(approved) - charged
    yield f"{len(approved):,} approved prices: on {facts.state_date} {charged:,} are charged, {others:,} are not"


def _summary(decisions: pd.DataFrame, *, step: float) -> Iterator[str]:
    """Yields summary lines on the decisions; prices are compared in whole steps."""
    sources = decisions["source"].value_counts(normalize=True)
    yield "answered by " + ", ".join(f"{source} {share:.0%}" for source, share in sources.items())
    price = decisions["proposed_price"]
    before = decisions["current_price"].fillna(decisions["list_price"])
    moved = PriceGrid(step).moved(price.to_numpy(), before.to_numpy())
    up = int((moved & (price > before)).sum())
    down = int((moved & (price < before)).sum())
    yield f"{up:,} prices rise, {down:,} fall and {len(price) - up - down:,} stay, as proposed"
    waits = decisions["reasons"].str.split().map(lambda codes: "awaiting_approval" in codes).astype(bool)
    if waits.any():
        yield f"{waits.sum():,} price(s) wait for approval in the console and stay until then; below, the others"
        decisions = decisions[~waits]
    yield f"expected margin {decisions['expected_margin'].sum():,.2f} over the priced periods"
    gain, low, high = (float(decisions[name].sum()) for name in ("expected_gain", "gain_low", "gain_high"))
    yield f"expected gain over the current prices {gain:,.2f} ({low:,.2f} to {high:,.2f}) until the next deliveries"
