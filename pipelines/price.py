"""Price a file of requests, or every product, by a version from the registry or a folder; log and write the prices."""

import datetime as dt
import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import click
import mlflow
import numpy as np
import pandas as pd
from pydantic import ValidationError

from pipelines.calendar import PLANS, with_calendars, with_plan
from pipelines.freeze import control_in_force
from pipelines.parts import tell_slowest
from pipelines.production import production
from pricing import __version__
from pricing.config import Config, ModelConfig, read_config_file
from pricing.csv_text import quote_formulas
from pricing.data.panel import STEP_DAYS
from pricing.data.plans import Deliveries, Promotions
from pricing.data.source import read_sales
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import RECENT, ProductFacts
from pricing.decision.request import DetailedDecision, PriceRequest, Weekday, request_fields
from pricing.decision.switches import Control
from pricing.decision_log.write import LogEntry, put_decisions
from pricing.errors import ConfigError, RequestError, SourceError
from pricing.fileio import replace_atomically
from pricing.objects import ObjectStore, open_store
from pricing.paths import log_url, pricing_home
from pricing.registry import CHAMPION
from pricing.registry.files import digest
from pricing.registry.published import PublishedVersion, fetch_version, published_url, put_prices
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.cli import DAY, FILE, flag, job, typed
from pricing.runtime.mlflow_runs import tracked_run
from pricing.runtime.workers import map_partitions
from pricing.served_config import served_config

BATCH = 1000
SHOWN = 5  # most bad rows listed in an error
STALE = 2  # state age in periods above which a refresh is advised
_EDGE = 1e-9  # currency units; what subtracting two prices leaves
_SUFFIXES = (".csv", ".parquet")

_SUMMED = {  # columns that a summary of prices needs
    *("product_id", "date", "recommended_price", "confidence", "expected_margin", "expected_gain", "gain_low"),
    *("gain_high", "source", "reasons", "current_price"),
}
COLUMNS = (
    *("product_id", "date", "recommended_price", "confidence", "price_low", "price_high", "expected_units"),
    *("expected_margin", "expected_gain", "gain_low", "gain_high", "source", "reasons", "binds", "gave_way"),
    *("strategy", "model_version", "decision_id", "current_price", "list_price", "unit_cost", "tax_rate"),
    *("comp_price_used", "comp_price_age", "proposed_price", "category", "current_stock"),
)


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
    "that unites partitions, files in prices/day=DATE, with what changes once more in changed/, which the console has",
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
    shown = output is None and version is None and where is None  # in the console: what the champion says of all
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
        if where is None and output is None and loaded.partitions:
            decisions, changed = price_parts(asked, len(facts.product_ids))
            output = pricing_home() / asked.prefix
        else:
            output = output or pricing_home() / "prices.csv"
            if where is None:
                requests = requests_for_all_products(facts, day=asked.day)
                print("".join(f"{line}\n" for line in _of_all(requests, facts)), end="")
            else:
                requests = read_requests(read_sales(where), where=where)
            decisions = changed = asked.price(requests)
            write(decisions, output)
        if shown:
            table, now = changed.to_parquet(index=False), dt.datetime.now(dt.UTC)
            put_prices(open_store(published_url()), table, model=settings.registry.model_name, at=now)
        _record(decisions, version=name, applied=applied)
    print(f"{len(decisions):,} decisions by version {name} in {output}")
    age = (today - facts.state_date.astype(dt.date)).days
    stale = ": refresh carries them forward" if age > STALE * STEP_DAYS[facts.period] else ""
    print(f"its states end on {facts.state_date}, {max(age, 0):,} days before the day that answers{stale}")
    if len(decisions):
        print("\n".join(_summary(decisions, step=served.config.decision.price_step)))
        print(_what_becomes(decisions, applied=applied, today=today))
    return 0


