"""How a promotion reads: the gates as a table, what was decided, and the record as a list. Text only."""

from collections.abc import Sequence
from itertools import pairwise

from pricing.registry.audit import Entry
from pricing.registry.gates import Verdict, failed
from pricing.registry.promotion import Wish

_AT_LEAST = ("elasticity_sane", "identified", "products")


def report(model: str, wish: Wish, verdicts: Sequence[Verdict]) -> str:
    """A promotion in Markdown.

    Args:
        model: The registered model's name.
        wish: What is promoted, by whom and why.
        verdicts: What each gate says.
    """
    missed = failed(verdicts)
    if not missed:
        outcome = f"passes all {len(verdicts)} gates"
    elif wish.forced:
        outcome = f"fails {len(missed)} of {len(verdicts)} gates and is forced"
    else:
        outcome = f"fails {len(missed)} of {len(verdicts)} gates and is refused"
    lines = [
        f"# {model} version {wish.to} {outcome}",
        "",
        f"- against: {f'version {wish.expected}' if wish.expected else 'no champion, so the baselines alone count'}",
        f"- by {wish.who} at {wish.at}",
        f"- why: {wish.why}",
        "",
        "| gate | | figure | needed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {verdict.name} | {'pass' if verdict.passed else '**FAIL**'} | {_figure(verdict)} | {_needed(verdict)} |"
        for verdict in verdicts
    ]
    lines += ["", *(f"- {verdict.name}: {verdict.sentence}" for verdict in verdicts), ""]
    return "\n".join(lines)


def history_lines(entries: Sequence[Entry], *, everything: bool) -> list[str]:
    """The record, newest last: what was champion from when to when.

    Args:
        entries: The record, oldest first.
        everything: Also what was refused or lost, which changed nothing.
    """
    shown = [entry for entry in entries if everything or entry.outcome == "done"]
    done = [entry for entry in entries if entry.outcome == "done"]
    until = {entry.sequence: later.at for entry, later in pairwise(done)}
    rows = [("#", "champion", "from", "until", "how", "who", "why")]
    for entry in shown:
        changed = entry.outcome == "done"
        how = entry.action.replace("_", " ") + (", forced" if entry.forced else "")
        rows.append(
            (
                str(entry.sequence),
                (entry.to_version or "none") if changed else f"({entry.to_version})",
                entry.at,
                until.get(entry.sequence, "now") if changed else "",
                how if changed else f"{how}: {entry.outcome}",
                entry.who,
                entry.why,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _figure(verdict: Verdict) -> str:
    return "not measured" if verdict.figure is None else f"{verdict.figure:.4g}"


def _needed(verdict: Verdict) -> str:
    if isinstance(verdict.threshold, tuple):
        return f"{verdict.threshold[0]:g} to {verdict.threshold[1]:g}"
    return f"{'≥' if verdict.name in _AT_LEAST else '≤'} {verdict.threshold:g}"
