"""Spoil feeds of sales in known ways, and print what is found on which night; and what is, where nothing is wrong.

python -m benchmarks.feed_faults [--shops 5] [--m5 PATH] [--oj PATH] >> benchmarks/feed_faults.md

A small simulated shop is read night by night beside a champion that has read all days before. What ought to find each
fault, and by which night, stands in FAULTS.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.demand import SETTINGS, features
from benchmarks.forecast_data import m5, orange_juice
from pricing.config import load_config
from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.contract import COLUMNS, check
from pricing.data.findings import Finding, QualityError
from pricing.data.panel import Panel
from pricing.data.quality import contract_findings, judge
from pricing.demand.state import span
from pricing.errors import ContractError
from simulation.completejourney import completejourney_sales
from simulation.config import DEVELOPMENT_SEEDS
from simulation.market import MarketConfig, simulate

SIZE = {"products": 30, "days": 420, "future": 1}
SAME_NIGHT, LATER, LAST = 0, 3, 21  # nights after the first spoilt day: by which it ought to be found, and looked at
TAIL = 35  # periods that a champion keeps: demand.checkpoint
PACK = 6
Frame = pd.DataFrame
Spoil = Callable[[Frame, pd.Timestamp, np.random.Generator], Frame]


@dataclass(frozen=True)
class Fault:
    """One way in which a feed goes wrong: what ought to find it, by which night, and what it does to the rows."""

    title: str
    check: str
    spoil: Spoil
    latest: int = SAME_NIGHT


def _scaled(
    columns: Sequence[str], factor: float, rows: Callable[[Frame], "pd.Series[bool]"] | None = None, days: int = 9_999
) -> Spoil:
    def spoil(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
        at = frame["date"].between(day, day + pd.Timedelta(days, "D")) & (rows(frame) if rows else True)
        return frame.assign(**{name: frame[name].where(~at, (frame[name] * factor).round(4)) for name in columns})

    return spoil


def _one_category(frame: Frame) -> "pd.Series[bool]":
    found: pd.Series[bool] = frame["category"] == frame["category"].mode()[0]
    return found


def _packs(frame: Frame, day: pd.Timestamp, rng: np.random.Generator) -> Frame:
    dearer = _scaled(("price", "list_price", "unit_cost"), PACK, _one_category)(frame, day, rng)
    return _scaled(("units_sold", "stock"), 1 / PACK, _one_category)(dearer, day, rng)


def _set(column: str, value: float) -> Spoil:
    return lambda frame, day, _: frame.assign(**{column: frame[column].mask(frame["date"] >= day, value)})


def _frozen(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    known = frame[frame["date"] < day].dropna(subset="comp_price").groupby("product_id", observed=True)["comp_price"]
    last = frame["product_id"].map(known.last()).astype(float)
    return frame.assign(comp_price=frame["comp_price"].where(frame["date"] < day, last))


def _as_ours(frame: Frame, *_: object) -> Frame:
    return frame.assign(comp_price=frame["price"])


def _days_missing(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    return frame[~(frame["date"] - day).dt.days.isin([0, 1])]


def _half_the_products(frame: Frame, day: pd.Timestamp, rng: np.random.Generator) -> Frame:
    ids = np.sort(frame["product_id"].unique())
    return frame[~((frame["date"] >= day) & frame["product_id"].isin(rng.permutation(ids)[: len(ids) // 2]))]


def _half_loaded(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    newest = frame["date"] >= max(day, frame["date"].max() - pd.Timedelta(days=1))
    rng = np.random.default_rng(len(frame))  # other rows each night
    return frame[~newest | (rng.random(len(frame)) < 0.5)]


def _other_ids(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    ids = frame["product_id"].astype(str)
    return frame.assign(product_id=ids.where(frame["date"] < day, "N" + ids))


def _swapped(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    def swap(date: pd.Timestamp) -> pd.Timestamp:
        return date if date.day > 12 else date.replace(month=date.day, day=date.month)

    return frame.assign(date=frame["date"].where(frame["date"] < day, frame["date"].map(swap)))


_CENTS, _RENAMED = ("price", "list_price"), {"comp_price": "competitor_price"}
FAULTS = (
    Fault("prices × 100 for one day", "price_unit", _scaled(_CENTS, 100, days=0)),
    Fault("prices × 100 from a day on", "price_unit", _scaled(_CENTS, 100)),
    Fault("prices × 100 in one category", "price_unit", _scaled(_CENTS, 100, _one_category)),
    Fault("packs of six instead of units in one category", "price_unit", _packs),
    Fault("prices net of tax from a day on", "price_unit", _scaled(_CENTS, 1 / 1.19)),
    Fault("no competitor price", "lost_columns", _set("comp_price", np.nan), LATER),
    Fault("competitor price frozen", "competitor", _frozen, LATER),
    Fault("competitor price × 100", "competitor", _scaled(("comp_price",), 100)),
    Fault("competitor price × 100 in one category", "competitor", _scaled(("comp_price",), 100, _one_category)),
    Fault("competitor price is our own", "competitor", _as_ours),
    Fault("column comp_price gone", "lost_columns", lambda frame, *_: frame.drop(columns="comp_price"), LATER),
    Fault("column is_promo gone", "lost_columns", lambda frame, *_: frame.drop(columns="is_promo"), LATER),
    Fault("column comp_price renamed", "lost_columns", lambda frame, *_: frame.rename(columns=_RENAMED)),
    Fault("two days missing", "lost_days", _days_missing, LATER),
    Fault("half of the products missing", "lost_days", _half_the_products, LATER),
    Fault("last two days half loaded, every night", "lost_days", _half_loaded, LATER),
    Fault("0 units of everything for three nights", "lost_days", _scaled(("units_sold",), 0, days=2)),
    Fault("ids changed", "renamed_ids", _other_ids),
    Fault("stock 0 everywhere", "lost_columns", _set("stock", 0), LATER),
    Fault("stock missing", "lost_columns", _set("stock", np.nan), LATER),
    Fault("cost missing", "lost_columns", _set("unit_cost", np.nan), LATER),
    Fault("sales stop", "dates", lambda frame, day, _: frame[frame["date"] < day], LATER),
    Fault("day and month swapped", "contract or dates", _swapped),
    Fault("rows doubled", "contract", lambda frame, day, _: pd.concat([frame, frame[frame["date"] >= day]])),
)


def first_spoilt(sales: Frame, number: int) -> pd.Timestamp:
    """A day of the last months on which day and month can be swapped, another for each shop."""
    late = pd.DatetimeIndex(np.sort(sales["date"].unique()))[-90 : -LAST - 1]
    fit = late[(late.day <= 12) & (late.day != late.month)]
    return fit[(7 * number) % len(fit)]


def findings(
    sales: Frame, config: DataConfig, *, known: Panel | None = None, night: pd.Timestamp | None = None
) -> list[Finding]:
    """All but notes that a night's read of the sales finds."""
    given = [str(one) for one in sales if one in COLUMNS]
    others = [str(one) for one in sales if one not in COLUMNS]
    today = None if night is None else night.date()
    try:
        checked = check(sales, where="the sales", period=config.period)
        if checked.violations:
            raise ContractError("the sales", checked.violations)
        found = judge(checked, config, given=given, others=others, known=known, today=today).findings
    except QualityError as error:
        found = error.findings
    except ContractError as error:
        found = tuple(contract_findings(error.violations))
    return [one for one in found if one.level != "note"]


