"""Measure whether the platform goes on learning once it sets the prices, with and without random price tests.

python -m benchmarks.learning --settings default foreign --seeds 2 --development --jobs 2

On markets whose truth is known each policy prices `--days` days, with a refresh a fortnight and a training every four
weeks on what was sold at its own prices, which are marked as such. Prints the tables of learning.md.
"""

import datetime as dt
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.demand import (
    SETTINGS,
    Measured,
    below_cost,
    difference,
    features,
    grouped,
    interval,
    measure_all,
    parser,
)
from benchmarks.table import markdown, measured
from pipelines.market import STATIC, Platform, oracle_name, run_policies, scores, without
from pipelines.steps.sales import holiday_calendar
from pricing.arrays import Floats, Strings
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.own_prices import NO_SPANS, Moves
from pricing.data.panel import Panel
from pricing.decision.experiment_results import find_draws
from pricing.decision.experiments import Assignment, Experiments
from pricing.decision.price_tests import week_of_tests
from pricing.decision.pricer import Pricer
from pricing.demand.model import DemandModel
from pricing.demand.table import DemandTable
from pricing.errors import ConfigError
from pricing.runtime.cli import configure_logging
from simulation.market import Ledger, Market, MarketConfig, record_day, simulate
from simulation.policies import Oracle, static
from simulation.rollforward import Requests, Run, roll_forward
from simulation.shelf import Shelf

TESTS, NO_TESTS, NEVER = "platform, tests", "platform, no tests", "platform, never retrained"
POLICIES = (NO_TESTS, TESTS, NEVER)
FIRST = "day 0"
KNOWING = (FIRST, NO_TESTS, TESTS)  # the models of which it is measured what they know
LATE = 28  # days at the end that are also scored alone
TRAINING = 28  # days between two trainings; a refresh a fortnight lies between
MOVES = 0.25  # largest move that the market takes: draws lie on top of that of the rule, 0.10

EARLY = "few_prices"  # the setting of the shop that starts early
EARLY_HISTORY = 60  # days that it has when the platform begins to price
EARLY_DAYS = 308  # that the platform prices, or the incumbent, before both histories are trained on
EARLY_TRAINING = 56  # days between two trainings, the first after 28
AFTER = 60  # days that both price then
WITH, WITHOUT = "champion since day 60", "incumbent until then"

Record = dict[str, Any]  # a decision, with the fields of the decision log that `find_draws` and `moves` read


class Learner(Platform):
    """The platform as a policy that is trained again on what it sold."""

    def __init__(
        self,
        market: Market,
        config: Config,
        model: DemandModel,
        *,
        trainings: Collection[int],
        withhold: Collection[str] = (),
        tests: bool = False,
    ) -> None:
        """Begins with a model of the market's history.

        `trainings` are days after it on which a new model is trained, where a refresh falls on them. With `tests` the
        price tests on offer are begun, and carried on each Monday.
        """
        self.model = model
        self.log: list[Record] = []
        self._begin = market.config.days
        self._trainings = trainings
        self._tests = tests
        super().__init__(market, config, self._current, withhold=withhold)

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning as the platform does, and logs its decisions."""
        today = requests.date.astype("datetime64[D]").item()
        products = requests.product_id.tolist()
        if self._tests and today.weekday() == 0:
            self.experiments = self._week_of_tests(requests, today)
        answer = super().__call__(requests)

        for product, detailed in zip(products, self.decisions, strict=True):
            asked = detailed.experiment
            self.log.append(
                {
                    "product_id": product,
                    "date": today.isoformat(),
                    "at": today.isoformat(),
                    "current_price": detailed.current_price,
                    "settled": detailed.settled,
                    "decision": {"recommended_price": detailed.decision.recommended_price},
                    "experiment": asked and _drawn(asked),
                }
            )
        return answer

    def _week_of_tests(self, requests: Requests, today: dt.date) -> Experiments:
        """The price tests of a week, planned as a night does, from this morning's prices."""
        current = dict(zip(requests.product_id.tolist(), requests.current_price.tolist(), strict=True))
        price = np.array([current.get(product, np.nan) for product in self.facts.product_ids.tolist()])
        facts = replace(self.facts, price=price, state_date=requests.date.astype("datetime64[D]") - 1)
        pricer = Pricer(self.model.table(), facts, self._config, version="market")
        try:
            planned = week_of_tests(pricer, self.model.table(), facts, known=self.experiments, day=today)
        except ConfigError:  # all is known; what was drawn goes back
            return self.experiments
        return Experiments((planned,))

    def trained(self, panel: Panel) -> DemandModel:
        """A new model of the history and of what was sold since, whose prices and draws the log knows."""
        draws = find_draws(panel, self.log)
        since = panel.dates[self._begin]
        own = NO_SPANS.extended(panel, moves(self.log), since=since).marks(panel, since=since)
        return train(panel, self._config, tested=draws.deviation if draws.used else None, own=own)

    def trained_after(self, run: Run) -> DemandModel:
        """The model trained on all that this policy has sold in a run."""
        sold = pd.concat([run.market.frame(), run.frame()], ignore_index=True)
        return self.trained(build_panel(without(sold, self._withhold), self._config.data, anchors=self._anchors))

    def _current(self, panel: Panel) -> DemandTable:
        sold = len(panel.dates) - self._begin
        if sold in self._trainings:
            self.model = self.trained(panel)
        elif sold:
            self.model = self.model.refresh(panel)
        return self.model.table()


