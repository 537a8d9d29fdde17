"""Render the report of a night's sales as one self-contained HTML page for people who read it in the morning."""

import datetime as dt
from collections.abc import Iterable, Sequence
from html import escape

from pipelines.reports.etl_figures import OLD_DAYS, Count, Figures, Products
from pipelines.reports.etl_report import EtlReport, Found, Saved, Task
from pipelines.reports.html_parts import (
    bar,
    bullets,
    columns,
    counted,
    document,
    number_cell,
    percent,
    stacked,
    table,
    text_cell,
)
from pricing.demand.grades import GRADES, why_held
from pricing.demand.learnability import REASONS

SHOWN = 50  # rows of a table; the JSON document beside the page has all
SHOWN_GROUPS = 25
GRADE_WORDS = {
    "own_history": "its own history",
    "category": "only its category's",
    "prior_only": "nothing so far",
}
_UNIT_FINDINGS = (*("price_unit", "price_outlier", "units", "competitor"),)
_CHANGE_WORDS = {
    "new": "of days after the last one before",
    "late": "of days that were there without them",
    "corrected": "with other values than before",
    "withdrawn": "no longer there",
}


def render(report: EtlReport) -> str:
    """Returns the page: what to do first, then the figures. Nothing in it is loaded from elsewhere."""
    figures = report.figures
    body = [
        _head(report),
        _tiles(report, figures) if figures else "",
        _changes(report),
        _sources(report),
        _findings(report.findings, report),
        *(
            [_coverage(figures), _learnt(figures), _prices(figures), _stock(figures), _table(figures)]
            if figures
            else []
        ),
        _notes(figures) if figures else "",
        _foot(report),
    ]
    return document(headline(report), "".join(body))


def headline(report: EtlReport) -> str:
    """Says in one sentence whether anything must be done."""
    if report.outcome == "stopped":
        stops = sum(task.level == "stop" for task in report.tasks)
        return f"Last night's sales were not taken: {counted(stops, 'thing')} must be mended"
    if report.tasks:
        return f"Sales are in, and {counted(len(report.tasks), 'thing')} should be looked at"
    return "Sales are in, and nothing needs doing"


def _head(report: EtlReport) -> str:
    kind = "stopped" if report.outcome == "stopped" else "looked" if report.tasks else ""
    said = f"<p class='soft'>{escape(report.sales)}, read {report.made_at:%Y-%m-%d %H:%M} UTC</p>"
    kept = f"<p>{_kept(report.before)}</p>" if report.outcome == "stopped" else ""
    items = "".join(_task(task) for task in report.tasks)
    todo = f"<ol>{items}</ol>" if items else "<p>All checks of the sales passed.</p>"
    return f"<h1>{escape(headline(report))}</h1>{said}<section class='todo {kind}'>{kept}{todo}</section>"


def _task(task: Task) -> str:
    first = f" <span class='soft'>First: {escape('; '.join(task.examples))}.</span>" if task.examples else ""
    advice = f" {escape(task.advice)}." if task.advice else ""
    return f"<li><b class='{task.level}'>{escape(_capital(task.what))}.</b>{advice}{first}</li>"


def _kept(before: Saved | None) -> str:
    if before is None:
        return "Nothing was saved, and there is no panel of an earlier night."
    last = escape(before.coverage.dates[-1])
    return (
        f"The panel of {before.made_at:%Y-%m-%d %H:%M} UTC stays in use: {len(before.product_ids):,} products, "
        f"sales up to {last}. Prices go on from it; nothing was learnt from the new sales."
    )


