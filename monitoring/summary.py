"""The pages that people read: plain HTML without scripts, styles inside, nothing fetched."""

from html import escape

from monitoring.watch import Watch

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6b7b; --line: #dfe5ea; --good: #1f7a4d; --bad: #b3261e;
  --warn: #9a6700; --fill: #f5f7f9; --blue: #2458a6; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.lead { color: var(--soft); margin: .3rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem;
  border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.breach { color: var(--bad); font-weight: 600; } .warning { color: var(--warn); font-weight: 600; }
.note { color: var(--soft); } .good { color: var(--good); font-weight: 600; }
"""


def page(title: str, lead: str, *sections: str) -> str:
    """Puts sections of HTML under a title; title and lead are escaped here, the sections by their makers."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p>\n' + "\n".join(sections) + "\n</body></html>\n"
    )


def findings_table(seen: Watch) -> str:
    """All findings, breaches first."""
    rows = "".join(
        f'<tr><td class="{finding.level}">{finding.level}</td><td>{escape(finding.text)}</td></tr>'
        for finding in seen.findings
    )
    return f"<h2>Findings</h2><table>{rows or '<tr><td>none</td></tr>'}</table>"


def unjudged_page(seen: Watch) -> str:
    """The drift report when nothing could be compared: it says why, and that this is no pass."""
    return page(
        "Drift could not be judged",
        "No column could be compared with the reference. This does not mean that nothing has drifted.",
        findings_table(seen),
    )
