"""Model products that no network was trained on with the networks of a sample of their shop. NumPy only."""

from dataclasses import replace

import numpy as np

from pricing.arrays import Bools, Floats
from pricing.config_models import DemandConfig
from pricing.data.counting_units import Units, find_units
from pricing.data.ewma import Norms
from pricing.data.panel import Panel
from pricing.demand.competitor import estimate_competitor_effects
from pricing.demand.ensemble import network_only, volume_of
from pricing.demand.grades import CATEGORY
from pricing.demand.identification import identify
from pricing.demand.levels import row_median, typical
from pricing.demand.model import DemandModel
from pricing.demand.shrinkage import START
from pricing.demand.state import encode_panel
from pricing.errors import HistoryError, VersionError


def adopt(
    panel: Panel,
    config: DemandConfig,
    *,
    like: DemandModel,
    tested: Floats | None = None,
    own: Bools | None = None,
) -> DemandModel:
    """Model other products of a shop with the networks that a sample of it trained, which `like` models.

    Their elasticities, scales, states and competitor's effects are estimated as `fit` does, with its nuisance networks;
    network, trees, weights of the combination, lifts of events and promotions, and what is known of a category are the
    sample's. The other arguments are those of `fit`.

    Raises:
        HistoryError: The sample has none of a product's category, or ends on another day.
        VersionError: `like` has no networks.
    """
    if str(panel.dates[-1]) != str(like.state_date):
        raise HistoryError(f"these products end on {panel.dates[-1]}, the sample on {like.state_date}")
    if like.networks is None:
        raise VersionError("the sample's model has no networks by which other products could be modelled; train again")
    category = np.searchsorted(like.categories, panel.categories)
    known = np.isin(panel.categories, like.categories)
    if not known.all():
        raise HistoryError(f"the sample has no product of the category {str(panel.categories[~known][0])!r}")
    units = find_units(panel.units_sold, panel.categories)
    priors = like.priors
    norms = like.norms
    lifts = norms.lifts and norms.lifts.with_products(category)
    identified = identify(
        panel,
        norms=replace(initial_norms(panel, units=units, level=priors.level[category]), lifts=lifts),
        category=category,
        config=config,
        tested=tested,
        own=own,
        networks=like.networks,
    )
    # What is known of a category is known from the sample: a partition may have few of its products.
    evidence = identified.evidence
    told = np.minimum(priors.grade, CATEGORY)[category]
    none = evidence.moves + evidence.drawn == 0
    elasticity = np.where(none, priors.elasticity[category], identified.norms.elasticity).astype(np.float32)
    sd = np.where(none, priors.elasticity_sd[category], identified.shrunk.sd).astype(np.float32)
    lift = typical(norms.promotion, like.category, count=len(priors.level))[category]
    norms = replace(identified.norms, promotion=lift, elasticity=elasticity)
    mix = replace(network_only(len(category)), volume=volume_of(panel), booster=like.combination.booster)
    adopted = replace(
        like,
        product_ids=panel.product_ids,
        category=category.astype(np.int32),
        norms=norms,
        counted=units.counted,
        elasticity_sd=sd,
        grade=np.maximum(identified.grade, told),
        evidence=evidence,
        list_price=panel.list_price[:, -1].astype(np.float32),
        combination=mix,
        encoded=encode_panel(like.weights, panel, norms=norms, tail=config.checkpoint),
        competitor=estimate_competitor_effects(panel, norms=norms, category=category, elasticity_sd=sd),
        networks=None,
    )
    old = like.combination
    return adopted.combined(adopted.levels(), weights=old.weights, dispersion=old.dispersion)


def initial_norms(panel: Panel, *, units: Units, level: Floats) -> Norms:
    """Return initial scales: median price, (product,) `level` of its category, elasticity of which nothing is known."""
    usual = row_median(np.where(panel.present, panel.price, np.nan))
    products = len(level)
    return Norms(
        usual_price=usual.astype(np.float32),
        unit=units.size,
        prior_level=level.astype(np.float32),
        elasticity=np.full(products, START, np.float32),
        weekend=np.zeros(products, np.float32),
        promotion=np.zeros(products, np.float32),
    )
