"""Render the weekly summary page and the head of the drift report as self-contained HTML, without scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from monitoring.business import BusinessFigures, Effect, plausible, signed
from monitoring.evaluate import Evaluation, unjudged
from monitoring.performance import DecisionScores, explain
from monitoring.policy import PolicyOutcome
from monitoring.todo import Task
from pricing.decision.experiment_results import Interval

_COLOURS = """--ink:#1c2733;--soft:#5b6b7b;--line:#dfe5ea;--good:#1f7a4d;--bad:#b3261e;--warn:#8a5a00;--fill:#f5f7f9"""
STYLE = f"""
.pm {{ {_COLOURS}; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; max-width: 1040px;
  margin: 0 auto; padding: 1.5rem 1rem; }}
.pm * {{ box-sizing: border-box; }}
.pm h1 {{ font-size: 1.6rem; margin: 0; line-height: 1.2; }}
.pm h2 {{ font-size: 1.1rem; margin: 1.8rem 0 .5rem; }}
.pm .lead {{ color: var(--soft); margin: .3rem 0 1.2rem; }}
.pm table {{ border-collapse: collapse; width: 100%; }}
.pm th, .pm td {{ text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }}
.pm th {{ color: var(--soft); font-weight: 600; }}
.pm .number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.pm .breach, .pm .bad {{ color: var(--bad); font-weight: 600; }}
.pm .warning {{ color: var(--warn); font-weight: 600; }}
.pm .good {{ color: var(--good); font-weight: 600; }}
.pm .note, .pm .soft {{ color: var(--soft); }}
.pm .tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: .8rem; }}
.pm .tile {{ background: var(--fill); border-radius: 8px; padding: .8rem 1rem; }}
.pm .tile b {{ display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }}
.pm ol {{ margin: .4rem 0 0; padding-left: 1.4rem; }}
.pm li + li {{ margin-top: .7rem; }}
.pm pre {{ background: #fff; border: 1px solid var(--line); border-radius: 4px; margin: .3rem 0 0; padding: .4rem .6rem;
  font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
.pm .todo {{ background: var(--fill); border-left: 4px solid var(--bad); padding: .8rem 1rem; border-radius: 4px;
  margin: 1rem 0; }}
.pm .todo.done {{ border-color: var(--good); }}
.pm .todo h2 {{ margin: 0; }}
.pm .todo p {{ margin: .4rem 0 0; }}
.pm td:first-child {{ overflow-wrap: anywhere; }}
.pm .box {{ background: var(--fill); border-left: 4px solid var(--soft); padding: .6rem 1rem; border-radius: 4px; }}
"""
REPLAY = (
    "Every decision here was made after the days it prices: a replay. Its figures are shown, but nobody is called for "
    "them and nothing is started."
)
IMPLAUSIBLE = "Look at the data before anything else"
LEVEL_WORDS = {"breach": "problem", "warning": "look", "note": "note"}


@dataclass(frozen=True)
class WeeklySummary:
    """Business figures shown on the summary page.

    Attributes:
        name: The week's dates.
        now: Totals of the shop in that week.
        before: Totals of the week before; None when there is none.
        categories: Figures per category in that week, by descending margin.
        effect: Gain over static prices.
        plausible_factor: Times that a figure may be that of the week before, or the reverse, to be taken at its word.
    """

    name: str
    now: BusinessFigures
    before: BusinessFigures | None
    categories: list[BusinessFigures]
    effect: Effect
    plausible_factor: float = math.inf