def _tiles(report: EtlReport, figures: Figures) -> str:
    own = figures.grades[0]
    age = (report.made_at.date() - dt.date.fromisoformat(figures.last)).days
    aside = report.set_aside / report.read_rows if report.read_rows else 0.0
    out = figures.stock.share
    tiles = (
        (f"{figures.products:,}", f"products in {counted(len(figures.categories), 'category', 'categories')}"),
        (figures.last, f"newest {figures.period}, {counted(age, 'day')} ago; since {figures.first}"),
        (
            f"{figures.rows:,}",
            f"rows, {percent(figures.rows / max(sum(figures.coverage.expected), 1))} of all expected",
        ),
        (percent(aside), f"of rows set aside ({report.set_aside:,}); up to {percent(report.most_set_aside)} may be"),
        (f"{own.products:,}", f"products can tell how shoppers answer to price ({percent(own.units)} of units)"),
        (
            percent(out) if out is not None else "?",
            "of days sold out" if out is not None else "sold out: no stock given",
        ),
    )
    cells = "".join(f"<div class='tile'><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in tiles)
    return f"<div class='tiles'>{cells}</div>"


def _changes(report: EtlReport) -> str:
    lines = []
    for change in report.changes:
        first, last = change.first_day, change.last_day
        when = f"on {first}" if first == last else f"from {first} to {last}"
        which = f"{change.rows:,} {change.kind} rows ({_CHANGE_WORDS[change.kind]})"
        lines.append(f"{which} of {counted(change.products, 'product')}, {when}.")
    then = report.changed
    if then is not None and report.figures is not None:
        period = report.figures.period
        if not report.changes:
            lines.append(f"{then.rows:+,} rows; {counted(then.new_periods, f'new {period}')}.")
            if then.changed_periods:
                lines.append(
                    f"{counted(then.changed_periods, f'earlier {period}')} hold other rows or units than before, the "
                    f"first {then.first_changed}."
                )
        if then.new_products or then.gone_products:
            named = f" ({'; '.join(then.examples)})" if then.examples else ""
            lines.append(f"{counted(then.new_products, 'new product')}, {then.gone_products:,} gone{named}.")
    if then is not None:
        lines += [f"Found now and not before: {', '.join(then.new_findings)}."] if then.new_findings else []
        lines += [f"No longer found: {', '.join(then.gone_findings)}."] if then.gone_findings else []
    if then is None and not report.changes and report.figures is not None:
        lines.append("There is no report before this one to compare with.")
    if not lines and report.figures is None:
        return ""
    since = f" since {then.since:%Y-%m-%d %H:%M} UTC" if then is not None else ""
    return f"<h2>What changed{since}</h2>{bullets(lines or ['Nothing.'])}"


def _sources(report: EtlReport) -> str:
    if not report.sources:
        return ""
    rows = []
    for one in report.sources:
        late = one.late_hours
        state = "no hour set" if late is None else f"{late:,.0f} h late" if late else "in time"
        rejected = f"{one.rejected:,}" if one.rejected else "none"
        why = "; ".join(f"{reason}: {count:,}" for reason, count in one.reasons.items())
        rows.append(
            [
                text_cell(f"{one.name}", below=one.location),
                number_cell(one.rows),
                text_cell(rejected, below=why),
                text_cell(one.newest or "has no days"),
                text_cell(one.due or "–"),
                text_cell(state, kind="late" if late else "ok" if late is not None else "soft"),
            ]
        )
    heads = ["source", "#rows read", "rejected", "newest day", "due at", "state"]
    joins = [
        [
            text_cell(join.table, below="; ".join(join.examples)),
            number_cell(join.matched / max(join.sales_rows, 1), shown=percent(join.matched / max(join.sales_rows, 1))),
            number_cell(join.sales_rows - join.matched),
            number_cell(join.unmatched_sales),
            number_cell(join.unmatched_table),
        ]
        for join in report.joins
    ]
    matched = (
        "<h3>How they matched</h3>"
        + table(
            ["table", "#sales rows matched", "#not matched", "#products only in sales", "#only in the table"], joins
        )
        if joins
        else ""
    )
    return f"<h2>Sources</h2>{table(heads, rows)}{matched}"


def _findings(findings: Sequence[Found], report: EtlReport) -> str:
    if not findings and report.figures is None:
        return "<h2>Checks</h2><p>The sales were not read to their end, so that they could not be checked.</p>"
    if not findings:
        return "<h2>Checks</h2><p>No outliers, unit breaks, lost days or other faults were found.</p>"
    rows = [
        [
            text_cell(one.level, kind=one.level),
            text_cell(one.check, below=one.first),
            text_cell(one.sentence + (f". First: {one.example}" if one.example else ""), below=one.advice),
            number_cell(one.rows or one.products, shown=f"{one.rows:,}" if one.rows else f"{one.products:,} products"),
        ]
        for one in findings
    ]
    units = sum(one.check in _UNIT_FINDINGS for one in findings)
    said = f"{counted(len(findings), 'finding')}, {units:,} of outliers or units."
    bad = f" Rows set aside lie in {report.bad_rows}." if report.bad_rows else ""
    return f"<h2>Checks</h2><p>{escape(said + bad)}</p>{table(['level', 'finding', 'what', '#rows'], rows)}"


def _coverage(figures: Figures) -> str:
    cover, missing, period = figures.coverage, figures.missing, figures.period
    share = [rows / max(of, 1) for rows, of in zip(cover.rows, cover.expected, strict=True)]
    setting = missing.setting or "not set"
    every = figures.table
    empty, zeros = _longest(every.product_id, every.longest_gap), _longest(every.product_id, every.longest_zeros)
    lines = [
        f"{counted(figures.gaps, period)} of {counted(figures.products_with_gaps, 'product')} between the first and "
        f"the last row have no known sales{f', {empty} in a row' if figures.gaps else ''}.",
        f"Absent rows: {missing.zeros:,} are sales of 0, {missing.unknown:,} are unknown (data.missing: {setting}).",
        f"{figures.zero_rows:,} rows have 0 units{f', {zeros} in a row' if figures.zero_rows else ''}; "
        f"{missing.doubted:,} more may be stock-outs and are unknown (data.zero_run).",
    ]
    chart = columns(cover.dates, share, says=f"share of products on sale that have a row, per {period}")
    said = "<p class='soft'>Products with a row, of those on sale; full height is all of them</p>"
    return f"<h2>Coverage</h2>{said}{chart}{bullets(lines)}"


def _learnt(figures: Figures) -> str:
    colours = {"own_history": "#0072b2", "category": "#9ec9e2", "prior_only": "#c9ced3"}
    parts = [(colours[one.name], one.products) for one in figures.grades]
    keys = "".join(
        f"<span><i class='key' style='background:{colours[one.name]}'></i>{GRADE_WORDS[one.name]}: {one.products:,} "
        f"products, {percent(one.units)} of units</span> "
        for one in figures.grades
    )
    reasons = [
        [
            text_cell(_capital(REASONS[one.name][0])),
            number_cell(one.products),
            number_cell(one.units, shown=percent(one.units)),
            text_cell(REASONS[one.name][1]),
        ]
        for one in figures.reasons
    ]
    groups = sorted(figures.categories, key=lambda one: -one.units)
    kinds = [
        [
            text_cell(one.name),
            number_cell(one.products),
            number_cell(one.own_history),
            number_cell(one.category),
            number_cell(one.prior_only),
            number_cell(one.units, shown=percent(one.units)),
            number_cell(one.sold_out, shown=percent(one.sold_out)),
        ]
        for one in groups[:SHOWN_GROUPS]
    ]
    why = (
        "<h3>Why a product's own history cannot tell</h3>"
        + table(["why", "#products", "#of units", "what would help"], reasons)
        if reasons
        else ""
    )
    heads = ["category", "#products", "#own history", "#category's", "#nothing", "#of units", "#sold out"]
    return (
        "<h2>What can be learnt of prices</h2><p class='soft'>How demand answers to price is learnt at best "
        f"from …</p>{stacked(parts)}<p class='keys'>{keys}</p>{why}<h3>By category</h3>"
        f"{table(heads, kinds, sorts=True)}"
        f"{_left_out(len(groups), len(kinds), 'categories')}"
    )


def _prices(figures: Figures) -> str:
    def histogram(counts: Iterable[Count], title: str) -> str:
        most = max(one.products for one in counts)
        rows = [
            [text_cell(one.name), number_cell(one.products), f"<td>{bar(one.products, most)}</td>"]
            for one in counts
            if one.products
        ]
        return f"<div>{table([title, '#products', ''], rows)}</div>"

    promo = figures.promotions
    lines = []
    if promo.rows:
        lines.append(
            f"{promo.uncut:,} of {promo.rows:,} promoted rows ({percent(promo.uncut / promo.rows)}) were sold at list "
            f"price, {counted(promo.products_uncut, 'product')}: check the price or the calendar of promotions."
            if promo.uncut
            else f"All {promo.rows:,} promoted rows were sold below list price."
        )
    else:
        lines.append("No row is marked as a promotion.")
    rival = figures.competitor
    if rival.products:
        lines.append(
            f"Competitor's price on {percent(rival.known)} of rows, for {rival.products:,} products: "
            f"the newest {rival.median_age:,.0f} days old at the median and {rival.oldest_age:,.0f} at most; "
            f"{counted(rival.old, 'product')} have none newer than {OLD_DAYS} days."
        )
    else:
        lines.append("No competitor's price is given.")
    cost = figures.cost_assumed
    lines.append(
        f"No cost is given for {counted(cost.products, 'product')} ({percent(cost.units)} of units): it is assumed "
        "from data.margin, and margins there are estimates."
        if cost.products
        else "Every product has a cost of its own."
    )
    return (
        f"<h2>Prices</h2><div class='pair'>{histogram(figures.price_points, 'different prices')}"
        f"{histogram(figures.price_changes, 'price changes')}</div>{bullets(lines)}"
    )


def _stock(figures: Figures) -> str:
    stock = figures.stock
    if stock.share is None:
        return "<h2>Stock</h2><p>No stock is given, so that sold-out days count as days of little demand.</p>"
    lines = [
        f"{percent(stock.known)} of rows have a stock; {counted(stock.without, 'product')} never have one.",
        f"{stock.rows:,} of these rows ({percent(stock.share)}) sold out: demand may have been higher there.",
        f"{counted(stock.mostly, 'product')} sold out on at least half of their days.",
    ]
    return f"<h2>Stock</h2>{bullets(lines)}"


def _table(figures: Figures) -> str:
    every = figures.table
    low = {"prior_only": 0, "category": 1, "own_history": 2}
    order = sorted(
        range(figures.products), key=lambda at: (low[every.grade[at]], -every.units[at], every.product_id[at])
    )
    rows = [
        [
            text_cell(every.product_id[at], below=every.category[at]),
            text_cell(GRADE_WORDS[every.grade[at]], below=_why(every, at)),
            number_cell(every.units[at], shown=f"{every.units[at]:,.0f}"),
            number_cell(every.rows[at]),
            number_cell(every.gaps[at]),
            number_cell(every.longest_zeros[at]),
            number_cell(every.silent[at]),
            number_cell(every.prices[at]),
            number_cell(every.changes[at]),
            number_cell(every.independent[at]),
            number_cell(every.sold_out[at], shown=percent(every.sold_out[at])),
        ]
        for at in order[:SHOWN]
    ]
    heads = ["product", "learnt from", "#units", "#rows", "#gaps", "#zeros in a row", "#since last sale", "#prices",
             "#changes", "#that teach", "#sold out"]  # fmt: skip
    which = "Those of which least can be learnt, most units first." if figures.products > SHOWN else ""
    return (
        f"<h2>Products</h2><p class='soft'>{which} Runs are in {figures.period}s.</p>{table(heads, rows, sorts=True)}"
        f"{_left_out(figures.products, len(rows), 'products')}"
    )


def _why(every: Products, at: int) -> str:
    return why_held(GRADES.index(every.grade[at]), moves=every.usable[at], fortnights=every.fortnights[at])


def _notes(figures: Figures) -> str:
    return f"<h2>What was derived</h2>{bullets(figures.notes)}" if figures.notes else ""


def _foot(report: EtlReport) -> str:
    run = f" MLflow run {report.run_id}." if report.run_id else ""
    learnt = (
        " All figures, of every product, are in the JSON document beside this page. What can be learnt is said before "
        "training, which may take some of it back (docs/etl_report.md)."
    )
    return f"<p class='soft'>{escape(run)}{learnt if report.figures else ''}</p>"


def _left_out(every: int, shown: int, what: str) -> str:
    if every <= shown:
        return ""
    return f"<p class='soft'>{shown:,} of {every:,} {what}; the JSON document beside this page has all.</p>"


def _longest(names: Sequence[str], runs: Sequence[int]) -> str:
    most = max(runs)
    return f"up to {most:,} ({names[runs.index(most)]})"


def _capital(text: str) -> str:
    name = "_" in text.partition(" ")[0]  # of a column, which is written as it is
    return text if name else text[:1].upper() + text[1:]
