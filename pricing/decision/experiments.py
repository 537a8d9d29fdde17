"""Experiments: products dealt to arms within strata when planned, and what an arm asks of a price.

A draw is a hash of experiment, product and week: every program finds the same one. Each of down, stay and up comes once
in each block of three weeks, in an order drawn for that block.
"""

import datetime as dt
import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from typing import Literal, NamedTuple, get_args

import numpy as np

from pricing.arrays import Floats, Strings
from pricing.errors import ConfigError

Kind = Literal["rule", "keep", "strategy", "draw", "challenger"]
LARGEST = 0.10  # fraction of the price that a draw may add or take away
USUAL = 0.05  # the same where nothing else is said
WAYS = (-1, 0, 1)  # down, stay, up: each once in a block of as many weeks
OUTSIDE = ""
_ORDERS = tuple(permutations(WAYS))
_CLASSES = (1 / 3, 2 / 3)  # quantiles of a category's volumes that part it into small, middle and large products
_NAME = re.compile(r"[\w-]{1,50}")


@dataclass(frozen=True)
class Arm:
    """A way in which an experiment treats some of its products.

    `rule` prices as usual, to compare with; `keep` keeps the current price inside the guardrails; `strategy` prices by
    one where the request names none; `draw` multiplies the price by a factor drawn for each week, where the offer is
    not advertised; `challenger` prices by another version.
    """

    kind: Kind
    share: float  # the odds of a product to be dealt to it, above 0 and at most 1
    of: str = ""  # the strategy, or the version's number; empty for the other kinds
    size: float = 0.0  # fraction of the price by which a draw moves it, at most LARGEST; 0 for the other kinds

    def __post_init__(self) -> None:
        """Raises ConfigError where a value is out of range."""
        if self.kind not in get_args(Kind) or bool(self.of) != (self.kind in ("strategy", "challenger")):
            raise ConfigError(f"arm {self.name!r}: expected rule, keep, draw, strategy/NAME or challenger/NUMBER")
        if not 0 < self.share <= 1:
            raise ConfigError(f"arm {self.name}: a share of {self.share:g} is not above 0 and at most 1")
        if (self.kind == "draw") != (0 < self.size <= LARGEST):
            raise ConfigError(f"arm {self.name}: a size of {self.size:g}; draws have one above 0, at most {LARGEST:g}")

    @property
    def name(self) -> str:
        """Its name in the experiment, in the decision log and in metrics."""
        if self.kind == "draw" and self.size > USUAL:
            return "draw/wide"
        return f"{self.kind}/{self.of}" if self.of else self.kind

    @property
    def deviation(self) -> float:
        """Largest size of the log of the factor that it draws."""
        return math.log1p(self.size)


class Assignment(NamedTuple):
    """The word of an experiment on one product on one day."""

    experiment: str
    arm: Arm
    deviation: float | None = None  # log of the price asked over the one without the draw; None without draws
    base: float = math.nan  # the price when a draw was planned, from which prices are chosen meanwhile; NaN without

    @property
    def label(self) -> str:
        """Experiment and arm, as metrics and monitoring name them."""
        return f"{self.experiment}/{self.arm.name}"