def page(title: str, body: str) -> str:
    """Returns a complete HTML page around a body fragment."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head>\n<body style='margin:0'>{body}</body></html>\n"
    )


def drift_head(evaluation: Evaluation, *, outcome: PolicyOutcome, tasks: Sequence[Task] = ()) -> str:
    """Returns the HTML shown above Evidently's plots: what to do, then verdict, a row per column, and findings."""
    rows = "".join(
        f"<tr><td>{escape(column.watched.column)}<br><span class='soft'>{escape(column.watched.says)}</span></td>"
        f"<td>{column.watched.role}</td><td>{column.threshold.method}</td>"
        f"<td class='number'>{column.value:.3f}</td><td class='number'>{column.threshold.value:.3f}</td>"
        f"<td class='{'bad' if column.drifted else 'good'}'>{'drifted' if column.drifted else 'as before'}</td></tr>"
        for column in sorted(
            evaluation.drift.columns, key=lambda one: (not one.drifted, -one.value / one.threshold.value)
        )
    )
    table = (
        "<table><tr><th>column</th><th>role</th><th>distance</th><th class='number'>found</th>"
        f"<th class='number'>drift above</th><th></th></tr>{rows}</table>"
        if rows
        else "<p class='bad'>No column could be compared. This does not mean that nothing has drifted.</p>"
    )
    windows = "".join(f"<li>{escape(verdict.text)}</li>" for verdict in evaluation.verdicts)
    return (
        f"<style>{STYLE}</style><div class='pm'><h1>Drift and decay</h1>"
        f"<p class='lead'>{escape(evaluation.span)}</p>{_todo(tasks, outcome=outcome)}"
        f"<p class='box'>{escape(evaluation.explanation)}</p>{_replayed(evaluation)}"
        f"<h2>Drift: do inputs, sales and errors look as they did?</h2>{table}"
        f"<h2>Decay: are forecasts as good as their backtest?</h2><ul>{windows}</ul>{_findings(evaluation)}</div>"
    )


def weekly_page(
    evaluation: Evaluation, week: WeeklySummary, *, outcome: PolicyOutcome, done: str, tasks: Sequence[Task] = ()
) -> str:
    """Returns the weekly page for category managers: what to do first, then the evidence.

    That is sales and margin, the gain from pricing, and how good the forecasts are.
    """
    score = evaluation.newest
    judged = _trust_table(score, assumed=week.now.assumed, most=week.plausible_factor) if score.decisions else ""
    body = (
        f"<style>{STYLE}</style><div class='pm'><h1>Pricing, week of {escape(week.name)}</h1>"
        f"{_todo(tasks, outcome=outcome, done=done)}{_replayed(evaluation)}"
        f"<h2>The week</h2><p class='lead'>{escape(_headline(week))}</p>{_tiles(week)}{_assumed(week.now)}"
        f"<h2>What pricing earned</h2><p class='box'>{escape(week.effect.text)}</p>"
        f"<h2>By category</h2>{_category_table(week.categories)}"
        f"<h2>Can the prices be trusted?</h2><p>{escape(_trust(evaluation))}</p>{judged}"
        f"{_score_table('Where forecasts are best and worst', [*evaluation.by_volume, *evaluation.by_category])}"
        f"{_findings(evaluation, notes=False)}"
        "<p class='soft'>Sales are net of tax; margin is sales less the cost of what was sold. Discount is how far "
        "prices paid lay below list prices. Turns are units sold in the week per unit of mean opening stock. Details: "
        "drift.html beside this page.</p></div>"
    )
    return page(f"Pricing, week of {week.name}", body)


def _todo(tasks: Sequence[Task], *, outcome: PolicyOutcome, done: str = "") -> str:
    """What needs doing: a plain list of what, why and the commands to type; and what the platform did itself."""
    said = f"<p class='soft'>What the platform did: {escape(done)}.</p>" if done else ""
    if not tasks:
        return (
            "<div class='todo done'><h2>What needs doing</h2><p><b>Nothing.</b> "
            f"{escape(_sentence(outcome.reason))}</p>{said}</div>"
        )
    items = "".join(
        f"<li><b>{escape(task.what)}</b><br>{escape(_sentence(task.why))}"
        + (f"<pre>{escape(chr(10).join(task.commands))}</pre>" if task.commands else "")
        + "</li>"
        for task in tasks
    )
    return f"<div class='todo'><h2>What needs doing</h2><ol>{items}</ol>{said}</div>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _replayed(evaluation: Evaluation) -> str:
    return f"<p class='box'>{escape(REPLAY)}</p>" if evaluation.replay else ""


def _assumed(line: BusinessFigures) -> str:
    """Says how much of the margin rests on costs that nobody gave; empty where none does."""
    if not line.assumed > 0:
        return ""
    share = "all" if line.assumed > 0.999 else f"{max(line.assumed, 0.01):.0%} of"
    return (
        f"<p class='box'><b>Margins here are estimates.</b> The cost of {share} sales is not known and taken from "
        "<code>data.margin</code>, a configured share of the list price. Give <code>unit_cost</code> in the sales to "
        "have them counted.</p>"
    )


