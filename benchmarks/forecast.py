"""How well demand is forecast on grocery sales: walk-forward WAPE beside seasonal naive and a direct global LightGBM.

    python -m benchmarks.forecast m5 PATH                              the judged folds; writes forecast.json and .md
    python -m benchmarks.forecast m5 PATH --back 56 [--set KEY=VALUE …]  earlier folds, to choose on; prints only

The data sets are not part of the project: PATH names a Parquet file with their public columns. `--back` ends the
history that many periods earlier, so that settings are chosen on folds that are not judged. LightGBM reads the same
lags, calendar, price and promotion, forecasts each step of the horizon by one model with the step as a feature, and is
refitted at each cutoff. WAPE is over product-periods: of medians for the network, of the L1 objective for LightGBM,
which forecasts medians.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import yaml

from benchmarks.provenance import Provenance, stamp, take
from pipelines.calendar import holiday_calendar
from pricing.config import Config, load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel
from pricing.demand import metrics
from pricing.demand.backtest import backtest
from pricing.demand.folds import walk_forward

LAGS = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
HERE = Path(__file__).parent
TITLES = {"m5": "Walmart store-items, daily (M5)", "oj": "Dominick's orange juice, weekly"}
SETTINGS: dict[str, dict[str, Any]] = {
    "m5": {"period": "day", "horizon": 14, "step": 14, "folds": 4, "min_history": 400},
    "oj": {"period": "week", "horizon": 13, "step": 13, "folds": 1, "min_history": 60},
}


def read(name: str, path: str) -> pd.DataFrame:
    """The data set in the columns of the panel's contract."""
    raw = pd.read_parquet(path)
    if name == "m5":
        frame = pd.DataFrame(
            {
                "date": pd.to_datetime(raw["date"]),
                "product_id": raw["item_id"].astype(str) + "@" + raw["store_id"].astype(str),
                "category": raw["dept_id"].astype(str),
                "units_sold": raw["value"].astype(float),
                "price": raw["sell_price"].astype(float),
                "is_holiday": raw["event_name_1"].fillna("").astype(str).ne("").astype(int),
            }
        )
        return frame[frame["price"] > 0]
    frame = pd.DataFrame(
        {
            "date": pd.Timestamp("1989-09-14") + pd.to_timedelta(7 * (raw["week"].astype(int) - 1), unit="D"),
            "product_id": raw["brand"].astype(int).astype(str) + "@" + raw["store"].astype(int).astype(str),
            "category": raw["brand"].astype(int).astype(str),
            "units_sold": raw["units"].astype(float),
            "price": raw["price"].astype(float) * 64,
            "comp_price": raw["comp_price"].astype(float) * 64,
            "is_promo": ((raw["feat"] > 0) | (raw["deal"] > 0)).astype(int),
        }
    )
    return frame[(frame["price"] > 0) & (frame["units_sold"] >= 0)]


def lightgbm_wape(panel: Panel, config: Config) -> float:
    """WAPE of a direct, global LightGBM over the same folds."""
    errors, total = 0.0, 0.0
    units = np.where(panel.present, panel.units_sold, np.nan)
    day = panel.dates.astype("datetime64[D]").astype(int)
    season = 7 if panel.period == "day" else 1
    for fold in walk_forward(panel.dates, config=config.demand, period=panel.period):
        end = int(np.searchsorted(panel.dates, fold.cutoff))
        scored = int(np.searchsorted(panel.dates, fold.last)) - end
        cutoffs = [end - back for back in range(scored, min(end - max(LAGS) - 30, 400), 5)]
        train = [_table(panel, units, day, cutoff, range(1, scored + 1), season) for cutoff in cutoffs]
        x, y = pd.concat([t[0] for t in train]), np.concatenate([t[1] for t in train])
        known = np.isfinite(y)
        model = lgb.LGBMRegressor(
            objective="l1", n_estimators=400, learning_rate=0.05, num_leaves=63, min_child_samples=40, verbose=-1
        )
        model.fit(x[known], y[known])
        x, y = _table(panel, units, day, end, range(1, scored + 1), season)
        known = np.isfinite(y)
        forecast = np.maximum(model.predict(x[known]), 0)
        errors += float(np.abs(y[known] - forecast).sum())
        total += float(y[known].sum())
    return errors / total