@dataclass(frozen=True)
class Experiment:
    """One experiment."""

    name: str  # also the seed of its draws
    start: dt.date  # a Monday
    weeks: int | None  # ISO weeks that it lasts; None until it is stopped
    arms: tuple[Arm, ...]  # of different names; products that no arm was dealt are outside
    products: Mapping[str, str]  # product → name of its arm
    prices: Mapping[str, float] = field(default_factory=dict)  # product → price when planned, where it is drawn
    stopped: dt.date | None = None  # the day from which it asks nothing more; None where it runs to its end
    rolling: bool = False  # whether it grows week by week, so that products and prices are those of its last week
    back: frozenset[str] = frozenset()  # products whose price goes back this week to the one without a draw

    def __post_init__(self) -> None:
        """Raises ConfigError where a value is out of range, or they contradict each other."""
        if strange := set(self.products.values()) - set(self.named):
            raise ConfigError(f"experiment {self.name}: a product is in the arm {min(strange)!r}, which it has not")
        drawn = {product for product, arm in self.products.items() if self.named[arm].kind == "draw"}
        draws = any(arm.kind == "draw" for arm in self.arms)
        shares = sum(arm.share for arm in self.arms)
        faults = {
            "expected a name of up to 50 letters, digits, - and _": not _NAME.fullmatch(self.name),
            f"starts on {self.start}, {self.start:%A}; expected a Monday": self.start.weekday() != 0,
            f"lasts {self.weeks} weeks; expected at least 1": self.weeks is not None and self.weeks < 1,
            "draws prices, and so needs an end: give its weeks": draws and self.weeks is None,
            "expected one arm at least, and none twice": not self.arms or len(self.named) < len(self.arms),
            f"the shares of its arms are {shares:g}, more than 1": shares > 1 + 1e-9,
            "names two challengers; one is loaded": sum(arm.kind == "challenger" for arm in self.arms) > 1,
            "draws need the prices of their products": drawn != set(self.prices),
        }
        if any(faults.values()):
            raise ConfigError(f"experiment {self.name}: {next(fault for fault, found in faults.items() if found)}")

    @cached_property
    def named(self) -> dict[str, Arm]:
        """Name → arm."""
        return {arm.name: arm for arm in self.arms}

    @cached_property
    def end(self) -> dt.date:
        """The first day after it; its start where it was cancelled."""
        last = dt.date.max if self.weeks is None else self.start + dt.timedelta(weeks=self.weeks)
        return last if self.stopped is None else min(last, max(self.stopped, self.start))

    @property
    def since(self) -> dt.date:
        """The day from which on its products take part: its start, or that of a rolling one's last week."""
        return self.start + dt.timedelta(weeks=self.weeks - 1) if self.rolling and self.weeks else self.start

    @property
    def challenger(self) -> str | None:
        """Number of the version that an arm of it names; None without one."""
        return next((arm.of for arm in self.arms if arm.kind == "challenger"), None)

    def runs_on(self, day: dt.date) -> bool:
        """True for a day that lies in it."""
        return self.start <= day < self.end

    def goes_back_on(self, day: dt.date) -> bool:
        """True for a day of the week after it, in which prices that it drew go back to those without a draw."""
        return self.start < self.end <= day < self.end + dt.timedelta(weeks=1) if self.end < dt.date.max else False

    def in_arm(self, arm: str) -> frozenset[str]:
        """The products of an arm."""
        return frozenset(product for product, name in self.products.items() if name == arm)

    def deviation(self, product_id: str, day: dt.date) -> float:
        """Log of the factor that the week of a day draws for a product; 0 where its price goes back."""
        if product_id in self.back or not self.runs_on(day):
            return 0.0
        block, week = divmod((day - self.start).days // 7, len(WAYS))
        order = _ORDERS[int.from_bytes(_hash(self.name, product_id, str(block)), "big") % len(_ORDERS)]
        return order[week] * self.named[self.products[product_id]].deviation


@dataclass(frozen=True)
class Experiments:
    """The experiments that there are; no product is in two at a time."""

    every: tuple[Experiment, ...] = ()  # as they were planned

    def of(self, product_id: str, day: dt.date) -> Assignment | None:
        """The word of the experiment that a product is in on a day, or goes back from the draw of; None without one."""
        back: Assignment | None = None
        for experiment in self.every:
            arm = experiment.named.get(experiment.products.get(product_id, OUTSIDE))
            if arm is None:
                continue
            drawn = arm.kind == "draw"
            word = Assignment(experiment.name, arm)
            if drawn:
                base = experiment.prices[product_id]
                word = Assignment(experiment.name, arm, experiment.deviation(product_id, day), base)
            if experiment.runs_on(day):
                return word
            if drawn and experiment.goes_back_on(day):
                back = word
        return back

    def find(self, name: str) -> Experiment:
        """The experiment of a name; raises ConfigError where there is none."""
        known = {experiment.name: experiment for experiment in self.every}
        if name not in known:
            raise ConfigError(f"there is no experiment {name!r}; there are: {', '.join(known) or 'none'}")
        return known[name]

    @property
    def rolling(self) -> Experiment | None:
        """The rolling experiment that nobody stopped; None where there is none."""
        return next((each for each in self.every if each.rolling and each.stopped is None), None)

    def challenger(self, day: dt.date) -> str | None:
        """Number of the version that an experiment tries on a day, or the next one after it; None without one."""
        left = [each for each in self.every if each.challenger and max(day, each.start) < each.end]
        return min(left, key=lambda each: each.start).challenger if left else None

    def holdout(self, day: dt.date) -> Experiment | None:
        """The first experiment that keeps products' prices on a day."""
        return next((each for each in self.every if each.in_arm("keep") and each.runs_on(day)), None)

    def beside(self, start: dt.date, end: dt.date) -> list[Experiment]:
        """The experiments that share a day with the span from `start` to before `end`."""
        return [each for each in self.every if max(each.since, start) < min(each.end, end)]

    def plus(self, planned: Experiment) -> "Experiments":
        """With one more; raises ConfigError where one at the time has its name, a product of it or a challenger too."""
        if any(each.name == planned.name for each in self.every):
            raise ConfigError(f"there is an experiment {planned.name} already; give another --name")
        for other in self.beside(planned.since, planned.end):
            if both := sorted(set(other.products) & set(planned.products)):
                raise ConfigError(f"{len(both)} products of {planned.name}, first {both[0]}, are in {other.name}")
            if other.challenger and planned.challenger:
                raise ConfigError(f"{other.name} tries version {other.challenger}: one challenger at a time")
        return replace(self, every=(*self.every, planned))

    def rolled(self, planned: Experiment, *, former: Experiment | None) -> "Experiments":
        """With a further week of a rolling experiment that was planned after `former`, or its first.

        Raises:
            ConfigError: Somebody stopped or changed it meanwhile; or as `plus`.
        """
        if self.rolling != former:
            raise ConfigError(f"experiment {planned.name} was stopped or changed meanwhile: look, and try again")
        others = tuple(each for each in self.every if not (each.name == planned.name and each.rolling))
        return Experiments(others).plus(planned)

    def ended(self, name: str, *, after: dt.date) -> "Experiments":
        """With an experiment that asks nothing more from a day on."""
        found = self.find(name)
        stopped = replace(found, stopped=min(after, found.stopped or after))
        return replace(self, every=tuple(stopped if each is found else each for each in self.every))


NO_EXPERIMENTS = Experiments()


def strata_of(product_ids: Strings, *, categories: Strings, mean_units: Floats) -> dict[str, str]:
    """Product → category and third of the category by volume, units a period: the same of equal ones; unknown is 0."""
    units = np.nan_to_num(np.asarray(mean_units, dtype=np.float64))
    found: dict[str, str] = {}
    for category in np.unique(categories):
        rows = np.flatnonzero(categories == category)
        size = np.searchsorted(np.quantile(units[rows], _CLASSES), units[rows], side="right")
        pairs = zip(product_ids[rows].tolist(), size.tolist(), strict=True)
        found |= {product: f"{category}/{third}" for product, third in pairs}
    return found


def deal(strata: Mapping[str, str], arms: Collection[Arm], *, name: str) -> dict[str, str]:
    """Deals products to arms: product → name of its arm, without those that stay outside.

    Within each stratum (product → stratum), products come in an order that the experiment's name draws; the first is
    dealt by lot, or many small strata would leave the same arms without any; each later one goes where the stratum
    lacks most.
    """
    wanted = {arm.name: arm.share for arm in arms}
    wanted[OUTSIDE] = max(1.0 - sum(wanted.values()), 0.0)
    dealt: dict[str, str] = {}
    held: dict[str, Counter[str]] = {}
    for product in sorted(strata, key=lambda product: _hash(name, product)):
        there = held.setdefault(strata[product], Counter())
        lacks = {arm: round(share * (there.total() + 1) - there[arm], 9) for arm, share in wanted.items()}
        dealt[product] = max(lacks, key=lacks.__getitem__) if there else _by_lot(wanted, _hash(name, strata[product]))
        there[dealt[product]] += 1
    return {product: arm for product, arm in dealt.items() if arm != OUTSIDE}


def _by_lot(wanted: Mapping[str, float], draw: bytes) -> str:
    left = int.from_bytes(draw, "big") / 2**64
    for name, share in wanted.items():
        left -= share
        if left < 0:
            return name
    return next(iter(wanted))


def _hash(*words: str) -> bytes:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).digest()
