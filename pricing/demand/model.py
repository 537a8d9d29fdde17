"""The demand model as it learns: weights, states, elasticities and scales, from which a version's table is written."""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Floats, Ints, Strings
from pricing.data import features
from pricing.data.ewma import Norms, has_own_history
from pricing.data.panel import STEP_DAYS, Panel, Period
from pricing.demand.competitor import CompetitorEffects
from pricing.demand.ensemble import combined_factor, extend_combination, own_noise
from pricing.demand.forward_pass import Networks
from pricing.demand.grades import CATEGORY, Evidence, Grades, blank_evidence
from pricing.demand.ladder import UNKNOWN, Ladder
from pricing.demand.levels import (
    Learnt,
    LevelForecasts,
    coming_dates,
    forecast_levels,
    network_forecast,
    row_median,
    row_parameters,
    typical,
)
from pricing.demand.state import State, add_blank_states, carry, encode_panel, expand, find_rows
from pricing.demand.table import WEEK, DemandTable
from pricing.demand.tested_gap import PairedMeans
from pricing.errors import HistoryError

NOISE_STEP: dict[Period, float] = {"day": 4.0, "week": 1.5}  # step at which `own_noise` removes the level's error


@dataclass(frozen=True, kw_only=True)
class DemandModel(Learnt):
    """Demand of every product as a function of price, as of a date."""

    product_ids: Strings  # (product,) sorted
    categories: Strings  # (category,) sorted
    own_periods: int  # periods with a row from which a product counts as `source: model` and not `category`
    counted: Bools  # (product,) whether it is sold by the piece; else by weight, and its units are not counts
    elasticity_sd: Floats  # (product,) posterior standard deviations of their logs
    grade: Grades  # (product,) how well each elasticity is identified, index into `grades.GRADES`
    evidence: Evidence  # behind each elasticity, and objections to it
    list_price: Floats  # (product,) the panel's last list price, from which a promotion's cut is measured
    level_error: tuple[float, float]  # log-level sd one period ahead, and its growth with the root of the step
    competitor: CompetitorEffects | None = None  # what his price does to demand; None where it was not estimated
    ladder: Ladder = UNKNOWN  # what history says of the shop's elasticity, by what is held fixed
    tested: PairedMeans | None = None  # by category, observed beside tested elasticities; None where nothing was tested
    networks: Networks | None = None  # by which other products can be modelled; None in a model of such products

    @property
    def state_date(self) -> dt.date:
        """Date of the last period encoded in the states."""
        return self.encoded.tail.dates[-1].astype(dt.date)  # type: ignore[no-any-return]

    @property
    def parent_ids(self) -> Strings:
        """(product,) the parent whose elasticity each product shares; its own id without one."""
        parents = self.encoded.tail.parent_ids
        return self.product_ids if parents is None else parents

    def table(self) -> DemandTable:
        """Write the table that a version serves; see `table.DemandTable`."""
        rows = row_parameters(self)
        products = len(self.product_ids)
        periods = self.horizon + WEEK[self.period]
        dates = coming_dates(self, periods)
        network = network_forecast(self, rows, periods=periods)
        # The level is known best where the product was lately sold, so there the curves of all elasticities meet.
        weekend = features.weekends(dates, period=self.period)
        strength = rows.elasticity[:, None] * (1.0 + rows.weekend[:, None] * weekend)
        profile = rows.profile[:, features.weekdays(dates, period=self.period)]
        levels = rows.level[:, None] + profile + network.mean + rows.recent_price[:, None] * strength
        ahead = np.minimum(np.arange(1, periods + 1), self.combination.factor.shape[1] - 1)
        levels[:products] += self.combination.factor[:, ahead]
        log_size = network.log_size.copy()
        log_size[:products] += self.combination.narrow
        rival = np.zeros(products) if self.competitor is None else np.maximum(np.nan_to_num(self.competitor.mean), 0.0)

        def of_products(values: Floats, otherwise: float = np.nan) -> Floats:
            return np.append(values, np.full(len(self.priors.level), otherwise))

        columns = {
            "levels": levels,
            "reference": of_products(self.norms.usual_price * np.exp(rows.recent_price[:products])),
            "list_price": of_products(self.list_price),
            "size": np.exp(log_size),
            "elasticity": rows.elasticity,
            "elasticity_sd": np.append(self.elasticity_sd, self.priors.elasticity_sd),
            "weekend": rows.weekend,
            "promotion": rows.promotion,
            "diversion": np.append(self.priors.diversion[self.category], self.priors.diversion),
            "rival": of_products(rival, 0.0),
            "rival_usual": of_products(self.rival_usual()),
        }
        return DemandTable(
            product_ids=self.product_ids,
            categories=self.categories,
            parent_ids=self.parent_ids,
            category=self.category,
            period=self.period,
            horizon=self.horizon,
            state_date=self.state_date,
            level_error=self.level_error,
            unit=rows.unit,
            lifts=self.norms.lifts and self.norms.lifts.since(self.encoded.tail.dates[-1]),
            grade=np.append(self.grade, np.minimum(self.priors.grade, CATEGORY)),
            own=has_own_history(self.encoded.state.memory, periods=self.own_periods, period=self.period),
            evidence=self.evidence,
            competitor=self.competitor,
            ladder=self.ladder,
            tested=self.tested,
            **{name: values.astype(np.float32) for name, values in columns.items()},
        )

    def levels(self) -> LevelForecasts:
        """Compute the forecasters' levels; see `levels.forecast_levels`."""
        return forecast_levels(self)

    def combined(self, levels: LevelForecasts, *, weights: Floats, dispersion: Floats) -> "DemandModel":
        """Return the model with other combination weights and dispersion, as in `Combination`."""
        volume, step = self.combination.volume, NOISE_STEP[self.period]
        combination = replace(
            self.combination,
            weights=weights,
            dispersion=dispersion,
            factor=combined_factor(levels.paths, weights=weights, volume=volume),
            narrow=own_noise(levels.log_size, dispersion=dispersion[volume], level_error=self.level_error, step=step),
        )
        return replace(self, combination=combination)

    def weights_hash(self) -> str:
        """SHA-256 of the network's weights; refreshing does not change it."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.weights[name], np.float32).tobytes())
        return digest.hexdigest()

    def refresh(self, panel: Panel, *, rebuild: bool = False) -> "DemandModel":
        """Update the states to the panel's last date with the same weights; new products are added.

        Args:
            panel: The whole history or only its new rows; rows since the checkpoint replace those encoded before.
            rebuild: Encode the panel, which must then be the whole history, from scratch.

        Raises:
            HistoryError: The panel is of another grain, ends before the state, leaves a gap after it, or changes the
                past before the checkpoint; or it is not the whole history although `rebuild` is set.
        """
        self._refuse_other_history(panel, rebuild=rebuild)
        tail = self.encoded.tail
        grown = add_products(self, panel)
        if grown.norms.lifts is not None:  # the calendar is kept where the panel has none
            until = panel.dates[-1] + np.timedelta64((len(self.holidays) - 1) * STEP_DAYS[self.period], "D")
            since = np.datetime64(self.state_date)
            lifts = grown.norms.lifts.with_calendar(panel.events, since=since, until=until, period=self.period)
            grown = replace(grown, norms=replace(grown.norms, lifts=lifts))
        aligned = replace(expand(panel, grown.product_ids), parent_ids=grown.encoded.tail.parent_ids)
        periods = len(tail.dates)
        if rebuild:
            encoded = encode_panel(self.weights, aligned, norms=grown.norms, tail=periods)
        else:
            encoded = carry(self.weights, grown.encoded, aligned, norms=grown.norms, tail=periods)
        ahead = int((panel.dates[-1] - tail.dates[-1]) // np.timedelta64(STEP_DAYS[self.period], "D"))
        last = encoded.tail.list_price[:, -1]
        carried = replace(
            grown,
            encoded=encoded,
            list_price=np.where(np.isfinite(last), last, grown.list_price).astype(np.float32),
            holidays=np.concatenate([self.holidays[ahead:], np.zeros(min(ahead, len(self.holidays)), np.float32)]),
        )
        return carried.with_levels()

    def _refuse_other_history(self, panel: Panel, *, rebuild: bool) -> None:
        """Raise HistoryError where `refresh` cannot go on from the state by a panel, whatever its rows."""
        if panel.period != self.period:
            raise HistoryError(f"the model reads one row a {self.period}, the panel has one a {panel.period}")
        if panel.dates[-1].astype(dt.date) < self.state_date:
            raise HistoryError(f"the panel ends on {panel.dates[-1]}, before the state's date {self.state_date}")
        oldest = int(self.encoded.state.memory.age.max(initial=0.0)) - 1
        begin = self.encoded.tail.dates[-1] - np.timedelta64(oldest * STEP_DAYS[self.period], "D")
        if rebuild and panel.dates[0] > begin:
            raise HistoryError(
                f"the panel begins on {panel.dates[0]}, the history that was read on {begin}: encoding it from scratch "
                "would forget what lies between; give the whole history, or train anew on what there is"
            )

    def with_levels(self) -> "DemandModel":
        """Recompute the forecasters' levels from the states and the calendar, with the same combination weights."""
        mix = self.combination
        if not (mix.weights[:, 1:] > 0).any():
            return self
        return self.combined(self.levels(), weights=mix.weights, dispersion=mix.dispersion)

    def with_holidays(self, flags: Floats) -> "DemandModel":
        """Return the model with other holiday flags (period,) after its state's date.

        The forecasters' levels depend on flags up to two periods beyond the horizon and are recomputed if needed.
        """
        moved = replace(self, holidays=np.concatenate([self.holidays[:1], flags]).astype(np.float32))
        seen = slice(self.horizon + 3)
        return moved if np.array_equal(moved.holidays[seen], self.holidays[seen]) else moved.with_levels()

    def factor_of(self, rows: Ints, state: State) -> Floats:
        """(row, step) `combination.factor` of products `rows`, recomputed with other states."""
        encoded = replace(self.encoded, state=state, tail=self.encoded.tail.select(rows))
        norms, combination = self.norms.take(rows), extend_combination(self.combination, rows)
        some = replace(self, category=self.category[rows], norms=norms, combination=combination, encoded=encoded)
        return some.with_levels().combination.factor


