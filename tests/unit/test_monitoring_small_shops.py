"""What monitoring says of shops that are small, weekly, new, or only tried out: no figure is missing in words."""

import datetime as dt
import html
import re
from dataclasses import replace

import numpy as np
import pytest

from monitoring.actions import ActionResult, tasks
from monitoring.business import newest_week
from monitoring.evaluate import drift_window, evaluate_decisions
from monitoring.policy import JobHistory, PolicyOutcome, decide
from monitoring.report import page
from monitoring.tracking import NO_CHAMPION, ChampionRecord
from pricing.config import load_config
from pricing.runtime.cli import CommandLine
from tests.kit.monitoring_world import World, build, entries, joined, redecided

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CONFIG = load_config().monitoring
PROMISED = {"wape_mean": 0.45, "wape_naive": 0.6, "bias": 0.0}
CHAMPION = ChampionRecord("3", PROMISED)
IDLE = ActionResult("nothing was started")
CALM = PolicyOutcome("none", "all is well", "nothing")
CHANGED = {"change_day": 60, "demand_factor": 0.4}


def shop(products, *, days=100, period="day", decided=None, edit=None, sales=None, **world):
    """Panel, and the table of decisions for the `decided` days, by forecasts that know no change of the world.

    The histories are too short for drift to be judged, which takes seconds.
    """
    panel, truth = build(World(products=products, days=days, **world))
    if period == "week":
        panel = replace(panel, period="week", dates=panel.dates[0] + 7 * np.arange(days))
    made = entries(panel, truth, days=range(max(0, days - 35), days) if decided is None else decided)
    made = [edit(entry) for entry in made] if edit else made
    panel = sales(panel) if sales else panel
    return panel, joined(made, panel, now=NOW)


def judged(panel, found, *, champion=CHAMPION):
    return evaluate_decisions(panel, found, champion=champion, config=CONFIG)


def outcome_of(evaluation):
    return decide(evaluation.situation, JobHistory(), CONFIG, now=NOW)


def shown(panel, evaluation):
    """Whatever a person reads: page, lines of the program, outcome."""
    outcome = outcome_of(evaluation)
    todo = tasks(evaluation, outcome, IDLE, line=CommandLine())
    week = newest_week(panel, evaluation.joined.frame, holdout=None, rng=np.random.default_rng(0))
    text = page(evaluation, week, outcome=outcome, done="nothing", tasks=todo)
    return "\n".join([html.unescape(text), outcome.reason, evaluation.explanation])


def replayed(entry):
    return redecided(entry, at=NOW - dt.timedelta(days=1))


@pytest.mark.parametrize(
    ("products", "period", "days", "decided"),
    [
        (1, "day", 105, range(8, 300)),
        (20, "day", 7, range(109, 130)),
        (12, "week", 63, range(15, 40)),
    ],
)
def test_a_small_shop_is_judged_on_longer_windows(products, period, days, decided):
    world = {"products": products, "period": period, "days": decided.stop, "decided": decided}
    calm = judged(*shop(**world))
    fallen = judged(*shop(**world, change_day=decided.start, demand_factor=0.4))

    assert (calm.situation.window_days, calm.verdicts[-1].judged) == (days, True)
    assert outcome_of(calm).action == "none"
    assert fallen.verdicts[-1].breaches
    assert outcome_of(fallen).action == "retrain"
    assert ("window_longer" in {finding.code for finding in calm.findings}) is (days > 7)


@pytest.mark.parametrize(
    ("products", "period", "periods"),
    [
        (40, "day", 28),
        (3, "day", 35),
        (2, "day", 56),
        (1, "day", 28),  # a quarter of the reference holds too few: drift is not judged
        (40, "week", 4),
        (12, "week", 9),
    ],
)
def test_drift_looks_at_longer_windows_in_a_small_shop(products, period, periods):
    panel, _ = build(World(products=products, days=120))

    assert drift_window(replace(panel, period=period), CONFIG) == periods


def dearer(panel):
    return replace(panel, price=panel.price * np.float32(1.07))


def unsold(panel):
    return replace(panel, units_sold=np.zeros_like(panel.units_sold))


def waiting(panel):
    return panel.through(panel.dates[-2])


CASES = {
    "one product": lambda: shop(1, decided=range(100)),
    "weeks": lambda: shop(5, period="week"),
    "one decision": lambda: shop(3, decided=range(99, 100)),
    "nothing decided": lambda: shop(3, decided=range(0)),
    "other prices charged": lambda: shop(15, sales=dearer),
    "nothing sold": lambda: shop(3, sales=unsold),
    "no sales yet": lambda: shop(3, decided=range(99, 100), sales=waiting),
    "a first day": lambda: shop(3, days=1, decided=range(1)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_page_line_or_alert_holds_a_figure_that_is_no_number(case):
    panel, *log = CASES[case]()

    for champion in (CHAMPION, NO_CHAMPION):
        text = shown(panel, judged(panel, *log, champion=champion))

        assert not re.search(r"(?i)\bnan\b|\binf\b", text), re.findall(r"(?i).{40}\bnan\b.{20}|.{40}\binf\b", text)


def test_a_replay_is_scored_and_calls_nobody():
    made = shop(15, edit=replayed, **CHANGED)
    live = judged(*shop(15, **CHANGED))

    evaluation = judged(*made)

    assert evaluation.replay
    assert evaluation.newest.wape == live.newest.wape
    assert (outcome_of(live).action, outcome_of(evaluation).action) == ("retrain", "none")
    assert not live.replay


@pytest.mark.parametrize(
    ("products", "changes", "fault"),
    [
        (15, {"source": "rule", "reasons": ["no_model"]}, "answers_by_rule"),
        (3, {"product_id": "other"}, "nothing_joined"),
    ],
)
def test_what_calls_a_person_in_a_live_shop_calls_nobody_in_a_replay(products, changes, fault):
    live, replay = (
        judged(*shop(products, edit=lambda entry, again=again: again(redecided(entry, **changes))))
        for again in (lambda entry: entry, replayed)
    )

    assert (outcome_of(live).fault, outcome_of(replay).action) == (fault, "none")


def test_replayed_decisions_among_live_ones_change_no_figure():
    panel, truth = build(World(products=15, days=100))
    made = entries(panel, truth, days=range(86, 100))
    wrong = [
        redecided(
            replayed(entry),
            candidate_units=[9 * units for units in entry.answer.candidate_units],
            decision_id=f"again-{number}",
        )
        for number, entry in enumerate(entries(panel, truth, days=range(72, 100)))  # and of days without a decision
    ]

    alone, mixed = (judged(panel, joined(log, panel, now=NOW)) for log in (made, [*made, *wrong]))

    assert not mixed.replay
    assert repr((mixed.newest, mixed.verdicts)) == repr((alone.newest, alone.verdicts))
