"""Promotion gates: what a challenger must pass before it sets prices. Pure rules: figures in, verdicts out."""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pricing.config_models import DemandConfig, GatesConfig, PriceMovesConfig
from pricing.demand.baselines import baseline_words, baselines_of
from pricing.demand.ensemble import CLASSES
from pricing.registry.price_moves import PriceMoves, beyond_most

# The settings that say which periods a backtest trains on and scores.
FOLDS = ("horizon", "step", "folds", "gap", "min_history")
_NAMED = 3  # products that a refusal names
HOLDS_ONLY = "holds_only"


@dataclass(frozen=True)
class Verdict:
    """The result of one gate.

    Attributes:
        figure: What was measured; None where nothing was.
        threshold: The limit; a pair is a lower and an upper one. None where the gate only says something.
        passed: False where nothing was measured, True where the gate only says something.
        sentence: The same in words.
    """

    name: str
    figure: float | None
    threshold: float | tuple[float, float] | None
    passed: bool
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """The verdict as the record and the report store it."""
        return asdict(self)


def baseline_gates(figures: Mapping[str, Any], limits: GatesConfig, *, holds_only: bool = False) -> list[Verdict]:
    """Judges a backtest against the baseline, for a first promotion and every later one.

    The baseline of each fold is the one that was best before it, as a forecaster could have known; choosing the best in
    hindsight would use knowledge that nobody had. The figures are `Backtest.figures`. Of a `holds_only` version no
    price rests on its elasticities, so that they need not be plausible.
    """
    bias, base = _number(figures.get("bias")), "wape_baseline"
    words = f"error (WAPE) as a multiple of the baseline's ({baseline_words(baselines_of(figures))})"
    ratio = None if _all_sold_out(figures) else _ratio(figures.get("wape"), figures.get(base))
    beats = _at_most("beats_naive", ratio, limits.naive_ratio, words)
    return [
        _allow_sampling_error(beats, figures, limits),
        *_by_volume("beats_naive", figures, figures, key=base, limit=limits.naive_ratio_by_volume, words=words),
        _at_most("bias", None if bias is None else abs(bias), limits.bias, "absolute bias as a share of units"),
        _within("coverage_80", figures.get("coverage_80"), limits.coverage_80, "share of actuals in 80 % intervals"),
        _within("coverage_95", figures.get("coverage_95"), limits.coverage_95, "share of actuals in 95 % intervals"),
        _sane(figures.get("elasticity") or {}, limits, holds_only=holds_only),
    ]


def _allow_sampling_error(verdict: Verdict, figures: Mapping[str, Any], limits: GatesConfig) -> Verdict:
    """Passes an error slightly above the limit where the confidence interval of the difference includes the limit.

    The baseline may be LightGBM alone, which forecasts well but has no price response: a model that may be as good and
    has one is worth having.
    """
    low, base = _number((figures.get("against_baseline") or {}).get("wape_low")), _number(figures.get("wape_baseline"))
    little = verdict.figure is not None and verdict.figure <= limits.naive_ratio_by_volume
    if verdict.passed or not little or low is None or base is None or low > (limits.naive_ratio - 1.0) * base:
        return verdict
    said = f"{verdict.sentence}; the difference may be chance: the 90 % interval of it begins at {low:+.3f}"
    return replace(verdict, passed=True, sentence=said)


def _all_sold_out(figures: Mapping[str, Any]) -> bool:
    """Tells that every scored row sold out, so that no row can judge the demand forecast."""
    censored, rows, left_out = (_number(figures.get(name)) or 0.0 for name in ("censored", "rows", "left_out"))
    return 0.0 < rows + left_out <= censored