def _drawn(asked: Assignment) -> Record:
    """An assignment as the log has it: without a deviation where nothing was drawn."""
    deviation = {} if asked.deviation is None else {"deviation": asked.deviation}
    return {"name": asked.experiment, **deviation}


def moves(log: Sequence[Record]) -> Moves:
    """The price moves of a log and the days that it covers, as `read_moves` finds them."""
    moved = [record for record in log if record["decision"]["recommended_price"] != record["current_price"]]
    return Moves(
        product_ids=np.array([record["product_id"] for record in moved], np.str_),
        dates=np.array([record["date"] for record in moved], "datetime64[D]"),
        price=np.array([record["decision"]["recommended_price"] for record in moved], np.float64),
        days=np.unique(np.array([record["date"] for record in log], "datetime64[D]")),
    )


def train(panel: Panel, config: Any, **known: Any) -> DemandModel:
    """A model of a panel; `known` is what `fit` takes of draws and of the platform's own prices."""
    from pricing.demand.training import fit  # noqa: PLC0415 - imports TensorFlow

    return fit(panel, config.demand, calendar=holiday_calendar(panel, config.data), **known).model


def first_model(market: Market, config: Config, withhold: Collection[str] = ()) -> DemandModel:
    """A model of a market's history, at its end."""
    return train(build_panel(without(market.frame(), withhold), config.data), config)


def measure(name: str, seed: int, *, options: dict[str, int], config_file: str | None) -> Measured:
    """One market: what each policy earns, and what it knows of the elasticities at the end."""
    config, withhold = load_config(config_file), features(name).withheld
    market = simulate(MarketConfig(seed=seed, **SETTINGS[name] | options))
    days = market.config.future
    model = first_model(market, config, withhold)
    every = range(TRAINING, days, TRAINING)
    learners = {
        NO_TESTS: Learner(market, config, model, trainings=every, withhold=withhold),
        TESTS: Learner(market, config, model, trainings=every, withhold=withhold, tests=True),
        NEVER: Learner(market, config, model, trainings=(), withhold=withhold),
    }
    runs = run_policies(
        market, {STATIC: static, oracle_name(market): Oracle(market), **learners}, ahead=days, max_move=MOVES
    )
    models = {row: learners[row].trained_after(runs[row]) for row in (NO_TESTS, TESTS)}
    asked = [bool(record["experiment"]) for record in learners[TESTS].log]
    found = {
        "setting": name,
        "seed": seed,
        "days": days,
        "oracle": oracle_name(market),
        "scores": by_policy(runs),
        "late": by_policy({row: last_days(run, LATE) for row, run in runs.items()}),
        "known": {row: known(each, market, of=model.product_ids) for row, each in ({FIRST: model} | models).items()},
        "tested": float(np.mean(asked)),
        "refused": {row: int(runs[row].refused.sum()) for row in POLICIES},
        "below_cost": sum(below_cost(runs[row]) for row in POLICIES),
    }
    if name == EARLY:
        found["early"] = measure_early(seed, options, config)
    return found


def measure_early(seed: int, options: dict[str, int], config: Config) -> Measured:
    """A shop whose first model prices from day 60 on, beside the same shop that waits for a year of its own prices."""
    given = options | {"days": EARLY_HISTORY + EARLY_DAYS, "future": AFTER}
    market = simulate(MarketConfig(seed=seed, **SETTINGS[EARLY] | given))
    started = shortened(market, days=EARLY_HISTORY)
    trainings = range(TRAINING, EARLY_DAYS + 1, EARLY_TRAINING)
    champion = Learner(started, config, first_model(started, config), trainings=trainings)
    waited = Learner(market, config, first_model(market, config), trainings=())
    policies = {STATIC: static, oracle_name(market): Oracle(market), WITHOUT: waited}
    runs = run_policies(market, policies, ahead=AFTER)
    # The last training falls on the day on which the other has its first.
    run = roll_forward(started, champion, days=EARLY_DAYS + AFTER, refresh=champion.refresh)
    runs[WITH] = last_days(run, AFTER)
    return {
        "oracle": oracle_name(market),
        "scores": by_policy(runs),
        "known": {
            row: known(each.model, market, of=market.product_ids) for row, each in ((WITH, champion), (WITHOUT, waited))
        },
    }


