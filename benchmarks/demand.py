"""Measure what the demand model earns on markets whose truth is known, beside plain rules, a reference and the truth.

python -m benchmarks.demand --skip 10 --seeds 8 --jobs 2      every setting on held-out seeds
python -m benchmarks.demand --settings clearance --seeds 2 --development      one setting, development seeds

Every market is a file of `--output`, which a second run takes up. Prints the tables of demand.md, which says what each
row is.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.confidence import Judged, figures, slopes
from benchmarks.reference import PLAIN_DAMPING, MarkUp, reference_elasticities
from benchmarks.table import markdown, measured
from pipelines.market import PLATFORM, STATIC, Platform, oracle_name, run_policies, scores, standard_policies, without
from pipelines.steps.sales import holiday_calendar
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.grades import CATEGORY, GRADES
from pricing.demand.model import DemandModel
from pricing.demand.shrinkage import PRIOR_SD
from pricing.demand.table import DemandTable
from pricing.paths import pricing_home
from pricing.runtime.cli import configure_logging
from simulation.config import BAND, DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from simulation.kinds import KINDS, Kind
from simulation.market import Market, MarketConfig, simulate
from simulation.rollforward import CENT, Requests, Run
from simulation.shelf import Shelf
from tests.kit.true_elasticities import TrueElasticityDemand

PLAIN, KNOWN, REFERENCE = "plain rule, our elasticities", "plain rule, as far as known", "reference"
TRUE = "true elasticities"
AGAINST = (STATIC, PLAIN, KNOWN, REFERENCE)
MARK_UP_LIMITS = (-30.0, -1.05)  # elasticities that a mark-up rule can use
AT_LIMIT = 0.005  # a price this near to a limit, as a fraction of it, stands at it: endings and rounding
LEVEL = 0.90  # of the intervals over markets

Measured = dict[str, Any]  # what `measure` found on one market
Alter = Callable[[DemandTable], DemandTable]
# Options of each kind of market, by the name that tables have for it.
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "inelastic": {"mean_elasticity": -1.6},
    "elastic": {"mean_elasticity": -3.5},
    **{name: {"kind": name} for name in KINDS if name != "default"},
}


def features(name: str) -> Kind:
    """The kind of a setting's markets."""
    return KINDS[SETTINGS[name].get("kind", "default")]


def carried(
    market: Market,
    model: DemandModel,
    config: Config,
    *,
    withhold: tuple[str, ...],
    alter: Alter = lambda table: table,
) -> Platform:
    """A model as a policy through the code that serves; its states are carried forward at each refresh."""
    state = {"model": model}

    def forward(panel: Panel) -> DemandTable:
        state["model"] = state["model"].refresh(panel)
        return alter(state["model"].table())

    return Platform(market, config, forward, withhold=withhold)


