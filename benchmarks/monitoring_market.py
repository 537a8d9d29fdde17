"""What monitoring is worth on the simulated market: a shop that the platform prices night after night.

Each night the day's sales are added and the states carried forward, as `nightly` does. What differs is who retrains:
nobody, the rules of monitoring, or the calendar. Decisions go through the pricer and
the log's own lines; the promise that decay is judged by is the backtest of the version that serves.
"""

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

from monitoring import performance
from monitoring.decisions import tabulate
from monitoring.evaluate import rules
from monitoring.outcomes import join
from monitoring.policy import JobHistory, PolicyOutcome, Situation, decide
from pipelines.evaluation import described
from pipelines.market_platform import price_requests
from pipelines.refresh import carry_facts
from pricing.arrays import Floats
from pricing.config import Config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.decision.pricer import Pricer
from pricing.decision.product_facts import ProductFacts
from pricing.decision_log.format import SCHEMA, LogEntry, LogReading
from pricing.demand.backtest import backtest
from pricing.demand.intervals import Width
from pricing.demand.model import DemandModel
from pricing.demand.training import OutOfFold, train
from simulation.market import Market, MarketConfig, simulate
from simulation.policies import static
from simulation.rollforward import Requests, Run, roll_forward

PRODUCTS, HISTORY, AHEAD, CHANGE = 16, 540, 84, 21
RECENT = np.timedelta64(70, "D")  # enough for states' tail, the join's four weeks before and the windows looked at
EVERY = 14  # days between two retrainings by the calendar, which stands in for one each night
Who = Literal["nobody", "monitoring", "calendar"]


@dataclass(frozen=True)
class Learnt:
    """A trained version: its model, its facts, and what its backtest promises."""

    model: DemandModel
    facts: ProductFacts
    figures: dict[str, Any]


@dataclass
class Seen:
    """What one shop's nights came to: nights of retraining, nights of calling a person."""

    retrained: list[int] = field(default_factory=list)
    paged: list[int] = field(default_factory=list)
    breached: list[int] = field(default_factory=list)


def learn(panel: Panel, config: Config, *, level: Learnt | None = None) -> Learnt:
    """Trains as `retrain` does; with `level`, the backtest is that of an earlier version, which saves its time."""
    demand = config.demand
    if level is not None:
        model = train(
            panel,
            demand,
            out_of_fold=OutOfFold(
                Width(level.model.level_error, level.model.combination.dispersion), level.model.combination.weights
            ),
        )
        return Learnt(model, ProductFacts.from_panel(panel), level.figures)
    evaluated = backtest(panel, demand)
    model = train(panel, demand, out_of_fold=evaluated.out_of_fold)
    return Learnt(model, ProductFacts.from_panel(panel), described(evaluated.frame, evaluated.figures, panel)[1])


class Shop:
    """A policy of the market: prices each morning, logs, and spends each night as the platform does."""

    def __init__(self, market: Market, config: Config, first: Learnt, *, who: Who) -> None:
        """Opens the shop.

        Args:
            market: Only `market.frame()` is read.
            config: The platform's configuration.
            first: The version that serves on the first day.
            who: Who retrains.
        """
        self._config, self._who = config, who
        self._frame = market.frame()
        self._first, self._serving, self._facts = first, first, first.facts
        self._model = first.model
        self.entries: list[LogEntry] = []
        self._records: list[dict[str, Any]] = []
        self._night = 0
        self.seen = Seen()
        self._open()

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning and logs the decisions."""
        today: dt.date = requests.date.astype("datetime64[D]").item()
        asked = price_requests(requests)
        detailed = self._pricer.price_detailed(asked, today=today)
        at = dt.datetime.combine(today, dt.time(6), tzinfo=dt.UTC)
        for request, one in zip(asked, detailed, strict=True):
            entry = LogEntry(request=request, at=at, **one._asdict())
            self.entries.append(entry)
            line = json.loads(entry.encode())
            self._records.append({"schema": SCHEMA, "worker": "w", "sequence": len(self._records) + 1, **line})
        return np.array([one.decision.recommended_price for one in detailed])

    def night(self, rows: pd.DataFrame) -> None:
        """Sales in, monitoring looks, a retraining when it is due, states go forward."""
        self._night += 1
        self._frame = pd.concat([self._frame, rows], ignore_index=True)
        recent = build_panel(self._frame[self._frame["date"] > self._frame["date"].max() - RECENT], self._config.data)
        if self._who == "calendar" and self._night % EVERY == 0:
            self._retrain()
        if self._who == "monitoring":
            outcome = self._look(recent)
            if outcome.action == "page":
                self.seen.paged.append(self._night)
            if outcome.action == "retrain":
                self._retrain()
        self._facts = carry_facts(self._facts, recent, recent, kept=recent, whole=False)
        self._model = self._model.refresh(recent)
        self._open()

    def _look(self, panel: Panel) -> PolicyOutcome:
        """What the rules say tonight."""
        monitoring = self._config.monitoring
        joined = join(_table(self._records, after=panel.dates[0]), panel).frame
        promised = performance.band(self._serving.figures, monitoring)
        last = panel.dates[-1]
        days, count = monitoring.score_window, monitoring.windows
        verdicts = [
            performance.judge(
                performance.score(rows, name=name, rng=np.random.default_rng(self._night)), promised, min_rows=MIN_ROWS
            )
            for name, rows in performance.windows(joined, last=last, days=days, count=count)
        ]
        now = pd.Timestamp(last).to_pydatetime().replace(tzinfo=dt.UTC)
        retrained = now - dt.timedelta(days=self._night - self.seen.retrained[-1]) if self.seen.retrained else None
        situation = Situation(
            now=now,
            decayed=tuple(bool(one.breaches) if one.judged else None for one in verdicts),
            why="; ".join(breach.text for breach in verdicts[-1].breaches),
            window_days=monitoring.score_window,
            drifted=None,
            state_age=1,
            silent_days=0,
            share_rule=float((joined["source"] == "rule").mean()),
            broken=(),
        )
        if verdicts[-1].breaches:
            self.seen.breached.append(self._night)
        return decide(situation, JobHistory(retrained=retrained), rules(monitoring))

    def _retrain(self) -> None:
        """As `retrain`, but for the backtest: the first version's stands in, which spares half of the time."""
        self.seen.retrained.append(self._night)
        panel = build_panel(self._frame, self._config.data)
        self._serving = learn(panel, self._config, level=self._first)
        self._model, self._facts = self._serving.model, self._serving.facts

    @property
    def elasticity(self) -> Floats:
        """(product,) what the serving model takes elasticities to be, in the order of the market's products."""
        return np.asarray(self._model.norms.elasticity, dtype=np.float64)

    def _open(self) -> None:
        self._pricer = Pricer(self._model, self._facts, self._config, version=str(len(self.seen.retrained) + 1))


