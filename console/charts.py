"""Draw charts as SVG on the server: no script, and colours by the stylesheet's classes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from console.words import STEP, UNTIL, money
from pricing.arrays import Floats
from pricing.data.panel import Panel
from pricing.decision.explanation import Explanation
from pricing.decision.request import Simulation

HISTORY = 180  # periods that are shown
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 480.0, 52.0, 12.0, 14.0, 24.0


@dataclass
class Plot:
    """Axes and marks of one chart; x and y are in the units of the data."""

    x: tuple[float, float]
    y: tuple[float, float]
    title: str
    height: float = 190.0
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Places a point in the picture."""
        (left, right), (low, high) = self.x, self.y
        across = (x - left) / max(right - left, 1e-12) * (WIDTH - LEFT - RIGHT)
        up = (y - low) / max(high - low, 1e-12) * (self.height - TOP - BOTTOM)
        return round(LEFT + across, 1), round(self.height - BOTTOM - up, 1)

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str, *, step: bool = False) -> None:
        """Draws a line, with gaps where a value is not known."""
        path, known = "", False
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                across, up = self.at(x, y)
                path += f"M{across} {up}" if not known else f"H{across}V{up}" if step else f"L{across} {up}"
            known = math.isfinite(y)
        self.parts.append(f'<path class="{kind}" d="{path}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """Fills the area between two lines."""
        there, back = zip(xs, high, strict=True), zip(reversed(xs), reversed(low), strict=True)
        points = " ".join("{},{}".format(*self.at(x, y)) for x, y in (*there, *back))
        self.parts.append(f'<polygon class="{kind}" points="{points}"/>')

    def block(self, x: tuple[float, float], y: tuple[float, float], kind: str) -> None:
        """Fills a rectangle."""
        (left, bottom), (right, top) = self.at(x[0], y[0]), self.at(x[1], y[1])
        size = f'width="{max(right - left, 0.8):.1f}" height="{max(bottom - top, 0.0):.1f}"'
        self.parts.append(f'<rect class="{kind}" x="{left}" y="{top}" {size}/>')

    def mark(self, x: float, words: str, kind: str, *, row: int) -> None:
        """Draws a vertical line with words beside its top."""
        across, _ = self.at(x, self.y[0])
        if LEFT - 1 <= across <= WIDTH - RIGHT + 1:
            self.parts.append(f'<path class="{kind}" d="M{across} {TOP}V{self.height - BOTTOM}"/>')
            beside, anchor = (across - 4, "end") if across > WIDTH * 0.7 else (across + 4, "start")
            self.text(beside, TOP + 10 + 13 * row, words, kind=kind, anchor=anchor)

    def text(self, x: float, y: float, words: str, *, kind: str = "tick", anchor: str = "middle") -> None:
        """Writes words at a place of the picture."""
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')

    def axes(self, below: Sequence[str], *, digits: int = 0) -> None:
        """Draws three lines across with their values, and writes words from end to end below."""
        for y in np.linspace(*self.y, 3).tolist():
            _, up = self.at(self.x[0], y)
            self.parts.append(f'<path class="grid" d="M{LEFT} {up}H{WIDTH - RIGHT}"/>')
            self.text(LEFT - 6, up + 4, money(y, digits=digits), anchor="end")
        for place, words in zip(np.linspace(LEFT, WIDTH - RIGHT, len(below)).tolist(), below, strict=True):
            anchor = "start" if place == LEFT else "end" if place == WIDTH - RIGHT else "middle"
            self.text(place, self.height - 6, words, anchor=anchor)

    def svg(self) -> Markup:
        """The picture."""
        size = f'viewBox="0 0 {WIDTH:g} {self.height:g}"'
        label = f'role="img" aria-label="{escape(self.title)}"'
        return Markup(f'<svg class="chart" {label} {size}>{"".join(self.parts)}</svg>')


def _room(*values: Floats, zero: bool = False) -> tuple[float, float]:
    """The ends of an axis; with `zero` it begins at 0 where no value is below."""
    known = np.concatenate([np.ravel(each) for each in values])
    known = known[np.isfinite(known)] if np.isfinite(known).any() else np.array([0.0, 1.0])
    low, high = float(min(known.min(), 0.0) if zero else known.min()), float(known.max())
    room = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    return (low if zero and low == 0 else low - room), high + room


def history(panel: Panel, row: int) -> tuple[Markup, Markup]:
    """Prices, and units sold, over the last periods, with promotions and stock-outs."""
    part = slice(max(panel.present.shape[1] - HISTORY, 0), None)
    seen, out = panel.present[row, part], panel.censored[row, part]
    price, units = (np.where(seen, values[row, part], np.nan) for values in (panel.price, panel.units_sold))
    rival, promoted = panel.comp_price[row, part], (panel.is_promo[row, part] > 0) & seen
    days, xs = [str(panel.dates[part][end]) for end in (0, -1)], np.arange(len(price), dtype=float)
    prices = Plot((0, len(xs)), _room(price, rival), f"Price charged from {days[0]} to {days[1]}", height=150)
    sold = Plot((0, len(xs)), _room(units, zero=True), f"Units sold from {days[0]} to {days[1]}", height=130)
    for plot in (prices, sold):
        for place in np.flatnonzero(promoted).tolist():
            plot.block((place, place + 1), plot.y, "promo")
        plot.axes(days, digits=2 if plot is prices else 0)
    prices.line(xs, rival, "rival", step=True)
    prices.line(xs, price, "price", step=True)
    for place in np.flatnonzero(seen).tolist():
        ends = (0.0, float(np.nan_to_num(units[place])))
        sold.block((place + 0.1, place + 0.9), ends, "out" if out[place] else "unit")
    return prices.svg(), sold.svg()


def curve(tried: Simulation, *, marked: float, word: str) -> list[Markup]:
    """Profit, and units, against price, with 80 % intervals, the guardrails, today's price and another one."""
    outcomes = sorted(tried.outcomes, key=lambda one: one.price)
    xs, (least, most), found = [one.price for one in outcomes], tried.price_limits, []
    spreads = {"Profit": [one.margin for one in outcomes], "Units sold": [one.units for one in outcomes]}
    for name, given in spreads.items():
        mean, low, high = ([getattr(one, end) for one in given] for end in ("mean", "low", "high"))
        ends = _room(np.array(low), np.array(high), zero=True)
        plot = Plot((xs[0], xs[-1]), ends, f"{name} {UNTIL} against price")
        if least > xs[0]:
            plot.block((xs[0], min(least, xs[-1])), plot.y, "forbidden")
        if most < xs[-1]:
            plot.block((max(most, xs[0]), xs[-1]), plot.y, "forbidden")
        plot.axes([money(price) for price in np.linspace(xs[0], xs[-1], 5).tolist()])
        plot.band(xs, low, high, "band")
        plot.line(xs, mean, "mean")
        if tried.current_price is not None:
            plot.mark(tried.current_price, f"today {money(tried.current_price)}", "today", row=0)
        plot.mark(marked, f"{word} {money(marked)}", "proposed", row=1)
        found.append(plot.svg())
    return found


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
    plot.axes([], digits=2)
    for place, (name, start, end) in enumerate(steps):
        whole = place in (0, len(steps) - 1)
        low, high = (plot.y[0], end) if whole else sorted((start, end))
        plot.block((place + 0.15, place + 0.85), (low, high), "whole" if whole else "rise" if end >= start else "fall")
        across, up = plot.at(place + 0.5, high)
        text = money(end if whole else end - start, sign=not whole, digits=found.digits)
        plot.text(across, up - 4, text, kind="value")
        plot.text(across, plot.height - 8, name)
    return plot.svg()
