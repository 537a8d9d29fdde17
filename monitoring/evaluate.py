"""Evaluate decisions against sales: score, compare for drift, judge decay. Writes and sends nothing."""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from monitoring import performance, samples
from monitoring.decisions import Joined
from monitoring.drift import LEAST_BLOCKS, Drift, compare
from monitoring.performance import DecisionScores, WindowVerdict
from monitoring.policy import JOB_LOST, STOPPED, Situation
from monitoring.tracking import ChampionRecord
from pricing.arrays import Days, weekday_of
from pricing.config_models import SCORE_WINDOWS, MonitoringConfig
from pricing.data.findings import Finding, Level, ordered
from pricing.data.panel import STEP_DAYS, Panel

SEED = 20240229
REFERENCE_DAYS = 364  # that drift's window is compared with, at most: a year of whole weeks
ROWS_SAMPLED = 200_000  # of the reference, at most: what is compared within a minute
SCORE_WINDOW_MOST = 182  # days: what half a year cannot judge, an eye on the figures judges sooner
SCORED_SHARE = 0.5  # of decisions that sales should score: where fewer are, error is about a minority
SHARES = {
    "elasticity_unidentified": "{share:.0%} of answers keep their price because the history does not tell how demand "
    "answers to it: test prices on these products, or train on more history; the model itself is not at fault",
    "comp_price_stale": "{share:.0%} of the answers that knew a competitor's price did not use it, since it was older "
    "than decision.comp_price_max_age: look at where competitors' prices come from",
}
LOOKED_BACK = 28  # days whose decisions tell on which weekdays a shop decides


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation."""

    joined: Joined  # without replays, unless there is nothing else
    newest: DecisionScores  # of the newest drift window
    own: DecisionScores  # the same for decisions by the champion's weights only, comparable with its backtest
    by_category: list[DecisionScores]  # in the newest window
    verdicts: list[WindowVerdict]  # decay in each score window, oldest first
    drift: Drift
    findings: list[Finding]  # breaches first
    situation: Situation
    replay: bool  # every decision with an outcome was made after the days it prices: scored, and calls nobody
    share_scored: float  # of the newest decisions, of those that sales should score; NaN where there are too few

    @property
    def explanation(self) -> str:
        """Decay and drift, in one or two sentences."""
        compared = [column for column in self.drift.columns if column.watched.role == "input"]
        drifted = [column.watched.plain for column in compared if column.drifted]
        return performance.explain(self.verdicts, drifted if compared else None)


@dataclass(frozen=True)
class Activity:
    """How far decisions and sales reach, in days."""

    latest: np.datetime64  # the day on which a live decision was made last; without any the last day of sales
    silent: int  # with decisions but without sales
    idle: int | None  # with sales but without decisions; None when the log has no live decision
    undecided: int  # see `count_undecided`


def evaluate_decisions(
    panel: Panel,
    joined: Joined,
    *,
    champion: ChampionRecord,
    config: MonitoringConfig,
    earlier: samples.EarlierErrors | None = None,
    log: str = "PRICING_HOME/decisions",
) -> Evaluation:
    """Evaluates decisions against sales. Deterministic: the bootstrap uses a fixed seed."""
    rng = np.random.default_rng(SEED)
    step = STEP_DAYS[panel.period]
    end = panel.dates[-1] + np.timedelta64(step - 1, "D")  # the last day of the newest period
    replay = bool(len(joined.frame)) and not joined.frame["live"].any()
    joined = joined if replay else replace(joined, frame=joined.frame[joined.frame["live"]])

    others = joined.frame["model_version"].isin(champion.others)
    least = max(step, config.score_window // step * step)
    verdicts = _judged(joined.frame[~others], champion, config=config, last=end, least=least, rng=rng)
    drift = _drift(panel, joined.frame, config=config, earlier=earlier, rng=rng)
    ((name, recent),) = performance.windows(joined.frame, last=end, days=drift_window(panel, config) * step, count=1)
    newest = performance.score(recent, name=name, rng=rng)
    by_category = performance.groups(recent, "category", rng=rng)
    own = recent[~recent["model_version"].isin(champion.others)]
    share_scored = _share_scored(recent, joined.unmatched, days=newest.days, replay=replay, min_rows=config.min_rows)
    activity = _activity(joined, panel)
    states = champion.state_date

    unknown = f"the champion's backtest is unknown: {champion.trouble}"
    findings = ordered(
        [
            *joined.findings,
            *drift.samples.findings,
            *drift.findings,
            *_about_decisions(int(others.sum()), share_scored, activity, config=config, log=log),
            *([Finding("champion_unknown", "warning", sentence=unknown)] if champion.trouble else []),
            *_about_scores(joined, verdicts[-1], newest, least=least, config=config),
        ]
    )
    return Evaluation(
        joined=joined,
        newest=newest,
        own=newest if len(own) == len(recent) else performance.score(own, name=name, rng=np.random.default_rng(SEED)),
        by_category=by_category,
        verdicts=verdicts,
        drift=drift,
        findings=list(findings),
        situation=Situation(
            decayed=() if replay else tuple(bool(each.breaches) if each.judged else None for each in verdicts),
            why="; ".join(verdicts[-1].breaches.values()),
            window_days=verdicts[-1].score.length,
            drifted=drift.drifted("input"),
            state_age=None if states is None else max(0, _days(max(activity.latest, panel.dates[-1]) - states)),
            silent_days=activity.silent,
            idle_days=activity.idle,
            undecided_days=activity.undecided,
            share_rule=math.nan if replay else newest.share_rule,
            broken=tuple(finding for finding in findings if finding.level == "breach"),
            lost=tuple(finding.sentence for finding in findings if finding.check == JOB_LOST),
            unjudged=_unjudged(joined, verdicts[-1], replay=replay),
        ),
        replay=replay,
        share_scored=share_scored,
    )


def _judged(
    frame: pd.DataFrame,
    champion: ChampionRecord,
    *,
    config: MonitoringConfig,
    last: np.datetime64,
    least: int,
    rng: np.random.Generator,
) -> list[WindowVerdict]:
    """Judges the score windows up to the `last` day, oldest first, of at `least` so many days each."""
    days = performance.window_days(frame, last=last, least=least, most=SCORE_WINDOW_MOST, min_rows=config.min_rows)
    promised = performance.band(champion.backtest, config)
    return [
        performance.judge(performance.score(rows, name=name, rng=rng), promised, min_rows=config.min_rows)
        for name, rows in performance.windows(frame, last=last, days=days, count=SCORE_WINDOWS)
    ]


def _drift(
    panel: Panel,
    frame: pd.DataFrame,
    *,
    config: MonitoringConfig,
    earlier: samples.EarlierErrors | None,
    rng: np.random.Generator,
) -> Drift:
    """Compares the newest days with the year before them."""
    step = STEP_DAYS[panel.period]
    window = drift_window(panel, config)
    taken = samples.take(
        panel, frame, window=window, reference=REFERENCE_DAYS // step, rows=ROWS_SAMPLED, rng=rng, earlier=earlier
    )
    return compare(taken, window=window, step_days=step, false_alarm=config.false_alarm, min_rows=config.min_rows)


def _activity(joined: Joined, panel: Panel) -> Activity:
    last = panel.dates[-1]
    step = STEP_DAYS[panel.period]
    made, priced = _live_days(joined.decided)
    latest = made.max() if len(made) else last
    idle = None
    if len(made):
        # A decision made in advance counts for the day it was made on, so that a price for next month hides no outage.
        idle = max(0, _days(last - np.minimum(made, priced).max()) - step + 1)
    silent = max(0, _days(latest - last) - step + 1)
    return Activity(latest, silent, idle, count_undecided(joined.decided, panel))


def _about_decisions(
    others: int, share_scored: float, activity: Activity, *, config: MonitoringConfig, log: str
) -> Iterator[Finding]:
    """Yields findings on decisions: by other weights than the champion's, without sales, or not made."""
    if others:
        text = f"{others:,} decision(s) came from other weights than the champion's; decay is judged by its own"
        yield Finding("other_weights", "note", rows=others, sentence=text)
    if share_scored < SCORED_SHARE:
        text = f"only {share_scored:.0%} of the newest decisions could be scored by sales: error is about these alone"
        yield Finding("scored_few", "warning", sentence=text)
    idle = activity.idle or 0
    if idle > config.silent_days or 0 < config.undecided_days <= activity.undecided:
        text = f"sales go on, the newest decision is {max(idle, activity.undecided)} days older; {look_at(log)}"
        yield Finding(STOPPED, "warning", sentence=text)