def shortened(market: Market, *, days: int) -> Market:
    """The same market with its history up to an earlier day; what came after it is its future."""
    config = replace(market.config, days=days, future=market.config.total_days - days)
    ledger = Ledger.blank(0, days, config.total_products)
    short = replace(market, config=config, ledger=ledger, shelf=Shelf.empty(market.supply.lead))
    for day in range(days):
        short.open_day(short.shelf, day=day)
        record_day(short, short.shelf, ledger=ledger, day=day, price=market.ledger.price[day])
    return short


def last_days(run: Run, days: int) -> Run:
    """The last days of a run."""
    stop = len(run.refused)
    return replace(run, ledger=run.ledger.part(stop - days, stop), refused=run.refused[stop - days :])


def by_policy(runs: dict[str, Run]) -> dict[str, Any]:
    """The scores of each policy, by its name."""
    return {row.policy: asdict(row) for row in scores(runs)}


def known(model: DemandModel, market: Market, *, of: Strings) -> dict[str, float]:
    """What a model knows of the elasticities of some products: mean error, mean sd of their logs, inside 80 %."""
    rows = np.flatnonzero(np.isin(model.product_ids, of))
    truth = market.truth.elasticity[np.searchsorted(market.product_ids, model.product_ids[rows])]
    mean, low, high = model.table().elasticities(rows)
    return {
        "mae": float(np.abs(mean - truth).mean()),
        "sd": float(model.elasticity_sd[rows].mean()),
        "inside": float(((truth >= low) & (truth <= high)).mean()),
    }


def report(markets: Sequence[Measured]) -> str:
    """All tables: profit, what is known, and the shop that starts early."""
    groups = grouped(markets)
    early = [market["early"] for market in markets if "early" in market]
    tables = [
        markdown(
            ["setting", "markets", "policy", "profit − static", f"of the last {LATE} days", "share of the oracle's",
             "of the last days", "prices refused"],
            [row for name, some in groups.items() for row in _earned(name, some)],
        ),
        markdown(
            ["setting", f"{TESTS} − {NO_TESTS}", f"of the last {LATE} days", f"{NO_TESTS} − {NEVER}",
             "of the last days", "decisions tested"],
            [_compared(name, some) for name, some in groups.items()],
        ),
        markdown(
            ["setting", *(f"{what}: {row}" for what in ("MAE", "sd", "inside 80 %") for row in KNOWING)],
            [[name, *_known(some, KNOWING)] for name, some in groups.items()],
        ),
    ]  # fmt: skip
    if early:
        head = ["few_prices", "profit − static", "− the other", "share of the oracle's", "MAE", "sd", "inside 80 %"]
        tables.append(markdown(head, [_early(early, row, other) for row, other in ((WITH, WITHOUT), (WITHOUT, WITH))]))
    tables.append(f"Below cost: {sum(market['below_cost'] for market in markets)}.")
    return "\n".join(tables)


def _late(markets: Sequence[Measured]) -> list[Measured]:
    """The markets with the scores of their last days."""
    return [market | {"scores": market["late"]} for market in markets]


def _earned(name: str, markets: Sequence[Measured]) -> list[list[str]]:
    return [
        [
            name,
            str(len(markets)),
            row,
            *(interval(difference(some, STATIC, "gain", of=row), "+.1%") for some in (markets, _late(markets))),
            *(f"{difference(some, STATIC, 'share', of=row)[0]:.2f}" for some in (markets, _late(markets))),
            str(sum(market["refused"][row] for market in markets)),
        ]
        for row in POLICIES
    ]


def _compared(name: str, markets: Sequence[Measured]) -> list[str]:
    gains = [
        interval(difference(some, other, "gain", of=row), "+.2%")
        for row, other in ((TESTS, NO_TESTS), (NO_TESTS, NEVER))
        for some in (markets, _late(markets))
    ]
    return [name, *gains, f"{np.mean([market['tested'] for market in markets]):.0%}"]


def _known(markets: Sequence[Measured], rows: Sequence[str]) -> list[str]:
    return [
        f"{np.mean([market['known'][row][what] for market in markets]):{form}}"
        for what, form in (("mae", ".2f"), ("sd", ".2f"), ("inside", ".0%"))
        for row in rows
    ]


def _early(markets: Sequence[Measured], row: str, other: str) -> list[str]:
    gains = [interval(difference(markets, base, "gain", of=row), "+.1%") for base in (STATIC, other)]
    return [row, *gains, f"{difference(markets, STATIC, 'share', of=row)[0]:.2f}", *_known(markets, [row])]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    configure_logging()
    options = parser("learning", __doc__)
    options.add_argument("--days", type=int, default=120, help="days that the policies price")
    options.add_argument("--history", type=int, default=None, help="days of history instead of a setting's own number")
    given = options.parse_args(argv)
    markets = measure_all(given, measure, days=given.history, future=given.days)
    print(measured())
    print(report(markets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
