"""Price a file of requests, or every product, by a version from the registry or a folder; log and write the prices."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import mlflow
import numpy as np
import pandas as pd
from pydantic import ValidationError

from pipelines.calendar import with_plan
from pipelines.production import production
from pricing.config import Config, ConfigFile, read_config_file
from pricing.csv_text import quote_formulas
from pricing.data.panel import STEP_DAYS
from pricing.data.source import read_sales
from pricing.decision.control import Control
from pricing.decision.detailed import DetailedDecision
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import RECENT, ProductFacts
from pricing.decision.request import PriceRequest, Weekday, request_fields
from pricing.decision_log.write import LogEntry, put_decisions
from pricing.errors import RequestError, SourceError
from pricing.fileio import replace_atomically
from pricing.objects import open_store
from pricing.paths import log_url, pricing_home
from pricing.registry import CHAMPION
from pricing.registry.control import known_control
from pricing.registry.published import published_url, put_prices
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.cli import DAY, FILE, flag, job
from pricing.runtime.mlflow_runs import tracked_run
from pricing.runtime.shared_state import database_url
from pricing.runtime.shop_time import shop_now
from pricing.served_config import served_config

BATCH = 1000
SHOWN = 5  # most bad rows listed in an error
STALE = 2  # state age in periods above which a refresh is advised
_EDGE = 1e-9  # currency units; what subtracting two prices leaves
_SUFFIXES = (".csv", ".parquet")

COLUMNS = (
    *("row", "product_id", "date", "recommended_price", "confidence", "price_low", "price_high", "expected_units"),
    *("expected_margin", "expected_gain", "gain_low", "gain_high", "source", "reasons", "strategy"),
    *("model_version", "decision_id", "current_price", "list_price", "unit_cost", "tax_rate"),
    *("comp_price_used", "comp_price_age", "proposed_price", "category", "current_stock"),
)

NumberedRequest = tuple[int, PriceRequest]  # row number from 1, request
NumberedAnswer = tuple[int, PriceRequest, DetailedDecision]  # with the same
RejectedRow = tuple[int, str]  # row number, error


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
    help="decisions, .csv or .parquet; absent: prices.csv in PRICING_HOME, and the console has them, too",
)
@click.option("--version", metavar="N", help="version, alias or a version's folder; absent: the champion")
@click.option("--today", "day", type=DAY, metavar="DATE", help="the day that answers; absent: today")
@flag(
    "--applied",
    help="these prices go on the shelf: they are logged, and monitoring compares them with the sales that follow; "
    "absent: they are only looked at",
)
@click.option("--rejects", type=FILE, metavar="FILE", help="write bad rows here (CSV) and go on")
def main(
    *,
    config: str | None,
    where: str | None,
    output: Path | None,
    version: str | None,
    day: dt.datetime | None,
    applied: bool,
    rejects: Path | None,
) -> int:
    """Prices a file of requests, or every product of a version."""
    file = read_config_file(config)
    settings = file.config
    today = day.date() if day else shop_now(settings.zone).date()
    shown, output = output is None, output or pricing_home() / "prices.csv"
    if output.suffix not in _SUFFIXES:
        raise SourceError(f"--output {output}: expected a name that ends in {' or '.join(_SUFFIXES)}")
    with tracked_run("price", config=settings), _opened(version, settings) as (found, name):
        loaded = _planned(found, file)
        served = served_config(loaded.config, file, name=name)
        print("".join(f"note: {line}\n" for line in served.lines(name, file=file.path)), end="")
        pricer = loaded.pricer(version=name, config=served.config, largest_jump=settings.serving.largest_jump)
        bad: list[RejectedRow] = []
        if where is None:
            priced = day_priced(loaded.facts, today=today, horizon=found.config.demand.horizon)
            requests, gone = requests_for_all_products(loaded.facts, day=priced)
            if empty := sum(request.current_stock == 0 for _, request in requests):
                print(
                    f"{empty:,} products had nothing left at the end of {loaded.facts.state_date} and are priced so; "
                    "where a delivery came since, give the stock with --requests"
                )
            if gone:
                print(f"{gone:,} products left out: not sold in the last {RECENT} periods")
        else:
            requests, bad = read_requests(read_sales(where))
        rows = len(requests) + len(bad)
        control = _control(settings)
        answers, refused = decide(pricer, requests, today=today, control=control)
        bad = sorted([*bad, *refused])
        if bad:
            _set_aside(bad, rows=f"{len(bad):,} of {rows:,} rows", where=where, rejects=rejects)
        decisions = as_frame(answers)
        if applied:
            at = dt.datetime.now(dt.UTC)
            put_decisions(log_url(), [LogEntry(asked, answer, at) for _, asked, answer in answers])
        write(decisions, output)
        if shown:  # in the console
            table, now = decisions.to_parquet(index=False), dt.datetime.now(dt.UTC)
            put_prices(open_store(published_url()), table, model=settings.registry.model_name, at=now)
        _record(decisions, refused=len(bad), version=name, applied=applied)
    print(f"{len(decisions):,} decisions by version {name} in {output}")
    age = (today - loaded.facts.state_date.astype("datetime64[D]").item()).days
    stale = ": refresh carries them forward" if age > STALE * STEP_DAYS[loaded.facts.period] else ""
    print(f"its states end on {loaded.facts.state_date}, {max(age, 0):,} days before the day that answers{stale}")
    if len(decisions):
        print("\n".join(_summary(decisions, step=served.config.decision.price_step)))
        print("\n".join(_next_steps(decisions, applied=applied, today=today)))
    return 0


@contextmanager
def _opened(version: str | None, config: Config) -> Iterator[tuple[LoadedVersion, str]]:
    """Yields the requested version and its name; one from the registry is in a folder that is deleted afterwards."""
    if version is not None and Path(version).is_dir():
        yield load(version), Path(version).resolve().name
        return
    with production(config) as access:
        number = access.registry.find(version or CHAMPION).number
        yield access.fetch(number), number


def _planned(version: LoadedVersion, file: ConfigFile) -> LoadedVersion:
    """Returns the version with the file's plans, where it names some: they are of coming days, on which none rests."""
    given = file.given.get("data") or {}
    plans = {name: getattr(file.config.data, name) for name in ("promotions", "deliveries")}
    named = {name: where for name, where in plans.items() if where is not None or name in given}
    data = version.config.data.model_copy(update=named)
    own = version.config.model_copy(update={"data": data})
    return replace(version, config=own, facts=with_plan(version.facts, data))


