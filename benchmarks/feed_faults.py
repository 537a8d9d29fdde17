"""Which faults of a feed are found, by which name and on which night; and what is found where nothing is wrong.

python -m benchmarks.feed_faults                            faults, calm nights, and the grocery sales
python -m benchmarks.feed_faults --m5 PATH --oj PATH        and the public data sets that are not part of the project

A small simulated shop is read night by night by the stage that etl runs, and its decisions by the check that monitoring
runs. What each fault ought to be called, and the latest night, were written down in FAULTS before anything was run.
"""

import argparse
import datetime as dt
import json
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pricing.data.quality_stage import contract_findings, judge
from pricing.data.request_quality import request_findings

from benchmarks.demand_settings import SETTINGS
from benchmarks.forecast_data import m5, orange_juice
from benchmarks.provenance import stamp, take
from pricing.config import Config, load_config, parse_config
from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.completejourney import completejourney_sales
from pricing.data.contract import COLUMNS, check
from pricing.data.load import load_sales
from pricing.data.panel import STEP_DAYS, Panel
from pricing.data.quality import Finding, Quality, QualityError, ordered
from pricing.errors import ContractError
from pricing.runtime.cli import job_options, run_main

HERE = Path(__file__).parent
PRODUCTS, DAYS = 30, 420
SAME_NIGHT, LATER = 0, 3  # nights after the first spoilt day
LAST = 21  # nights looked at: how late what is late is found
TAIL = 35  # periods that a champion keeps: demand.checkpoint
YEAR = 365
SEEN = 240  # periods that a calm night reads: more than any check looks back, and quicker than all
PACK = 6
OFF = 1.05  # what a shop that overrides every price asks, × the recommended one
Frame = pd.DataFrame
Spoil = Callable[[Frame, pd.Timestamp, np.random.Generator], Frame]


@dataclass(frozen=True)
class Fault:
    """One way in which a feed goes wrong.

    Attributes:
        title: One line for the page.
        name: What it ought to be called.
        latest: Nights after the first spoilt day by which it ought to be found.
        sales: Changes the sales as they lie there on a night; takes the first spoilt day.
        decisions: Changes the decisions likewise.
    """

    title: str
    name: str
    latest: int
    sales: Spoil | None = None
    decisions: Spoil | None = None


def _from(frame: Frame, day: pd.Timestamp) -> "pd.Series[bool]":
    return frame["date"] >= day


def _scaled(frame: Frame, rows: "pd.Series[bool]", columns: Sequence[str], factor: float) -> Frame:
    return frame.assign(**{name: frame[name].where(~rows, (frame[name] * factor).round(4)) for name in columns})


def _one_category(frame: Frame) -> "pd.Series[bool]":
    return frame["category"] == frame["category"].mode()[0]


