"""Promotion gates: the rules that a challenger must pass before it sets prices. Figures in, verdicts out."""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricing.config_models import DemandConfig, GatesConfig, PriceMovesConfig
from pricing.demand.baselines import baseline_words
from pricing.demand.ensemble import CLASSES
from pricing.registry.causes import Circumstances, causes
from pricing.registry.files import plain
from pricing.registry.price_moves import PriceMoves, beyond_most

# How much larger the ratio of two errors may be than its limit within a class of products by volume: it has a third of
# the rows.
NAIVE_ROOM = 0.1  # to the baseline's error; also where the difference may be chance
CHAMPION_ROOM = 0.03  # to the champion's
# The settings that say which periods a backtest trains on and scores.
FOLDS = ("horizon", "step", "folds", "min_history")
PARITY = 1e-5  # largest relative difference between states carried forward and encoded anew: rounding is 1e-7
_NAMED = 3  # products that a refusal names
HOLDS_ONLY = "holds_only"


@dataclass(frozen=True)
class Verdict:
    """The result of one gate. One without either limit informs, and always passes."""

    name: str
    figure: float | None  # None where nothing was measured
    words: str  # the figure in words
    low: float = -math.inf  # the least that passes
    high: float = math.inf  # the most that passes
    advice: str = ""  # for whoever it refuses

    @property
    def passed(self) -> bool:
        """True where the figure lies within the limits, or there are none."""
        return not self.needed or (self.figure is not None and self.low <= self.figure <= self.high)

    @property
    def needed(self) -> str:
        """The limits as text; empty where there are none."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{self.low:g} to {self.high:g}"
        if math.isfinite(self.low):
            return f"≥ {self.low:g}"
        return f"≤ {self.high:g}" if math.isfinite(self.high) else ""

    @property
    def measured(self) -> str:
        """The figure as text."""
        return "not measured" if self.figure is None else f"{self.figure:.4g}"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        words = f"{self.words}: {self.measured}"
        if self.needed:
            words += f", needed {self.needed}"
        return words if self.passed or not self.advice else f"{words}; {self.advice}"

    def as_json(self) -> dict[str, Any]:
        """The verdict as the record and the report store it."""
        return dict(plain({**vars(self), "passed": self.passed}))


def explained(verdicts: Sequence[Verdict], found: Circumstances) -> list[Verdict]:
    """The verdicts; those that did not pass also give their likely causes as advice."""

    def with_causes(verdict: Verdict) -> Verdict:
        likely = ", ".join(causes(verdict.name, found))
        if verdict.passed or not likely:
            return verdict
        advice = f"likely because: {likely}"
        return replace(verdict, advice=f"{verdict.advice}; {advice}" if verdict.advice else advice)

    return [with_causes(verdict) for verdict in verdicts]


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]


def baseline_gates(figures: Mapping[str, Any], limits: GatesConfig, *, holds_only: bool = False) -> list[Verdict]:
    """Judges a backtest (`Backtest.figures`) against the baseline, for a first promotion and every later one.

    Of a `holds_only` version no price rests on its elasticities, which need not be plausible.
    """
    words = f"error (WAPE) as a multiple of the baseline's ({baseline_words(figures)})"
    ratio = None if _all_sold_out(figures) else _ratio(figures.get("wape"), figures.get("wape_baseline"))
    by_volume = limits.naive_ratio + NAIVE_ROOM
    bias = _number(figures.get("bias"))
    elasticity = figures.get("elasticity") or {}
    covered = "share of actuals in {} % intervals"
    return [
        Verdict("beats_naive", ratio, words, high=_with_sampling_error(figures, limits)),
        *_by_volume("beats_naive", figures, figures, words, key="wape_baseline", limit=by_volume),
        Verdict("bias", bias and abs(bias), "absolute bias as a share of units", high=limits.bias),
        Verdict("coverage_80", _number(figures.get("coverage_80")), covered.format(80), *limits.coverage_80),
        Verdict("coverage_95", _number(figures.get("coverage_95")), covered.format(95), *limits.coverage_95),
        Verdict(
            "elasticity_sane",
            _number(elasticity.get("share_sane")),
            "share of products whose elasticity is plausible",
            low=-math.inf if holds_only else limits.elasticity_sane,
            advice="the model card names them: look for what moved demand together with prices",
        ),
    ]


def _all_sold_out(figures: Mapping[str, Any]) -> bool:
    """True where no row can judge the forecast of demand."""
    censored, rows, left_out = (_number(figures.get(name)) or 0.0 for name in ("censored", "rows", "left_out"))
    return 0.0 < rows + left_out <= censored


def _with_sampling_error(figures: Mapping[str, Any], limits: GatesConfig) -> float:
    """The most that passes: a little more where the confidence interval of the difference includes the limit.

    LightGBM alone may forecast as well, but has no price response.
    """
    lowest = _number((figures.get("against_baseline") or {}).get("wape_low"))
    baseline = _number(figures.get("wape_baseline"))
    if lowest is None or baseline is None or lowest > (limits.naive_ratio - 1.0) * baseline:
        return limits.naive_ratio
    return limits.naive_ratio + NAIVE_ROOM


def identified_gate(share: float, limits: GatesConfig, *, holds_only: bool) -> Verdict:
    """Shows whether prices may rest on the elasticities, of which `share` of the units have one; never fails."""
    words = "share of units whose elasticity is identified"
    if not holds_only and share >= limits.identified:
        return Verdict("identified", share, words, low=limits.identified)
    if holds_only:
        words += f"; promoted as {HOLDS_ONLY}: it forecasts, and prices stay, but for stock and guardrails"
    else:
        words += f"; prices move all the same: it was not packed as {HOLDS_ONLY}, which only a training decides anew"
    return Verdict("identified", share, words)


def champion_gates(
    challenger: Mapping[str, Any], champion: Mapping[str, Any], limits: GatesConfig, *, decay: float = 1.0
) -> list[Verdict]:
    """Judges whether a challenger is no worse than the champion by their backtests on the same data and folds.

    The champion's error counts `decay` times, as much as it errs more in production: refitted it shows no age.
    """
    words = "error (WAPE) as a multiple of the champion's on the same folds"
    if decay > 1:
        words += f", times {decay:.3g}: so much more it errs in production (monitoring)"
    ratio = _ratio(challenger.get("wape"), champion.get("wape"), times=decay)
    by_volume = limits.champion_ratio + CHAMPION_ROOM
    return [
        Verdict("against_champion", ratio, words, high=limits.champion_ratio),
        *_by_volume("against_champion", challenger, champion, words, key="wape", limit=by_volume, times=decay),
    ]


def not_compared_gate() -> Verdict:
    """Refuses nothing: refitted on these folds, a champion with the challenger's settings would be the challenger."""
    words = "not compared: the champion has the challenger's settings, and refitted on these folds it is the challenger"
    return Verdict("against_champion", None, words)


