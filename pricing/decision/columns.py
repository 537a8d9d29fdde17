"""Requests laid beside facts: which number counts where both, one, or neither of them says it."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pricing.config import Config
from pricing.data.calendar import holidays_for, resolve_date
from pricing.data.panel import STEP_DAYS
from pricing.decision.choose import Policy
from pricing.decision.circumstances import Circumstances
from pricing.decision.facts import ProductFacts
from pricing.decision.reasons import BIT
from pricing.decision.request import PriceRequest
from pricing.decision.rhythm import periods_until
from pricing.demand.curve import Demand, Offers
from pricing.errors import RequestError

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_NAN = float("nan")
_NO_DAY = np.array(["NaT"], dtype="datetime64[D]")
_KNOWN = ("price", "list_price", "unit_cost", "cost_assumed", "typical_units", "delivery_interval")


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of requests, complete.

    Attributes:
        these: What the prices are chosen under.
        offers: What demand is asked for.
        level: (request,) usual units a period at list price; NaN where nothing says.
        reasons: (request,) reason bits of what had to be assumed.
        dates: First day of the period of each request.
        categories: Category of each request; empty where unknown.
    """

    these: Circumstances
    offers: Offers
    level: Floats
    reasons: Ints
    dates: list[dt.date]
    categories: list[str]

    def take(self, rows: Ints) -> "Columns":
        """The requests of some rows, in that order."""
        return Columns(
            self.these.take(rows),
            Offers(*(getattr(self.offers, name)[rows] for name in Offers.__dataclass_fields__)),
            self.level[rows],
            self.reasons[rows],
            [self.dates[row] for row in rows],
            [self.categories[row] for row in rows],
        )