@dataclass(frozen=True, eq=False)
class Pricing:
    """How requests are priced: by which version and settings, as of which day, and whether prices are charged.

    It can be sent to another machine, which fetches the version from the published store.
    """

    folder: Path
    name: str
    checksum: str
    settings: Config
    served: ModelConfig
    plans: tuple[Promotions, Deliveries]
    control: Control
    today: dt.date
    day: dt.date  # that is priced where no requests are given
    applied: bool

    @cached_property
    def loaded(self) -> LoadedVersion:
        """The version with the plans that count now."""
        promotions, deliveries = self.plans
        with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:  # what is mapped outlives it
            folder, model = self.folder, self.settings.registry.model_name
            if not folder.is_dir():
                folder, published = Path(scratch) / "version", PublishedVersion(self.name, self.checksum)
                fetch_version(open_store(published_url()), published, model=model, folder=folder)
            version = load(folder)
        return replace(version, facts=version.facts.planned(promotions, deliveries=deliveries))

    @cached_property
    def pricer(self) -> Pricer:
        """The pricer of that version."""
        jump = self.settings.serving.largest_jump
        return self.loaded.pricer(version=self.name, config=self.served, largest_jump=jump)

    @cached_property
    def prefix(self) -> str:
        """The beginning of the keys of the day's prices, in `_price_store`: others for whatever prices depend on."""
        promotions, deliveries = self.plans
        plans = [sorted(promotions.spans().items()), sorted(deliveries.days().items())]
        settings = [self.served.model_dump(mode="json"), self.settings.serving.largest_jump, self.settings.scale.series]
        switched = [self.control.to_json().decode(), repr(plans), self.today, self.applied]
        question = digest([self.checksum, __version__, settings, switched])
        return f"prices/{self.settings.registry.model_name}/day={self.day}/{question[:16]}/"

    def price(self, requests: list[PriceRequest]) -> pd.DataFrame:
        """Prices requests, and logs the prices where they are charged; see `decide` and `as_frame`."""
        answers = decide(self.pricer, requests, today=self.today, control=self.control)
        if self.applied:
            at = dt.datetime.now(dt.UTC)
            put_decisions(log_url(), [LogEntry(*pair, at) for pair in zip(requests, answers, strict=True)])
        return as_frame(zip(requests, answers, strict=True))


def _price_store() -> ObjectStore:
    """Where prices lie in parts: in the published store on S3, which other machines reach, else in PRICING_HOME."""
    return open_store(published_url() if published_url().startswith("s3://") else str(pricing_home()))