def state_gates(*, challenger: str, champion: str | None, parity: float | None) -> list[Verdict]:
    """Judges whether a version's states (ISO dates) are as recent as the champion's, and those of a refresh correct.

    `parity` is the largest relative difference between states carried forward and encoded from scratch.
    """
    verdicts = []
    if champion is not None:
        behind = max(0, (dt.date.fromisoformat(champion) - dt.date.fromisoformat(challenger)).days)
        words = f"days that its states ({challenger}) lie behind the champion's ({champion})"
        advice = "carry them forward with `pricing refresh --version N --sales …`, then promote what it registers"
        verdicts.append(Verdict("fresh", float(behind), words, high=0.0, advice=advice))
    if parity is not None:
        words = "largest difference from states encoded from scratch"
        verdicts.append(Verdict("parity", _number(parity), words, high=PARITY, advice="refresh with --rebuild true"))
    return verdicts


def products_gate(known: Collection[str], champion: Mapping[str, float], limits: GatesConfig) -> Verdict:
    """Judges whether a challenger knows the champion's products; on others it would use their category's demand.

    `champion` gives units a period of each: unknown ones (NaN) weigh 0; where all weigh 0, all count the same.
    """
    units = {product: 0.0 if math.isnan(amount) else amount for product, amount in champion.items()}
    if not any(units.values()):
        units = dict.fromkeys(units, 1.0)
    unknown = sorted((product for product in units if product not in known), key=lambda product: -units[product])
    share = 1 - math.fsum(units[product] for product in unknown) / math.fsum(units.values())
    advice = f"it lacks {len(unknown)} of {len(units)}: {_some(unknown)}; were the sales complete?"
    if len(unknown) == len(units):
        advice = "it has none: train this shop's model under another registry.model_name, by a --config of its own"
    words = "share of the champion's products that it knows, weighted by their units"
    return Verdict("products", share, words, low=limits.products, advice=advice)