def measure(name: str, seed: int, *, options: dict[str, int], config_file: str | None) -> Measured:
    """One market: elasticities and profit of the platform, plain rules, the reference and the truth."""
    from pricing.demand.training import fit  # noqa: PLC0415 - imports TensorFlow

    config, withhold = load_config(config_file), features(name).withheld
    market = simulate(MarketConfig(seed=seed, **SETTINGS[name] | options))
    history = market.frame()
    panel = build_panel(without(history, withhold), config.data)
    truth = market.truth.elasticity[np.searchsorted(market.product_ids, panel.product_ids)]
    model = fit(panel, config.demand, calendar=holiday_calendar(panel, config.data)).model
    own, low, high = model.table().elasticities(np.arange(len(truth)))
    reference = reference_elasticities(history)
    theirs = reference["elasticity"].reindex(panel.product_ids).fillna(reference["elasticity"].mean()).to_numpy()
    known = np.minimum(1.0, 2.0 * np.maximum(1.0 - (model.elasticity_sd / PRIOR_SD) ** 2, 0.0))
    far = dict(zip(panel.product_ids.tolist(), (config.decision.step * known).tolist(), strict=True))

    ready = standard_policies(market, config)
    known_true = Platform(market, config, partial(TrueElasticityDemand, market))
    policies = {STATIC: ready[STATIC], TRUE: known_true, oracle_name(market): ready[oracle_name(market)]}
    assumed = 1 - config.data.margin["default"] if "unit_cost" in withhold else None
    ours = _as_frame(own, panel, history)
    for row, elasticities, damping in ((REFERENCE, reference, 0.5), (PLAIN, ours, PLAIN_DAMPING), (KNOWN, ours, far)):
        policies[row] = MarkUp(history, elasticities, damping=damping, assumed_cost=assumed)
    watched = Watched(carried(market, model, config, withhold=withhold), Judged(market))
    policies[PLATFORM] = watched
    for row, (changed, alter) in variants(config).items():
        policies[row] = carried(market, model, changed, withhold=withhold, alter=alter)
    runs = run_policies(market, policies, ahead=market.config.future)
    grade, inside = np.asarray(model.grade), (truth >= low) & (truth <= high)
    return {
        "setting": name,
        "seed": seed,
        "truth": float(truth.mean()),
        "oracle": oracle_name(market),
        "inside_80": float(inside.mean()),
        "estimates": {row: _errors(values, truth) for row, values in {PLATFORM: own, REFERENCE: theirs}.items()},
        "grades": {name: float((grade == number).mean()) for number, name in enumerate(GRADES)},
        "scores": {row.policy: asdict(row) for row in scores(runs)},
        "refused": int(runs[PLATFORM].refused.sum()),
        "below_cost": below_cost(runs[PLATFORM]),
        "limits": watched.limits(),
        "confidence": watched.judged.histograms(),
    }


def variants(config: Config) -> dict[str, tuple[Config, Alter]]:
    """The platform with one of its rules taken away; name → configuration, and what is changed of the table."""

    def changed(**decision: Any) -> Config:
        return config.model_copy(update={"decision": config.decision.model_copy(update=decision)})

    def moving(table: DemandTable) -> DemandTable:
        return replace(table, grade=np.maximum(table.grade, CATEGORY).astype(np.int8))

    seen = config.decision.guardrails.model_copy(update={"seen": None})
    return {
        "platform, no menu cost": (changed(menu_cost=0.0), lambda table: table),
        "platform, beyond prices seen": (changed(guardrails=seen), lambda table: table),
        "platform, unsure moves made": (changed(confidence_threshold=0.0), lambda table: table),
        "platform, no grade stops": (config, moving),
    }


class Watched:
    """The platform's policy, whose every decision is judged and held against its limits on the way."""

    def __init__(self, platform: Platform, judged: Judged) -> None:
        self._platform, self.judged, self.refresh = platform, judged, platform.refresh
        self._shelf = judged.market.shelf
        self._counts: list[tuple[int, int, int]] = []  # a morning's decisions, at the band, at the largest move

    def observe_shelf(self, shelf: Shelf) -> None:
        """Shown the morning's shelf, by which the decisions are judged."""
        self._shelf = shelf

    def __call__(self, requests: Requests) -> Floats:
        """Prices a morning as the platform does."""
        answer = self._platform(requests)
        self.judged.add(requests, self._platform.decisions, shelf=self._shelf)
        ratio, move = answer / requests.list_price, answer / requests.current_price
        at_band = (ratio < BAND[0] * (1 + AT_LIMIT)) | (ratio > BAND[1] * (1 - AT_LIMIT))
        at_move = ~at_band & (np.abs(move - 1) > (requests.max_move or np.inf) - AT_LIMIT)
        self._counts.append((len(answer), int(at_band.sum()), int(at_move.sum())))
        return answer

    def limits(self) -> dict[str, float]:
        """Shares of the decisions at the band and at the largest move."""
        decisions, band, move = np.sum(self._counts, axis=0)
        return {"band": float(band / decisions), "max_move": float(move / decisions)}