def _control(config: Config) -> Control:
    """Reads what persons have switched and tried, and says which prices they have set, and where to end it."""
    store, now = open_store(published_url()), dt.datetime.now(dt.UTC)
    control = known_control(config.registry.model_name, url=database_url(), store=store, at=now)
    if control.switches:
        lines = "".join(f"\n  {one.action} of {one.whose} by {one.by}: {one.reason}" for one in control.switches)
        print(f"in force over the model's prices (pricing unfreeze ends them):{lines}")
    return control


def day_priced(facts: ProductFacts, *, today: dt.date, horizon: int) -> dt.date:
    """The first day of the period that is priced where no requests are given.

    It is the period that today lies in, or the first one after the states where that is later. A today that lies beyond
    the horizon is not forecast: then it is the first one after the states, too.
    """
    last: dt.date = facts.state_date.astype("datetime64[D]").item()
    step = STEP_DAYS[facts.period]
    ahead = (today - last).days // step
    return last + dt.timedelta(days=step * (ahead if 1 <= ahead <= horizon else 1))


def requests_for_all_products(facts: ProductFacts, *, day: dt.date | None = None) -> tuple[list[NumberedRequest], int]:
    """Builds a request for every product on sale, for one period, with the closing stock where it is known.

    Args:
        facts: What is known of each product.
        day: First day of the period; the one after the facts by default.

    Returns:
        The requests, and the number of products left out because they have no row in the last 28 periods.
    """
    day = day or facts.state_date.astype(dt.date) + dt.timedelta(days=STEP_DAYS[facts.period])
    known = np.isfinite(facts.price) & np.isfinite(facts.typical_units)  # typical_units covers the last 28 periods
    asked: dict[str, Any] = {"day_of_week": get_args(Weekday)[day.weekday()], "date": day}
    requests = [
        PriceRequest(product_id=product_id, current_stock=None if math.isnan(stock) else stock, **asked)
        for product_id, stock in zip(facts.product_ids[known].tolist(), facts.stock[known].tolist(), strict=True)
    ]
    return list(enumerate(requests, start=1)), len(known) - len(requests)


def read_requests(frame: pd.DataFrame) -> tuple[list[NumberedRequest], list[RejectedRow]]:
    """Validates rows as price requests.

    Args:
        frame: A price request's fields as columns; an empty cell is an absent field (see `request_fields`).

    Returns:
        Requests, and errors of invalid rows, each with its row number from 1.
    """
    good: list[NumberedRequest] = []
    bad: list[RejectedRow] = []
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    for number, row in enumerate(rows, start=1):
        try:
            good.append((number, PriceRequest.model_validate(request_fields(row))))
        except ValidationError as error:
            bad.append((number, "; ".join(_fault(dict(fault)) for fault in error.errors())))
    return good, bad


def decide(
    pricer: Pricer,
    requests: Sequence[NumberedRequest],
    *,
    today: dt.date,
    control: Control,
) -> tuple[list[NumberedAnswer], list[RejectedRow]]:
    """Prices requests in batches; an inconsistent request fails without its batch.

    Args:
        pricer: The version's.
        requests: With their row numbers.
        today: The day on which they are answered.
        control: What persons have switched and tried.

    Returns:
        Answers with their row numbers, and errors of the other rows.
    """
    answers: list[NumberedAnswer] = []
    refused: list[RejectedRow] = []
    price = partial(pricer.price_detailed, today=today, experiments=control.experiments, switches=control.switches)
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        try:
            detailed = price([request for _, request in part])
            answers += [(number, request, answer) for (number, request), answer in zip(part, detailed, strict=True)]
        except RequestError:
            for number, request in part:
                try:
                    answers.append((number, request, price([request])[0]))
                except RequestError as error:
                    refused.append((number, str(error)))
    return answers, refused


