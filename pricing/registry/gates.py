"""Promotion gates: the rules that a challenger must pass before it sets prices. Figures in, verdicts out."""

import datetime as dt
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricing.config_models import DemandConfig, GatesConfig, PriceMovesConfig
from pricing.demand.baselines import baseline_words
from pricing.demand.ensemble import CLASSES
from pricing.demand.grades import LEAST_FORTNIGHTS
from pricing.registry.files import plain
from pricing.registry.price_moves import PriceMoves, beyond_most

# How much larger the ratio of two errors may be than its limit within a class of products by volume: it has a third of
# the rows. For the baseline's also where the difference may be chance.
NAIVE_ROOM, CHAMPION_ROOM = 0.1, 0.03
# The settings that say which periods a backtest trains on and scores.
FOLDS = ("horizon", "step", "folds", "min_history")
PARITY = 1e-5  # largest relative difference between states carried forward and encoded anew: rounding is 1e-7
MUCH_SOLD_OUT = 0.2  # share of the rows judged from which they may be what a refusal is about
_NAMED = 3  # products that a refusal names
HOLDS_ONLY = "holds_only"


@dataclass(frozen=True)
class Verdict:
    """The result of one gate. One without either limit only says something."""

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
        if self.low == -math.inf:
            return "" if self.high == math.inf else f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high == math.inf else f"{self.low:g} to {self.high:g}"

    @property
    def measured(self) -> str:
        """The figure as text."""
        return "not measured" if self.figure is None else f"{self.figure:.4g}"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        said = f"{self.words}: {self.measured}" + (f", needed {self.needed}" if self.needed else "")
        return said if self.passed or not self.advice else f"{said}; {self.advice}"

    def as_json(self) -> dict[str, Any]:
        """The verdict as the record and the report store it."""
        return dict(plain({**vars(self), "passed": self.passed}))


@dataclass(frozen=True)
class Circumstances:
    """Figures of a version and its sales that may have made a gate refuse it."""

    products: int
    below_cost: int = 0  # products with a given cost that passes the price charged last, net of tax
    few_moves: int = 0  # products with price moves in too few fortnights for an elasticity of their own
    sold_out: float = 0.0  # share of the periods judged, 0…1
    short: Sequence[str] = ()  # how the history is short, a sentence each


def _cost_above_price(found: Circumstances) -> str:
    words = f"cost above price on {found.below_cost:,} of {found.products:,} products"
    return words if found.below_cost else ""


def _few_price_moves(found: Circumstances) -> str:
    few = 2 * found.few_moves > found.products
    words = f"few price moves: {found.few_moves:,} of {found.products:,} products have them in fewer than"
    return f"{words} {LEAST_FORTNIGHTS} fortnights" if few else ""


def _sold_out(found: Circumstances) -> str:
    if found.sold_out >= 1:
        return "sold-out rows only: no sale shows what more stock would have sold"
    return f"{found.sold_out:.0%} of the rows judged sold out" if found.sold_out >= MUCH_SOLD_OUT else ""


def _short_history(found: Circumstances) -> str:
    return "; ".join(sentence.partition(":")[0] for sentence in found.short)


# What may be behind the refusal of each gate, and of those that begin so, where the figures show it.
CAUSES: dict[str, tuple[Callable[[Circumstances], str], ...]] = {
    "beats_naive": (_short_history, _sold_out),
    "bias": (_short_history, _sold_out),
    "coverage": (_short_history, _sold_out),
    "elasticity_sane": (_few_price_moves, _short_history),
    "price_moves": (_cost_above_price,),
}


def causes(name: str, found: Circumstances) -> list[str]:
    """The likely causes of a gate's refusal that the figures show, a sentence each; none where they show none."""
    tried = next((those for gate, those in CAUSES.items() if name.startswith(gate)), ())
    return [sentence for cause in tried if (sentence := cause(found))]


def explained(verdicts: Sequence[Verdict], found: Circumstances) -> list[Verdict]:
    """The verdicts; those that did not pass also give their likely causes as advice."""

    def told(verdict: Verdict) -> Verdict:
        known = ", ".join(causes(verdict.name, found))
        advice = "; ".join(filter(None, (verdict.advice, known and f"likely because: {known}")))
        return verdict if verdict.passed else replace(verdict, advice=advice)

    return [told(verdict) for verdict in verdicts]