def _as_frame(elasticity: Floats, panel: Panel, history: pd.DataFrame) -> pd.DataFrame:
    """Elasticities as a mark-up rule takes them; the categories are the market's, which the rule is not denied."""
    index = pd.Index(panel.product_ids, name="product_id")
    category = history.groupby("product_id")["category"].last().reindex(index)
    return pd.DataFrame({"elasticity": np.clip(elasticity, *MARK_UP_LIMITS), "category": category}, index=index)


def below_cost(run: Run) -> int:
    """Product-days whose price lay below cost by more than its rounding to cents."""
    return int((run.on_sale & (run.ledger.price < run.market.unit_cost[run.ledger.days] - CENT)).sum())


def _errors(values: Floats, truth: Floats) -> dict[str, float]:
    rank = stats.spearmanr(values, truth)[0] if np.ptp(values) > 1e-9 else 0.0
    away = values - truth
    return {"mae": float(np.abs(away).mean()), "bias": float(away.mean()), "rank": float(rank)}


def difference(
    markets: Sequence[Measured], other: str, key: Literal["gain", "share"], *, of: str = PLATFORM
) -> tuple[float, float, float]:
    """Mean over markets of one policy's figure less another's in the same market, and its 90 % interval.

    Student's t over markets; with one market the interval is NaN. A "gain" is in shares of static's profit, a "share"
    is of the oracle's gain: of families and settings, the mean gain over the mean gain of the oracle.
    """
    values = np.array([market["scores"][of]["gain"] - market["scores"][other]["gain"] for market in markets])
    scale = 1.0
    if key == "share":
        scale = float(np.mean([market["scores"][market["oracle"]]["gain"] for market in markets]))
    mean = float(values.mean()) / scale
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))) / scale
    return mean, mean - reach, mean + reach


def grouped(markets: Sequence[Measured]) -> dict[str, list[Measured]]:
    """The markets of each setting, then of each family, by the name that tables have for it."""
    settings = {name: [market for market in markets if market["setting"] == name] for name in SETTINGS}
    settings = {name: some for name, some in settings.items() if some}
    families: dict[str, list[Measured]] = {}
    for name, some in settings.items():
        families.setdefault(f"**{features(name).family}**", []).extend(some)
    return settings | families


def report(markets: Sequence[Measured], *, development: bool) -> str:
    """All tables: by setting, by family, every policy, elasticities and confidence; and the worst market."""
    groups = grouped(markets)
    worst = min(markets, key=lambda one: one["scores"][PLATFORM]["gain"])
    parts = [
        markdown(
            ["setting", "markets", "oracle − static", *(f"platform − {other}" for other in AGAINST), "shares of these"],
            [_profit(name, some) for name, some in groups.items()],
        ),
        markdown(["policy", *groups], _shares(groups)),
        markdown(
            ["setting", "true mean", "MAE", "bias", "rank", "reference's MAE", "bias", "inside 80 %", "grades",
             "claims", "right", "calibration error", "at the band", "at the largest move"],
            [_known(name, some) for name, some in groups.items()],
        ),
        f"Worst market: {worst['setting']}, seed {worst['seed']}, {worst['scores'][PLATFORM]['gain']:+.1%} of static's "
        f"profit. Refused by the market: {sum(one['refused'] for one in markets)}; below cost: "
        f"{sum(one['below_cost'] for one in markets)}.",
    ]  # fmt: skip
    if development:
        parts.append(f"`decision.confidence_slope`: {slopes([one['confidence'] for one in markets])}")
    return "\n".join(parts)


def _profit(name: str, markets: Sequence[Measured]) -> list[str]:
    oracle = np.mean([one["scores"][one["oracle"]]["gain"] for one in markets])
    gains = [interval(difference(markets, other, "gain"), "+.1%") for other in AGAINST]
    shares = ", ".join(f"{difference(markets, other, 'share')[0]:+.2f}" for other in AGAINST[1:])
    return [name, str(len(markets)), f"{oracle:+.1%}", *gains, shares]