def spoilt(fault: Fault, shops: int, config: DataConfig) -> str:
    """A row of the first table."""
    nights: list[int | None] = []
    levels, beside = set[str](), Counter[str]()
    for number in range(shops):
        sales = simulate(MarketConfig(seed=DEVELOPMENT_SEEDS["default"][number], **SIZE)).frame()
        day = first_spoilt(sales, number)
        known = build_panel(sales[sales["date"] < day], config)
        known = span(known, len(known.dates) - TAIL, len(known.dates))
        for night in range(LAST + 1):
            until = day + pd.Timedelta(night, "D")
            rows = fault.spoil(sales[sales["date"] <= until], day, np.random.default_rng(5))
            found = findings(rows, config, known=known, night=until)
            beside.update({one.check for one in found} - set(fault.check.split(" or ")))
            if right := [one.level for one in found if one.check in fault.check.split(" or ")]:
                nights.append(night)
                levels.add(right[0])
                break
        else:
            nights.append(None)
    good = sum(night is not None and night <= fault.latest for night in nights)
    came = sorted({night for night in nights if night is not None})
    cells = (fault.title, f"`{fault.check}`", fault.latest, f"{good} of {shops}", came, sorted(levels), sorted(beside))
    return f"| {' | '.join(str(cell).replace('[]', '–').strip('[]') for cell in cells)} |"


def calm(title: str, sales: Frame, config: DataConfig, *, nights: int) -> str:
    """A row of the second table: every seventh night, and the whole history."""
    days, count = np.sort(sales["date"].unique()), Counter[str]()
    for until in days[-nights:][::-7]:
        count.update({f"{one.level} {one.check}" for one in findings(sales[sales["date"] <= until], config)})
    which = ", ".join(f"{name} {number}" for name, number in sorted(count.items())) or "–"
    return f"| {title} | {len(days[-nights:][::-7])} | {which} |"


def _benchmark(argv: Sequence[str] | None) -> int:
    options = argparse.ArgumentParser("python -m benchmarks.feed_faults", description=__doc__)
    options.add_argument("--m5", metavar="PATH", help="M5's Parquet file")
    options.add_argument("--oj", metavar="PATH", help="Parquet file of Dominick's orange juice")
    options.add_argument("--shops", type=int, default=5, help="shops of each kind")
    given = options.parse_args(argv)
    day, week = load_config().data, load_config("weekly").data
    print("| fault | ought to be | by night | found | nights | level | beside |\n|---|---|---|---|---|---|---|")
    for fault in FAULTS:
        print(spoilt(fault, given.shops, day), flush=True)
    print("\n| sales where nothing is wrong | nights | found on |\n|---|---|---|")
    for name, options in SETTINGS.items():
        for number, seed in enumerate(DEVELOPMENT_SEEDS[features(name).family][: given.shops]):
            frame = simulate(MarketConfig(seed=seed, **options | SIZE)).frame()
            print(calm(f"simulated, {name} {number}", frame, day, nights=365), flush=True)
    print(calm("Complete Journey, weekly", completejourney_sales(), week, nights=40))
    if given.m5:
        print(calm("M5, daily", m5(given.m5), day.model_copy(update={"missing": "unknown"}), nights=120))
    if given.oj:
        print(calm("Dominick's orange juice, weekly", orange_juice(given.oj), week, nights=200))
    return 0


if __name__ == "__main__":
    sys.exit(_benchmark(None))
