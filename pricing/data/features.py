"""Compute the network's features, for training, refresh and serving alike. Causal, NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pricing.arrays import Days, Floats, Ints, weekday_of
from pricing.data.counting_units import in_steps
from pricing.data.ewma import (
    SUMMARY,
    EwmaState,
    Norms,
    PeriodObservations,
    blank_ewma_state,
    ewma_features,
    update_ewma_state,
)
from pricing.data.panel import Panel, Period

SATURDAY = 5
PRICE_LIMIT = 1.5  # log price over usual price is clipped to this: beyond, a typing error is assumed
FULL_PROMO_CUT = 0.10  # cut below list from which a promotion has its full effect
PAST = 12 + SUMMARY
AGE = 12 + 4  # column of the network's inputs that holds the age
BLANK_AGE = -0.99  # the age's feature is -1 before a product's first row, and -0.86 with it
KNOWN = 16 + SUMMARY
LEAST_AVAILABLE = 0.01  # smaller shares of a period count as this
_OBSERVED = ("restated", "seen", "censored", "log_price", "effect")  # of the columns, by the EWMA


@dataclass(frozen=True)
class Past:
    """Features of every product after every period."""

    inputs: Floats  # (product, period, PAST) the encoder's inputs, the period's own outcome included
    # (product, period) log units a period at usual price, without promotion and named events, known after the period:
    level: Floats
    # (product, period, weekday) log factor of each weekday, known after the period; one weekday on weeks:
    profile: Floats
    summary: Floats  # (product, period, SUMMARY) slow features known after the period


def weekends(dates: Days, *, period: Period) -> Floats:
    """(date,) 1.0 on a Saturday or a Sunday; always 0.0 on weekly panels."""
    return (weekdays(dates, period=period) >= SATURDAY).astype(np.float32)


def week_factor(weekend: Floats, *, period: Period) -> Floats:
    """The mean elasticity over a week as a multiple of that on its ordinary days, from what weekends add to it."""
    return np.asarray(1.0 + weekend * (2 / 7 if period == "day" else 0.0))


def weekdays(dates: Days, *, period: Period) -> Ints:
    """Weekday of each date, Monday 0; always 0 on weekly panels, whose profile has one entry."""
    return np.zeros(len(dates), dtype=np.int64) if period == "week" else weekday_of(dates)


def promo_effect_share(price: Floats, list_price: Floats) -> Floats:
    """Fraction of a promotion's full effect at this price: 0 at list price and above, 1 from a cut of 10 %."""
    return np.clip((1.0 - price / list_price) / FULL_PROMO_CUT, 0.0, 1.0)


def promo_draw(panel: Panel) -> Floats:
    """(product, period) fraction of a promotion's full effect at the price charged, where advertised; else 0."""
    share = np.nan_to_num(promo_effect_share(panel.price, panel.list_price))
    return np.asarray(panel.is_promo * share, np.float32)


def relative_price(price: Floats, usual_price: Floats) -> Floats:
    """Log price over usual price, within ±PRICE_LIMIT; 0 where either is unknown."""
    known = np.isfinite(price) & np.isfinite(usual_price)
    ratio = np.where(known, price, 1.0) / np.where(known, usual_price, 1.0)
    return np.clip(np.log(ratio), -PRICE_LIMIT, PRICE_LIMIT).astype(np.float32)


def calendar_features(dates: Days) -> Floats:
    """(date, 8) two harmonics of the week and two of the year."""
    day = dates.astype("datetime64[D]").astype(np.float64)
    week = 2 * np.pi * ((day + 3) % 7) / 7
    year = 2 * np.pi * (day % 365.25) / 365.25
    waves = [f(n * angle) for angle in (week, year) for n in (1, 2) for f in (np.sin, np.cos)]
    return np.stack(waves, axis=-1).astype(np.float32)


