"""Render the page of a run as self-contained HTML without scripts: what to do first, then the evidence."""

import math
from collections.abc import Sequence
from pathlib import Path

import jinja2

from monitoring.actions import Task
from monitoring.business import Week, share
from monitoring.evaluate import Evaluation
from monitoring.policy import PolicyOutcome
from pricing.decision.experiment_results import Interval


def page(evaluation: Evaluation, week: Week, *, outcome: PolicyOutcome, done: str, tasks: Sequence[Task]) -> str:
    """Returns the page: for a category manager above, for an analyst below."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"share": share, "plain": plain, "band": band, "sentence": sentence}
    columns = evaluation.drift.columns
    return environment.get_template("page.html").render(
        evaluation=evaluation,
        week=week,
        outcome=outcome,
        done=done,
        tasks=tasks,
        trust=_trust(evaluation),
        columns=sorted(columns, key=lambda one: (not one.drifted, -one.value / one.threshold.value)),
        most=max((line.margin for line in week.categories), default=0.0),
        levels={"breach": "problem", "warning": "look", "note": "note"},
    )


def _trust(evaluation: Evaluation) -> str:
    if not evaluation.newest.decisions:
        why = evaluation.situation.unjudged or "none was decided for the newest days"
        return f"There is nothing to judge: {why}."
    longer = [sentence(each.text) for each in evaluation.findings if each.code == "window_longer"]
    return " ".join([evaluation.explanation, *longer])


def sentence(text: str) -> str:
    """Makes a text a sentence: a capital, and an end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def plain(value: float) -> str:
    """Writes a number to two places."""
    return f"{value:.2f}" if math.isfinite(value) else "unknown"


def band(interval: Interval, *, sign: bool = False, unknown: str = "unknown") -> str:
    """Writes a fraction in whole per cent with its interval, where there is one."""
    if not math.isfinite(interval.value):
        return unknown
    value, low, high = (share(each, sign=sign, digits=0) for each in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})" if math.isfinite(interval.low) else value
