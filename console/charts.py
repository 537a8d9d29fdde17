"""Draw charts as SVG on the server: no script, and colours by the stylesheet's classes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from console.words import STEP, money
from pricing.arrays import Floats
from pricing.data.panel import Panel
from pricing.decision.explanation import Explanation
from pricing.decision.simulation import Simulation

HISTORY = 180  # periods that are shown
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 14.0, 24.0


@dataclass
class Plot:
    """Axes and marks of one chart; x and y are in the units of the data."""

    x: tuple[float, float]
    y: tuple[float, float]
    title: str
    width: float = 480.0
    height: float = 190.0
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Places a point in the picture."""
        (left, right), (low, high) = self.x, self.y
        across = (x - left) / max(right - left, 1e-12) * (self.width - LEFT - RIGHT)
        up = (y - low) / max(high - low, 1e-12) * (self.height - TOP - BOTTOM)
        return round(LEFT + across, 1), round(self.height - BOTTOM - up, 1)

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str, *, step: bool = False) -> None:
        """A line; gaps where a value is not known."""
        path, before = "", None
        for x, y in zip(xs, ys, strict=True):
            if not math.isfinite(y):
                before = None
                continue
            across, up = self.at(x, y)
            path += f"M{across} {up}" if before is None else (f"H{across}V{up}" if step else f"L{across} {up}")
            before = y
        self.parts.append(f'<path class="{kind}" d="{path}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """An area between two lines."""
        points = [self.at(x, y) for x, y in zip(xs, high, strict=True)]
        points += [self.at(x, y) for x, y in zip(reversed(xs), reversed(low), strict=True)]
        self.parts.append(f'<polygon class="{kind}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')

    def block(self, x: tuple[float, float], y: tuple[float, float], kind: str) -> None:
        """A rectangle."""
        (left, bottom), (right, top) = self.at(x[0], y[0]), self.at(x[1], y[1])
        size = f'width="{max(right - left, 0.8):.1f}" height="{max(bottom - top, 0.0):.1f}"'
        self.parts.append(f'<rect class="{kind}" x="{left}" y="{top}" {size}/>')

    def mark(self, x: float, words: str, kind: str, *, row: int = 0) -> None:
        """A vertical line with a word at its top."""
        across, _ = self.at(x, self.y[0])
        if not LEFT - 1 <= across <= self.width - RIGHT + 1:
            return
        self.parts.append(f'<path class="{kind}" d="M{across} {TOP}V{self.height - BOTTOM}"/>')
        end = ' text-anchor="end"' if across > self.width * 0.7 else ""
        beside = across - 4 if end else across + 4
        self.parts.append(f'<text class="{kind}" x="{beside}" y="{TOP + 10 + 13 * row}"{end}>{escape(words)}</text>')

    def text(self, x: float, y: float, words: str, *, kind: str = "tick", anchor: str = "middle") -> None:
        """A word at a place of the picture."""
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')

    def ticks(self, *, digits: int = 0) -> None:
        """Three lines across, with their values."""
        for y in np.linspace(*self.y, 3).tolist():
            _, up = self.at(self.x[0], y)
            self.parts.append(f'<path class="grid" d="M{LEFT} {up}H{self.width - RIGHT}"/>')
            self.text(LEFT - 6, up + 4, money(y, digits=digits), anchor="end")

    def svg(self) -> Markup:
        """The picture."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        return Markup(
            f'<svg class="chart" role="img" aria-label="{escape(self.title)}" {size}>{"".join(self.parts)}</svg>'
        )


def _room(*values: Floats, zero: bool = False) -> tuple[float, float]:
    known = np.concatenate([np.ravel(each) for each in values])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    room = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    return (low if zero and low == 0 else low - room), high + room


def history(panel: Panel, row: int) -> tuple[Markup, Markup]:
    """Prices, and units sold, over the last periods, with promotions and stock-outs."""
    part = slice(max(panel.present.shape[1] - HISTORY, 0), None)
    price, units, rival = (
        np.asarray(values[row, part], np.float64) for values in (panel.price, panel.units_sold, panel.comp_price)
    )
    seen, out = panel.present[row, part], panel.censored[row, part] & panel.present[row, part]
    price, units = np.where(seen, price, np.nan), np.where(seen, units, np.nan)
    promoted, xs = (panel.is_promo[row, part] > 0) & seen, np.arange(len(price), dtype=float)
    first, last = str(panel.dates[part][0]), str(panel.dates[part][-1])
    prices = Plot((0, len(xs)), _room(price, rival), f"Price charged from {first} to {last}", height=150)
    sold = Plot((0, len(xs)), _room(units, zero=True), f"Units sold from {first} to {last}", height=130)
    for plot in (prices, sold):
        for place in np.flatnonzero(promoted).tolist():
            plot.block((place, place + 1), plot.y, "promo")
        plot.ticks(digits=2 if plot is prices else 0)
        plot.text(LEFT, plot.height - 6, first, anchor="start")
        plot.text(plot.width - RIGHT, plot.height - 6, last, anchor="end")
    prices.line(xs, rival, "rival", step=True)
    prices.line(xs, price, "price", step=True)
    for place in np.flatnonzero(seen).tolist():
        sold.block(
            (place + 0.1, place + 0.9), (0.0, float(np.nan_to_num(units[place]))), "out" if out[place] else "unit"
        )
    return prices.svg(), sold.svg()


def curve(tried: Simulation, *, marked: float, word: str) -> tuple[Markup, Markup]:
    """Profit, and units, against price, with 80 % intervals, the guardrails, today's price and another one."""
    outcomes = sorted(tried.outcomes, key=lambda one: one.price)
    xs = [one.price for one in outcomes]
    found = []
    for name, spreads in (
        ("Profit", [one.margin for one in outcomes]),
        ("Units sold", [one.units for one in outcomes]),
    ):
        mean, low, high = ([getattr(one, end) for one in spreads] for end in ("mean", "low", "high"))
        title = f"{name} until the next delivery against price"
        plot = Plot((xs[0], xs[-1]), _room(np.array(low), np.array(high), zero=True), title)
        least, most = tried.price_limits
        if least > xs[0]:
            plot.block((xs[0], min(least, xs[-1])), plot.y, "forbidden")
        if most < xs[-1]:
            plot.block((max(most, xs[0]), xs[-1]), plot.y, "forbidden")
        plot.ticks()
        plot.band(xs, low, high, "band")
        plot.line(xs, mean, "mean")
        if tried.current_price is not None:
            plot.mark(tried.current_price, f"today {money(tried.current_price)}", "today")
        plot.mark(marked, f"{word} {money(marked)}", "proposed", row=1)
        for price in np.linspace(xs[0], xs[-1], 5).tolist():
            anchor = "start" if price == xs[0] else "end" if price == xs[-1] else "middle"
            plot.text(plot.at(price, 0)[0], plot.height - 6, money(price), anchor=anchor)
        found.append(plot.svg())
    return found[0], found[1]


def waterfall(found: Explanation) -> Markup:
    """From the price charged now to the one proposed, step by step; that it waits for approval is no step of it."""
    steps, value = [("now", 0.0, found.baseline_value)], found.baseline_value
    for driver in found.drivers:
        if driver.name != "approval":
            steps.append((STEP.get(driver.name, driver.name), value, value + driver.effect))
            value += driver.effect
    steps.append(("price", 0.0, value))
    ends = np.array([end for _, start, end in steps] + [start for _, start, _ in steps[1:-1]])
    plot = Plot((0, len(steps)), _room(ends), found.summary, height=200)
    plot.ticks(digits=2)
    for place, (name, start, end) in enumerate(steps):
        whole = place in (0, len(steps) - 1)
        low, high = (plot.y[0], end) if whole else sorted((start, end))
        kind = "whole" if whole else "rise" if end >= start else "fall"
        plot.block((place + 0.15, place + 0.85), (low, high), kind)
        across, up = plot.at(place + 0.5, high)
        plot.text(
            across, up - 4, money(end if whole else end - start, sign=not whole, digits=found.digits), kind="value"
        )
        plot.text(across, plot.height - 8, name)
    return plot.svg()
