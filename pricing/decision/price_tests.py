"""Price tests: small changes of price, drawn by lot for chosen products and weeks. Pure draws, and the file of them.

A draw is a hash of the test's name, the product and the week, so that every program finds the same one without asking
another. Each product has every arm once in each block of three weeks, in an order drawn for that block.
"""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

from pricing.errors import ConfigError, SourceError
from pricing.fileio import replace_json

LARGEST = 0.05  # fraction of the price that a test may add or take away
ARMS = ("down", "stay", "up")
ODDS = 1 / len(ARMS)
_ORDERS = tuple(permutations(range(len(ARMS))))
_FILE = Path("price_tests") / "plan.json"


class Draw(NamedTuple):
    """What a test asks of one product in one week.

    Attributes:
        test: The test's name.
        arm: One of ARMS.
        odds: The chance that this arm had, 0…1.
        deviation: Log of the price asked over the price that would have been charged without the test.
        base: The product's price when the test was planned, from which prices are chosen while it lasts.
        reach: Largest size of a deviation in the test.
        end: The first day after the test, as it was planned when it drew.
    """

    test: str
    arm: str
    odds: float
    deviation: float
    base: float
    reach: float
    end: dt.date


@dataclass(frozen=True)
class PriceTest:
    """One test.

    Attributes:
        name: Names it, and is the seed of its draws.
        prices: Product → its price when the test was planned.
        size: Fraction by which the outer arms differ from the price chosen, above 0 and at most LARGEST.
        start: A Monday.
        weeks: ISO weeks that it lasts.
        stopped: The day from which it draws no more; None where it runs to its end.
    """

    name: str
    prices: Mapping[str, float]
    size: float
    start: dt.date
    weeks: int
    stopped: dt.date | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigError: One of them is out of range.
        """
        if not self.name or not self.name.isprintable():
            raise ConfigError(f"price test: expected a name of printable characters, found {self.name!r}")
        if not 0 < self.size <= LARGEST:
            raise ConfigError(f"price test {self.name}: size {self.size:g} is not above 0 and at most {LARGEST:g}")
        if self.start.weekday():
            raise ConfigError(f"price test {self.name}: starts on {self.start}, {self.start:%A}; expected a Monday")
        if self.weeks < 1:
            raise ConfigError(f"price test {self.name}: lasts {self.weeks} weeks; expected at least 1")
        wrong = [one for one, price in self.prices.items() if not 0 < price < math.inf]
        if wrong:
            raise ConfigError(f"price test {self.name}: product {wrong[0]} has no price above 0")

    @property
    def end(self) -> dt.date:
        """The first day after the test; its start where it was cancelled."""
        last = self.start + dt.timedelta(weeks=self.weeks)
        return last if self.stopped is None else min(last, max(self.stopped, self.start))

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped before its first day, so that it has no periods."""
        return self.stopped is not None and self.stopped < self.start

    @property
    def days(self) -> str:
        """Its first and last day in words, or that it was cancelled."""
        if self.cancelled:
            return f"cancelled, no periods (it was to start on {self.start})"
        return f"{self.start} to {max(self.end - dt.timedelta(days=1), self.start)}"

    @property
    def deviation(self) -> float:
        """Log of the price over the chosen one in the arm "up"; that in "down" is its negative."""
        return math.log1p(self.size)

    @property
    def sd(self) -> float:
        """Standard deviation of the log price that the draws make."""
        return self.deviation * math.sqrt(2 / len(ARMS))

    def draw(self, product_id: str, date: dt.date) -> Draw | None:
        """The draw of the week that a day lies in; None outside the test.

        Example:
            >>> import datetime as dt
            >>> from pricing.decision.price_tests import PriceTest
            >>> test = PriceTest("spring", prices={"tea": 4.99}, size=0.04, start=dt.date(2026, 3, 2), weeks=6)
            >>> mondays = [test.start + dt.timedelta(weeks=week) for week in range(test.weeks)]
            >>> [test.draw("tea", monday).arm for monday in mondays]  # each arm once in three weeks
            ['stay', 'down', 'up', 'down', 'up', 'stay']
        """
        base = self.prices.get(product_id)
        if base is None or not self.start <= date < self.end:
            return None
        block, week = divmod((date - self.start).days // 7, len(ARMS))
        key = "\n".join((self.name, product_id, str(block))).encode()
        order = _ORDERS[int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % len(_ORDERS)]
        arm = order[week]
        return Draw(self.name, ARMS[arm], ODDS, (arm - 1) * self.deviation, base, self.deviation, self.end)


@dataclass(frozen=True)
class Plan:
    """The tests that there are; no product is in two at a time."""

    tests: tuple[PriceTest, ...] = ()

    def draw(self, product_id: str, date: dt.date) -> Draw | None:
        """What the test that a product is in on a day asks of it; None outside every test."""
        for test in self.tests:
            found = test.draw(product_id, date)
            if found is not None:
                return found
        return None

    def find(self, name: str) -> PriceTest | None:
        """The test of a name."""
        return next((test for test in self.tests if test.name == name), None)

    def with_test(self, test: PriceTest) -> "Plan":
        """The plan with one more test.

        Raises:
            ConfigError: There is a test of that name, or one of its products is in another test at the time.
        """
        if self.find(test.name) is not None:
            raise ConfigError(f"there is a price test {test.name} already; give another --name")
        for other in self.tests:
            both = sorted(set(other.prices) & set(test.prices))
            if both and max(other.start, test.start) < min(other.end, test.end):
                raise ConfigError(
                    f"price test {test.name}: {len(both)} of its products, first {both[0]}, are in {other.name} from "
                    f"{other.days}"
                )
        return Plan((*self.tests, test))

    def without(self, name: str, *, after: dt.date) -> "Plan":
        """The plan in which a test draws no more from a day on.

        Raises:
            ConfigError: There is no test of that name.
        """
        if self.find(name) is None:
            known = ", ".join(test.name for test in self.tests) or "none"
            raise ConfigError(f"there is no price test {name!r}; there are: {known}")

        def end(one: PriceTest) -> PriceTest:
            return replace(one, stopped=after if one.stopped is None else min(one.stopped, after))

        return Plan(tuple(end(one) if one.name == name else one for one in self.tests))


NO_TESTS = Plan()


def plan_file(home: Path) -> Path:
    """Where the plan lies under PRICING_HOME."""
    return home / _FILE


def read_plan(path: Path) -> Plan:
    """The plan in a file; without tests when there is none.

    Raises:
        SourceError: The file is no such plan.
    """
    try:
        document = json.loads(path.read_bytes())
        plan = NO_TESTS
        for values in document["tests"]:
            plan = plan.with_test(_test(values))
    except FileNotFoundError:
        return NO_TESTS
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise SourceError(f"{path}: is no plan of price tests ({error}); mend or remove it") from error
    return plan


def write_plan(path: Path, plan: Plan) -> None:
    """Writes the plan, whole or not at all."""
    tests = [
        {
            "name": test.name,
            "size": test.size,
            "start": test.start.isoformat(),
            "weeks": test.weeks,
            "stopped": None if test.stopped is None else test.stopped.isoformat(),
            "prices": dict(test.prices),
        }
        for test in plan.tests
    ]
    replace_json(path, {"tests": tests}, indent=1)


def _test(values: Mapping[str, Any]) -> PriceTest:
    stopped = values["stopped"]
    return PriceTest(
        name=str(values["name"]),
        prices={str(product): float(price) for product, price in values["prices"].items()},
        size=float(values["size"]),
        start=dt.date.fromisoformat(values["start"]),
        weeks=int(values["weeks"]),
        stopped=None if stopped is None else dt.date.fromisoformat(stopped),
    )
