"""How well demand is forecast on real sales, beside naive forecasts, LightGBM and AutoETS on the same rows.

    python -m benchmarks.forecast m5 PATH [--variant x0.1|x10|short]     the judged folds; writes forecast.json and .md
    python -m benchmarks.forecast m5 PATH --back 224 [--set KEY=VALUE …]  earlier folds, to choose on; prints only

The data sets are not part of the project (`benchmarks/forecast_data.py` reads them). A variant multiplies all units, or
leaves the end of the history alone. `--back` ends the history that many periods earlier, so that settings are chosen on
folds that are not judged. `--statsforecast` names an interpreter that has that package; `--cache` a folder in which the
competitors' forecasts are kept, which are multiplied with the units.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from benchmarks import forecast_page, forecasters
from benchmarks.forecast_data import FACTORS, SETS, configured, history
from benchmarks.forecast_scores import CANDIDATES, LIGHTGBM, Forecasts, joined, judge
from benchmarks.provenance import take
from pipelines.calendar import holiday_calendar
from pricing.config import Config
from pricing.demand.folds import walk_forward

HERE = Path(__file__).parent


def competitors(
    frame: pd.DataFrame, config: Config, *, periods: int | None, back: int, cache: Path, python: str | None
) -> dict[str, Forecasts]:
    """The competitors' forecasts of the history whose units are as they are."""
    panel = history(frame, config, periods=periods, back=back, factor=1.0)
    folds = walk_forward(panel.dates, config=config.demand, period=panel.period)
    cutoffs = [fold.cutoff for fold in folds]
    return forecasters.cached(panel, cutoffs, horizon=config.demand.horizon, folder=cache, python=python)


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(SETS))
    parser.add_argument("path")
    parser.add_argument("--variant", choices=sorted(FACTORS), default="whole")
    parser.add_argument("--back", type=int, default=0, help="periods by which the history ends earlier")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the demand section")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "forecasters")
    parser.add_argument("--statsforecast", metavar="PYTHON", help="an interpreter that has statsforecast")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of forecast.json and forecast.md")
    parser.add_argument("--frame", type=Path, help="a Parquet file to keep the judged rows in")
    options = parser.parse_args()
    made = take("forecast.md")
    sales, factor = SETS[options.data], FACTORS[options.variant]
    own = {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in options.set)}
    periods = sales.short_periods if options.variant == "short" else None
    config = configured(sales, short=periods is not None, own=own)
    judged = (config.demand.folds - 1) * config.demand.step + config.demand.horizon
    if 0 < options.back < judged:
        parser.error(f"--back {options.back}: the judged folds take {judged} periods, so earlier ones begin there")
    rows = sales.read(options.path)
    others = competitors(
        rows, config, periods=periods, back=options.back, cache=options.cache, python=options.statsforecast
    )
    panel = history(rows, config, periods=periods, back=options.back, factor=factor)
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - imports TensorFlow

    started = time.process_time()
    calendar = holiday_calendar(panel, config.data)
    frame = backtest(panel, config.demand, calendar=calendar, progress=lambda words: print(words, flush=True)).frame
    seconds = round(time.process_time() - started)
    for name, forecasts in others.items():
        frame = joined(frame, forecasts, name=name, factor=factor)
    if options.frame:
        frame.to_parquet(options.frame, index=False)
    tuning = others[LIGHTGBM].tuning
    if tuning is None:
        raise ValueError(f"{options.cache} lacks the block that LightGBM was tuned on; remove the folder")
    columns = ["actual", *CANDIDATES]
    demand = config.demand
    document = {
        "data": options.data,
        "variant": options.variant,
        "settings": {key: getattr(demand, key) for key in ("horizon", "step", "folds", "min_history")} | own,
        "period": panel.period,
        "periods": len(panel.dates),
        "products": len(panel.product_ids),
        **judge(frame, tuning.assign(**{name: factor * tuning[name] for name in columns})),
        "about": {name: forecasts.about for name, forecasts in others.items()},
        "seconds": seconds,
    }
    print(json.dumps(document, indent=1))
    if not options.back and not options.set:
        forecast_page.write(document, made, folder=options.output)


if __name__ == "__main__":
    main()