def _table(
    panel: Panel, units: np.ndarray, day: np.ndarray, cutoff: int, steps: range, season: int
) -> tuple[pd.DataFrame, np.ndarray]:
    parts, actual = [], []
    products = len(panel.product_ids)
    past = units[:, : cutoff + 1]
    nothing = np.full(products, np.nan)
    means = {f"mean{w}": np.nanmean(past[:, -w:], axis=1) for w in (7, 28, 91)}
    usual = np.nanmedian(np.where(panel.present[:, : cutoff + 1], panel.price[:, : cutoff + 1], np.nan), axis=1)
    for step in steps:
        at = cutoff + step
        if at >= units.shape[1]:
            break
        same = past[:, [i for i in range(at - season, -1, -season) if i <= cutoff][:8]]
        columns = {f"lag{k}": past[:, -k] if past.shape[1] >= k else nothing for k in LAGS} | means
        columns |= {
            "same4": np.nanmean(same[:, :4], axis=1),
            "same8": np.nanmean(same, axis=1),
            "step": np.full(products, step),
            "weekday": np.full(products, (day[at] + 3) % 7),
            "year": np.full(products, day[at] % 365),
            "holiday": panel.is_holiday[:, at],
            "promo": panel.is_promo[:, at],
            "price": np.log(panel.price[:, at] / usual),
            "price_now": np.log(panel.price[:, cutoff] / usual),
            "comp": np.log(panel.comp_price[:, at] / usual),
            "product": np.arange(products),
            "category": np.unique(panel.categories, return_inverse=True)[1],
        }
        parts.append(pd.DataFrame(columns))
        actual.append(units[:, at])
    return pd.concat(parts), np.concatenate(actual)


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(SETTINGS))
    parser.add_argument("path")
    parser.add_argument("--back", type=int, default=0, help="periods by which the history ends earlier")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the demand section")
    parser.add_argument("--no_lightgbm", action="store_true")
    options = parser.parse_args()
    made = take("forecast.md")
    own = dict(SETTINGS[options.data])
    config = load_config()
    data = config.data.model_copy(update={"period": own.pop("period")})
    own |= {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in options.set)}
    config = config.model_copy(update={"data": data, "demand": config.demand.model_copy(update=own)})
    panel = build_panel(read(options.data, options.path), config.data)
    if options.back:
        panel = panel.through(panel.dates[-1 - options.back])
        panel = panel.select(np.flatnonzero(panel.present.any(axis=1)))
    started = time.monotonic()
    calendar = holiday_calendar(panel, config.data)
    result = backtest(panel, config.demand, calendar=calendar, progress=lambda words: print(words, flush=True))
    seconds = time.monotonic() - started
    figures = result.figures
    document = {
        "data": options.data,
        "back": options.back,
        "settings": own,
        "products": len(panel.product_ids),
        "wape": figures["wape"],
        "wape_of_the_mean": figures["wape_mean"],
        "wape_naive": figures["wape_naive"],
        "coverage_80": figures["coverage_80"],
        "coverage_95": figures["coverage_95"],
        "bias": figures["bias"],
        "folds": [fold["wape"] for fold in figures["folds"]],
        "elasticity": figures["elasticity"],
        "seconds": round(seconds),
    }
    if not options.no_lightgbm:
        document["wape_lightgbm"] = lightgbm_wape(panel, config)
    document["rows"] = int(metrics.figures(result.frame)["rows"])
    print(json.dumps(document, indent=1))
    if not options.back and not options.set and not options.no_lightgbm:
        _write(document, made)


def _write(document: dict[str, Any], made: Provenance) -> None:
    """Puts judged figures beside those of the other data set, and the page anew."""
    path = HERE / "forecast.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for row in kept.values():
        row.setdefault("scored", 1)  # written before it was counted
    before = kept.get(document["data"], {"scored": 0})
    kept[document["data"]] = document | {"scored": before["scored"] + 1, "code": made.digest}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Forecasts of real sales",
        "",
        "Made by `python -m benchmarks.forecast m5 PATH` and `… oj PATH`; figures are in `forecast.json` beside this",
        "page. Walk-forward, the default configuration but for period, horizon and folds; settings were chosen on the",
        "block before the judged one. WAPE over product-periods; LightGBM is direct and global, in the same run; naive",
        "is last week's same day, on weeks the last week. Scored: how often the judged block was, this time included.",
        "Sane: share of elasticities between −6 and −0.5; a version with too few does not pass the gates.",
        "",
        "| data | products | folds × horizon | this model | LightGBM | seasonal naive | 80 % hold | 95 % hold "
        "| elasticity | sane | time | scored |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(kept.items()):
        shape = f"{row['settings']['folds']} × {row['settings']['horizon']}"
        lines.append(
            f"| {TITLES[name]} | {row['products']} | {shape} | {row['wape']:.3f} | {row['wape_lightgbm']:.3f} "
            f"| {row['wape_naive']:.3f} | {row['coverage_80']:.1%} | {row['coverage_95']:.1%} "
            f"| {row['elasticity']['mean']:.2f} | {row['elasticity']['share_sane']:.0%} "
            f"| {row['seconds']} s | {row['scored']} × |"
        )
    (HERE / "forecast.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    stamp(HERE / "forecast.md", made, parts=[row.get("code") for row in kept.values()])


if __name__ == "__main__":
    main()