def _headline(week: WeeklySummary) -> str:
    what = f"Margin{_on_assumed(week.now)} was {week.now.margin:,.0f} on sales of {week.now.revenue:,.0f}"
    if week.before is None or week.before.margin <= 0:
        return f"{what}."
    change = week.now.margin / week.before.margin - 1
    if not plausible(week.now.margin, week.before.margin, factor=week.plausible_factor):
        return f"{what}: {signed(change)} on the week before, which is not plausible. {IMPLAUSIBLE}."
    return f"{what}, {'up' if change >= 0 else 'down'} {abs(change):.1%} from the week before."


def _on_assumed(line: BusinessFigures) -> str:
    return " (on assumed costs)" if line.assumed > 0.999 else " (partly on assumed costs)" if line.assumed > 0 else ""


def _tiles(week: WeeklySummary) -> str:
    now, before, most = week.now, week.before, week.plausible_factor
    tiles = [
        _tile(
            f"margin{_on_assumed(now)}",
            f"{now.margin:,.0f}",
            now.margin,
            before.margin if before else None,
            factor=most,
        ),
        _tile("sales", f"{now.revenue:,.0f}", now.revenue, before.revenue if before else None, factor=most),
        _tile("units", f"{now.units:,.0f}", now.units, before.units if before else None, factor=most),
        _tile("mean discount", _share(now.discount), None, None, then=_share(before.discount) if before else ""),
        _tile("stock turns", _plain(now.turns), None, None, then=_plain(before.turns) if before else ""),
        _tile("sold out", _share(now.sold_out), None, None, then=_share(before.sold_out) if before else ""),
    ]
    return f"<div class='tiles'>{''.join(tiles)}</div>"


def _tile(
    label: str, shown: str, now: float | None, before: float | None, *, then: str = "", factor: float = math.inf
) -> str:
    below = f"<span class='soft'>week before: {escape(then)}</span>" if then else ""
    if now is not None and before is not None and before > 0:
        change = now / before - 1
        colour, note = "good" if change >= 0 else "bad", "on the week before"
        if not plausible(now, before, factor=factor):
            colour, note = "warning", f"{note}: not plausible, look at the data"
        below = f"<span class='{colour}'>{signed(change)}</span> <span class='soft'>{note}</span>"
    return f"<div class='tile'><span class='soft'>{escape(label)}</span><b>{escape(shown)}</b>{below}</div>"


def _category_table(lines: Sequence[BusinessFigures]) -> str:
    most = max((line.margin for line in lines), default=0.0)
    rows = "".join(
        f"<tr><td>{escape(line.name)}<span class='soft'>{_on_assumed(line)}</span></td>"
        f"<td class='number'>{line.margin:,.0f}</td><td>{_bar(line.margin, most)}</td>"
        f"<td class='number'>{line.revenue:,.0f}</td><td class='number'>{line.units:,.0f}</td>"
        f"<td class='number'>{_share(line.discount)}</td><td class='number'>{_plain(line.turns)}</td>"
        f"<td class='number'>{_share(line.sold_out)}</td></tr>"
        for line in lines
    )
    heads = "<th class='number'>margin</th><th></th>" + "".join(
        f"<th class='number'>{name}</th>" for name in ("sales", "units", "discount", "turns", "sold out")
    )
    return f"<table><tr><th>category</th>{heads}</tr>{rows}</table>"


def _bar(value: float, most: float) -> str:
    width = 120 * max(0.0, value) / most if most > 0 else 0.0
    return (
        f"<svg width='120' height='12' role='img' aria-label='{value:,.0f}'>"
        f"<rect width='{width:.1f}' height='12' rx='2' fill='#2458a6'/></svg>"
    )


def _trust(evaluation: Evaluation) -> str:
    if not evaluation.newest.decisions:
        why = unjudged(evaluation) or "none was decided for the newest days"
        return f"There is nothing to judge: {why}."
    compared = [column for column in evaluation.drift.columns if column.watched.role == "input"]
    drifted = [column.watched.plain for column in compared if column.drifted]
    longer = next(
        (f" {_sentence(each.text)}" for each in evaluation.findings if each.code in ("window_longer", "window_short")),
        "",
    )
    return explain(evaluation.verdicts, drifted if compared else None) + longer


