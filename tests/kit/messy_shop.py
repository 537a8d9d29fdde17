"""A made-up shop whose night went wrong in many ways at once, for the report that tells of them."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.reports.etl_figures import count_figures
from pipelines.reports.etl_report import EtlReport, make_report
from pricing.config import Config, load_config
from pricing.config_sources import SourcesConfig
from pricing.data.load import LoadedSales, load_sales
from pricing.data.manifest import Change, JoinCount, Manifest, SourceRead
from simulation.config import MarketConfig
from simulation.market import simulate

HOSTILE = "<script>alert(1)</script>"
NOW = dt.datetime(2026, 11, 27, 7, 0, tzinfo=dt.UTC)  # 8 in the morning in Berlin
LAST = np.datetime64("2026-11-26")


def messy_config() -> Config:
    """Sources in Berlin, due at 6 in the morning."""
    sources = SourcesConfig.model_validate(
        {
            "zone": "Europe/Berlin",
            "sales": {"kind": "order_lines", "location": "postgresql://shop/sales#lines", "due": "06:00"},
            "stock": {"kind": "snapshots", "location": "stock/*.csv", "due": "05:30"},
            "products": {"location": "products.xlsx"},
        }
    )
    return load_config().model_copy(update={"sources": sources})


def messy_sales(*, products: int = 36, days: int = 330) -> pd.DataFrame:
    """Sales with gaps, products at one price, products sold out on most days, and promotions without a cut."""
    frame = simulate(MarketConfig(products=products, days=days, seed=11)).frame()
    frame["date"] = pd.to_datetime(frame["date"])
    frame["date"] += pd.Timestamp(LAST) - frame["date"].max()
    frame["comp_price"] = frame["comp_price"].where(frame["date"] < pd.Timestamp("2026-11-12"))
    names = sorted(frame["product_id"].unique())
    rng = np.random.default_rng(5)
    of = {name: (frame["product_id"] == name).to_numpy() for name in names}
    for name in names[:5]:
        frame.loc[of[name], ["price", "list_price"]] = frame.loc[of[name], "list_price"].iloc[0]
        frame.loc[of[name], "is_promo"] = 0
    for name in names[5:8]:
        out = of[name] & (rng.random(len(frame)) < 0.7)
        frame.loc[out, "stock"] = frame.loc[out, "units_sold"].clip(lower=1)
        frame.loc[out, "units_sold"] = frame.loc[out, "stock"]
    advertised = of[names[8]] & (rng.random(len(frame)) < 0.1)
    frame.loc[advertised, "is_promo"] = 1
    frame.loc[of[names[9]], "unit_cost"] = np.nan
    gone = np.zeros(len(frame), dtype=bool)
    for name in names[10:15]:
        gone |= of[name] & (rng.random(len(frame)) < 0.12)
    gone |= of[names[15]] & (frame["date"] < pd.Timestamp(LAST) - pd.Timedelta(days=11)).to_numpy()
    frame.loc[of[names[0]], "product_id"] = HOSTILE
    frame.loc[of[names[1]], "product_id"] = "garden-furniture/teak/table-extendable-180-240cm@store-Düsseldorf"
    return frame[~gone].reset_index(drop=True)


def messy_manifest() -> Manifest:
    """What an `etl` from sources would have told of that shop."""
    return Manifest(
        run_id="7f1c0d2a",
        made_at=NOW,
        period="day",
        settings="s",
        sources={
            "sales": SourceRead(
                location="postgresql://shop/sales#lines",
                rows=48_211,
                rejected=312,
                reasons={"currency SEK has no rate": 297, "quantity is no number": 15},
                newest=dt.date(2026, 11, 26),
            ),
            "stock": SourceRead(location="stock/*.csv", rows=11_904, newest=dt.date(2026, 11, 24)),
            "products": SourceRead(location="products.xlsx", rows=44),
        },
        tables={},
        rows={},
        joins=[
            JoinCount(table="products", sales_rows=11_400, matched=11_070, unmatched_sales=1, unmatched_table=9,
                      examples=["sales only: P7", "products only: P901"]),
            JoinCount(table="stock", sales_rows=11_400, matched=9_700, unmatched_sales=5, examples=["sales only: P3"]),
        ],
        changes=[
            Change(kind="new", rows=36, first_day=dt.date(2026, 11, 26), last_day=dt.date(2026, 11, 26), products=36),
            Change(kind="corrected", rows=4, first_day=dt.date(2026, 11, 20), last_day=dt.date(2026, 11, 24),
                   products=3),
        ],
    )  # fmt: skip


def load_messy(folder: Path, config: Config) -> LoadedSales:
    """The shop's sales through the checks of a job; a mistyped price and a negative count are set aside."""
    frame = messy_sales()
    frame.loc[frame.index[-40], "price"] *= 100
    frame.loc[frame.index[-90], "units_sold"] = -3
    frame.to_csv(folder / "sales.csv", index=False)
    return load_sales(str(folder / "sales.csv"), config.data, quarantine=folder / "bad")


def messy_report(folder: Path) -> EtlReport:
    """The report of that night."""
    config = messy_config()
    loaded = load_messy(folder, config)
    notes = tuple(note.replace(f"{folder}/", "") for note in loaded.panel.notes)
    return make_report(
        replace(loaded.quality, bad_rows="bad/bad_rows.csv"),
        figures=count_figures(replace(loaded.panel, notes=notes), config),
        config=config,
        sales="sources",
        now=NOW,
        manifest=messy_manifest(),
    )