def identified_gate(share: float, limits: GatesConfig, *, holds_only: bool) -> Verdict:
    """Says that prices may rest on the elasticities or not; never fails: a version that holds prices is useful, too.

    `share` is that of the units whose elasticity is known from more than a prior.
    """
    verdict = _at_least("identified", share, limits.identified, "share of units whose elasticity is identified")
    if holds_only:
        said = f"promoted as {HOLDS_ONLY}: it forecasts, and prices stay, but for stock and guardrails"
    elif verdict.passed:
        return verdict
    else:
        said = f"prices move all the same: it was not packed as {HOLDS_ONLY}, and only a training decides that anew"
    return _only_said(verdict, f"{verdict.sentence}; {said}")


@dataclass(frozen=True)
class ProductionError:
    """The champion's error as monitoring found it: a fit on the same folds does not show how a model has aged.

    Attributes:
        ratio: Error (WAPE) of its forecasts in production as a multiple of its backtest's.
        version: The version that monitoring looked at, which has the champion's weights.
        date: When, ISO 8601.
        tolerance: Fraction above 1 from which on the champion is in decay (`monitoring.error_tolerance`).
    """

    ratio: float
    version: str
    date: str
    tolerance: float

    @property
    def factor(self) -> float:
        """What the champion's error on folds is multiplied by: 1 without decay."""
        return self.ratio if self.ratio > 1 + self.tolerance else 1.0

    def words(self) -> str:
        """Such as "in production version 3 errs 1.4 times as much as in its backtest (monitoring, 2024-05-01)"."""
        return (
            f"in production version {self.version} errs {self.ratio:.3g} times as much as in its backtest "
            f"(monitoring, {self.date})"
        )


def champion_gates(
    challenger: Mapping[str, Any],
    champion: Mapping[str, Any],
    limits: GatesConfig,
    *,
    production: ProductionError | None = None,
) -> list[Verdict]:
    """Judges whether a challenger is no worse than the champion by their backtests on the same data and folds.

    A champion in decay is worse than a fit of its settings on these folds, by as much as monitoring says.
    """
    factor = production.factor if production is not None else 1.0
    words = "error (WAPE) as a multiple of the champion's on the same folds"
    if production is not None and factor > 1:
        words = f"{words}, times {factor:.3g}: {production.words()}"
    ratio = _ratio(challenger.get("wape"), champion.get("wape"), times=factor)
    limit = limits.champion_ratio_by_volume
    return [
        _at_most("against_champion", ratio, limits.champion_ratio, words),
        *_by_volume("against_champion", challenger, champion, key="wape", limit=limit, words=words, times=factor),
    ]


def not_compared_gate(production: ProductionError | None) -> Verdict:
    """Says that a champion with the challenger's own settings cannot be compared with it on folds, and refuses nothing.

    Refitted on the challenger's folds it would be the challenger, and the ratio 1 whatever either is worth. What the
    challenger has on it are newer sales.
    """
    said = "not compared: the champion has the challenger's settings, and refitted on these folds it is the challenger"
    if production is not None:
        decayed = "so that it is in decay" if production.factor > 1 else "so that it is not in decay"
        said = f"{said}; {production.words()}, {decayed}"
    return Verdict("against_champion", None, None, True, said)


def state_gates(
    *, number: str, challenger: str, champion: str | None, parity: float | None, limits: GatesConfig
) -> list[Verdict]:
    """Judges whether a version's states are as recent as the champion's, and correct.

    Args:
        number: The challenger's version number, for the advice about older states.
        challenger: Its state's date, ISO 8601.
        champion: The champion's; None at the first promotion.
        parity: For a refresh, the largest difference, relative, between states carried forward and states
            encoded from scratch; None for a version with new weights.
        limits: The thresholds.
    """
    verdicts = []
    if champion is not None:
        behind = float(max(0, _days(champion) - _days(challenger)))
        words = f"days that its states ({challenger}) lie behind the champion's ({champion})"
        advice = (
            f"carry them forward with `pricing refresh --version {number} --sales …`, then promote what it registers"
        )
        verdicts.append(_advised(_at_most("fresh", behind, 0.0, words), advice))
    if parity is not None:
        same = _at_most("parity", parity, limits.parity, "largest difference from states encoded from scratch")
        verdicts.append(_advised(same, "refresh with the whole history and --rebuild true, which encodes it anew"))
    return verdicts