def add_products(model: DemandModel, panel: Panel) -> DemandModel:
    """Add the panel's new products, with blank states and their category's parameters.

    One whose parent the model knows takes that one's elasticity, with its uncertainty, grade and evidence.
    """
    known = np.isin(panel.product_ids, model.product_ids)
    if known.all():
        return model
    new = panel.select(~known)
    ids = np.concatenate([model.product_ids, new.product_ids])
    order = np.argsort(ids, kind="stable")
    category = find_rows(model.categories, new.categories)
    category = np.where(category >= 0, category, len(model.categories))
    own_parents = new.product_ids if new.parent_ids is None else new.parent_ids
    parents, first = np.unique(model.parent_ids, return_index=True)
    place = find_rows(parents, own_parents)
    shares = place >= 0  # (new,) whether the model knows a product of the same parent
    sibling = first[place]

    def joined(own: NDArray[Any], more: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([own, more])[order].astype(own.dtype)

    def inherited(own: NDArray[Any], otherwise: NDArray[Any]) -> NDArray[Any]:
        return joined(own, np.where(shares, own[sibling], otherwise))

    priors = model.priors
    old = model.norms
    nothing = vars(blank_evidence(len(new.product_ids)))
    norms = Norms(
        usual_price=joined(old.usual_price, row_median(np.where(new.present, new.price, np.nan))),
        unit=joined(old.unit, priors.unit[category]),
        prior_level=joined(old.prior_level, priors.level[category]),
        elasticity=inherited(old.elasticity, priors.elasticity[category]),
        weekend=joined(old.weekend, np.full(len(category), old.weekend.mean() if len(old.weekend) else 0.0)),
        promotion=joined(old.promotion, typical(old.promotion, model.category, count=len(priors.level))[category]),
        lifts=old.lifts and old.lifts.with_products(np.concatenate([old.lifts.category, category])[order]),
    )
    rows = np.concatenate([np.arange(len(model.product_ids)), np.full(len(category), -1)])[order]
    encoded = add_blank_states(model.encoded, ids[order], rows)
    if shares.any() or model.encoded.tail.parent_ids is not None:
        # No elasticity was estimated for a parent that the model does not know: such a product is its own.
        kept: Strings = np.concatenate([model.parent_ids, np.where(shares, own_parents, new.product_ids)])[order]
        encoded = replace(encoded, tail=replace(encoded.tail, parent_ids=kept))
    return replace(
        model,
        product_ids=ids[order],
        category=joined(model.category, category),
        norms=norms,
        counted=joined(model.counted, priors.counted[category]),
        combination=extend_combination(model.combination, rows),
        elasticity_sd=inherited(model.elasticity_sd, priors.elasticity_sd[category]),
        grade=inherited(model.grade, np.minimum(priors.grade[category], CATEGORY)),
        evidence=Evidence(**{name: inherited(own, nothing[name]) for name, own in vars(model.evidence).items()}),
        list_price=joined(model.list_price, new.list_price[:, -1]),
        encoded=encoded,
        competitor=model.competitor and model.competitor.spread(rows),
    )
