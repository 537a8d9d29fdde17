"""Plan the price tests of a week, and carry them on from week to week until a person stops them."""

import datetime as dt

from pipelines.steps.control import control_record, publish_control
from pipelines.steps.production import production
from pipelines.steps.sales import with_plan
from pricing.config import ConfigFile, served_config
from pricing.decision.experiments import Experiment, Experiments
from pricing.decision.price_tests import NAME, Outlook, of_arms, week_of_tests
from pricing.errors import ConfigError
from pricing.paths import actor
from pricing.registry import CHAMPION


def plan_week(file: ConfigFile, *, known: Experiments, day: dt.date) -> tuple[Experiment, dict[str, Outlook]]:
    """Plans the tests of a day's week by the champion; see `week_of_tests`.

    Returns:
        The experiment, and what each of its arms costs and teaches.
    """
    with production(file.config) as access:
        number = access.registry.find(CHAMPION).number
        version = access.fetch(number)
    served = served_config(version.config, file, name=number).config
    pricer = version.pricer(version=number, config=served, largest_jump=file.config.serving.largest_jump)
    facts = with_plan(version.facts, version.config.data)
    planned = week_of_tests(pricer, version.demand, facts, known=known, day=day)
    return planned, of_arms(planned, version.demand, facts)


def put_tests(file: ConfigFile, planned: Experiment) -> int:
    """Writes the tests of a week into the record and publishes them; returns the exit code."""
    record = control_record(file.config)
    now = dt.datetime.now(dt.UTC)
    record.append_experiment(NAME, lambda known: known.with_tests(planned), who=actor(), at=now)
    return publish_control(record, now=now)


def continue_tests(file: ConfigFile, *, day: dt.date) -> str:
    """Plans the week of `day` where the tests ended before it and nobody stopped them; returns a summary."""
    known = control_record(file.config).control().experiments
    former = known.unstopped(NAME)
    if former is None or day < former.end:
        return ""
    try:
        planned, _ = plan_week(file, known=known, day=day)
    except ConfigError as none:  # for now: another night asks again
        return str(none)
    put_tests(file, planned)
    return f"price tests go on with {len(planned.products):,} products"
