"""What goes out although no job is due, how severe it is, and figures that cannot be."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from monitoring import actions
from monitoring.__main__ import weekly_figures
from monitoring.business import implausible, plausible
from monitoring.evaluate import SEED, evaluate_decisions, metrics
from monitoring.outcomes import join
from monitoring.performance import _tail, decayed_categories, judge, score
from monitoring.policy import Finding, PolicyOutcome
from monitoring.report import weekly_page
from monitoring.samples import our_products
from monitoring.tracking import ChampionRecord
from pricing.config import load_config
from pricing.runtime.alerts import AlertMemory
from tests.kit import monitoring_world
from tests.kit.monitoring_world import World, build, entries, redecided

NOW = dt.datetime(2024, 6, 1, 3, tzinfo=dt.UTC)
CONFIG = load_config().monitoring
CALM = PolicyOutcome("none", "all is well", "nothing")
DECAY = PolicyOutcome("none", "error grew; a job is running", "decay")
DRIFT = PolicyOutcome("none", "inputs drifted", "drift")
NOTHING_DONE = actions.ActionResult("nothing was started")
WORLD = World(products=24, days=120)
PANEL, TRUTH = build(WORLD)
LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def tabulated(made):
    return monitoring_world.tabulated(made, now=LATER)


@pytest.fixture(scope="module")
def made():
    return entries(PANEL, TRUTH, days=range(60, 120))


@pytest.fixture(scope="module")
def seen(made):
    decisions, findings = tabulated(made)
    figures = {"wape_mean": 0.4, "wape_naive": 0.6, "bias": 0.0}
    return evaluate_decisions(PANEL, decisions, findings, champion=ChampionRecord("3", figures), config=CONFIG)


def alert(seen, outcome, *, off=0.0, findings=()):
    newest = replace(seen.verdicts[-1], off=off)
    changed = replace(seen, verdicts=[*seen.verdicts[:-1], newest], findings=list(findings))
    return actions.compose(outcome, NOTHING_DONE, evaluation=changed, link="", critical_off=CONFIG.critical_off)


@pytest.mark.parametrize(("off", "severity"), [(0.1, "info"), (0.3, "warning"), (1.04, "critical")])
def test_an_alert_is_as_severe_as_forecasts_are_off_whatever_is_done_about_it(seen, off, severity):
    assert alert(seen, DECAY, off=off).severity == severity
    assert alert(seen, DRIFT, off=off).severity == severity


def test_a_verdict_says_how_far_off_it_is(seen):
    frame = seen.joined.frame
    doubled = frame.assign(forecast=2.04 * frame["forecast"])
    wrong = judge(
        score(doubled, name="w", rng=np.random.default_rng(0)),
        replace(_band(), wape=0.4),
        min_rows=10,
    )

    assert {breach.code for breach in wrong.breaches} == {"error", "bias"}
    assert wrong.off == pytest.approx(max(abs(wrong.score.bias.value), wrong.score.wape.value / 0.4 - 1))
    assert seen.verdicts[-1].off == 0.0


def _band():
    from monitoring.performance import band  # noqa: PLC0415

    return band({"wape_mean": 0.4, "wape_naive": 0.6, "bias": 0.0}, CONFIG)


@pytest.mark.parametrize("code", sorted(actions.TOLD))
def test_what_asks_for_no_job_but_for_a_look_goes_out_as_a_warning_by_name(seen, code):
    note = alert(seen, CALM, findings=[Finding(code, "warning", "look at this", about="dairy")])

    assert (note.severity, note.what, note.key) == ("warning", "look at this", f"{code}-dairy")
    assert [(one.name, one.severity) for one in note.findings] == [(f"{code}-dairy", "warning")]
    assert alert(seen, CALM, findings=[Finding("sampled", "note", "x")]) is None


def test_the_same_drift_is_told_once_a_window_and_another_at_once(seen, tmp_path):
    class Mailbox:
        channel = "webhook"

        def __init__(self):
            self.alerts = []

        def send(self, alert):
            self.alerts.append(alert)
            return True

    box = Mailbox()
    names = [("comp_level",)] * 4 + [("stock_cover",)]
    for day, columns in zip((0, 1, 27, 28, 29), names, strict=True):
        drift = replace(seen.drift)
        object.__setattr__(drift, "drifted", lambda _role, columns=columns: list(columns))
        actions.notify(
            DRIFT,
            NOTHING_DONE,
            evaluation=replace(seen, drift=drift, findings=[]),
            notifiers=[box],
            memory=AlertMemory(tmp_path / "alerts.db"),
            repeat=actions.Repeat(NOW + dt.timedelta(days=day), 20, "page", run="r", version="3", drift_hours=28 * 24),
        )

    assert [one.key for one in box.alerts] == [
        *(["drift-none-comp_level"] * 2),
        "drift-none-stock_cover",
    ]
    assert {(one.job, one.run, one.version) for one in box.alerts} == {("monitor", "r", "3")}


def decayed(frame, **changes):
    config = CONFIG.model_copy(update=changes)
    return decayed_categories(frame, last=PANEL.dates[-1], days=21, config=config, rng_seed=SEED)


def test_a_category_that_decays_while_the_whole_looks_fine_is_found_and_no_other(seen):
    frame = seen.joined.frame
    off = (frame["category"] == "cat-1") & (frame["period"] >= frame["period"].max() - np.timedelta64(41, "D"))
    # Half of what the category sells, made up for by none of the others.
    changed = frame.assign(forecast=frame["forecast"].where(~off, 1.6 * frame["forecast"]))

    found = decayed(changed, windows=2)

    assert [name for name, _ in found] == ["cat-1"]
    assert "cat-1, " in found[0][1].text
    assert "too high" in found[0][1].text
    assert decayed(frame, windows=2) == []


def test_a_category_without_enough_decisions_before_is_not_judged(seen):
    frame = seen.joined.frame
    recent = frame[frame["period"] >= frame["period"].max() - np.timedelta64(41, "D")]

    assert decayed(recent.assign(forecast=3 * recent["forecast"]), windows=2) == []


def test_more_categories_make_wider_intervals():
    assert _tail(30, confidence=1 - 0.05 / 10) < _tail(30) / 5


def test_decisions_that_sales_do_not_score_are_counted_as_a_share_and_told():
    made = entries(PANEL, TRUTH, days=range(100, 120))
    strange = [redecided(one, product_id=f"X{one.request.product_id}") for one in made]
    decisions, findings = tabulated([*made, *_renamed(strange)])

    half = evaluate_decisions(PANEL, decisions, findings, champion=ChampionRecord("3"), config=CONFIG)

    assert metrics(half, backtest_wape=0.4)["share_scored"] == pytest.approx(0.5, abs=0.03)
    few = evaluate_decisions(
        PANEL,
        decisions,
        findings,
        champion=ChampionRecord("3"),
        config=CONFIG.model_copy(update={"scored_share": 0.9}),
    )
    assert "scored_few" in {finding.code for finding in few.findings}
    assert CONFIG.alarms["decisions_unscored"].metric == "share_scored"


def _renamed(made):
    return [redecided(one, decision_id=f"x{one.answer.decision.decision_id}") for one in made]


def test_a_week_beyond_what_is_plausible_is_named_and_not_green(seen):
    prices = PANEL.price.copy()
    prices[:, -7:] *= 100
    cents = replace(PANEL, price=prices)

    (finding,) = implausible(cents, factor=CONFIG.plausible_factor)
    page = weekly_page(
        replace(seen, findings=[finding]),
        weekly_figures(cents, seen, holdout=None, factor=CONFIG.plausible_factor),
        outcome=CALM,
        done="",
    )

    assert "not plausible, look at the data first" in finding.text
    assert "prices are +9" in finding.text
    assert implausible(PANEL, factor=CONFIG.plausible_factor) == []
    assert "which is not plausible. Look at the data before anything else." in page
    assert page.count("on the week before: not plausible, look at the data") == 2  # margin and sales, but not units
    assert "class='good'>+" not in page.partition("By category")[0].partition("units")[0]


@pytest.mark.parametrize(
    ("value", "usual", "says"),
    [(4, 1, True), (4.1, 1, False), (0.2, 1, False), (-5, 1, True), (5, 0, True), (np.nan, 1, True)],
)
def test_what_is_plausible_is_a_matter_of_times(value, usual, says):
    assert plausible(value, usual, factor=4) is says


@pytest.mark.parametrize(
    "change", [{"source": "override", "reasons": ["overridden"]}, {"source": "rule", "reasons": ["frozen"]}]
)
def test_prices_that_a_person_fixed_are_neither_the_models_nor_failures_of_it(change):
    plain = entries(PANEL, TRUTH, days=range(100, 120))
    fixed = [redecided(one, **change) for one in plain[: len(plain) // 2]]
    decisions, _ = tabulated([*fixed, *plain[len(plain) // 2 :]])

    joined = join(decisions, PANEL)
    scores = score(joined.frame, name="all", rng=np.random.default_rng(0))

    assert (joined.frame["pricing"] == "fixed").sum() == len(fixed)
    assert not joined.frame.loc[joined.frame["pricing"] == "fixed", "scored"].any()
    assert (scores.share_rule, scores.share_followed) == (0.0, 1.0)
    assert our_products(joined.frame) == PANEL.product_ids.tolist()
    assert {finding.code: finding.count for finding in joined.findings}["fixed"] == len(fixed)