def as_frame(answers: Sequence[NumberedAnswer]) -> pd.DataFrame:
    """Returns a table with one row per decision, in request order; reason codes are joined by spaces.

    Where a price waits for approval, every figure but `recommended_price` is of the one proposed.
    """
    rows = []
    for number, request, answer in answers:
        decision = answer.proposed or answer.decision
        waits = ("awaiting_approval",) if answer.proposed else ()
        fields = decision.model_dump(exclude={"price_range", "reasons", "expected_gain"})
        (low, high), gain = decision.price_range, decision.expected_gain
        rows.append(
            {
                "row": number,
                "product_id": request.product_id,
                "date": answer.date,
                **fields,
                "recommended_price": answer.decision.recommended_price,
                "proposed_price": decision.recommended_price,
                "category": answer.category,
                "current_stock": request.current_stock,
                "price_low": low,
                "price_high": high,
                "expected_gain": gain and gain.mean,
                "gain_low": gain and gain.low,
                "gain_high": gain and gain.high,
                "reasons": " ".join((*decision.reasons, *waits)),
                "current_price": answer.current_price,
                "list_price": answer.list_price,
                "unit_cost": answer.unit_cost,
                "tax_rate": answer.tax_rate,
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


def _set_aside(bad: Sequence[RejectedRow], *, rows: str, where: str | None, rejects: Path | None) -> None:
    """Writes bad rows to --rejects.

    Raises:
        RequestError: There is no --rejects; gives their number and the first ones.
    """
    if rejects is None:
        first = "".join(f"\n  - row {number}: {words}" for number, words in bad[:SHOWN])
        raise RequestError(
            f"{where}: {rows} are no price request, and nothing was priced:{first}\n"
            "Mend them, or set them aside with --rejects FILE."
        )
    write(pd.DataFrame(bad, columns=["row", "problem"]), rejects)
    print(f"{rows} are no price request; see {rejects}")


def _record(decisions: pd.DataFrame, *, refused: int, version: str, applied: bool) -> None:
    mlflow.set_tags({"version": version, "applied": str(applied).lower()})
    mlflow.log_metrics({"decisions": float(len(decisions)), "refused": float(refused)})
    if len(decisions):
        mlflow.log_metric("confidence", float(decisions["confidence"].mean()))
        for source, share in decisions["source"].value_counts(normalize=True).items():
            mlflow.log_metric(f"share/{source}", float(share))


def _next_steps(decisions: pd.DataFrame, *, applied: bool, today: dt.date) -> Iterator[str]:
    """Yields what becomes of the decisions, and what there is to know about the day priced."""
    first, last = min(decisions["date"]), max(decisions["date"])
    days = f"{first}" if first == last else f"{first} to {last}"
    if not applied:
        yield f"prices of {days}, only looked at and not logged; with --applied true they count as charged"
        return
    yield f"prices of {days}, logged as applied: once their sales are in, monitor compares them"
    if last < today:
        yield f"that is before {today}: monitor takes such decisions for a replay, by which nobody is called"


def _summary(decisions: pd.DataFrame, *, step: float) -> Iterator[str]:
    """Yields summary lines on the decisions; a price within a `step` of the current one, currency units, is held."""
    sources = decisions["source"].value_counts(normalize=True)
    yield "answered by " + ", ".join(f"{source} {share:.0%}" for source, share in sources.items())
    change = (decisions["recommended_price"] - decisions["current_price"]).dropna()
    up, down = (int((change * way > step - _EDGE).sum()) for way in (1, -1))
    yield f"{up} prices rise, {down} fall and {len(change) - up - down} are held, of {len(change)} with a current one"
    strangers = decisions[decisions["reasons"].str.split().map(lambda codes: "unknown_product" in codes)]
    if len(strangers):
        first = strangers.iloc[0]
        yield f"{len(strangers)} row(s) name a product unknown to the model, first {first['product_id']!r}"
    waits = decisions["reasons"].str.split().map(lambda codes: "awaiting_approval" in codes).astype(bool)
    if waits.any():
        yield f"{waits.sum():,} price(s) wait for approval in the console and stay until then; below, the others"
        decisions = decisions[~waits]
    yield f"expected margin {decisions['expected_margin'].sum():,.2f} over the priced periods"
    gain, low, high = (float(decisions[name].sum()) for name in ("expected_gain", "gain_low", "gain_high"))
    yield f"expected gain over the current prices {gain:,.2f} ({low:,.2f} to {high:,.2f}) until the next deliveries"


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" + ("" if fault["type"] == "missing" else f" (found {fault['input']!r})")