def _about_scores(
    joined: Joined, verdict: WindowVerdict, newest: DecisionScores, *, least: int, config: MonitoringConfig
) -> Iterator[Finding]:
    """Yields findings on what can be scored, on which windows, and on answers that keep a price."""
    if joined.frame.empty and len(joined.decided) and not joined.waiting:
        text = "no decision has met its sales: nothing can be scored"
        live = joined.decided["live"].any()  # a replay calls nobody
        yield Finding("nothing_joined", "breach" if live else "warning", sentence=text)
    days = verdict.score.length
    if days > least:
        few = verdict.score.rows < config.min_rows
        even = f", and even those hold fewer than {config.min_rows} (monitoring.min_rows)" if few else ""
        text = f"{least} days hold few decisions that can be scored, so {days} are judged together{even}"
        yield Finding("window_longer", "note", sentence=text)
    shares = {"elasticity_unidentified": newest.share_unidentified, "comp_price_stale": newest.share_comp_stale}
    for check, share in shares.items():
        if share > 0:  # NaN where nothing was decided
            level: Level = "warning" if share > config.fallback_share else "note"  # never a breach: prices go on
            yield Finding(check, level, sentence=SHARES[check].format(share=share))


def _unjudged(joined: Joined, newest: WindowVerdict, *, replay: bool) -> str:
    """Why no window is judged, where more is known than that too few decisions have met their sales."""
    if replay:
        return "every decision was made after the days it prices: a replay, which calls nobody and starts nothing"
    if not joined.decisions:
        return "no price has been decided yet"
    if not joined.frame["live"].any() and joined.waiting:
        return f"all {joined.waiting:,} decisions wait for their sales"
    return newest.note if newest.note == performance.NO_BACKTEST else ""


