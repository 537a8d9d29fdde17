"""Show why a product had its price at a moment: the decision in force then, its reasons, and who stands behind it."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import click

from pipelines.steps.control import control_record, local_time, sentence
from pipelines.steps.switch import clock, day_or_moment
from pricing.config import Config, load_config
from pricing.decision.reasons import SWITCHED, meanings
from pricing.decision.switches import Review, Switch
from pricing.decision_log.read import read_in_force
from pricing.errors import RegistryError, SourceError
from pricing.fileio import utc_stamp
from pricing.paths import log_url
from pricing.quoting import printable
from pricing.registry.control import Heard
from pricing.runtime.cli import job


@job("decisions")
@click.option("--product", required=True, metavar="ID", help="the product")
@click.option(
    "--at",
    type=day_or_moment,
    metavar="WHEN",
    help="a moment such as 2026-03-06T10:00, in this machine's time zone where none is given, or the end of a day such "
    "as 2026-03-06, where the shop is (time_zone, else UTC); absent: now",
)
def main(*, config: str | None, product: str, at: dt.date | None, now: Callable[[], dt.datetime] = clock) -> int:
    """Shows the decision on a product that was in force at a moment, by the decision log: its price, why, and by whom.

    That is the last one made by then, of those for the newest day priced by then.
    """
    settings = load_config(config)
    moment = now() if at is None else settings.moment_of(at)
    day = moment.astimezone(settings.zone or dt.UTC).date()
    record = read_in_force(log_url(), product_id=product, at=moment, day=day)
    if record is None:
        raise SourceError(f"{log_url()}: has no decision on product {product!r} in the two months before {moment}")
    print("\n".join(map(printable, _lines(record, settings))))
    return 0


def _lines(record: dict[str, Any], config: Config) -> Iterator[str]:
    """Yields a record of the decision log in words, for people."""
    decision = record["decision"]
    decided = dt.datetime.fromisoformat(record["at"])
    experiment = record["experiment"]
    yield f"{record['product_id']}: {decision['recommended_price']} (before: {record['current_price'] or 'unknown'})"
    yield f"decided {local_time(decided)} for {record['date']}, request {record.get('request_id') or 'by a job'}"
    yield f"version {decision['model_version']}, {decision['source']}, strategy {decision['strategy']}"
    if experiment:
        yield f"experiment {experiment['name']}, arm {experiment['arm']}"
    for code, words in meanings(decision["reasons"], decision["binds"], decision["gave_way"]).items():
        yield f"{code}: {words}"
    yield f"by: {_who(record, config, decided=decided)}"


def _who(record: dict[str, Any], config: Config, *, decided: dt.datetime) -> str:
    """Names the person whose switch or approval counted, or else what decided."""
    product = record["product_id"]
    heard = Heard()
    try:
        entries = control_record(config).entries()
    except RegistryError as error:
        return f"unknown ({error})"
    heard.hear([entry for entry in entries if entry.at <= utc_stamp(decided)])
    word: Switch | Review | None = None
    if SWITCHED.intersection(record["decision"]["reasons"]):
        word = heard.switches(at=decided).of(product, category=record["category"] or "")
    elif product in heard.approved:
        last = heard.words[product]
        word = last if isinstance(last, Review) else None
    return f"the platform ({record['decision']['source']})" if word is None else f"{word.by}, {sentence(word)}"
