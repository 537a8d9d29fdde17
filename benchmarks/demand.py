"""Measure what the demand model earns on markets whose truth is known, beside plain rules, a reference and the truth.

python -m benchmarks.demand --family foreign --jobs 2      a family's settings on held-out seeds
python -m benchmarks.demand --settings clearance --seeds 2 --development true      one setting, development seeds

Prints the tables of demand.md, which says what each row is.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.confidence import Judged, figures, table
from benchmarks.demand_settings import SETTINGS
from benchmarks.reference import PLAIN_DAMPING, MarkUp, reference_elasticities
from benchmarks.table import markdown, measured, spread
from pipelines.calendar import holiday_calendar
from pipelines.market import PLATFORM, STATIC, PolicyEntry, oracle_name, run_policies, scores, standard_policies
from pipelines.market_platform import OPTIONAL, Platform, without
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.grades import GRADES
from pricing.demand.model import DemandModel
from pricing.demand.table import DemandTable
from pricing.runtime.cli import job_options, run_main
from simulation.market import BAND
from simulation.protocol import SimulatedMarket
from simulation.rollforward import MAX_MOVE, Requests, Run
from simulation.supply import Shelf

PLAIN, REFERENCE = "plain rule, our elasticities", "reference"
KEPT = (STATIC, "rules", "true elasticities")
AGAINST = (STATIC, PLAIN, REFERENCE)
GRADED = ("own_history", "tested")  # grades that claim to know a product's own elasticity
MARK_UP_LIMITS = (-8.0, -1.05)  # elasticities that a mark-up rule can use, as the reference has them
AT_LIMIT = 0.005  # a price this near to a limit, as a fraction of it, stands at it: endings and rounding
WORTH_SHARING = 0.03  # the oracle's gain over static below which shares of it say nothing
LEVEL = 0.90  # of the intervals over seeds

Measured = dict[str, Any]  # what `measure` found on one market


@dataclass(frozen=True)
class Plan:
    """How every market of a run is measured.

    Attributes:
        ahead: Days that the policies price.
        config: A file laid over the default configuration; None for the default.
        withhold: Optional columns that the platform does not get; the other rows get everything.
        size: `products` and `days` of the markets where they are not the setting's own.
    """

    ahead: int = 60
    config: str | None = None
    withhold: tuple[str, ...] = ()
    size: dict[str, int] = field(default_factory=dict)


def carried(
    market: SimulatedMarket, model: DemandModel, config: Config, *, history: pd.DataFrame, withhold: tuple[str, ...]
) -> PolicyEntry:
    """A model as a policy through the code that serves; its states are carried forward at each refresh."""
    state = {"model": model}

    def forward(panel: Panel) -> DemandTable:
        state["model"] = state["model"].refresh(panel)
        return state["model"].table()

    platform = Platform(market, config, forward, frame=history, max_move=MAX_MOVE, withhold=withhold)
    return PolicyEntry(platform, platform.refresh)


def measure(name: str, seed: int, plan: Plan) -> Measured:
    """One market: elasticities and profit of the platform, plain rules, the reference and the truth."""
    from pricing.demand.training import fit  # noqa: PLC0415 - imports TensorFlow

    config = load_config(plan.config)
    market = SETTINGS[name].market(seed, size=plan.size | {"future": plan.ahead})
    history = market.frame()
    panel = build_panel(without(history, plan.withhold), config.data)
    truth = market.truth.elasticity[np.searchsorted(market.product_ids, panel.product_ids)]
    model = fit(panel, config.demand, calendar=holiday_calendar(panel, config.data)).model
    own, low, high = model.table().elasticities(np.arange(len(truth)))
    reference = reference_elasticities(history)
    theirs = reference["elasticity"].reindex(panel.product_ids).fillna(reference["elasticity"].mean()).to_numpy()

    ready = standard_policies(market, config, max_move=MAX_MOVE)
    oracle = oracle_name(market)
    entries = {row: ready[row] for row in (*KEPT, oracle)}
    entries[REFERENCE] = _mark_up(MarkUp(history, reference))
    entries[PLAIN] = _mark_up(MarkUp(history, _as_frame(own, panel, history), damping=PLAIN_DAMPING))
    ours = carried(market, model, config, history=history, withhold=plan.withhold)
    grade = dict(zip(panel.product_ids.tolist(), np.asarray(model.grade).astype(int).tolist(), strict=True))
    watched = Watched(ours, Judged(market, config.decision.hold_step), grade)
    entries[PLATFORM] = PolicyEntry(watched, ours.refresh)
    runs = run_policies(market, entries, ahead=plan.ahead, max_move=MAX_MOVE)
    inside = (truth >= low) & (truth <= high)
    estimates = {
        PLATFORM: own,
        REFERENCE: theirs,
        "category means of the reference": _category_mean(theirs, panel.categories),
        "one for all, the truth's mean": np.full(len(truth), truth.mean()),
    }
    units = np.nansum(panel.units_sold[:, -365:], axis=1, dtype=np.float64)
    return {
        "seed": seed,
        "truth": float(truth.mean()),
        "oracle": oracle,
        "inside_80": float(inside.mean()),
        "estimates": {row: _errors(values, truth) for row, values in estimates.items()},
        "grades": by_grade(np.asarray(model.grade), error=own - truth, inside=inside, units=units),
        "scores": [asdict(row) for row in scores(runs)],
        "refused": int(runs[PLATFORM].refused.sum()),
        "below_cost": below_cost(runs[PLATFORM]),
        "limits": watched.limits(),
        "confidence": watched.judged.histograms(),
    }


class Watched:
    """The platform's policy, whose every decision is judged and held against its limits on the way.

    Attributes:
        judged: The decisions with what they claimed and whether it was so.
    """

    def __init__(self, entry: PolicyEntry, judged: Judged, grade: dict[str, int]) -> None:
        self._policy, self.judged, self._grade = entry.policy, judged, grade
        self._shelf = judged.market.shelf
        self._counts: list[dict[str, int]] = []  # one a morning

    def observe_shelf(self, shelf: Shelf) -> None:
        """Shown the morning's shelf, by which the decisions are judged."""
        self._shelf = shelf

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning as the platform does."""
        answer = self._policy(requests)
        policy = self._policy
        self.judged.add(requests, policy.decisions, allowed=policy.allowed, shelf=self._shelf)  # type: ignore[attr-defined]
        ratio, move = answer / requests.list_price, answer / requests.current_price
        at_band = (ratio < BAND[0] * (1 + AT_LIMIT)) | (ratio > BAND[1] * (1 - AT_LIMIT))
        largest = np.inf if requests.max_move is None else requests.max_move
        at_move = ~at_band & (np.abs(move - 1) > largest - AT_LIMIT)
        blind = np.array([self._grade.get(product, 0) == 0 for product in requests.product_id])
        counts = {
            "decisions": len(answer),
            "band": int(at_band.sum()),
            "max_move": int(at_move.sum()),
            "prior_only": int(blind.sum()),
            "prior_only_moved": int((blind & (np.abs(move - 1) > AT_LIMIT)).sum()),
        }
        self._counts.append(counts)
        return answer

    def limits(self) -> dict[str, int]:
        """Decisions, and how many stood at a limit or moved on a prior alone: by their grade, or without one."""
        return {key: sum(counts[key] for counts in self._counts) for key in self._counts[0]}


def by_grade(grade: np.ndarray, *, error: Floats, inside: np.ndarray, units: Floats) -> dict[str, dict[str, float]]:
    """What each identification grade's elasticities are worth.

    Args:
        grade: (product,) index into `GRADES`.
        error: (product,) estimated less true elasticity.
        inside: (product,) whether the truth is inside the 80 % interval.
        units: (product,) units of the last year.

    Returns:
        Grade → products, share of units, mean absolute error, bias, share inside; without grades that no product has.
    """
    out = {}
    for number, name in enumerate(GRADES):
        some = grade == number
        if some.any():
            out[name] = {
                "products": int(some.sum()),
                "units": float(units[some].sum() / max(units.sum(), 1e-9)),
                "mae": float(np.abs(error[some]).mean()),
                "bias": float(error[some].mean()),
                "inside_80": float(inside[some].mean()),
            }
    return out


def _mark_up(rule: MarkUp) -> PolicyEntry:
    return PolicyEntry(rule, rule.refresh)


def _as_frame(elasticity: Floats, panel: Panel, history: pd.DataFrame) -> pd.DataFrame:
    """Elasticities as a mark-up rule takes them; the categories are the market's, which the rule is not denied."""
    index = pd.Index(panel.product_ids, name="product_id")
    category = history.groupby("product_id")["category"].last().reindex(index)
    return pd.DataFrame({"elasticity": np.clip(elasticity, *MARK_UP_LIMITS), "category": category}, index=index)