def anchors_gate(products: Sequence[str]) -> Verdict:
    """Refuses products whose anchors differ from the champion's: no promotion may change a regular price unrecorded."""
    advice = f"{_some(products)}; `pricing refresh` takes them over, and `pricing anchor` moves them"
    words = "products whose anchors are not the champion's"
    return Verdict("anchors", float(len(products)), words, high=0.0, advice=advice)


def golden_gate(latency_ms: Sequence[float], limits: GatesConfig) -> Verdict:
    """Judges whether golden requests, whose answers have been compared already, are priced fast enough one by one."""
    words = f"milliseconds of the slowest of {len(latency_ms)} golden requests"
    return Verdict("golden", max(latency_ms, default=None), words, high=limits.golden_latency_ms)


def price_moves_gate(moves: PriceMoves, limits: PriceMovesConfig) -> Verdict:
    """Judges how far a promotion would move prices, from the champion's and from those charged last.

    The figure is the one that is closest to its limit, or furthest beyond it; the words have them all.
    """
    measured: list[tuple[float, float]] = []  # a figure and its limit
    described = []
    for words, before in (("the champion's price", moves.champion), ("the price charged last", moves.charged)):
        sizes = moves.sizes(before)
        if len(sizes):
            median = float(np.median(sizes))
            most = beyond_most(sizes)
            measured += [(median, limits.median), (most, limits.p95)]
            described.append(f"from {words} median {median:.4g}, 95th percentile {most:.4g}")
    if not measured:
        return Verdict("price_moves", None, "no product has a price to compare with")

    figure, limit = max(measured, key=lambda pair: pair[0] / pair[1])
    words = f"|ln(price after / before)| of {len(set(moves.product_ids))} products ({'; '.join(described)})"
    furthest = ", ".join(
        f"{moves.product_ids[place]} {moves.charged[place]:g} → {moves.candidate[place]:g}"
        for place in moves.worst(_NAMED)
    )
    return Verdict("price_moves", figure, words, high=limit, advice=f"furthest: {furthest}")


def comparable(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, settings: tuple[DemandConfig, DemandConfig]
) -> bool:
    """True where two backtests scored the same periods of the same data, so that their figures compare.

    Each has `data` with the panel's `fingerprint`; equal cutoffs do not imply equal scored periods.
    """

    def scored(backtest: Mapping[str, Any], horizon: int) -> list[Any]:
        cutoffs = [str(fold.get("cutoff")) for fold in backtest.get("folds") or []]
        return [(backtest.get("data") or {}).get("fingerprint"), horizon, *cutoffs]

    found, other = (scored(figures, its.horizon) for figures, its in zip((ours, theirs), settings, strict=True))
    return found[0] is not None and found == other


def _by_volume(
    gate: str,
    figures: Mapping[str, Any],
    base: Mapping[str, Any],
    words: str,
    *,
    key: str,
    limit: float,
    times: float = 1.0,
) -> Iterator[Verdict]:
    """Judges each class of products by volume: its error as a multiple of that which `base` has under `key`."""
    ours = figures.get("by_volume") or {}
    theirs = base.get("by_volume") or {}
    for volume in CLASSES:
        if volume in ours or volume in theirs:
            errors, base_errors = ours.get(volume) or {}, theirs.get(volume) or {}
            ratio = _ratio(errors.get("wape"), base_errors.get(key), times=times)
            yield Verdict(f"{gate}_{volume}", ratio, f"{volume}-volume products: {words}", high=limit)


def _ratio(figure: Any, base: Any, *, times: float = 1.0) -> float | None:
    """One error as a multiple of another; 1 where both are 0, None where one is not known or only the other is 0."""
    error, base_error = _number(figure), _number(base)
    if error is None or base_error is None or (error and not base_error):
        return None
    return error / (base_error * times) if base_error else 1.0


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _some(products: Sequence[str]) -> str:
    return f"{', '.join(products[:_NAMED])}{' …' if len(products) > _NAMED else ''}"