def _shares(groups: Mapping[str, Sequence[Measured]]) -> list[list[str]]:
    """Each policy's gain over static as a share of the oracle's."""
    first = next(iter(groups.values()))[0]
    rows = [row for row in first["scores"] if row not in (STATIC, first["oracle"])]
    return [[row, *(f"{difference(some, STATIC, 'share', of=row)[0]:.2f}" for some in groups.values())] for row in rows]


def _known(name: str, markets: Sequence[Measured]) -> list[str]:
    def mean(of: str, key: str) -> float:
        return float(np.mean([one["estimates"][of][key] for one in markets]))

    claims = figures([one["confidence"] for one in markets])
    grades = {grade: float(np.mean([one["grades"][grade] for one in markets])) for grade in GRADES}
    return [
        name,
        f"{np.mean([one['truth'] for one in markets]):.2f}",
        *(f"{mean(PLATFORM, key):{form}}" for key, form in (("mae", ".2f"), ("bias", "+.2f"), ("rank", ".2f"))),
        *(f"{mean(REFERENCE, key):{form}}" for key, form in (("mae", ".2f"), ("bias", "+.2f"))),
        f"{np.mean([one['inside_80'] for one in markets]):.0%}",
        ", ".join(f"{grade} {share:.0%}" for grade, share in grades.items() if share),
        f"{claims['decisions']:,}",
        f"{claims['right']:.0%}",
        f"{claims['calibration_error']:.3f}",
        *(f"{np.mean([one['limits'][key] for one in markets]):.1%}" for key in ("band", "max_move")),
    ]


def interval(found: tuple[float, float, float], form: str) -> str:
    """A mean with its interval; alone where that is NaN."""
    mean, low, high = found
    return f"{mean:{form}}" if np.isnan(low) else f"{mean:{form}} ({low:{form}} to {high:{form}})"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    configure_logging()
    options = parser("demand", __doc__)
    options.add_argument("--ahead", type=int, default=60, help="days that the policies price")
    options.add_argument("--days", type=int, default=None, help="days of history instead of a setting's own number")
    given = options.parse_args(argv)
    markets = measure_all(given, measure, days=given.days, future=given.ahead)
    print(measured())
    print(report(markets, development=given.development))
    return 0


def measure_all(given: argparse.Namespace, measure: Callable[..., Measured], **options: int | None) -> list[Measured]:
    """What `measure` finds on every market asked for, read from its file where it has one.

    `options` are of the markets; None leaves a setting's own.
    """
    options["products"] = given.products
    known = {name: value for name, value in options.items() if value is not None}
    pools = DEVELOPMENT_SEEDS if given.development else HELD_OUT_SEEDS
    places = range(given.skip, given.skip + given.seeds)
    tasks = [(name, pools[features(name).family][place]) for place in places for name in given.settings]
    files = {task: given.output / f"{task[0]}-{task[1]}.json" for task in tasks}
    given.output.mkdir(parents=True, exist_ok=True)
    missing = [task for task in tasks if not files[task].exists()]
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, "1")  # the processes share the cores, so that each must keep to one
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(measure, *task, options=known, config_file=given.config): task for task in missing}
        for done in as_completed(running):
            files[running[done]].write_text(json.dumps(done.result()), encoding="utf-8")
            print(*running[done], "done", file=sys.stderr, flush=True)
    return [json.loads(path.read_bytes()) for path in files.values()]


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that `measure_all` takes, of the benchmark of a name."""
    options = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=description)
    options.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml")
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which markets")
    options.add_argument("--seeds", type=int, default=5, help="seeds of each setting")
    options.add_argument("--skip", type=int, default=0, help="seeds at the front to leave out: scored before")
    options.add_argument("--products", type=int, default=None, help="products instead of a setting's own number")
    options.add_argument("--jobs", type=int, default=1, help="markets at once, each in a process of its own")
    options.add_argument(
        "--output", type=Path, default=pricing_home() / name, metavar="DIR", help="a file of each market measured"
    )
    options.add_argument("--development", action="store_true", help="the seeds to choose settings on, and their table")
    return options


if __name__ == "__main__":
    sys.exit(main())
