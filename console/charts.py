"""Draw charts as SVG on the server: no script, and colours by the stylesheet's classes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

from console.words import STEP, UNTIL, money
from pricing.arrays import Floats
from pricing.data.panel import Panel
from pricing.decision.explanation import Explanation
from pricing.decision.request import Simulation

HISTORY = 180  # periods that are shown
WIDTH = 480.0
LEFT = 52.0  # this and the next three are margins
RIGHT = 12.0
TOP = 14.0
BOTTOM = 24.0


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
        left, right = self.x
        low, high = self.y
        across = (x - left) / max(right - left, 1e-12) * (WIDTH - LEFT - RIGHT)
        up = (y - low) / max(high - low, 1e-12) * (self.height - TOP - BOTTOM)
        return round(LEFT + across, 1), round(self.height - BOTTOM - up, 1)

    def line(self, xs: Iterable[float], ys: Iterable[float], kind: str, *, step: bool = False) -> None:
        """Draws a line, with gaps where a value is not known."""
        path = ""
        drawing = False
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                across, up = self.at(x, y)
                if not drawing:
                    path += f"M{across} {up}"
                else:
                    path += f"H{across}V{up}" if step else f"L{across} {up}"
            drawing = math.isfinite(y)
        self.parts.append(f'<path class="{kind}" d="{path}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str) -> None:
        """Fills the area between two lines."""
        there = zip(xs, high, strict=True)
        back = zip(reversed(xs), reversed(low), strict=True)
        points = " ".join("{},{}".format(*self.at(x, y)) for x, y in (*there, *back))
        self.parts.append(f'<polygon class="{kind}" points="{points}"/>')

    def block(self, x: tuple[float, float], y: tuple[float, float], kind: str) -> None:
        """Fills a rectangle."""
        left, bottom = self.at(x[0], y[0])
        right, top = self.at(x[1], y[1])
        size = f'width="{max(right - left, 0.8):.1f}" height="{max(bottom - top, 0.0):.1f}"'
        self.parts.append(f'<rect class="{kind}" x="{left}" y="{top}" {size}/>')

    def mark(self, x: float, words: str, kind: str, *, row: int) -> None:
        """Draws a vertical line with words beside its top."""
        across, _ = self.at(x, self.y[0])
        if LEFT - 1 <= across <= WIDTH - RIGHT + 1:
            self.parts.append(f'<path class="{kind}" d="M{across} {TOP}V{self.height - BOTTOM}"/>')
            height = TOP + 10 + 13 * row
            if across > WIDTH * 0.7:
                self.text(across - 4, height, words, kind=kind, anchor="end")
            else:
                self.text(across + 4, height, words, kind=kind, anchor="start")

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


def _room(*values: Floats | Sequence[float], zero: bool = False) -> tuple[float, float]:
    """The ends of an axis; with `zero` it begins at 0 where no value is below."""
    known = np.concatenate([np.ravel(each) for each in values])
    known = known[np.isfinite(known)] if np.isfinite(known).any() else np.array([0.0, 1.0])
    low = float(min(known.min(), 0.0) if zero else known.min())
    high = float(known.max())
    room = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    return (low if zero and low == 0 else low - room), high + room


def history(panel: Panel, row: int) -> tuple[Markup, Markup]:
    """Prices, and units sold, over the last periods, with promotions and stock-outs."""
    last = slice(max(panel.present.shape[1] - HISTORY, 0), None)
    seen = panel.present[row, last]
    sold_out = panel.censored[row, last]
    price = np.where(seen, panel.price[row, last], np.nan)
    units = np.where(seen, panel.units_sold[row, last], np.nan)
    rival = panel.comp_price[row, last]
    promoted = np.flatnonzero((panel.is_promo[row, last] > 0) & seen).tolist()
    days = [str(panel.dates[last][0]), str(panel.dates[-1])]
    xs = np.arange(len(price), dtype=float)

    prices = Plot((0, len(xs)), _room(price, rival), f"Price charged from {days[0]} to {days[1]}", height=150)
    sold = Plot((0, len(xs)), _room(units, zero=True), f"Units sold from {days[0]} to {days[1]}", height=130)
    for plot in (prices, sold):
        for place in promoted:
            plot.block((place, place + 1), plot.y, "promo")
        plot.axes(days, digits=2 if plot is prices else 0)
    prices.line(xs, rival, "rival", step=True)
    prices.line(xs, price, "price", step=True)
    for place in np.flatnonzero(seen).tolist():
        height = float(np.nan_to_num(units[place]))
        sold.block((place + 0.1, place + 0.9), (0.0, height), "out" if sold_out[place] else "unit")
    return prices.svg(), sold.svg()


def curve(tried: Simulation, *, marked: float, word: str) -> list[Markup]:
    """Profit, and units, against price, with 80 % intervals, the guardrails, today's price and another one."""
    outcomes = sorted(tried.outcomes, key=lambda outcome: outcome.price)
    drawn = {"Profit": [each.margin for each in outcomes], "Units sold": [each.units for each in outcomes]}
    xs = [outcome.price for outcome in outcomes]
    least, most = tried.price_limits
    charts = []
    for name, spreads in drawn.items():
        low = [spread.low for spread in spreads]
        high = [spread.high for spread in spreads]
        plot = Plot((xs[0], xs[-1]), _room(low, high, zero=True), f"{name} {UNTIL} against price")
        if least > xs[0]:
            plot.block((xs[0], min(least, xs[-1])), plot.y, "forbidden")
        if most < xs[-1]:
            plot.block((max(most, xs[0]), xs[-1]), plot.y, "forbidden")
        plot.axes([money(price) for price in np.linspace(xs[0], xs[-1], 5).tolist()])
        plot.band(xs, low, high, "band")
        plot.line(xs, [spread.mean for spread in spreads], "mean")
        if tried.current_price is not None:
            plot.mark(tried.current_price, f"today {money(tried.current_price)}", "today", row=0)
        plot.mark(marked, f"{word} {money(marked)}", "proposed", row=1)
        charts.append(plot.svg())
    return charts


class Bar(NamedTuple):
    """A bar of a waterfall, from one price to another; a whole one stands on the ground."""

    name: str
    start: float
    end: float
    kind: str = "whole"


def waterfall(found: Explanation) -> Markup:
    """From the price charged now to the one proposed, step by step; that it waits for approval is no step of it."""
    price = found.baseline_value
    steps = []
    for driver in found.drivers:
        if driver.name != "approval":
            kind = "rise" if driver.effect >= 0 else "fall"
            steps.append(Bar(STEP.get(driver.name, driver.name), price, price + driver.effect, kind))
            price += driver.effect
    bars = [Bar("now", 0.0, found.baseline_value), *steps, Bar("price", 0.0, price)]
    ends = [bar.end for bar in bars] + [bar.start for bar in steps]
    plot = Plot((0, len(bars)), _room(ends), found.summary, height=200)
    plot.axes([], digits=2)
    for place, bar in enumerate(bars):
        whole = bar.kind == "whole"
        low, high = (plot.y[0], bar.end) if whole else sorted((bar.start, bar.end))
        plot.block((place + 0.15, place + 0.85), (low, high), bar.kind)
        across, up = plot.at(place + 0.5, high)
        change = money(bar.end if whole else bar.end - bar.start, sign=not whole, digits=found.digits)
        plot.text(across, up - 4, change, kind="value")
        plot.text(across, plot.height - 8, bar.name)
    return plot.svg()