def drift_window(panel: Panel, config: MonitoringConfig) -> int:
    """The periods that drift looks at: as configured, or as many weeks more as hold enough rows in a small shop.

    Not more than a quarter of the reference, which must hold several windows.
    """
    step = STEP_DAYS[panel.period]
    week = 7 // step
    least = max(1, config.window // step)
    most = max(least, REFERENCE_DAYS // step // LEAST_BLOCKS)
    per_period = panel.present[:, -most:].sum(axis=0)[::-1].cumsum()  # rows of the newest 1, 2, … periods
    enough = int(np.searchsorted(per_period, config.min_rows)) + 1
    if enough <= least or enough > most:
        return least
    return min(most, math.ceil(enough / week) * week)


def metrics(evaluation: Evaluation, *, backtest_wape: float) -> dict[str, float]:
    """Returns the metrics of an evaluation under their names in MLflow, CloudWatch and alarms; unknown ones are NaN."""
    score = evaluation.newest
    own = evaluation.own
    seen = evaluation.situation
    return {
        "wape": own.wape.value,
        "wape_low": own.wape.low,
        "wape_high": own.wape.high,
        "wape_naive": own.earlier_weeks,
        "wape_to_backtest": own.wape.value / backtest_wape if backtest_wape > 0 else math.nan,
        "bias": own.bias.value,
        "bias_size": abs(own.bias.value),
        "coverage_80": own.coverage.value,
        "profit_to_expected": score.profit.value,
        "profit": score.realised,
        "confidence": score.confidence,
        "share_rule": score.share_rule,
        "share_unidentified": score.share_unidentified,
        "share_followed": score.share_followed,
        "share_comp_stale": score.share_comp_stale,
        "share_scored": evaluation.share_scored,
        "rows_scored": own.rows,
        "decisions": evaluation.joined.decisions,
        "decisions_waiting": evaluation.joined.waiting,
        "days_since_sales": seen.silent_days,
        "days_since_decisions": math.nan if seen.idle_days is None else seen.idle_days,
        "windows_in_breach": sum(bool(verdict.breaches) for verdict in evaluation.verdicts),
        "columns_drifted": sum(column.drifted for column in evaluation.drift.watched),
        "findings_in_breach": sum(finding.level == "breach" for finding in evaluation.findings),
        **{f"drift_{column.watched.column}": column.value for column in evaluation.drift.columns},
        **{f"drift_limit_{column.watched.column}": column.threshold.value for column in evaluation.drift.columns},
    }


def _share_scored(
    recent: pd.DataFrame, unmatched: pd.DataFrame, *, days: tuple[dt.date, dt.date], replay: bool, min_rows: int
) -> float:
    first, last = map(pd.Timestamp, days)
    lost = unmatched["period"].between(first, last) & (replay | unmatched["live"].astype(bool))
    expected = int(recent["scorable"].sum()) + int(lost.sum())
    return float(recent["scored"].sum()) / expected if expected >= min_rows else math.nan


def count_undecided(decisions: pd.DataFrame, panel: Panel) -> int:
    """Returns the days since the newest decision on which one was due, whole periods of the panel.

    That is a day on which the shop sold anything, and on whose weekday it has decided within the four weeks before: a
    shop that is closed, or that decides on some weekdays only, misses nothing. Of a week only sales are asked. A
    decision made the period before counts for the day that it prices, one made earlier for the day it was made on.
    """
    made, priced = _live_days(decisions)
    if not len(made):
        return 0
    step = STEP_DAYS[panel.period]
    decided = np.unique(np.where(priced - made <= np.timedelta64(step, "D"), priced, made))
    sold = (np.nan_to_num(panel.units_sold) > 0).any(axis=0)
    missed = panel.dates[sold & (panel.dates > decided[-1])]
    if step == 1:
        usual = decided[decided > decided[-1] - np.timedelta64(LOOKED_BACK, "D")]
        missed = missed[np.isin(weekday_of(missed), weekday_of(usual))]
    return len(missed) * step


def _live_days(decisions: pd.DataFrame) -> tuple[Days, Days]:
    """(live decision,) the day it was made on, and the one it prices."""
    live = decisions[decisions["live"]]
    made = live["at"].dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    return made, live["date"].to_numpy().astype("datetime64[D]")


def _days(span: np.timedelta64) -> int:
    return int(span // np.timedelta64(1, "D"))


def look_at(log: str) -> str:
    """Returns what to look at where a live shop's decisions do not come."""
    return (
        f"look whether decisions still arrive in {log}, whether the serving tasks are ready (/health/ready), and "
        "whether the shop's API key is taken (answers 401 and 403 in /metrics); where a batch decides, whether it ran"
    )