def _trust_table(score: DecisionScores, *, assumed: float, most: float) -> str:
    costs = ", on assumed costs" if assumed > 0 else ""
    rows = [
        ("Recommended prices that were charged", _share(score.share_followed)),
        ("Answers by rule instead of by the model", _share(score.share_rule)),
        ("Prices held because the history does not tell the elasticity", _share(score.share_unidentified)),
        *_competitor_ages(score),
        ("Mean confidence of the answers", _share(score.confidence)),
        (f"Profit earned, of what was expected where the price was charged{costs}", _profit(score.profit, factor=most)),
        ("Forecast error, of units sold", _band(score.wape)),
        ("The same for ‘as on this weekday in earlier weeks’", _share(score.earlier_weeks)),
        ("Forecasts too high (+) or too low (−), of units sold", _band(score.bias, sign=True)),
        ("Outcomes inside the range that was to hold four of five", _covered(score.coverage)),
    ]
    body = "".join(f"<tr><td>{escape(label)}</td><td class='number'>{escape(value)}</td></tr>" for label, value in rows)
    head = f"<tr><th>{escape(score.name)}</th><th class='number'>{score.decisions:,} prices</th></tr>"
    return f"<table>{head}{body}</table>"


def _competitor_ages(score: DecisionScores) -> list[tuple[str, str]]:
    """The row on how old competitors' prices were; none where no answer knew one."""
    if not score.comp_ages:
        return []
    ages = ", ".join(f"{words} {_share(share)}" for words, share in score.comp_ages.items())
    return [("Age of the competitors' prices, where one was known", ages)]


def _score_table(title: str, scores: Sequence[DecisionScores]) -> str:
    rows = "".join(
        f"<tr><td>{escape(score.name)}</td><td class='number'>{score.rows:,}</td>"
        f"<td class='number'>{_band(score.wape)}</td><td class='number'>{_share(score.earlier_weeks)}</td>"
        f"<td class='number'>{_band(score.bias, sign=True)}</td></tr>"
        for score in scores
        if score.rows
    )
    heads = "".join(
        f"<th class='number'>{name}</th>" for name in ("days", "error", "simple forecast", "too high or low")
    )
    return f"<h2>{escape(title)}</h2><table><tr><th></th>{heads}</tr>{rows}</table>" if rows else ""


def _findings(evaluation: Evaluation, *, notes: bool = True) -> str:
    rows = "".join(
        f"<tr><td class='{finding.level}'>{LEVEL_WORDS[finding.level]}</td><td>{escape(finding.text)}</td></tr>"
        for finding in evaluation.findings
        if notes or finding.level != "note"
    )
    return f"<h2>Findings</h2><table>{rows}</table>" if rows else ""


def _profit(profit: Interval, *, factor: float) -> str:
    if profit.value > factor:
        return f"{_band(profit)}: not plausible, look at the data"
    return _band(profit) if math.isfinite(profit.value) else "unknown: no recommended price was charged"


def _covered(coverage: Interval) -> str:
    return _band(coverage) if math.isfinite(coverage.value) else "not judged: the log has no ranges"


def _share(value: float) -> str:
    text = f"{value:.1%}".replace("-", "−") if math.isfinite(value) else "unknown"
    return "0.0%" if text == "−0.0%" else text


def _plain(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "unknown"


def _band(interval: Interval, *, sign: bool = False) -> str:
    value, low, high = interval.value, interval.low, interval.high
    if not math.isfinite(value):
        return "unknown"
    if not math.isfinite(low):
        return _rounded(value, sign=sign)
    return f"{_rounded(value, sign=sign)} ({_rounded(low, sign=sign)} to {_rounded(high, sign=sign)})"


def _rounded(value: float, *, sign: bool) -> str:
    """Formats a fraction in whole per cent, with a minus sign (not a hyphen) and no sign on zero."""
    text = f"{value:{'+' if sign else ''}.0%}".replace("-", "−")
    return "0%" if text in ("+0%", "−0%") else text