def failed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that did not pass."""
    return [verdict for verdict in verdicts if not verdict.passed]


def baseline_gates(figures: Mapping[str, Any], limits: GatesConfig, *, holds_only: bool = False) -> list[Verdict]:
    """Judges a backtest (`Backtest.figures`) against the baseline, for a first promotion and every later one.

    Of a `holds_only` version no price rests on its elasticities, which need not be plausible.
    """
    bias, elasticity = _number(figures.get("bias")), figures.get("elasticity") or {}
    words = f"error (WAPE) as a multiple of the baseline's ({baseline_words(figures)})"
    censored, rows, left_out = (_number(figures.get(name)) or 0.0 for name in ("censored", "rows", "left_out"))
    all_sold_out = 0.0 < rows + left_out <= censored  # no row can judge the demand forecast
    ratio = None if all_sold_out else _ratio(figures.get("wape"), figures.get("wape_baseline"))
    covered, by_volume = "share of actuals in {} % intervals", limits.naive_ratio + NAIVE_ROOM
    return [
        Verdict("beats_naive", ratio, words, high=_with_sampling_error(figures, limits)),
        *_by_volume("beats_naive", figures, figures, words, key="wape_baseline", limit=by_volume, times=1.0),
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


def _with_sampling_error(figures: Mapping[str, Any], limits: GatesConfig) -> float:
    """The most that passes: a little more where the confidence interval of the difference includes the limit.

    LightGBM alone may forecast as well, but has no price response.
    """
    low, base = _number((figures.get("against_baseline") or {}).get("wape_low")), _number(figures.get("wape_baseline"))
    if low is None or base is None or low > (limits.naive_ratio - 1.0) * base:
        return limits.naive_ratio
    return limits.naive_ratio + NAIVE_ROOM


def identified_gate(share: float, limits: GatesConfig, *, holds_only: bool) -> Verdict:
    """Says whether prices may rest on the elasticities, of which `share` of the units have one; never fails."""
    words = "share of units whose elasticity is identified"
    if not holds_only and share >= limits.identified:
        return Verdict("identified", share, words, low=limits.identified)
    moves = f"prices move all the same: it was not packed as {HOLDS_ONLY}, which only a training decides anew"
    holds = f"promoted as {HOLDS_ONLY}: it forecasts, and prices stay, but for stock and guardrails"
    return Verdict("identified", share, f"{words}; {holds if holds_only else moves}")


def champion_gates(
    challenger: Mapping[str, Any], champion: Mapping[str, Any], limits: GatesConfig, *, decay: float = 1.0
) -> list[Verdict]:
    """Judges whether a challenger is no worse than the champion by their backtests on the same data and folds.

    The champion's error counts `decay` times, as much as it errs more in production: refitted it shows no age.
    """
    words = "error (WAPE) as a multiple of the champion's on the same folds"
    words += f", times {decay:.3g}: so much more it errs in production (monitoring)" if decay > 1 else ""
    ratio, limit = (
        _ratio(challenger.get("wape"), champion.get("wape"), times=decay),
        limits.champion_ratio + CHAMPION_ROOM,
    )
    by_volume = _by_volume("against_champion", challenger, champion, words, key="wape", limit=limit, times=decay)
    return [Verdict("against_champion", ratio, words, high=limits.champion_ratio), *by_volume]


def not_compared_gate() -> Verdict:
    """Refuses nothing: refitted on these folds, a champion with the challenger's settings would be the challenger."""
    said = "not compared: the champion has the challenger's settings, and refitted on these folds it is the challenger"
    return Verdict("against_champion", None, said)


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
        words, advice = "largest difference from states encoded from scratch", "refresh with --rebuild true"
        verdicts.append(Verdict("parity", _number(parity), words, high=PARITY, advice=advice))
    return verdicts


def products_gate(known: Collection[str], champion: Mapping[str, float], limits: GatesConfig) -> Verdict:
    """Judges whether a challenger knows the champion's products; on others it would use their category's demand.

    `champion` gives units a period of each: unknown ones (NaN) weigh 0; where all weigh 0, all count the same.
    """
    units = {product: 0.0 if math.isnan(amount) else amount for product, amount in champion.items()}
    units = units if any(units.values()) else dict.fromkeys(units, 1.0)
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
    found: list[tuple[float, float]] = []
    said = []
    for words, before in (("the champion's price", moves.champion), ("the price charged last", moves.charged)):
        sizes = moves.sizes(before)
        if len(sizes):
            median, most = float(np.median(sizes)), beyond_most(sizes)
            found += [(median, limits.median), (most, limits.p95)]
            said.append(f"from {words} median {median:.4g}, 95th percentile {most:.4g}")
    if not found:
        return Verdict("price_moves", None, "no product has a price to compare with")
    figure, limit = max(found, key=lambda pair: pair[0] / pair[1])
    words = f"|ln(price after / before)| of {len(set(moves.product_ids))} products ({'; '.join(said)})"
    names, old, new = moves.product_ids, moves.charged, moves.candidate
    furthest = ", ".join(f"{names[place]} {old[place]:g} → {new[place]:g}" for place in moves.worst(_NAMED))
    return Verdict("price_moves", figure, words, high=limit, advice=f"furthest: {furthest}")


def comparable(
    one: Mapping[str, Any], other: Mapping[str, Any], *, settings: tuple[DemandConfig, DemandConfig]
) -> bool:
    """Tells that two backtests scored the same periods of the same data, so that their figures compare.

    Each has `data` with the panel's `fingerprint`; equal cutoffs do not imply equal scored periods.
    """
    if len({demand.horizon for demand in settings}) > 1:
        return False
    prints, others = ((backtest.get("data") or {}).get("fingerprint") for backtest in (one, other))
    cutoffs = [[str(fold.get("cutoff")) for fold in backtest.get("folds") or []] for backtest in (one, other)]
    return prints is not None and prints == others and cutoffs[0] == cutoffs[1]


def _by_volume(
    name: str, figures: Mapping[str, Any], base: Mapping[str, Any], words: str, *, key: str, limit: float, times: float
) -> Iterator[Verdict]:
    """Judges each class of products by volume: its error as a multiple of that which `base` has under `key`."""
    mine, theirs = (one.get("by_volume") or {} for one in (figures, base))
    for volume in CLASSES:
        if volume in mine or volume in theirs:
            ratio = _ratio((mine.get(volume) or {}).get("wape"), (theirs.get(volume) or {}).get(key), times=times)
            yield Verdict(f"{name}_{volume}", ratio, f"{volume}-volume products: {words}", high=limit)


def _ratio(figure: Any, base: Any, *, times: float = 1.0) -> float | None:
    top, bottom = _number(figure), _number(base)
    if top is None or bottom is None or (top and not bottom):
        return None
    return top / (bottom * times) if bottom else 1.0


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _some(products: Sequence[str]) -> str:
    return f"{', '.join(products[:_NAMED])}{' …' if len(products) > _NAMED else ''}"