def products_gate(known: Collection[str], champion: Mapping[str, float], limits: GatesConfig) -> Verdict:
    """Judges whether a challenger knows the champion's products; on others it would use their category's demand.

    `champion` gives units a period of each product that the champion knows. One whose units are unknown (NaN) has not
    been on sale recently and weighs 0; where all weigh 0, all count the same.
    """
    units = {product: 0.0 if math.isnan(amount) else amount for product, amount in champion.items()}
    if not any(units.values()):
        units = dict.fromkeys(units, 1.0)
    weight = math.fsum(units.values())
    unknown = sorted((product for product in units if product not in known), key=lambda product: -units[product])
    share = 1 - math.fsum(units[product] for product in unknown) / weight if weight else None
    words = "share of the champion's products that it knows, weighted by their units"
    verdict = _at_least("products", share, limits.products, words)
    if len(unknown) == len(units):
        advice = (
            "it has none of them: train this shop's model under another registry.model_name, by a --config of its own"
        )
    else:
        advice = f"it lacks {len(unknown)} of {len(units)}: {_some(unknown)}; were the sales complete?"
    return _advised(verdict, advice)


def anchors_gate(products: Sequence[str], *, number: str) -> Verdict:
    """Judges whether a challenger has the champion's anchors: no promotion may change a regular price unrecorded.

    `products` are those that both know and whose anchors differ, `number` is the challenger's, for the advice.
    """
    verdict = _at_most("anchors", float(len(products)), 0.0, "products whose anchors are not the champion's")
    advice = f"`pricing refresh --version {number} --sales …` takes them over, and `pricing anchor` moves them"
    return _advised(verdict, f"{_some(products)}; {advice}")


def golden_gate(latency_ms: Sequence[float], limits: GatesConfig) -> Verdict:
    """Judges whether golden requests, whose answers have been compared already, are priced fast enough one by one."""
    slowest = max(latency_ms) if latency_ms else None
    return _at_most(
        "golden", slowest, limits.golden_latency_ms, f"milliseconds of the slowest of {len(latency_ms)} golden requests"
    )


def price_moves_gate(moves: PriceMoves, limits: PriceMovesConfig) -> Verdict:
    """Judges how far a promotion would move prices, from the champion's and from those charged last.

    Where the price charged last is a cut, the way back to list price is no move. The figure is the one that is closest
    to its limit, or furthest beyond it; the sentence has them all.
    """
    compared = {"the champion's price": moves.champion, "the price charged last": moves.charged}
    found: list[tuple[float, float]] = []
    said = []
    for words, before in compared.items():
        sizes = moves.sizes(before)
        if not len(sizes):
            continue
        median, high = float(np.median(sizes)), beyond_most(sizes)
        found += [(median, limits.median), (high, limits.p95)]
        said.append(f"from {words} median {_say(median)}, 95th percentile {_say(high)}")
    if not found:
        return Verdict("price_moves", None, None, True, "no product has a price to compare with")
    figure, limit = max(found, key=lambda pair: pair[0] / pair[1])
    passed = all(measured <= allowed for measured, allowed in found)
    sentence = (
        f"|ln(price after / before)| of {len(set(moves.product_ids))} products: {'; '.join(said)}; allowed at most "
        f"{limits.median:g} and {limits.p95:g}"
    )
    if moves.without:
        sentence = f"{sentence}; {moves.without}"
    furthest = [
        f"{moves.product_ids[place]} {moves.charged[place]:g} → {moves.candidate[place]:g}"
        for place in moves.worst(_NAMED)
    ]
    return _advised(Verdict("price_moves", figure, limit, passed, sentence), f"furthest: {', '.join(furthest)}")