def below_cost(run: Run) -> int:
    """Product-days whose price lay below cost by more than its rounding to cents."""
    days = slice(run.ledger.first_day, run.ledger.first_day + len(run.ledger.price))
    return int((run.on_sale & (run.ledger.price < run.market.world.unit_cost[days] - 0.005001)).sum())


def _category_mean(values: np.ndarray, categories: np.ndarray) -> np.ndarray:
    return pd.Series(values).groupby(pd.Series(categories)).transform("mean").to_numpy()


def _errors(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    rank = stats.spearmanr(values, truth)[0] if np.ptp(values) > 1e-9 else 0.0
    return {
        "mae": float(np.abs(values - truth).mean()),
        "bias": float((values - truth).mean()),
        "rank": float(rank),
    }


# The tables


def difference(
    markets: list[Measured], other: str, key: Literal["gain", "share"], *, by_seed: bool = False
) -> tuple[float, float, float]:
    """Mean over seeds of the platform's figure less another's in the same market, and its 90 % interval.

    Student's t over seeds; with one seed the interval is NaN. A "gain" is in shares of static's profit, a "share" is
    of the oracle's gain, which counts only the seeds where that is at least 3 %; NaN where there is none.
    With `by_seed` markets of one seed, which share their world, are averaged first.
    """
    counted = [market for market in markets if key == "gain" or _gain_of_oracle(market) >= WORTH_SHARING]
    values = np.array([_row(market, PLATFORM)[key] - _row(market, other)[key] for market in counted])
    if by_seed:
        seeds = np.array([market["seed"] for market in counted])
        values = np.array([values[seeds == seed].mean() for seed in np.unique(seeds)])
    if not len(values):
        return (float("nan"),) * 3
    mean = float(values.mean())
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def summary(results: Mapping[str, list[Measured]]) -> str:
    """A row for each setting, and one for all markets of a family: what one setting's few seeds cannot tell."""
    families: dict[str, list[Measured]] = {}
    for name, markets in results.items():
        families.setdefault(SETTINGS[name].family, []).extend(markets)
    head = ["setting", "markets", "oracle − static"]
    head += [f"platform − {other}" for other in AGAINST] + [f"− {other}, share" for other in AGAINST[1:]]
    head += ["units by grade", "inside 80 %, graded", "at the band"]
    head += ["moves: right, calibration error, skill", "holds"]
    rows = [_summary_row(name, markets, by_seed=False) for name, markets in results.items()]
    rows += [_summary_row(f"**{name}**", markets, by_seed=True) for name, markets in sorted(families.items())]
    return markdown(head, rows)


def _summary_row(name: str, markets: list[Measured], *, by_seed: bool) -> list[str]:
    gains = [_interval(difference(markets, other, "gain", by_seed=by_seed), "+.1%") for other in AGAINST]
    shares = [_interval(difference(markets, other, "share", by_seed=by_seed), "+.2f") for other in AGAINST[1:]]
    limits = _summed(markets)
    grades = {one: _of_grade(markets, (one,)) for one in GRADES}
    units = ", ".join(f"{one} {part['units']:.0%}" for one, part in grades.items() if part)
    graded = _of_grade(markets, GRADED)
    claims = [figures([market["confidence"] for market in markets], kind) for kind in ("moves", "holds")]
    return [
        *(name, str(len(markets)), f"{np.mean([_gain_of_oracle(market) for market in markets]):+.1%}"),
        *(*gains, *shares, units, f"{graded['inside_80']:.0%}" if graded else "–"),
        f"{limits['band'] / limits['decisions']:.1%}",
        *(
            f"{one['right']:.0%}, {one['calibration_error']:.3f}, {one['brier_skill']:+.3f}"
            if one["decisions"]
            else "–"
            for one in claims
        ),
    ]


def section(name: str, markets: list[Measured], *, development: bool) -> str:
    """One setting's policies, elasticities, grades and confidence."""
    worth = [market for market in markets if _gain_of_oracle(market) >= WORTH_SHARING]
    policies = sorted((row["policy"] for row in markets[0]["scores"]), key=lambda one: _mean(markets, one, "gain"))
    told = [
        [
            policy,
            spread([_row(market, policy)["gain"] for market in markets], "+.1%"),
            spread([_row(market, policy)["share"] for market in worth], ".2f"),
            f"{_mean(markets, policy, 'stock_turns'):.1f}",
            f"{_mean(markets, policy, 'discount_depth'):.1%}",
            f"{_mean(markets, policy, 'price_changes'):.1f}",
        ]
        for policy in policies
    ]
    errors = [
        [estimate, *(spread([m["estimates"][estimate][key] for m in markets], form) for key, form in FORMS.items())]
        for estimate in markets[0]["estimates"]
    ]
    grades = [
        [
            *(name, f"{part['products']:.0f}", f"{part['units']:.0%}", f"{part['mae']:.2f}", f"{part['bias']:+.2f}"),
            f"{part['inside_80']:.0%}",
        ]
        for name in GRADES
        if (part := _of_grade(markets, (name,)))
    ]
    claims = []
    for kind in ("moves", "holds"):
        confidence = [market["confidence"] for market in markets]
        one = figures(confidence, kind)
        row = [kind, f"{one['decisions']:,}", f"{one['right']:.1%}", f"{one['calibration_error']:.3f}"]
        claims.append([*row, f"{one['brier_skill']:+.3f}", *([str(table(confidence, kind))] if development else [])])
    limits = _summed(markets)
    blind = limits["prior_only"]
    moved = f"; {limits['prior_only_moved'] / blind:.1%} of those on a prior alone moved" if blind else ""
    return "\n".join(
        [
            f"## {name}: {SETTINGS[name].title}\n",
            markdown(["policy", "profit over static", "share", "turns", "discount", "changes"], told),
            markdown(["elasticities", "MAE", "bias", "rank correlation"], errors),
            markdown(["grade", "products", "share of units", "MAE", "bias", "inside 80 % interval"], grades),
            markdown(
                ["confidence", "decisions", "right", "calibration error", "Brier skill", *["table"] * development],
                claims,
            ),
            f"Seeds {', '.join(str(market['seed']) for market in markets)}; true mean "
            f"{np.mean([market['truth'] for market in markets]):.2f}; inside their 80 % interval: "
            f"{np.mean([market['inside_80'] for market in markets]):.0%}. Refused by the market: "
            f"{sum(market['refused'] for market in markets)}; below cost: "
            f"{sum(market['below_cost'] for market in markets)}. At the largest move: "
            f"{limits['max_move'] / limits['decisions']:.1%}{moved}.\n",
        ]
    )


FORMS = {"mae": ".2f", "bias": "+.2f", "rank": ".2f"}


def _of_grade(markets: list[Measured], names: tuple[str, ...]) -> dict[str, float]:
    """Figures of the products of some grades in all markets; units are a share of all; empty without such products."""
    parts = [market["grades"][name] for market in markets for name in names if name in market["grades"]]
    if not parts:
        return {}
    products = np.array([part["products"] for part in parts], dtype=np.float64)
    out = {
        key: float(np.average([part[key] for part in parts], weights=products)) for key in ("mae", "bias", "inside_80")
    }
    units = sum(part["units"] for part in parts) / len(markets)
    return out | {"products": float(products.sum()), "units": float(units)}


def _summed(markets: list[Measured]) -> dict[str, int]:
    return {key: sum(market["limits"][key] for market in markets) for key in markets[0]["limits"]}


def _interval(found: tuple[float, float, float], form: str) -> str:
    mean, low, high = found
    if np.isnan(mean):
        return "–"
    return f"{mean:{form}}" if np.isnan(low) else f"{mean:{form}} ({low:{form}} to {high:{form}})"


def _gain_of_oracle(market: Measured) -> float:
    return float(_row(market, market["oracle"])["gain"])


def _row(market: Measured, policy: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in market["scores"] if row["policy"] == policy)
    return found


def _mean(markets: list[Measured], policy: str, key: str) -> float:
    return float(np.mean([_row(market, policy)[key] for market in markets]))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = _options(argv)
    names = options.settings or [
        name for name, setting in SETTINGS.items() if options.family in (setting.family, "both")
    ]
    plan = Plan(
        ahead=options.ahead,
        config=options.config,
        withhold=tuple(options.withhold),
        size={name: value for name in ("products", "days") if (value := getattr(options, name)) is not None},
    )
    tasks = [
        (name, seed)
        for name in names
        for seed in SETTINGS[name].seeds(development=options.development)[options.skip :][: options.seeds]
    ]
    results: dict[str, list[Measured]] = {name: [] for name in names}
    print(measured())
    for name, market in _measured(tasks, plan, jobs=options.jobs):
        results[name].append(market)
        print(f"{name}, seed {market['seed']} done", file=sys.stderr, flush=True)
        if len(results[name]) == sum(task[0] == name for task in tasks):  # printed early: a run takes hours
            results[name].sort(key=lambda one: one["seed"])
            print(section(name, results[name], development=options.development), flush=True)
    print(summary(results))
    return 0


def _measured(tasks: Sequence[tuple[str, int]], plan: Plan, *, jobs: int) -> Iterator[tuple[str, Measured]]:
    """Measures (setting, seed) markets as they get done, in this process or in `jobs` fresh ones at once."""
    if jobs == 1:
        for name, seed in tasks:
            yield name, measure(name, seed, plan)
        return
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, "1")  # the processes share the cores, so that each must keep to one
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measure, name, seed, plan): name for name, seed in tasks}
        for one in as_completed(running):
            yield running[one], one.result()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = job_options("demand", "Measures the demand model on markets with known truth.", sales=False)
    options.prog = "python -m benchmarks.demand"
    options.add_argument(
        "--family", choices=("default", "foreign", "both"), default="both", help="the settings of which family"
    )
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=None, help="or these settings")
    options.add_argument("--seeds", type=int, default=5, help="seeds of each setting")
    options.add_argument("--skip", type=int, default=0, help="seeds at the front to leave out: scored before")
    options.add_argument("--ahead", type=int, default=60, help="days that the policies price")
    options.add_argument("--products", type=int, default=None, help="products instead of a setting's own number")
    options.add_argument("--days", type=int, default=None, help="days of history instead of a setting's own number")
    options.add_argument(
        "--withhold", nargs="+", choices=OPTIONAL, default=[], help="columns that the platform does not get"
    )
    options.add_argument("--jobs", type=int, default=1, help="markets at once, each in a process of its own")
    options.add_flag("--development", help="the seeds that settings are chosen on, and their calibration tables")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
