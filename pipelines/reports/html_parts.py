"""Build self-contained HTML pages: style, tables that sort, lists, charts as inline SVG. All texts are escaped."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape

MOST_COLUMNS = 180  # beyond, neighbouring periods share a column
_WIDTH, _HEIGHT, _AXIS = 960, 90, 18
_PERCENT = "\N{NO-BREAK SPACE}%"
_NARROW = 3  # columns that fit on a phone; more become cards there, or scroll where they can be sorted
_LONG = 24  # characters that fit beside columns of numbers; longer cells get room of their own
_STYLE = """
:root { --ink:#1c2733; --soft:#5b6b7b; --line:#dfe5ea; --fill:#f5f7f9; --good:#1f7a4d; --bad:#b3261e; --look:#8a5a00; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; }
main { max-width: 1040px; margin: 0 auto; padding: 1.5rem 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0 .6rem; }
.soft { color: var(--soft); }
.stop { color: var(--bad); font-weight: 600; }
.quarantine, .look, .late { color: var(--look); font-weight: 600; }
.ok { color: var(--good); font-weight: 600; }
.todo { background: var(--fill); border-left: 5px solid var(--good); border-radius: 4px; padding: .9rem 1.1rem;
  margin: 1rem 0; }
.todo.stopped { border-color: var(--bad); }
.todo.looked { border-color: var(--look); }
.todo ol { margin: .5rem 0 0; padding-left: 1.3rem; }
.todo li + li { margin-top: .6rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .7rem; margin: 1rem 0; }
.tile { background: var(--fill); border-radius: 6px; padding: .6rem .8rem; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; line-height: 1.35; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; overflow-wrap: normal; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
th button::after { content: " \\2195"; content: " \\2195" / ""; color: #b6c1cb; }
td.text { min-width: 11rem; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; min-width: 4.6rem; }
svg { max-width: 100%; height: auto; display: block; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .35em 0 0; }
.keys span { margin-right: 1.2em; display: inline-block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: .4rem 1.4rem; }
td svg { margin-top: .35em; }
@media (max-width: 640px) {
  ul { padding-left: 1.2rem; }
  td.text { min-width: 8rem; }
  table.cards thead { display: none; }
  table.cards tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  table.cards td { display: block; border: 0; padding: .1rem 0; text-align: left; white-space: normal; min-width: 0; }
  table.cards td::before { content: attr(data-head) ": "; color: var(--soft); }
  table.cards td:first-child { font-weight: 600; }
  table.cards td:first-child .soft { font-weight: 400; }
  table.cards td:first-child::before { content: ""; }
}
@media print { main { max-width: none; padding: 0; } .wide { overflow: visible; } h2 { break-after: avoid; }
  tr, .todo, .tile { break-inside: avoid; } th button::after { content: ""; } }
"""
_SCRIPT = """
for (const head of document.querySelectorAll("table.sorts th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const down = head.getAttribute("aria-sort") !== "descending";
    const key = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent;
    const rows = [...body.rows].sort((a, b) => {
      const one = key(a), two = key(b), gap = one - two;
      return (Number.isNaN(gap) ? one.localeCompare(two) : gap) * (down ? -1 : 1);
    });
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  });
}
"""


def document(title: str, body: str) -> str:
    """Returns a complete page around HTML; its policy lets no script run but the one that sorts tables."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{body}</main><script>{_SCRIPT}</script></body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, sorts: bool = False) -> str:
    """A table; a head that begins with # is of numbers."""
    top = "".join(
        f"<th class='number'>{escape(head[1:])}</th>" if head.startswith("#") else f"<th>{escape(head)}</th>"
        for head in heads
    )
    named = [f"<td data-head='{escape(head.removeprefix('#'))}'" for head in heads]
    body = "".join(
        f"<tr>{''.join(name + cell.removeprefix('<td') for name, cell in zip(named, row, strict=True))}</tr>"
        for row in rows
    )
    kind = " class='sorts'" if sorts else " class='cards'" if len(heads) > _NARROW else ""
    return f"<div class='wide'><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def text_cell(shown: str, *, below: str = "", kind: str = "") -> str:
    """A cell with a text, one below it in a softer colour, and a CSS class of the style."""
    more = f"<br><span class='soft'>{escape(below)}</span>" if below else ""
    long = " class='text'" if len(shown) + len(below) > _LONG else ""
    styled = f"<span class='{kind}'>{escape(shown)}</span>" if kind else escape(shown)
    return f"<td{long} data-value='{escape(shown)}'>{styled}{more}</td>"


def number_cell(value: float | None, *, shown: str = "") -> str:
    """A cell with a number, which tables are sorted by however it is shown."""
    text = shown or ("–" if value is None else f"{value:,}")
    return f"<td class='number' data-value='{-1 if value is None else value}'>{escape(text)}</td>"


def bullets(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def percent(share: float | None) -> str:
    """A share as people read it; neither some nor almost all is rounded away."""
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return f"< 0.1{_PERCENT}"
    if 0.995 <= share < 1:
        return f"> 99{_PERCENT}"
    shown = f"{100 * share:.1f}" if share < 0.1 else f"{100 * share:.0f}"
    return f"{shown.removesuffix('.0')}{_PERCENT}"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def columns(labels: Sequence[str], shares: Sequence[float], *, says: str) -> str:
    """A column per period, shares 0 to 1; where periods share one, the lowest of them is drawn, so that no hole hides.

    Args:
        labels: Of the periods, in order; the first and the last are written below.
        shares: (period,) heights.
        says: What the chart shows, for those who cannot see it.
    """
    size = -(-len(shares) // MOST_COLUMNS)
    low = [min(shares[at : at + size]) for at in range(0, len(shares), size)]
    wide = _WIDTH / max(len(low), 1)
    gap = 0.15 * wide if wide > 3 else 0.0
    drawn = "".join(
        f"<rect x='{at * wide:.1f}' y='{_HEIGHT * (1 - share):.1f}' width='{wide - gap:.2f}' "
        f"height='{max(_HEIGHT * share, 0.5):.1f}'><title>{escape(labels[at * size])}: {share:.0%}</title></rect>"
        for at, share in enumerate(min(max(one, 0.0), 1.0) for one in low)
    )
    first, last = (escape(labels[0]), escape(labels[-1])) if labels else ("", "")
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT + _AXIS}' role='img' aria-label='{escape(says)}'>"
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#f5f7f9'/><g fill='#0072b2'>{drawn}</g>"
        f"<g font-size='13' fill='#5b6b7b'><text x='0' y='{_HEIGHT + 14}'>{first}</text>"
        f"<text x='{_WIDTH}' y='{_HEIGHT + 14}' text-anchor='end'>{last}</text></g></svg>"
    )


def stacked(parts: Sequence[tuple[str, int]]) -> str:
    """One bar of coloured parts: (colour, size) each."""
    total, at, drawn = max(sum(size for _, size in parts), 1), 0.0, []
    for colour, size in parts:
        width = _WIDTH * size / total
        drawn.append(f"<rect x='{at:.1f}' width='{width:.1f}' height='26' fill='{escape(colour)}'/>")
        at += width
    return (
        f"<svg viewBox='0 0 {_WIDTH} 26' preserveAspectRatio='none' style='width:100%;height:26px' aria-hidden='true'>"
        f"{''.join(drawn)}</svg>"
    )


def bar(value: float, most: float) -> str:
    """A bar as long as a value's part of the largest one."""
    width = 90 * max(value, 0.0) / most if most > 0 else 0.0
    return (
        f"<svg width='90' height='12' aria-hidden='true'><rect width='{width:.1f}' height='12' rx='2' "
        "fill='#0072b2'/></svg>"
    )
