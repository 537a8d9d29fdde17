"""What the demand model earns on markets whose truth is known, beside plain rules, a reference and the truth itself.

python -m benchmarks.demand --family foreign --jobs 2      a family's settings on held-out seeds: demand.json and .md
python -m benchmarks.demand --settings few --ablate true   one setting, what is in between too; others stay written
python -m benchmarks.demand --settings clearance --seeds 2 --development true --output build/demand  development seeds
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.confidence import Judged
from benchmarks.demand_page import DEVELOPMENT, HELD_OUT, PLAIN, REFERENCE, report
from benchmarks.demand_settings import SETTINGS
from benchmarks.market_naive import log_log_elasticities
from benchmarks.provenance import stamp, take
from benchmarks.reference import PLAIN_DAMPING, MarkUp, reference_elasticities
from pipelines.calendar import holiday_calendar
from pipelines.market import PLATFORM, STATIC, PolicyEntry, oracle_name, run_policies, scores, standard_policies
from pipelines.market_platform import OPTIONAL, Platform, without
from pricing.arrays import Floats
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand.grades import GRADES
from pricing.demand.identification import Identified
from pricing.demand.model import DemandModel
from pricing.demand.training import Trained, WarmStart, fit
from pricing.runtime.cli import job_options, run_main
from simulation.market import BAND
from simulation.protocol import SimulatedMarket
from simulation.rollforward import MAX_MOVE, Requests, Run
from simulation.supply import Shelf

HERE = Path(__file__).parent
LEVEL_ERROR = (0.2, 0.025)  # what backtests of default markets measured; a backtest here would triple the time
KEPT = (STATIC, "rules", "true elasticities")
MARK_UP_LIMITS = (-8.0, -1.05)  # elasticities that a mark-up rule can use, as the reference has them
AT_LIMIT = 0.005  # a price this near to a limit, as a fraction of it, stands at it: endings and rounding
COMMIT = "BENCHMARK_COMMIT"  # environment variable that names the commit where there is no git


@dataclass(frozen=True)
class Plan:
    """How every market of a run is measured.

    Attributes:
        ahead: Days that the policies price.
        ablate: Whether to put other elasticities into the platform's network and decisions as well.
        config: A file laid over the default configuration; None for the default.
        withhold: Optional columns that the platform does not get; the other rows get everything.
        size: `products` and `days` of the markets where they are not the setting's own.
        max_move: Largest move that any policy may make, a fraction of yesterday's price.
    """

    ahead: int = 60
    ablate: bool = False
    config: str | None = None
    withhold: tuple[str, ...] = ()
    size: dict[str, int] = field(default_factory=dict)
    max_move: float | None = MAX_MOVE


def learn(panel: Panel, config: Config) -> Trained:
    """The platform's own training, without the backtest."""
    return fit(panel, config.demand, calendar=holiday_calendar(panel, config.data))


def learnt_elasticities(trained: Trained) -> Identified:
    """What a training that was given no elasticities learnt of them."""
    if trained.start.identified is None:
        raise ValueError("this training says nothing of its elasticities; start it without any")
    return trained.start.identified


def with_elasticities(trained: Trained, panel: Panel, config: Config, elasticity: np.ndarray) -> DemandModel:
    """The same network trained around other elasticities, taken for certain within 0.4."""
    identified = learnt_elasticities(trained)
    own = np.clip(elasticity, *config.demand.elasticity_limits)
    shrunk = replace(identified.shrunk, mean=own, sd=np.full(len(own), 0.4))
    flat = np.zeros(len(own), np.float32)
    norms = replace(identified.norms, elasticity=own.astype(np.float32), weekend=flat)
    start = WarmStart(None, replace(identified, shrunk=shrunk, norms=norms))
    calendar = holiday_calendar(panel, config.data)
    return fit(panel, config.demand, calendar=calendar, start=start).model


def carried(
    market: SimulatedMarket, model: DemandModel, config: Config, *, history: pd.DataFrame, plan: Plan
) -> PolicyEntry:
    """A model as a policy through the code that serves; its states are carried forward at each refresh."""
    state = {"model": model}

    def forward(panel: Panel) -> DemandModel:
        state["model"] = state["model"].refresh(panel)
        return state["model"]

    platform = Platform(market, config, forward, frame=history, max_move=plan.max_move, withhold=plan.withhold)
    return PolicyEntry(platform, platform.refresh)