class Desk:
    """Looks up, for each request, what history knows, and fills in what the request leaves open."""

    def __init__(self, demand: Demand | None, facts: ProductFacts | None, config: Config, policy: Policy) -> None:
        self._config, self._policy, self._facts = config, policy, facts
        self._period = facts.period if facts else config.data.period
        self._step_days = STEP_DAYS[self._period]
        self._state_date: dt.date | None = facts.state_date.astype(dt.date) if facts else None
        self._demand_rows = _numbered(demand.product_ids.tolist() if demand else ())
        self._demand_categories = _numbered(demand.categories.tolist() if demand else ())
        self._rows = _numbered(facts.product_ids.tolist() if facts else ())
        self._categories: list[str] = facts.categories.tolist() if facts else []
        self._known = _known(facts)  # (product + 1, fact), the last row all NaN
        self._last_delivery = np.append(facts.last_delivery if facts else _NO_DAY[:0], _NO_DAY)
        self._last_change = np.append(facts.last_change if facts else _NO_DAY[:0], _NO_DAY)
        self._typical = _typical(facts)
        self._dates: dict[tuple[dt.date, str, dt.date | None], tuple[dt.date, bool]] = {}
        self._holidays: dict[dt.date, bool] = {}

    def lay_out(self, requests: Sequence[PriceRequest], *, today: dt.date) -> Columns:
        """Turns requests into columns.

        Raises:
            RequestError: A request names an unknown strategy, or a date that contradicts its weekday.
        """
        margin, target = self._config.data.margin, self._policy.config.target_margin
        usual_margin = margin.get("default", 0.0)
        dates: list[dt.date] = []
        categories: list[str] = []
        found: list[tuple[int, int, int, int, int]] = []
        asked: list[tuple[float, ...]] = []
        for request in requests:
            row = self._rows.get(request.product_id, -1)
            category = self._categories[row] if row >= 0 else request.category or ""
            date, stale = self._date_of(request, today)
            strategy = self._strategy_of(request)
            dates.append(date)
            categories.append(category)
            found.append(
                (
                    row,
                    self._demand_rows.get(request.product_id, -1),
                    self._demand_categories.get(category, -1),
                    strategy,
                    BIT["stale_state"] if stale else 0,
                )
            )
            asked.append(
                (
                    request.current_price or _NAN,
                    request.list_price or _NAN,
                    request.unit_cost or _NAN,
                    request.comp_price or _NAN,
                    request.current_stock,
                    request.is_promo,
                    self._holiday_on(date) if request.is_holiday is None else request.is_holiday,
                    self._periods_ahead(request, date, strategy),
                    1 - margin.get(category, usual_margin),
                    target.get(category, _NAN),
                    *self._typical.get(category, self._typical[""]),
                )
            )
        return self._complete(np.array(asked, dtype=np.float64), np.array(found), dates, categories)

    def _complete(self, asked: Floats, found: Ints, dates: list[dt.date], categories: list[str]) -> Columns:
        """Fills the gaps of the requests from facts, and those of the facts from what else is known."""
        rows, products, groups, strategies, reasons = found.T
        known = self._known[rows]
        price, list_price, cost = np.where(np.isnan(asked[:, :3]), known[:, :3], asked[:, :3]).T
        if np.isnan(list_price).any():
            list_price, more = self._list_price(list_price, price, cost, asked)
            reasons = reasons | more
        assumed = np.isnan(asked[:, 2]) & ~(known[:, 3] == 0)
        cost = np.where(np.isnan(cost), list_price * asked[:, 8], cost)
        has_price = ~np.isnan(price)
        price = np.where(has_price, price, list_price)
        reasons = reasons | assumed * BIT["cost_assumed"] | ~has_price * BIT["current_price_unknown"]
        if not self._demand_rows:
            reasons |= BIT["no_model"]
        else:
            reasons |= np.where(products < 0, np.where(groups < 0, _STRANGER, BIT["unknown_product"]), 0)
        days = np.array(dates, dtype="datetime64[D]")
        return Columns(
            Circumstances(
                current_price=price,
                current_known=has_price,
                list_price=list_price,
                unit_cost=cost,
                comp_price=asked[:, 3],
                stock=asked[:, 4],
                is_promo=asked[:, 5] > 0,
                days_since_change=self._days_since_change(rows, days, price),
                target_margin=asked[:, 9],
                strategy=strategies,
            ),
            Offers(
                product=products,
                category=groups,
                date=days,
                list_price=list_price,
                comp_price=asked[:, 3],
                is_promo=asked[:, 5],
                is_holiday=asked[:, 6],
                periods=self._periods(asked[:, 7], rows, known[:, 5], days),
            ),
            np.where(np.isnan(known[:, 4]), asked[:, 11], known[:, 4]),
            reasons,
            dates,
            categories,
        )

    def _list_price(self, list_price: Floats, price: Floats, cost: Floats, asked: Floats) -> tuple[Floats, Ints]:
        """Takes a missing list price from the current price, the cost, the competitor or the category."""
        missing = np.isnan(list_price)
        reasons = missing * BIT["list_price_assumed"]
        for guess in (price, cost / asked[:, 8], asked[:, 3], asked[:, 10]):
            list_price = np.where(np.isnan(list_price), guess, list_price)
        nothing = np.isnan(list_price)
        filled = np.where(nothing, self._policy.config.rule_price, list_price)
        return filled, reasons | nothing * BIT["price_level_unknown"]

    def _days_since_change(self, rows: Ints, days: NDArray[np.datetime64], price: Floats) -> Floats:
        """(request,) days since the price last changed; a price that the history does not show came after it."""
        if not self._policy.config.guardrails.min_days:
            return np.full(len(rows), np.inf)
        changed = self._last_change[rows]
        if self._state_date is not None:
            news = np.abs(self._known[rows, 0] - price) > 1e-6 * price
            after = np.datetime64(self._state_date, "D") + np.timedelta64(self._step_days, "D")
            changed = np.where(news, after, changed)
        return np.where(np.isnat(changed), np.inf, (days - changed).astype(np.float64))

    def _periods(self, ahead: Floats, rows: Ints, interval: Floats, days: NDArray[np.datetime64]) -> Ints:
        """(request,) periods until the next delivery: as asked, or by the rhythm of the deliveries."""
        by_rhythm = np.isnan(ahead)
        if by_rhythm.any():
            default = -(-self._policy.config.review_days // self._step_days)
            rhythm = periods_until(
                days,
                last_delivery=self._last_delivery[rows],
                interval=interval,
                default=default,
                step_days=self._step_days,
            )
            ahead = np.where(by_rhythm, rhythm, ahead)
        return np.minimum(ahead, self._config.demand.horizon).astype(np.int64)

    def _periods_ahead(self, request: PriceRequest, date: dt.date, strategy: int) -> float:
        """Periods to look ahead, where the request or its strategy says; NaN where the rhythm must."""
        if request.next_delivery is not None:
            return max(1.0, -(-(request.next_delivery - date).days // self._step_days))
        days = self._policy.days[strategy]
        return _NAN if days is None else max(1.0, -(-days // self._step_days))

    def _strategy_of(self, request: PriceRequest) -> int:
        number = self._policy.number.get(request.strategy or self._policy.config.strategy)
        if number is None:
            known = ", ".join(self._policy.names)
            raise RequestError(f"strategy: {request.strategy!r} is not configured; expected one of {known}")
        return number

    def _date_of(self, request: PriceRequest, today: dt.date) -> tuple[dt.date, bool]:
        key = (today, request.day_of_week, request.date)
        answer = self._dates.get(key)
        if answer is None:
            answer = resolve_date(
                request.day_of_week,
                request.date,
                today=today,
                state_date=self._state_date,
                horizon=self._config.demand.horizon,
                period=self._period,
            )
            _remember(self._dates, key, answer)
        return answer

    def _holiday_on(self, date: dt.date) -> bool:
        answer = self._holidays.get(date)
        if answer is None:
            days = np.array([date], dtype="datetime64[D]")
            recurring = self._facts.recurring if self._facts else None
            country = self._config.data.country
            answer = bool(holidays_for(days, recurring=recurring, country=country, period=self._period)[0])
            _remember(self._holidays, date, answer)
        return answer


_STRANGER = BIT["unknown_product"] | BIT["unknown_category"]


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keeps an answer, and forgets them all when there are more than any honest caller asks for."""
    if len(memory) > 10_000:
        memory.clear()
    memory[key] = value


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _known(facts: ProductFacts | None) -> Floats:
    """(product + 1, fact) the facts as one table; the last row is that of a stranger."""
    if facts is None:
        return np.full((1, len(_KNOWN)), np.nan)
    table = np.stack([np.asarray(getattr(facts, name), dtype=np.float64) for name in _KNOWN], axis=1)
    return np.concatenate([table, np.full((1, len(_KNOWN)), np.nan)])


def _typical(facts: ProductFacts | None) -> dict[str, tuple[float, float]]:
    """Median list price and median units a period of each category, and of all products under the empty name."""
    if facts is None:
        return {"": (_NAN, _NAN)}
    columns = np.stack([facts.list_price, facts.typical_units], axis=1)
    order = np.argsort(facts.categories, kind="stable")
    names, first = np.unique(facts.categories[order], return_index=True)
    parts = dict(zip(names.tolist(), np.split(columns[order], first[1:]), strict=True))
    return {name: _median(part) for name, part in {**parts, "": columns}.items()}


def _median(columns: Floats) -> tuple[float, float]:
    prices, units = (column[np.isfinite(column)] for column in columns.T)
    return (float(np.median(prices)) if len(prices) else _NAN, float(np.median(units)) if len(units) else _NAN)
