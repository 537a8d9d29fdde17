"""Estimate elasticities from endogenous price history by double machine learning with LSTM nuisance networks.

Partially linear model, estimated by residual-on-residual regression (Robinson 1988) with cross-fitted nuisances
(Chernozhukov et al. 2018, doi:10.1111/ectj.12097): `nuisances` predicts, `estimation` regresses, `shrinkage` makes the
posterior, and what follows from it is predicted anew.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pricing.arrays import Bools, Floats, Ints
from pricing.config_models import DemandConfig
from pricing.data.ewma import Norms
from pricing.data.features import week_factor
from pricing.data.net_price import margin_of
from pricing.data.panel import Panel
from pricing.demand.batches import build_table
from pricing.demand.estimation import Estimates, correct_by_draws, estimate_round
from pricing.demand.fixed_effects import estimate_ladder
from pricing.demand.forward_pass import Networks
from pricing.demand.grades import PRIOR_ONLY, Evidence, Grades, category_of_parents, gather_evidence, grade_products
from pricing.demand.ladder import Ladder
from pricing.demand.nuisances import Nuisances
from pricing.demand.price_changes import select_sample
from pricing.demand.shrinkage import PRIOR_MEDIAN, START, PosteriorElasticities, shrink
from pricing.demand.tested_gap import PairedMeans

if TYPE_CHECKING:
    from pricing.demand.network import Progress

LIKELY_MARGINS = (0.05, 0.95)  # fractions of the net list price; others are taken for the nearer of these
WEEKEND_LIMIT = 0.5  # of the relative change of the elasticity on weekends


@dataclass(frozen=True)
class Identified:
    """Estimated elasticities with diagnostics."""

    norms: Norms  # the products' scales, elasticities included
    shrunk: PosteriorElasticities  # (product,) posterior
    evidence: Evidence  # what each product's history tells of it
    grade: Grades  # (product,) how well each elasticity is known, index into `grades.GRADES`
    networks: Networks  # those that they were estimated with
    ladder: Ladder  # what history says of the shop's elasticity, by what is held fixed
    tested: PairedMeans | None  # what random draws tell beside people's price changes; None without draws


def identify(
    panel: Panel,
    *,
    norms: Norms,
    category: Ints,
    config: DemandConfig,
    progress: "Progress | None" = None,
    tested: Floats | None = None,
    own: Bools | None = None,
    networks: Networks | None = None,
) -> Identified:
    """Estimate the elasticity of every product; products of one parent (`Panel.parent_ids`) share one.

    1. The price network predicts price changes from sales, calendar and past prices, cross-fitted over blocks of time.
       Cost and stock are no inputs, so that price changes caused by them remain as identifying variation.
    2. The demand network, cross-fitted likewise, forecasts the periods of each price change from the day before, with
       the current elasticities in its offset and past sales restated by them.
    3. Residual-on-residual regression with a control function (`endogeneity`), then shrinkage.
    4. Steps 2 and 3 repeat with the new elasticities, at least twice, until the level moves by less than its standard
       error, `config.rounds` rounds at most.

    `category` is each product's row of it; `progress` is called with a sentence about each step. `tested` is (product,
    period) log of the price over that without a random draw, NaN outside experiments: an instrument, whose estimate
    needs no control function and corrects that of other price changes. `own` is (product, period) True where the
    platform itself set the price: such changes depend on the model's forecasts and on stock, and are left out.
    `networks` are those of a sample of the shop, which predict in place of new ones, round by round.
    """
    say = progress or (lambda _: None)
    current = replace(norms, elasticity=np.full_like(norms.elasticity, START))
    table = build_table(panel, norms=current, category=category)
    sample = select_sample(panel, table, tested=tested, own=own)
    evidence = gather_evidence(panel, own=own, tested=tested)
    nuisances = Nuisances(panel, category=category, config=config, networks=networks)
    of_parent = category_of_parents(category, sample.parent)
    ladder = estimate_ladder(panel, own=own)
    centre = centre_of_margins(panel, category)
    shrunk = _prior(of_parent, centre)
    rounds = config.rounds if networks is None else networks.rounds
    if not len(sample.everything) or (networks is not None and not networks.weights):
        say("no price change to learn from: elasticities stay at the prior")
        rounds = 0
    else:
        residual, foreseen = nuisances.price_residual(table, sample.moves)
        say(f"{len(residual)} periods of price moves, {foreseen:.0%} of their variance foreseen")
        sample = replace(sample, residual=residual)

    known: Estimates | None = None
    for number in range(rounds):
        if number:
            del table  # two tables of a large panel may not fit in RAM
            table = build_table(panel, norms=current, category=category)
        forecast = nuisances.demand_forecast(table, sample.everything, attempt=number)
        offset = current
        known = estimate_round(
            sample, table, forecast, norms=offset, so_far=known, doubt=ladder.doubt, least=config.shared_doubt
        )
        shrunk = known.posterior(category=of_parent, centre=centre)
        current = _updated(current, shrunk.elasticity[sample.parent], more_on_weekends=known.shift.weekend)
        say(f"round {number + 1}: {known.describe()}, weekend {float(current.weekend[0]):+.2f}")
        if number and abs(known.step) < known.level_error:
            break
    history = shrunk.of_products(sample.parent)
    if known is not None and len(sample.tests):
        # Not before the last round: people's estimates would follow the corrected elasticities half way.
        known = correct_by_draws(known, sample, table, forecast, norms=offset)
        shrunk = known.posterior(category=of_parent, centre=centre)
    if known is not None:
        flags = np.where(evidence.fortnights > 0, known.checks.flags, 0).astype(np.int32)
        evidence = replace(evidence, flags=flags)
    each = shrunk.of_products(sample.parent)
    norms = replace(current, elasticity=each.elasticity.astype(np.float32))
    grade = grade_products(evidence, panel)
    told = (history.elasticity * week_factor(current.weekend, period=panel.period))[grade > PRIOR_ONLY]
    ladder = replace(ladder, level=float(told.mean()) if told.size else 0.0)
    tested_means = known.tested if known else None
    return Identified(norms, each, evidence, grade, nuisances.networks, ladder, tested=tested_means)


def centre_of_margins(panel: Panel, category: Ints) -> Floats:
    """(category,) log elasticities expected from list prices and costs, less the prior's; 0 where unknown.

    Half of the distance to the elasticity at which today's median margin would be the best one (Lerner 1934): list
    price over list price less cost.
    """
    margin = margin_of(panel.list_price[:, -1], panel.unit_cost[:, -1], tax_rate=np.nan_to_num(panel.tax_rate[:, -1]))
    known = np.isfinite(margin) & ~panel.cost_assumed
    found = np.zeros(int(category.max(initial=-1)) + 1)
    for row in np.unique(category[known]).tolist():
        median = np.clip(np.median(margin[known & (category == row)]), *LIKELY_MARGINS)
        found[row] = 0.5 * float(-np.log(median) - np.log(PRIOR_MEDIAN))
    return found


def _prior(category: Ints, centre: Floats) -> PosteriorElasticities:
    """(parent,) elasticities of which nothing is known but the prior."""
    unknown = np.full(len(category), np.inf)
    return shrink(np.zeros(len(category)), unknown, category=category, centre=centre, bias=0.0)


def _updated(norms: Norms, elasticity: Floats, *, more_on_weekends: float) -> Norms:
    """Return the scales with a round's (product,) elasticities and weekend factor."""
    weekend = np.clip(norms.weekend + more_on_weekends, -WEEKEND_LIMIT, WEEKEND_LIMIT)
    return replace(norms, elasticity=elasticity.astype(np.float32), weekend=weekend.astype(np.float32))