def unmeasured(name: str, threshold: float, why: str) -> Verdict:
    """Makes the failed verdict of a gate that could not be measured."""
    return Verdict(name, None, threshold, False, f"not measured: {why}")


def comparable(
    one: Mapping[str, Any], other: Mapping[str, Any], *, settings: tuple[DemandConfig, DemandConfig]
) -> bool:
    """Tells that two backtests scored the same thing on the same data and folds, so that their figures compare.

    Each has `data` with the panel's `fingerprint`. The settings are theirs, in order: equal cutoffs do not imply equal
    scored periods.
    """
    if len({(demand.gap, demand.horizon) for demand in settings}) > 1:
        return False
    prints = [(backtest.get("data") or {}).get("fingerprint") for backtest in (one, other)]
    return prints[0] is not None and prints[0] == prints[1] and _cutoffs(one) == _cutoffs(other)


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]


def _cutoffs(backtest: Mapping[str, Any]) -> list[str]:
    return [str(fold.get("cutoff")) for fold in backtest.get("folds") or []]


def _by_volume(
    name: str,
    figures: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    key: str,
    limit: float,
    words: str,
    times: float = 1.0,
) -> Iterator[Verdict]:
    mine, theirs = figures.get("by_volume") or {}, others.get("by_volume") or {}
    for volume in CLASSES:
        if volume in mine or volume in theirs:
            ratio = _ratio((mine.get(volume) or {}).get("wape"), (theirs.get(volume) or {}).get(key), times=times)
            yield _at_most(f"{name}_{volume}", ratio, limit, f"{volume}-volume products: {words}")


def _advised(verdict: Verdict, advice: str) -> Verdict:
    return verdict if verdict.passed else replace(verdict, sentence=f"{verdict.sentence}; {advice}")


def _some(products: Sequence[str]) -> str:
    return f"{', '.join(products[:_NAMED])}{' …' if len(products) > _NAMED else ''}"


def _only_said(verdict: Verdict, sentence: str) -> Verdict:
    return replace(verdict, threshold=None, passed=True, sentence=sentence)


def _ratio(figure: Any, base: Any, *, times: float = 1.0) -> float | None:
    top, bottom = _number(figure), _number(base)
    if top is None or bottom is None:
        return None
    if bottom == 0:
        return 1.0 if top == 0 else None
    return top / (bottom * times)


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _at_most(name: str, figure: Any, limit: float, words: str) -> Verdict:
    number = _number(figure)
    passed = number is not None and number <= limit
    return Verdict(name, number, limit, passed, f"{words}: {_say(number)}, allowed at most {limit:g}")


def _at_least(name: str, figure: Any, limit: float, words: str) -> Verdict:
    number = _number(figure)
    passed = number is not None and number >= limit
    return Verdict(name, number, limit, passed, f"{words}: {_say(number)}, needed at least {limit:g}")


def _within(name: str, figure: Any, band: tuple[float, float], words: str) -> Verdict:
    number = _number(figure)
    passed = number is not None and band[0] <= number <= band[1]
    return Verdict(name, number, band, passed, f"{words}: {_say(number)}, needed {band[0]:g} to {band[1]:g}")


def _sane(elasticity: Mapping[str, Any], limits: GatesConfig, *, holds_only: bool) -> Verdict:
    between = elasticity.get("limits")
    told = f" ({between[0]:g} to {between[1]:g})" if between else ""
    words = f"share of products whose elasticity is plausible{told}"
    verdict = _at_least("elasticity_sane", elasticity.get("share_sane"), limits.elasticity_sane, words)
    if holds_only and not verdict.passed:
        return _only_said(verdict, f"{verdict.sentence}, but {HOLDS_ONLY}: no price rests on it")
    return _advised(verdict, "the model card names them: look for what moved demand together with prices")


def _say(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.4g}"


def _days(date: str) -> int:
    return dt.date.fromisoformat(date).toordinal()