MIN_ROWS = 50


def markets(seed: int, *, fall: float = 0.0) -> tuple[Market, Market]:
    """A market that stays as it is, and the same one with a regime change CHANGE days after the history.

    Args:
        seed: Of the market.
        fall: Fraction by which demand for every product falls with the change, beside what the change itself does.
    """
    calm = MarketConfig(products=PRODUCTS, days=HISTORY, future=AHEAD, seed=seed, unseen=0.0)
    changed = simulate(dataclasses.replace(calm, regime_change=True, regime_lead=-CHANGE))
    changed.truth.level[changed.config.regime_day :] += np.log1p(-fall)
    return simulate(calm), changed


def live(market: Market, shop: Shop) -> Run:
    """All nights of a shop."""
    return roll_forward(market, shop, days=AHEAD, refresh=shop.night, every=1, max_move=None)


def hold(market: Market) -> Run:
    """Nobody prices: list prices."""
    return roll_forward(market, static, days=AHEAD)


def measure(seed: int, config: Config, *, fall: float) -> dict[str, Any]:
    """One market with and without a regime change, and what each way of retraining earned in it."""
    calm, changed = markets(seed, fall=fall)
    first = learn(build_panel(calm.frame(), config.data), config)
    ways: dict[str, Who] = {"never": "nobody", "monitoring": "monitoring", "fortnightly": "calendar"}
    result: dict[str, Any] = {"seed": seed, "fall": fall, "backtest": first.figures["wape_mean"], "changed": {}}
    for name, who in ways.items():
        result["changed"][name] = lived(changed, Shop(changed, config, first, who=who), regime=1)
    result["calm"] = {"monitoring": lived(calm, Shop(calm, config, first, who="monitoring"), regime=0)}
    return result


def lived(market: Market, shop: Shop, *, regime: int) -> dict[str, Any]:
    """What a shop earned from the day of the change on, beside list prices, and what it did."""
    earned = live(market, shop).earned[CHANGE:].sum()
    return {
        "gain": float(earned / hold(market).earned[CHANGE:].sum() - 1),
        "elasticity_error": float(np.abs(shop.elasticity + market.truth.slope[regime]).mean()),
        **dataclasses.asdict(shop.seen),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """A table of the ways of retraining: means over the seeds that have them, with 95 % intervals (Student's t)."""
    lines = ["| who retrains | seeds | times | profit over list prices | over never retraining | elasticity error |"]
    lines += ["|---|---|---|---|---|---|"]
    for name in dict.fromkeys(name for one in results for name in one["changed"]):
        runs = [(one["changed"][name], one["changed"]["never"]) for one in results if name in one["changed"]]
        gain, never = (np.array([1 + run[which]["gain"] for run in runs]) for which in (0, 1))
        lines.append(
            f"| {name} | {len(runs)} | {np.mean([len(run['retrained']) for run, _ in runs]):.1f} "
            f"| {_mean(gain - 1, '+.1%')} | {_mean(gain / never - 1, '+.1%')} "
            f"| {np.mean([run['elasticity_error'] for run, _ in runs]):.2f} |"
        )
    waits = [one["changed"]["monitoring"]["retrained"] for one in results if "monitoring" in one["changed"]]
    days = ", ".join(str(nights[0] - CHANGE) if nights else "never" for nights in waits)
    calm = [one["calm"]["monitoring"]["retrained"] for one in results if "calm" in one]
    false, years = sum(len(nights) for nights in calm), len(calm) * AHEAD / 365
    return "\n".join(
        [*lines, "", f"Days until monitoring retrained: {days}. Without a change: {false} in {years:.1f} years."]
    )


def _mean(values: Floats, form: str) -> str:
    if len(values) < 2:
        return f"{values.mean():{form}}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():{form}} ± {half:{form.replace('+', '')}}"


def _table(records: list[dict[str, Any]], *, after: np.datetime64) -> pd.DataFrame:
    newest = [record for record in records if record["date"] >= str(after)]
    return tabulate(LogReading(newest, 0, 0, 0), now=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))[0]