def past_features(panel: Panel, *, norms: Norms, memory: EwmaState | None = None) -> tuple[Past, EwmaState]:
    """Compute the features of every period of the products of `norms` in one causal pass, and the state after it."""
    state = memory or blank_ewma_state(len(panel.product_ids), period=panel.period)
    weekday = weekdays(panel.dates, period=panel.period)
    columns = restated_columns(panel, norms)
    shape = panel.present.shape
    level = np.zeros(shape, np.float32)
    profile = np.zeros((*shape, state.profile_sums.shape[1]), np.float32)
    summary = np.zeros((*shape, SUMMARY), np.float32)
    residual = np.zeros(shape, np.float32)

    now = ewma_features(state, norms)
    for t in range(len(panel.dates)):
        observed = {name: columns[name][:, t] for name in _OBSERVED}
        observations = PeriodObservations(**observed, weekday=int(weekday[t]))
        state, residual[:, t] = update_ewma_state(
            state, observations, level=now[0], profile=now[1], period=panel.period
        )
        now = ewma_features(state, norms)
        level[:, t], profile[:, t], summary[:, t] = now

    own = [columns[name] for name in ("seen", "censored", "promo", "holiday", "gap", "gap_known")]
    todays_profile = np.take_along_axis(profile, weekday[None, :, None], axis=2)
    first_waves = np.broadcast_to(calendar_features(panel.dates)[:, [0, 1, 4, 5]], (*shape, 4))
    inputs = np.concatenate([np.stack([residual, *own], axis=-1), todays_profile, first_waves, summary], axis=-1)
    return Past(inputs, level, profile, summary), state


def launched(inputs: Any) -> Any:
    """(…,) True where a product has had its first row, from the network's (…, PAST) inputs: an array or a Keras tensor.

    The encoder skips earlier periods: else its state would depend on how long before the launch encoding began.
    """
    return inputs[..., AGE] > BLANK_AGE


def competitor_gap(comp_price: Floats, usual_price: Floats) -> tuple[Floats, Floats]:
    """Log competitor's price over usual price, clipped to ±1 (0 where unknown), and 1.0 where it is known."""
    known = np.isfinite(comp_price) & np.isfinite(usual_price)
    return np.clip(relative_price(comp_price, usual_price), -1.0, 1.0), known.astype(np.float32)


def known_features(dates: Days, *, holiday: Floats, gap: Floats, gap_known: Floats, step: Floats) -> Floats:
    """(…, 15) known covariates of a future period; the network's `known` input is these, the log profile and summary.

    `holiday` is (…, 4), from `holiday_window`, gap and `gap_known` are (…,), from `competitor_gap`; `step` is (…,)
    periods after the cutoff, at least 1.
    """
    step = np.asarray(step, np.float32)
    parts = [
        calendar_features(dates.reshape(-1)).reshape((*dates.shape, 8)),
        holiday,
        np.stack([gap, gap_known, np.log(step) / 3.0], axis=-1),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def holiday_window(holiday: Floats) -> Floats:
    """(…, period, 4) holiday flags of the period before, the period itself and the next two; 0 beyond the ends."""
    padded = np.pad(holiday, [*[(0, 0)] * (holiday.ndim - 1), (1, 2)])
    return np.stack([padded[..., i : i + holiday.shape[-1]] for i in range(4)], axis=-1)


def known_effect(log_price: Floats, panel: Panel, norms: Norms) -> Floats:
    """(product, period) log factor on units of price, promotion, named events, and the share of a period without stock.

    Demand falls evenly over a period: available for half of it, a product sells half.
    """
    weekend = 1.0 + norms.weekend[:, None] * weekends(panel.dates, period=panel.period)
    priced = norms.elasticity[:, None] * weekend * log_price
    effect: Floats = (priced + promo_draw(panel) * norms.promotion[:, None]).astype(np.float32)
    effect += np.log(np.clip(np.where(panel.available > 0, panel.available, 1.0), LEAST_AVAILABLE, 1.0))
    return effect if norms.lifts is None else (effect + norms.lifts.of(panel.dates)).astype(np.float32)


def restated_units(panel: Panel, norms: Norms) -> Floats:
    """(product, period) units at usual price, without promotion and events; 0 where there is no row."""
    return restated_columns(panel, norms)["restated"]


def restated_columns(panel: Panel, norms: Norms) -> dict[str, Floats]:
    """(product, period) observations by name: those of `ewma.PeriodObservations`, and the network's own inputs."""
    usual = norms.usual_price[:, None]
    log_price = relative_price(panel.price, usual)
    effect = known_effect(log_price, panel, norms)
    units = in_steps(np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0), norms.unit[:, None])
    gap, gap_known = competitor_gap(panel.comp_price, usual)
    return {
        "restated": (units * np.exp(-effect)).astype(np.float32),
        "seen": panel.present.astype(np.float32),
        "censored": panel.bounded.astype(np.float32),
        "promo": promo_draw(panel),
        "holiday": panel.is_holiday,
        "gap": gap,
        "gap_known": gap_known,
        "log_price": log_price,
        "effect": effect,
    }
