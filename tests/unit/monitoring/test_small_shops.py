"""What monitoring says of shops that are small, weekly, new, tried out or silent: no figure is missing in words."""

import datetime as dt
import html
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from monitoring.evaluate import count_undecided, drift_window, evaluate_decisions
from monitoring.launch import ActionResult
from monitoring.policy import JobHistory, decide
from monitoring.report import newest_week, page
from monitoring.todo import tasks
from monitoring.tracking import NO_CHAMPION, ChampionRecord
from pricing.config import load_config
from pricing.data.panel import Panel
from tests.kit.monitoring_world import World, build, entries, joined, redecided

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CONFIG = load_config().monitoring
PROMISED = {"wape_mean": 0.45, "wape_naive": 0.6, "bias": 0.0}
CHAMPION = ChampionRecord("3", PROMISED)
IDLE = ActionResult("nothing was started")
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
    todo = tasks(evaluation, outcome, IDLE, given={})
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
    assert ("window_longer" in {finding.check for finding in calm.findings}) is (days > 7)


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


@pytest.mark.parametrize(
    ("products", "world", "changes", "called"),
    [
        (15, CHANGED, {}, "retrain"),
        (15, {}, {"source": "rule", "reasons": ["no_model"]}, "answers_by_rule"),
        (3, {}, {"product_id": "other"}, "nothing_joined"),
    ],
)
def test_a_replay_is_scored_and_what_calls_for_something_in_a_live_shop_calls_nobody(products, world, changes, called):
    live, replay = (
        judged(*shop(products, edit=lambda entry, again=again: again(redecided(entry, **changes)), **world))
        for again in (lambda entry: entry, replayed)
    )

    assert (live.replay, replay.replay) == (False, called != "nothing_joined")
    assert repr(replay.newest) == repr(live.newest)
    assert (outcome_of(live).fault or outcome_of(live).action, outcome_of(replay).action) == (called, "none")


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


MONDAY = np.datetime64("2024-01-01")  # the first day of the world, a Monday
CLOSED_SUNDAYS, MONDAYS_ONLY = (0, 1, 2, 3, 4, 5), (0,)


def sold(*, days: int, closed: tuple[int, ...] = ()) -> Panel:
    """A panel from that Monday, without any sale on some of its days."""
    panel, _ = build(World(products=2, days=days))
    units = np.full_like(panel.units_sold, 3.0)
    units[:, list(closed)] = 0.0
    return Panel(**{**panel.__dict__, "units_sold": units})


def decided(*days: int, ahead: int = 0, live: bool = True) -> pd.DataFrame:
    """Decisions for some days, counted from that Monday, each made so many days ahead."""
    dates = pd.to_datetime([MONDAY + np.timedelta64(day, "D") for day in days])
    at = (dates - pd.Timedelta(days=ahead) + pd.Timedelta(hours=20)).tz_localize("UTC")
    return pd.DataFrame({"at": at, "date": dates, "live": live})


def on(weekdays: tuple[int, ...], *, until: int) -> pd.DataFrame:
    return decided(*[day for day in range(until) if day % 7 in weekdays])


@pytest.mark.parametrize(
    ("made", "last", "closed", "missed"),
    [
        (decided(*range(28)), 28, (), 0),
        (decided(*range(27)), 28, (), 1),
        (decided(*range(25)), 28, (), 3),
        (on(CLOSED_SUNDAYS, until=28), 28, (), 0),  # never decides on a Sunday, though it sells
        (on(MONDAYS_ONLY, until=21), 21, (), 0),
        (on(MONDAYS_ONLY, until=21), 22, (), 1),  # and the fourth Monday is missing
        (decided(*range(2)), 4, (), 0),  # of the first week nobody knows yet on which weekdays it decides
        (decided(*range(3)), 10, (), 3),
        (decided(*range(26)), 28, (26, 27), 0),  # sold nothing
        (decided(*range(26)), 28, (27,), 1),
        (decided(*range(28), ahead=1), 28, (), 0),  # the evening before
        (pd.concat([decided(*range(20)), decided(60, ahead=40)]), 28, (), 7),  # next month's price hides no outage
        (decided(), 28, (), 0),  # not live yet
        (decided(3, live=False), 28, (), 0),  # a replay
    ],
)
def test_a_day_counts_on_whose_weekday_the_shop_usually_decides_and_on_which_it_sold(
    made: pd.DataFrame, last: int, closed: tuple[int, ...], missed: int
) -> None:
    assert count_undecided(made, sold(days=last, closed=closed)) == missed


def test_a_week_without_a_decision_counts_in_a_weekly_panel() -> None:
    panel, _ = build(World(products=2, days=6))
    weekly = Panel(**{**panel.__dict__, "period": "week", "dates": MONDAY + 7 * np.arange(6)})

    assert count_undecided(decided(30, 37), weekly) == 0  # a Wednesday and the next one
    assert count_undecided(decided(30), weekly) == 7
    assert count_undecided(decided(35, ahead=1), weekly) == 0  # made on the Sunday before
