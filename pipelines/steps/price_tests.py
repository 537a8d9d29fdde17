"""Plan the price tests of a week, and carry them on from week to week until a person stops them."""

import datetime as dt
from dataclasses import replace

from pipelines.steps.control import control_record, publish_control
from pipelines.steps.production import production
from pipelines.steps.sales import with_plan
from pricing.config import ConfigFile, served_config
from pricing.decision.every_product import day_priced
from pricing.decision.experiments import Experiment, Experiments
from pricing.decision.price_tests import Outlook, of_arms, waiting, week_of_tests
from pricing.decision.pricer import Pricer
from pricing.errors import ConfigError
from pricing.paths import actor
from pricing.registry import CHAMPION
from pricing.registry.version import LoadedVersion


def plan_week(file: ConfigFile, *, known: Experiments, day: dt.date) -> tuple[Experiment, dict[str, Outlook], int]:
    """Plans the tests of a day's week by the champion; see `week_of_tests`.

    Returns:
        The experiment, what each of its arms costs and teaches, and how many products wait for theirs.
    """
    version, pricer = _champion(file)
    planned = week_of_tests(pricer, version.demand, version.facts, known=known, day=day)
    wait = waiting(version.demand, version.facts, planned)
    return planned, of_arms(planned, version.demand, version.facts), wait


def put_tests(file: ConfigFile, planned: Experiment, *, former: Experiment | None) -> int:
    """Writes the tests of a week, planned after `former`, into the record, publishes them, and returns the exit code.

    Raises:
        ConfigError: Somebody stopped or changed them meanwhile.
    """
    record = control_record(file.config)
    now = dt.datetime.now(dt.UTC)
    record.append_experiment(planned.name, lambda known: known.rolled(planned, former=former), who=actor(), at=now)
    return publish_control(record, now=now)


def continue_tests(file: ConfigFile, *, today: dt.date) -> str:
    """Adds a week to price tests that nobody stopped, where they end before the day that is priced next.

    Until they have begun, each night plans them anew, from the prices of the day.

    Returns:
        What was done, in a sentence; empty where nothing was.
    """
    known = control_record(file.config).control().experiments
    if known.rolling is None:
        return ""
    version, pricer = _champion(file)
    facts = version.facts
    day = day_priced(facts, today=today, horizon=version.demand.horizon)
    if known.rolling.start < day < known.rolling.end:
        return ""
    try:
        planned = week_of_tests(pricer, version.demand, facts, known=known, day=max(day, known.rolling.start))
        put_tests(file, planned, former=known.rolling)
    except ConfigError as reason:  # for now: another night asks again
        return str(reason)
    return f"price tests go on with {len(planned.products):,} products"


def _champion(file: ConfigFile) -> tuple[LoadedVersion, Pricer]:
    """The champion with the promotions that are planned now, and its pricer as it serves."""
    with production(file.config) as access:
        number = access.registry.find(CHAMPION).number
        version = access.fetch(number)
    version = replace(version, facts=with_plan(version.facts, version.config.data))
    served = served_config(version.config, file, name=number).config
    return version, version.pricer(version=number, config=served, largest_jump=file.config.serving.largest_jump)