def measure(name: str, seed: int, plan: Plan) -> dict[str, Any]:
    """One market: elasticities and profit of the platform, plain rules, the reference, and what is in between."""
    started, worked = time.monotonic(), time.process_time()
    platform = load_config(plan.config)
    market = SETTINGS[name].market(seed, size=plan.size | {"future": plan.ahead})
    history = market.frame()
    panel = build_panel(without(history, plan.withhold), platform.data)
    truth = market.truth.elasticity[np.searchsorted(market.product_ids, panel.product_ids)]
    before = time.monotonic()
    trained = learn(panel, platform)
    train_seconds = time.monotonic() - before
    found = learnt_elasticities(trained)
    own, low, high = trained.model.elasticity(np.arange(len(truth)))
    reference = reference_elasticities(history)
    theirs = reference["elasticity"].reindex(panel.product_ids).fillna(reference["elasticity"].mean()).to_numpy()

    ready = standard_policies(market, platform, max_move=plan.max_move)
    oracle = oracle_name(market)
    entries = {row: ready[row] for row in (*KEPT, oracle)}
    entries[REFERENCE] = _mark_up(MarkUp(history, reference))
    entries[PLAIN] = _mark_up(MarkUp(history, _as_frame(own, panel, history), damping=PLAIN_DAMPING))
    estimates = {
        PLATFORM: own,
        REFERENCE: theirs,
        "category means of the reference": _category_mean(theirs, panel.categories),
        "one for all, the truth's mean": np.full(len(truth), truth.mean()),
    }
    if plan.ablate:
        for row, values in _between(trained, panel, platform, truth=truth, theirs=theirs, history=history).items():
            estimates[row] = values
            model = with_elasticities(trained, panel, platform, values)
            entries[row] = carried(market, model, platform, history=history, plan=plan)
    ours = carried(market, trained.model, platform, history=history, plan=plan)
    grade = _grades(trained.model, panel.product_ids)
    watched = Watched(ours, Judged(market, platform.decision.hold_step), grade)
    runs = run_policies(
        market, entries | {PLATFORM: PolicyEntry(watched, ours.refresh)}, ahead=plan.ahead, max_move=plan.max_move
    )
    inside = (truth >= low) & (truth <= high)
    return {
        "seed": seed,
        "truth": float(truth.mean()),
        "oracle": oracle,
        "train_seconds": train_seconds,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - worked,
        "moves": found.events,
        "control": found.control,
        "inside_80": float(inside.mean()),
        "estimates": {row: _errors(values, truth) for row, values in estimates.items()},
        "grades": by_grade(np.array(list(grade.values())), error=own - truth, inside=inside, units=_units(panel)),
        "scores": [asdict(row) for row in scores(runs)],
        "refused": int(runs[PLATFORM].refused.sum()),
        "below_cost": below_cost(runs[PLATFORM]),
        "limits": watched.limits(),
        "incumbent_discount": incumbent_discount(history, ahead=plan.ahead),
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
        """Decisions, how many stood at a limit or moved on a prior alone, and the same of the last morning at the band.

        A product counts as *prior only* where its grade says so, or where it has none.
        """
        summed = {key: sum(counts[key] for counts in self._counts) for key in self._counts[0]}
        last = self._counts[-1]
        return summed | {"last_decisions": last["decisions"], "last_band": last["band"]}


def by_grade(grade: np.ndarray, *, error: Floats, inside: np.ndarray, units: Floats) -> dict[str, dict[str, float]]:
    """What each identification grade's elasticities are worth; JSON.

    Args:
        grade: (product,) index into `GRADES`; −1 where a model grades nothing.
        error: (product,) estimated less true elasticity.
        inside: (product,) whether the truth is inside the 80 % interval.
        units: (product,) units of the last year.

    Returns:
        Grade → products, share of units, mean absolute error, bias, share inside; grades that no product has are left
        out, and a model without grades says "ungraded".
    """
    out = {}
    for number, name in enumerate(("ungraded", *GRADES), start=-1):
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


def _grades(model: DemandModel, product_ids: np.ndarray) -> dict[str, int]:
    found = getattr(model, "grade", None)
    grade = np.full(len(product_ids), -1) if found is None else np.asarray(found)
    return dict(zip(product_ids.tolist(), grade.astype(int).tolist(), strict=True))


def _units(panel: Panel) -> Floats:
    """(product,) units of the last year."""
    units: Floats = np.nansum(panel.units_sold[:, -365:], axis=1, dtype=np.float64)
    return units


def _mark_up(rule: MarkUp) -> PolicyEntry:
    return PolicyEntry(rule, rule.refresh)


def _as_frame(elasticity: Floats, panel: Panel, history: pd.DataFrame) -> pd.DataFrame:
    """Elasticities as a mark-up rule takes them; the categories are the market's, which the rule is not denied."""
    index = pd.Index(panel.product_ids, name="product_id")
    category = history.groupby("product_id")["category"].last().reindex(index)
    return pd.DataFrame({"elasticity": np.clip(elasticity, *MARK_UP_LIMITS), "category": category}, index=index)


def _between(
    trained: Trained, panel: Panel, config: Config, *, truth: Floats, theirs: Floats, history: pd.DataFrame
) -> dict[str, Floats]:
    """Other elasticities to be put into the platform's network and decisions, by row."""
    slopes = log_log_elasticities(history)
    middle = float(np.median(list(slopes.values())))
    blind = fit(panel, config.demand.model_copy(update={"control": False}))
    return {
        "true elasticities, our network": truth,
        "reference's elasticities": theirs,
        "without the control": blind.model.elasticity(np.arange(len(truth)))[0],
        "log-log regression": np.array([slopes.get(name, middle) for name in panel.categories]),
        "no price head: −0.2": np.full(len(truth), config.demand.elasticity_limits[1]),
    }


def below_cost(run: Run) -> int:
    """Product-days whose price lay below cost by more than its rounding to cents."""
    days = slice(run.ledger.first_day, run.ledger.first_day + len(run.ledger.price))
    return int((run.on_sale & (run.ledger.price < run.market.world.unit_cost[days] - 0.005001)).sum())


def incumbent_discount(history: pd.DataFrame, *, ahead: int) -> float:
    """Mean cut below list of a unit that the incumbent sold in the last `ahead` days of the history."""
    recent = history[history["date"] > history["date"].max() - pd.Timedelta(days=ahead)]
    cut = (1 - recent["price"] / recent["list_price"]).clip(lower=0)
    return float((cut * recent["units_sold"]).sum() / recent["units_sold"].sum())


def _category_mean(values: np.ndarray, categories: np.ndarray) -> np.ndarray:
    return pd.Series(values).groupby(pd.Series(categories)).transform("mean").to_numpy()


def _errors(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    rank = spearmanr(values, truth)[0] if np.ptp(values) > 1e-9 else 0.0
    return {
        "mae": float(np.abs(values - truth).mean()),
        "bias": float((values - truth).mean()),
        "rank": float(rank),
    }


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
        ablate=options.ablate,
        config=options.config,
        withhold=tuple(options.withhold),
        size={name: value for name in ("products", "days") if (value := getattr(options, name)) is not None},
    )
    options.output.mkdir(parents=True, exist_ok=True)
    made = take("demand.md")
    same = {
        "commit": commit(options.commit),
        "seeds": DEVELOPMENT if options.development else HELD_OUT,
        "config": fingerprint(load_config(options.config)),
        "plan": json.loads(json.dumps(asdict(plan))) | {"config": Path(plan.config).name if plan.config else None},
    }
    results = _earlier(options.output / "demand.json", same=same)
    tasks = []
    for name in names:
        results[name] = []
        pool = SETTINGS[name].seeds(development=options.development)
        tasks += [(name, seed) for seed in pool[options.skip :][: options.seeds]]
    for name, market in measured(tasks, plan, jobs=options.jobs):
        results[name] = sorted([*results[name], market | {"code": made.digest}], key=lambda one: one["seed"])
        text = json.dumps(same | {"results": results})
        (options.output / "demand.json").write_text(text + "\n", encoding="utf-8")
        page = report({key: found for key, found in results.items() if found}, SETTINGS, same=same)
        (options.output / "demand.md").write_text(page, encoding="utf-8")
        code = [one.get("code") for markets in results.values() for one in markets]
        stamp(options.output / "demand.md", made, parts=code)
        print(f"{name}, seed {market['seed']} done in {market['seconds']:.0f} s", file=sys.stderr, flush=True)
    return 0


def measured(tasks: Sequence[tuple[str, int]], plan: Plan, *, jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
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


def commit(given: str | None) -> str:
    """The commit that is measured: as given, from the environment, or git's; "unknown" without any of them."""
    named = given or os.environ.get(COMMIT)
    if named:
        return named
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with local changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def fingerprint(config: Config) -> str:
    """Names what decides a result besides the code: the demand model's and the decision's settings."""
    text = config.demand.model_dump_json() + config.decision.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _earlier(path: Path, *, same: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Results of other settings, so that these can be measured one after the other; none where they do not compare."""
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = document.pop("results")
    if document != same:
        print("what was measured before had another commit or settings: it is begun anew", file=sys.stderr)
        return {}
    return found


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
    options.add_argument("--commit", default=None, help=f"the commit measured, where there is no git; or ${COMMIT}")
    options.add_flag("--ablate", help="also what is in between: other elasticities in the platform's decisions")
    options.add_flag("--development", help="the seeds that settings are chosen on, not the held-out ones")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the results")
    return options.parse(argv)


if __name__ == "__main__":
    sys.exit(main())