def price_parts(asked: Pricing, products: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices all products of a version, so many at a time; returns what a summary needs, and whole what changes.

    Files of prices that were made of the same things are not made again.

    Raises:
        ConfigError: Workers elsewhere cannot reach the version.
    """
    if "://" in asked.settings.scale.scheduler and not asked.name.isdigit():
        raise ConfigError("--version: workers elsewhere read what is published, no folder; give a version's number")
    numbers = range(-(-products // asked.settings.scale.series))
    tell_slowest(map_partitions(price_part, asked, numbers, scale=asked.settings.scale))
    store = _price_store()

    def read(folder: str, columns: list[str] | None) -> pd.DataFrame:
        found = (store.get(f"{asked.prefix}{folder}part={number:05}.parquet") or b"" for number in numbers)
        return pd.concat([pd.read_parquet(BytesIO(each), columns=columns) for each in found], ignore_index=True)

    return read("", [name for name in COLUMNS if name in _SUMMED]), read("changed/", None)


def price_part(asked: Pricing, number: int) -> None:
    """Prices the products of one file, and those that change once more apart."""
    store, size = _price_store(), asked.settings.scale.series
    key = f"part={number:05}.parquet"
    if store.keys(asked.prefix + key):
        return
    requests = requests_for_all_products(
        asked.loaded.facts, day=asked.day, rows=slice(number * size, (number + 1) * size)
    )
    prices = asked.price(requests)
    step = asked.served.decision.price_step
    moves = ~((prices["recommended_price"] - prices["current_price"]).abs() <= step - _EDGE)  # also from no price
    moves |= prices["recommended_price"] != prices["proposed_price"]
    store.put(f"{asked.prefix}changed/{key}", prices[moves].to_parquet(index=False))
    store.put(asked.prefix + key, prices.to_parquet(index=False))


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
    """Reads what persons have switched and tried, and says which prices they have set, and where to end it."""
    control = control_in_force(config, at=dt.datetime.now(dt.UTC))
    if control.switches:
        lines = "".join(f"\n  {one.action} of {one.whose} by {one.by}: {one.reason}" for one in control.switches)
        print(f"in force over the model's prices ({typed('unfreeze')} ends them):{lines}")
    return control


def day_priced(facts: ProductFacts, *, today: dt.date, horizon: int) -> dt.date:
    """The first day of the period that is priced where no requests are given.

    It is the period that today lies in, or the first one after the states where that is later. A today that lies beyond
    the horizon is not forecast: then it is the first one after the states, too.
    """
    last: dt.date = facts.state_date.astype(dt.date)
    step = STEP_DAYS[facts.period]
    ahead = (today - last).days // step
    return last + dt.timedelta(days=step * (ahead if 1 <= ahead <= horizon else 1))


def requests_for_all_products(
    facts: ProductFacts, *, day: dt.date | None = None, rows: slice = slice(None)
) -> list[PriceRequest]:
    """Builds a request for every product sold in the last 28 periods, with the closing stock where it is known.

    Args:
        facts: What is known of each product.
        day: First day of the period; the one after the facts by default.
        rows: Of the facts.
    """
    day = day or facts.state_date.astype(dt.date) + dt.timedelta(days=STEP_DAYS[facts.period])
    ids, stocks = facts.product_ids[rows], facts.stock[rows]
    known = np.isfinite(facts.price[rows]) & np.isfinite(
        facts.typical_units[rows]
    )  # typical_units covers the last 28 periods
    asked: dict[str, Any] = {"day_of_week": get_args(Weekday)[day.weekday()], "date": day}
    return [
        PriceRequest(product_id=product_id, current_stock=None if math.isnan(stock) else stock, **asked)
        for product_id, stock in zip(ids[known].tolist(), stocks[known].tolist(), strict=True)
    ]


def _of_all(requests: list[PriceRequest], facts: ProductFacts) -> Iterator[str]:
    if empty := sum(request.current_stock == 0 for request in requests):
        yield (
            f"{empty:,} products had nothing left at the end of {facts.state_date} and are priced so; where a delivery "
            "came since, give the stock with --requests"
        )
    if gone := len(facts.product_ids) - len(requests):
        yield f"{gone:,} products left out: not sold in the last {RECENT} periods"


def read_requests(frame: pd.DataFrame, *, where: str) -> list[PriceRequest]:
    """Validates rows as price requests.

    Args:
        frame: A price request's fields as columns; an empty cell is an absent field (see `request_fields`).
        where: Where they come from, for the message.

    Raises:
        RequestError: Some rows are none; gives their number and the first ones, counted from 1.
    """
    good: list[PriceRequest] = []
    bad: list[str] = []
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    for number, row in enumerate(rows, start=1):
        try:
            good.append(PriceRequest.model_validate(request_fields(row)))
        except ValidationError as error:
            bad.append(f"\n  - row {number}: {'; '.join(_fault(dict(fault)) for fault in error.errors())}")
    if bad:
        first = "".join(bad[:SHOWN])
        raise RequestError(
            f"{where}: {len(bad):,} of {len(rows):,} rows are no price request, and nothing was priced:{first}"
        )
    return good


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" + ("" if fault["type"] == "missing" else f" (found {fault['input']!r})")


def decide(pricer: Pricer, requests: list[PriceRequest], *, today: dt.date, control: Control) -> list[DetailedDecision]:
    """Prices requests in batches, as of `today`, under what persons have switched and tried.

    Raises:
        RequestError: One cannot be answered; names it.
    """
    known: dict[str, Any] = {"today": today, "experiments": control.experiments, "switches": control.switches}
    answers: list[DetailedDecision] = []
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        try:
            answers += pricer.price_detailed(part, **known)
        except RequestError:
            for row, request in enumerate(part, start=start + 1):
                try:
                    pricer.price_detailed([request], **known)
                except RequestError as error:
                    raise RequestError(f"row {row}, {request.product_id!r}: {error}") from error
            raise
    return answers


def as_frame(answered: Iterable[tuple[PriceRequest, DetailedDecision]]) -> pd.DataFrame:
    """Returns a table with one row per decision, in request order; reason codes are joined by spaces.

    Where a price waits for approval, every figure but `recommended_price` is of the one proposed.
    """
    rows = []
    for request, answer in answered:
        decision = answer.proposed or answer.decision
        waits = ("awaiting_approval",) if answer.proposed else ()
        (low, high), gain = decision.price_range, decision.expected_gain
        own = ("date", "category", "current_price", "list_price", "unit_cost", "tax_rate")
        rows.append(
            {
                **decision.model_dump(exclude={"price_range", "expected_gain"}),
                **{name: getattr(answer, name) for name in own},
                "product_id": request.product_id,
                "current_stock": request.current_stock,
                "recommended_price": answer.decision.recommended_price,
                "proposed_price": decision.recommended_price,
                "price_low": low,
                "price_high": high,
                "expected_gain": gain and gain.mean,
                "gain_low": gain and gain.low,
                "gain_high": gain and gain.high,
                "reasons": " ".join((*decision.reasons, *waits)),
                **{name: " ".join(getattr(decision, name)) for name in ("binds", "gave_way")},
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(frame: pd.DataFrame, output: Path) -> None:
    """Writes a table atomically.

    Args:
        frame: The table.
        output: A .csv or .parquet file; its folder is created.

    Raises:
        SourceError: It cannot be written there.
    """
    try:
        with replace_atomically(output) as draft:
            if output.suffix == ".parquet":
                frame.to_parquet(draft, index=False)
            else:
                quote_formulas(frame).to_csv(draft, index=False)
    except OSError as error:
        raise SourceError(f"{output}: cannot be written ({error.strerror})") from error


def _record(decisions: pd.DataFrame, *, version: str, applied: bool) -> None:
    mlflow.set_tags({"version": version, "applied": str(applied).lower()})
    mlflow.log_metric("decisions", float(len(decisions)))
    if len(decisions):
        mlflow.log_metric("confidence", float(decisions["confidence"].mean()))
        for source, share in decisions["source"].value_counts(normalize=True).items():
            mlflow.log_metric(f"share/{source}", float(share))


def _what_becomes(decisions: pd.DataFrame, *, applied: bool, today: dt.date) -> str:
    first, last = min(decisions["date"]), max(decisions["date"])
    said = f"prices of {first}" if first == last else f"prices of {first} to {last}"
    if not applied:
        return f"{said}, only looked at and not logged; with --applied true they count as charged"
    replay = f"; before {today} that is a replay, by which nobody is called" if last < today else ""
    return f"{said}, logged as applied: once their sales are in, monitor compares them{replay}"


def _summary(decisions: pd.DataFrame, *, step: float) -> Iterator[str]:
    """Yields summary lines on the decisions; a price within a `step` of the current one, currency units, is held."""
    sources = decisions["source"].value_counts(normalize=True)
    yield "answered by " + ", ".join(f"{source} {share:.0%}" for source, share in sources.items())
    change = (decisions["recommended_price"] - decisions["current_price"]).dropna()
    up, down = (int((change * way > step - _EDGE).sum()) for way in (1, -1))
    yield f"{up} prices rise, {down} fall and {len(change) - up - down} are held, of {len(change)} with a current one"
    strangers, waits = (
        decisions["reasons"].str.split().map(lambda codes, code=code: code in codes).astype(bool)
        for code in ("unknown_product", "awaiting_approval")
    )
    if strangers.any():
        first = decisions["product_id"][strangers].iloc[0]
        yield f"{strangers.sum():,} row(s) name a product unknown to the model, first {first!r}"
    if waits.any():
        yield f"{waits.sum():,} price(s) wait for approval in the console and stay until then; below, the others"
        decisions = decisions[~waits]
    yield f"expected margin {decisions['expected_margin'].sum():,.2f} over the priced periods"
    gain, low, high = (float(decisions[name].sum()) for name in ("expected_gain", "gain_low", "gain_high"))
    yield f"expected gain over the current prices {gain:,.2f} ({low:,.2f} to {high:,.2f}) until the next deliveries"
