"""Measure how well demand is forecast on real sales, beside naive forecasts and LightGBM on the same rows.

    python -m benchmarks.forecast m5=PATH oj=PATH … [--variants whole x0.1 x10 short]   the judged folds
    python -m benchmarks.forecast m5=PATH --back 224 [--set KEY=VALUE …]                earlier folds, to choose on

Prints the tables of forecast.md. The data sets are not part of the project (`benchmarks/forecast_data.py` reads them).
A variant multiplies all units, or leaves the end of the history alone. `--back` ends the history that many periods
earlier, so that settings are chosen on folds that are not judged.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from benchmarks.forecast_data import FACTORS, SETS, Sales, configured, history
from benchmarks.forecast_scores import CANDIDATES, CHOSEN, LIGHTGBM, OURS, Forecasts, joined, judge
from benchmarks.forecasters import global_lightgbm
from benchmarks.table import markdown, measured
from pipelines.calendar import holiday_calendar
from pipelines.quiet import import_tensorflow
from pricing.config import Config
from pricing.data.panel import Panel
from pricing.demand.folds import walk_forward

VARIANTS = {"whole": "as it is", "x0.1": "units × 0.1", "x10": "units × 10", "short": "its end alone"}
NAMES = {"lightgbm": "LightGBM", "naive": "seasonal naive", "flat": "flat median"}
BIAS, HOLD = 0.03, (0.76, 0.84)  # what is aimed at

Judgement = dict[str, Any]  # what `judge` found of one data set and variant, with its title and size


def measure(sales: Sales, panel: Panel, config: Config, *, variant: str, lightgbm: Forecasts) -> Judgement:
    """Backtests one data set in one variant, beside what LightGBM forecast of its units as they are."""
    from pricing.demand.backtest import backtest  # noqa: PLC0415 - imports TensorFlow

    factor, demand = FACTORS[variant], config.demand
    started = time.process_time()
    frame = backtest(panel, demand, calendar=holiday_calendar(panel, config.data)).frame
    seconds = round(time.process_time() - started)
    frame = joined(frame, lightgbm, name=LIGHTGBM, factor=factor)
    columns = ["actual", *CANDIDATES]
    found = judge(frame, lightgbm.tuning.assign(**{name: factor * lightgbm.tuning[name] for name in columns}))
    size = f"{len(panel.product_ids)} × {found['cutoffs']} × {demand.horizon} ({demand.step})"
    return found | {"data": sales.title, "variant": VARIANTS[variant], "size": size, "seconds": seconds}


def verdicts(rows: Sequence[Judgement]) -> str:
    """A row a data set and variant: this model, the baseline that was chosen on earlier folds, and every competitor."""
    head = ["data", "variant", "products × cutoffs × horizon (step)", "WAPE / CRPS", "bias", "80 % hold", "CPU s"]
    head += ["chosen baseline", "its WAPE / CRPS", "difference in WAPE", "difference in CRPS"]
    head += ["LightGBM", "its bias", "its 80 % hold", "difference in WAPE, CRPS", "seasonal naive", "flat median"]
    lines = []
    for row in rows:
        ours, tree, more = row["scores"][OURS], row["scores"][LIGHTGBM], row["differences"]
        chosen = {NAMES[name]: count for name, count in row["chosen"].items() if count}
        counted = ", ".join(f"{name} {count} ×" if len(chosen) > 1 else name for name, count in chosen.items())
        lines.append(
            [
                *(row["data"], row["variant"], row["size"], *_told(ours), str(row["seconds"]), counted),
                *(pair(row["scores"][CHOSEN]), interval(more[CHOSEN], "wape"), interval(more[CHOSEN], "crps")),
                *(*_told(tree), f"{interval(more[LIGHTGBM], 'wape')}, {interval(more[LIGHTGBM], 'crps')}"),
                *(pair(row["scores"]["naive"]), pair(row["scores"]["flat"])),
            ]
        )
    return markdown(head, lines)


def missed(rows: Sequence[Judgement]) -> str:
    """A row for every aim that a data set and variant misses, and by how much."""
    lines = []
    for row in rows:
        ours, more = row["scores"][OURS], row["differences"][CHOSEN]
        beyond = {
            "WAPE above the chosen baseline's, at the interval's lower end": more["wape_low"],
            "CRPS above the chosen baseline's, at the interval's lower end": more["crps_low"],
            f"absolute bias above {BIAS:.0%}": abs(ours["bias"]) - BIAS,
            f"80 % intervals hold less than {HOLD[0]:.0%}": HOLD[0] - ours["coverage_80"],
            f"80 % intervals hold more than {HOLD[1]:.0%}": ours["coverage_80"] - HOLD[1],
        }
        lines += [[row["data"], row["variant"], words, f"{by:.3f}"] for words, by in beyond.items() if by > 0]
    return markdown(["data", "variant", "aim missed", "by"], lines)


def volumes(rows: Sequence[Judgement]) -> str:
    """A row a data set, variant and third of the products."""
    head = ["data", "variant", "products", "units a period", "WAPE / CRPS", "bias", "80 % hold"]
    head += ["LightGBM", "its bias", "its 80 % hold"]
    return markdown(
        head,
        (
            [row["data"], row["variant"], volume, f"{part['units']:.3g}", *_told(part[OURS]), *_told(part[LIGHTGBM])]
            for row in rows
            for volume, part in row["by_volume"].items()
        ),
    )


def _told(scores: dict[str, float]) -> tuple[str, str, str]:
    return pair(scores), f"{scores['bias']:+.1%}", f"{scores['coverage_80']:.1%}"


def pair(scores: dict[str, float]) -> str:
    """WAPE and CRPS."""
    return f"{scores['wape']:.3f} / {scores['crps']:.3f}"


def interval(more: dict[str, float], kind: str) -> str:
    """A difference with its 90 % interval."""
    return f"{more[kind]:+.3f} [{more[f'{kind}_low']:+.3f}, {more[f'{kind}_high']:+.3f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is asked for and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="SET=PATH", help=f"data sets: {', '.join(SETS)}")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["whole"])
    parser.add_argument("--back", type=int, default=0, help="periods by which the history ends earlier")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the demand section")
    options = parser.parse_args(argv)
    given = dict(item.partition("=")[::2] for item in options.data)
    if unknown := set(given) - set(SETS):
        parser.error(f"expected {', '.join(SETS)} as SET=PATH, found {', '.join(sorted(unknown))}")
    own = {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in options.set)}
    for name in given:
        demand = configured(SETS[name], short="short" in options.variants, own=own).demand
        taken = (demand.folds - 1) * demand.step + demand.horizon
        if 0 < options.back < taken:
            parser.error(f"--back {options.back}: the judged folds take {taken} periods, so earlier ones begin there")
    import_tensorflow()
    rows = []
    for name, path in given.items():
        sales, others = SETS[name], dict[bool, Forecasts]()
        frame = sales.read(path)
        for variant in options.variants:
            short = variant == "short"
            config = configured(sales, short=short, own=own)
            asked = {"periods": sales.short_periods if short else None, "back": options.back}
            if short not in others:  # what LightGBM forecasts is made once, and multiplied with the units
                panel = history(frame, config, factor=1.0, **asked)
                cutoffs = [fold.cutoff for fold in walk_forward(panel.dates, config=config.demand, period=panel.period)]
                others[short] = global_lightgbm(panel, cutoffs, horizon=config.demand.horizon)
            panel = history(frame, config, factor=FACTORS[variant], **asked)
            rows.append(measure(sales, panel, config, variant=variant, lightgbm=others[short]))
            print(f"{name} {variant}: WAPE {rows[-1]['scores'][OURS]['wape']:.3f}", file=sys.stderr, flush=True)
    print("\n".join([measured(), verdicts(rows), missed(rows), volumes(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
