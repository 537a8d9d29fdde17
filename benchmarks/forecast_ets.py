"""AutoETS and Croston of statsforecast, in an interpreter that has it: `PYTHON benchmarks/forecast_ets.py FOLDER`.

The folder holds series.parquet (unique_id, ds, y) and task.json; answer.parquet and answer.json are added. A series
that sells on so few periods that 1.32 or more lie between two sales on average is intermittent (Syntetos, Boylan and
Croston 2005, doi:10.1057/palgrave.jors.2601841) and Croston's, which knows a mean and no distribution.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from statsforecast import StatsForecast
from statsforecast.models import AutoETS, CrostonOptimized, HistoricAverage

PAST = 400  # periods: more change little and take long
INTERMITTENT = 1.0 - 1.0 / 1.32  # share of zeros
LEAST = 4  # periods below which nothing but a mean is fitted


def main(folder: Path) -> None:
    """Forecasts every series from every end."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    series = pd.read_parquet(folder / "series.parquet")
    started = time.process_time()
    parts = [one(series, end, task).assign(end=end) for end in task["ends"]]
    found = pd.concat(parts, ignore_index=True)
    found.to_parquet(folder / "answer.parquet", index=False)
    about = {"seconds": round(time.process_time() - started), "croston": float(found["point"].mean())}
    (folder / "answer.json").write_text(json.dumps(about), encoding="utf-8")


def one(series: pd.DataFrame, end: int, task: dict[str, Any]) -> pd.DataFrame:
    """Quantiles of the periods after one end, every series by the model that suits it."""
    past = series[(series["ds"] <= end) & (series["ds"] > end - PAST)]
    units = past.groupby("unique_id")["y"]
    short = units.transform("size") < LEAST
    slow = units.transform(lambda y: (y == 0).mean()) > INTERMITTENT
    parts = [
        (~slow & ~short, AutoETS(season_length=task["season"])),
        (slow & ~short, CrostonOptimized()),
        (short, HistoricAverage()),
    ]
    return pd.concat([by(model, past[rows], task) for rows, model in parts if rows.any()], ignore_index=True)


def by(model: Any, past: pd.DataFrame, task: dict[str, Any]) -> pd.DataFrame:
    """What one model forecasts: quantiles of AutoETS, all alike of the others, who know none."""
    point, name = not isinstance(model, AutoETS), repr(model)
    widths = {q: round(100 * abs(2 * q - 1)) for q in task["levels"] if q != 0.5 and not point}  # % of an interval
    asked = {"level": sorted(set(widths.values()))} if widths else {}
    fit = StatsForecast(models=[model], freq=1, n_jobs=1, fallback_model=HistoricAverage())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = fit.forecast(df=past, h=task["horizon"], **asked)
    answer = made[["unique_id", "ds"]].assign(point=point)
    for q in task["levels"]:
        side = f"-{'lo' if q < 0.5 else 'hi'}-{widths[q]}" if q in widths else ""
        answer[f"q{round(100 * q):02d}"] = made[f"{name}{side}"].fillna(made[name]).clip(lower=0.0)
    return answer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