def _packs(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    rows = _from(frame, day) & _one_category(frame)
    dearer = _scaled(frame, rows, ["price", "list_price", "unit_cost"], PACK)
    return dearer.assign(
        **{name: frame[name].where(~rows, (frame[name] / PACK).round()) for name in ("units_sold", "stock")}
    )


def _set(column: str, value: float) -> Spoil:
    return lambda frame, day, _: frame.assign(**{column: frame[column].where(~_from(frame, day), value)})


def _frozen(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    last = (
        frame[~_from(frame, day)].dropna(subset="comp_price").groupby("product_id", observed=True)["comp_price"].last()
    )
    return frame.assign(
        comp_price=frame["comp_price"].where(~_from(frame, day), frame["product_id"].map(last).astype(float))
    )


def _gone(column: str, *, to: str | None = None) -> Spoil:
    return lambda frame, *_: frame.drop(columns=column) if to is None else frame.rename(columns={column: to})


def _days_missing(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    return frame[~frame["date"].isin([day, day + pd.Timedelta(days=1)])]


def _half_the_products(frame: Frame, day: pd.Timestamp, rng: np.random.Generator) -> Frame:
    ids = np.sort(frame["product_id"].unique())
    return frame[~(_from(frame, day) & frame["product_id"].isin(rng.permutation(ids)[: len(ids) // 2]))]


def _half_loaded(frame: Frame, day: pd.Timestamp, rng: np.random.Generator) -> Frame:
    newest = _from(frame, max(day, frame["date"].max() - pd.Timedelta(days=1)))
    return frame[~newest | (rng.random(len(frame)) < 0.5)]


def _other_ids(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    ids = frame["product_id"].astype(str)
    return frame.assign(product_id=ids.where(~_from(frame, day), "N" + ids))


def _swapped(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    def swap(date: pd.Timestamp) -> pd.Timestamp:
        return date if date.day > 12 else date.replace(month=date.day, day=date.month)

    return frame.assign(date=frame["date"].where(~_from(frame, day), frame["date"].map(swap)))


def _doubled(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    return pd.concat([frame, frame[_from(frame, day)]], ignore_index=True)


def _overridden(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    asked = frame.groupby("product_id", observed=True)["recommended_price"].shift()
    rows = _from(frame, day) & asked.notna()
    return frame.assign(current_price=frame["current_price"].where(~rows, (asked * OFF).round(2)))


def _ends(frame: Frame, day: pd.Timestamp, _: np.random.Generator) -> Frame:
    return frame[~_from(frame, day)]


_CENTS = ("price", "list_price")
FAULTS = (
    Fault(
        "prices × 100 for one day", "price_unit", SAME_NIGHT,
        lambda frame, day, _: _scaled(frame, frame["date"] == day, _CENTS, 100),
    ),
    Fault(
        "prices × 100 from a day on", "price_unit", SAME_NIGHT,
        lambda frame, day, _: _scaled(frame, _from(frame, day), _CENTS, 100),
    ),
    Fault(
        "prices × 100 in one category", "price_unit", SAME_NIGHT,
        lambda frame, day, _: _scaled(frame, _from(frame, day) & _one_category(frame), _CENTS, 100),
    ),
    Fault("packs of six instead of units in one category", "pack_size", SAME_NIGHT, _packs),
    Fault("no competitor price in requests", "request_comp_price_null", LATER, None, _set("comp_price", np.nan)),
    Fault(
        "no competitor price in sales and requests", "comp_price_null", LATER,
        _set("comp_price", np.nan), _set("comp_price", np.nan),
    ),
    Fault("competitor price frozen", "comp_price_frozen", LATER, _frozen, _frozen),
    Fault("column comp_price gone", "column_gone", LATER, _gone("comp_price")),
    Fault("column is_promo gone", "column_gone", LATER, _gone("is_promo")),
    Fault("two days missing", "lost_days", LATER, _days_missing),
    Fault("half of the products missing", "products_missing", LATER, _half_the_products),
    Fault("last two days half loaded, every night", "day_incomplete", LATER, _half_loaded),
    Fault("ids changed", "ids_changed", SAME_NIGHT, _other_ids),
    Fault("stock 0 everywhere", "stock_zero", LATER, _set("stock", 0)),
    Fault("stock missing", "stock_null", LATER, _set("stock", np.nan)),
    Fault("cost missing", "unit_cost_null", LATER, _set("unit_cost", np.nan)),
    Fault("every price overridden", "prices_overridden", LATER, None, _overridden),
    Fault("sales stop", "sales_late", LATER, _ends),
    Fault("decisions stop", "decisions_late", LATER, None, _ends),
    Fault("column comp_price renamed", "column_renamed", SAME_NIGHT, _gone("comp_price", to="competitor_price")),
    Fault("day and month swapped", "dates_swapped", SAME_NIGHT, _swapped),
    Fault("rows doubled", "rows_doubled", SAME_NIGHT, _doubled),
)  # fmt: skip
BESIDE = {  # names that are right, too: the same fault seen from another side
    "no competitor price in sales and requests": {"request_comp_price_null"},
    "competitor price frozen": {"request_comp_price_frozen"},
}


@dataclass(frozen=True)
class Found:
    """What one fault in one shop led to.

    Attributes:
        night: Nights after the first spoilt day on which the right name came; None where it did not.
        others: Other names of level quarantine or stop up to that night, with the night.
        level: Level of the right one.
    """

    night: int | None
    others: tuple[tuple[int, str], ...]
    level: str


def decisions_of(sales: Frame) -> Frame:
    """Decisions as monitoring tables them: every price charged was recommended the day before it was charged."""
    table = sales[["date", "product_id", "stock", "comp_price"]].assign(recommended_price=sales["price"])
    former = table.groupby("product_id", observed=True)["recommended_price"].shift()
    return table.assign(current_price=former.fillna(table["recommended_price"]))


def first_spoilt(sales: Frame, number: int) -> pd.Timestamp:
    """A day of the last months on which day and month can be swapped, another for each shop."""
    days = pd.DatetimeIndex(np.sort(sales["date"].unique()))
    late = days[-90 : -LAST - 1]
    fit = late[(late.day <= 12) & (late.day != late.month)]
    return fit[(7 * number) % len(fit)]


def read(sales: Frame, config: DataConfig, folder: Path, known: Panel) -> tuple[Finding, ...]:
    """What a night's etl finds in the sales as they lie there."""
    path = folder / "sales.parquet"
    sales.to_parquet(path)
    try:
        quality = load_sales(str(path), config, known=known, quarantine=None).quality
    except QualityError as error:
        quality = error.quality
    except ContractError as error:
        quality = Quality(ordered(contract_findings(error.violations)))
    return quality.findings


def spoil(fault: Fault, sales: Frame, config: DataConfig, day: pd.Timestamp, *, folder: Path) -> Found:
    """Runs the nights from the first spoilt day on, until the fault has its name."""
    decisions, others = decisions_of(sales), []
    known = build_panel(sales[sales["date"] < day], config)
    known = known.through(known.dates[-1])
    known = _tail(known)
    for night in range(LAST + 1):
        until = day + pd.Timedelta(days=night)
        rng = np.random.default_rng([night if fault.name == "day_incomplete" else 0, 5])
        there, asked = sales[sales["date"] <= until], decisions[decisions["date"] <= until]
        there = fault.sales(there, day, rng) if fault.sales else there
        asked = fault.decisions(asked, day, rng) if fault.decisions else asked
        last = min(pd.Timestamp(there["date"].max()), until)
        found = [
            *read(there, config, folder, known),
            *request_findings(asked, config.quality, last_sales=last.date(), until=until.date()),
        ]
        loud = [one for one in found if one.level != "note"]
        right = [one for one in loud if one.name == fault.name]
        wrong = {one.name for one in loud} - {fault.name} - BESIDE.get(fault.title, set())
        others += [(night, name) for name in sorted(wrong)]
        if right:
            return Found(night, tuple(others), right[0].level)
    return Found(None, tuple(others), "")


def _tail(panel: Panel) -> Panel:
    from pricing.demand.state import span  # noqa: PLC0415 - not needed where only help is asked for

    return span(panel, len(panel.dates) - TAIL, len(panel.dates))


def calm(sales: Frame, config: DataConfig, *, nights: int, step: int = 1) -> Counter[str]:
    """Nights with each finding of level quarantine or stop where nothing is wrong; "nights" is how many were run."""
    days = np.sort(sales["date"].unique())
    checked = check(sales, where="calm sales", period=config.period)
    given = [name for name in sales.columns if name in COLUMNS]
    decisions = decisions_of(sales) if {"stock", "comp_price"} <= set(given) else None
    count: Counter[str] = Counter()
    span = np.timedelta64(SEEN * STEP_DAYS[config.period], "D")
    for until in days[-nights:]:
        now = ((checked.clean["date"] <= until) & (checked.clean["date"] > until - span)).to_numpy()
        part = type(checked)(checked.clean[now], (), checked.bad_rows[:0], (), checked.numbers[now])
        found = list(judge(part, config, given=given).quality.findings)
        if decisions is not None and step == 1:
            asked = decisions[(decisions["date"] <= until) & (decisions["date"] > until - np.timedelta64(120, "D"))]
            found += request_findings(asked, config.quality, last_sales=pd.Timestamp(until).date())
        count["nights"] += 1
        loud = {f"{one.level} {one.name}" for one in found if one.level != "note"}
        count.update(loud)
        count["nights with any"] += bool(loud)
        count["nights with stop"] += any(name.startswith("stop ") for name in loud)
    return count


def shop(setting: str, seed: int) -> Frame:
    """The sales of one small simulated shop."""
    return SETTINGS[setting].market(seed, size={"products": PRODUCTS, "days": DAYS, "future": 1}).frame()


def real_sales(options: argparse.Namespace) -> Iterator[tuple[str, Frame, DataConfig, int]]:
    """Name, rows, configuration and nights of the real data sets that are there."""
    weekly = _changed({"period": "week", "list_price_window": 8, "zero_window": 8}).data
    yield "Complete Journey, weekly", completejourney_sales(), weekly, 40
    if options.m5:
        yield "M5, Walmart, daily", m5(options.m5), _changed({"missing": "unknown"}).data, YEAR // 3
    if options.oj:
        yield "Dominick's orange juice, weekly", orange_juice(options.oj), weekly, 200


def _changed(data: dict[str, object]) -> Config:
    base = load_config("weekly") if data.get("period") == "week" else load_config()
    values = base.model_dump(mode="json")
    values["data"] |= data
    return parse_config(values, where="benchmarks.feed_faults")


def report(faults: dict[str, list[Found]], calms: dict[str, Counter[str]]) -> str:
    """The page."""
    shops = len(next(iter(faults.values())))
    right = sum(
        all(one.night is not None and one.night <= fault.latest for one in faults[fault.title]) for fault in FAULTS
    )
    lines = [
        "# Faults of a feed",
        "",
        textwrap.fill(
            "`python -m benchmarks.feed_faults`: each fault is put into the sales, or the decisions, of "
            f"{shops} simulated shops of {PRODUCTS} products on a day of their last months, and the stage that etl "
            "runs reads them night by night, beside a champion that has read all days before. What a fault ought to "
            "be called and the latest night (0: the night of the first spoilt day) were written down before the first "
            "run; the limits in `data.quality` are reasoned for, not fitted to these faults. Found: shops in which the "
            "right name came, with level quarantine or stop, by then; nights: on which, later ones included, up to "
            f"{LAST}. Before or beside: other names "
            "of these levels up to then, with the number of shops.",
            width=116,
        ),
        "",
        f"**{right} of {len(FAULTS)} faults are rightly named in time in every shop.**",
        "",
        "| fault | ought to be | by night | found | nights | level | before or beside |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        found = faults[fault.title]
        good = [one for one in found if one.night is not None and one.night <= fault.latest]
        nights = sorted({one.night for one in found if one.night is not None})
        others = Counter(name for one in found for name in {name for _, name in one.others})
        lines.append(
            f"| {fault.title} | `{fault.name}` | {fault.latest} | {len(good)} of {len(found)} "
            f"| {', '.join(map(str, nights)) or '–'} | {', '.join(sorted({one.level for one in good})) or '–'} "
            f"| {', '.join(f'{name} {count}' for name, count in sorted(others.items())) or '–'} |"
        )
    lines += [
        "",
        "## Where nothing is wrong",
        "",
        textwrap.fill(
            "Findings of level quarantine or stop on sales as they are, read each night (each week) of the last year, "
            "or as much as there is: nights on which each was there. The same single price can be set aside on up to "
            "28 nights, since the newest 28 days are judged each night.",
            width=116,
        ),
        "",
        "| sales | nights | with any | with a stop | which |",
        "|---|---|---|---|---|",
    ]
    for name, count in calms.items():
        which = ", ".join(
            f"{one} {number}" for one, number in sorted(count.items()) if one.startswith(("quarantine ", "stop "))
        )
        numbers = [f"{count[one]:,}" for one in ("nights", "nights with any", "nights with stop")]
        lines.append(f"| {name} | {' | '.join(numbers)} | {which or '–'} |")
    return "\n".join([*lines, ""])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    return run_main(_benchmark, argv)


def _benchmark(argv: Sequence[str] | None) -> int:
    options = job_options("feed_faults", "Spoils feeds of sales and decisions and looks what is found.", sales=False)
    options.prog = "python -m benchmarks.feed_faults"
    options.add_argument("--m5", metavar="PATH", help="M5's Parquet file")
    options.add_argument("--oj", metavar="PATH", help="Parquet file of Dominick's orange juice")
    options.add_argument("--shops", type=int, default=5, help="shops that each fault is put into")
    options.add_argument("--calm_shops", type=int, default=10, help="shops of each family that are read a year long")
    options.add_argument("--jobs", type=int, default=2, help="processes at once")
    options.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="folder of the page")
    given = options.parse(argv)
    made = take("feed_faults.md")
    real = [name for name, *_ in real_sales(given)]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        spoilt = {
            fault.title: [pool.submit(_spoilt, number, shop_number) for shop_number in range(given.shops)]
            for number, fault in enumerate(FAULTS)
        }
        quiet = {
            f"{given.calm_shops} simulated shops, {family} family": [
                pool.submit(_calm_shop, family, number) for number in range(given.calm_shops)
            ]
            for family in ("default", "foreign")
        }
        quiet |= {name: [pool.submit(_calm_sales, given.m5, given.oj, name)] for name in real}
        faults = {title: [_said(title, one.result()) for one in parts] for title, parts in spoilt.items()}
        calms = {
            name: sum((_said(name, one.result()) for one in parts), Counter[str]()) for name, parts in quiet.items()
        }
    given.output.mkdir(parents=True, exist_ok=True)
    page = report(faults, calms)
    document = {
        "faults": {title: [vars(one) for one in found] for title, found in faults.items()},
        "calm": {name: dict(count) for name, count in calms.items()},
        "measured": dt.date.today().isoformat(),
    }
    (given.output / "feed_faults.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.output / "feed_faults.md").write_text(page, encoding="utf-8")
    stamp(given.output / "feed_faults.md", made)
    print(page)
    return 0


def _spoilt(fault: int, number: int) -> Found:
    """One fault in one shop."""
    sales = shop("default", SETTINGS["default"].seeds(development=True)[number])
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        day = first_spoilt(sales, number)
        return spoil(FAULTS[fault], sales, load_config().data, day, folder=Path(scratch))


def _calm_shop(family: str, number: int) -> Counter[str]:
    """A year of one simulated shop; the settings of a family take turns."""
    names = [name for name, one in SETTINGS.items() if one.family == family and name not in ("many", "regime")]
    name = names[number % len(names)]
    sales = shop(name, SETTINGS[name].seeds(development=True)[number])
    return calm(sales, load_config().data, nights=YEAR)


def _calm_sales(m5_path: str | None, oj_path: str | None, name: str) -> Counter[str]:
    """The last year of one real data set."""
    options = argparse.Namespace(m5=m5_path, oj=oj_path)
    return next(calm(rows, data, nights=nights) for title, rows, data, nights in real_sales(options) if title == name)


def _said(what: str, found: Any) -> Any:
    print(f"{what}: {found}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
