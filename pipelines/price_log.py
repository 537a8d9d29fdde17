"""Log what a batch decided, as serving does: with products held out, under price tests and in a strategy test."""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pricing.config_models import StrategyTestConfig
from pricing.decision.assignment import holdout_file, read_held
from pricing.decision.detailed import DetailedDecision
from pricing.decision.price_tests import NO_TESTS, Plan, plan_file, read_plan
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.decision.strategy_tests import arm_label, arms_of, check_strategy_test, extend, read, strategy_test_file
from pricing.decision.switches import NO_SWITCHES, Switches, read_switches, switch_file
from pricing.decision_log.format import LogEntry
from pricing.decision_log.writer import LogWriter
from pricing.errors import RegistryError, SourceError
from pricing.paths import pricing_home
from pricing.registry.switch_record import SwitchRecord, in_force
from pricing.runtime.shared_files import SharedFiles

_log = logging.getLogger(__name__)
_FLUSH = 1000  # decisions written at once

NumberedAnswer = tuple[int, PriceRequest, DetailedDecision]  # with the row's number from 1


@dataclass(frozen=True)
class Assignment:
    """Which products are held out of pricing or under test, as serving reads it from the same files.

    Attributes:
        held: Products that keep their prices.
        tests: The plan of price tests.
        strategy_test: Name of the strategy test; empty where there is none.
        arms: Product → the strategy that the strategy test assigned to it; "" or absent where it takes part in none.
        switches: Prices that a person has frozen or given.
    """

    held: frozenset[str] = frozenset()
    tests: Plan = NO_TESTS
    strategy_test: str = ""
    arms: Mapping[str, str] = field(default_factory=dict)
    switches: Switches = NO_SWITCHES


def read_assignment(
    strategy_test: StrategyTestConfig | None, *, pricer: Pricer, facts: ProductFacts, keep: bool, files: SharedFiles
) -> Assignment:
    """Reads the holdout, the price tests and the products of the strategy test from PRICING_HOME.

    Where they are shared they are brought up to date before; while the database is away those known last count.

    Args:
        strategy_test: As configured under `serving`.
        pricer: Has the strategies that there are.
        facts: Of the products to be dealt to strategies, where no file has done so yet.
        keep: Whether newly dealt products are written down: where the prices are only tried out nothing is.
        files: The files, as they are shared.

    Raises:
        RegistryError: Newly dealt products cannot be shared.
        SourceError: A file of them cannot be read or written. Serving would go on without; here a person can mend it.
        ConfigError: The strategy test names an unknown strategy.
    """
    home = pricing_home()
    files.refresh(holdout_file(home), plan_file(home))
    held, tests = read_held(holdout_file(home)), read_plan(plan_file(home))
    if strategy_test is None:
        return Assignment(held, tests)
    check_strategy_test(strategy_test, pricer.policy.names)
    path = strategy_test_file(home, strategy_test.name)
    files.refresh(path)
    arms = arms_of(path, facts, strategy_test)
    try:
        if keep and arms != read(path, strategy_test):  # nobody new needs no database
            arms = files.edit(path, partial(extend, facts=facts, strategy_test=strategy_test, local=path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror}); make it writable and run again") from error
    return Assignment(held, tests, strategy_test.name, arms)


def switches_in_force(model: str, *, url: str, now: dt.datetime) -> Switches:
    """The switches in force, from the database; while that is away those that the service on this machine knew last.

    Args:
        model: The registered model's name.
        url: The database's.
        now: The moment.

    Raises:
        SourceError: The database is away, and what was known last cannot be read.
    """
    try:
        record = SwitchRecord(url, model=model)
        try:
            return in_force(record.entries(), at=now)
        finally:
            record.close()
    except RegistryError as error:
        path = switch_file(pricing_home())
        _log.warning("%s; the switches that %s holds are taken to be in force", error, path)
        return read_switches(path).at(now)


def log_decisions(answers: Sequence[NumberedAnswer], folder: Path, *, assignment: Assignment, applied: bool) -> None:
    """Appends decisions to the decision log, before anybody sees them.

    Args:
        answers: The decisions.
        folder: The decision log's.
        assignment: Names the strategy test and arm of each.
        applied: Whether their prices go on the shelf; otherwise they are logged as tried out (`shadow`).

    Raises:
        SourceError: The log cannot be written.
    """
    if not answers:
        return
    at, log = dt.datetime.now(dt.UTC), LogWriter(folder)
    for start in range(0, len(answers), _FLUSH):
        part = answers[start : start + _FLUSH]
        log.append(
            [
                LogEntry.of(
                    asked,
                    answer,
                    at=at,
                    strategy_test=arm_label(
                        asked, answer.decision, strategy_test=assignment.strategy_test, arms=assignment.arms
                    ),
                    shadow=not applied,
                )
                for _, asked, answer in part
            ]
        )
        log.flush()  # rather than let what waits for the disk grow
    log.close()
    status = log.status()
    if status.written < status.issued:
        raise SourceError(
            f"{folder}: only {status.written:,} of {status.issued:,} decisions could be logged ({status.failure}), and "
            "no price was written: monitoring could not tell what came of them. Make the folder writable and run again"
        )
