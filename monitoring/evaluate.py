"""Evaluate decisions against sales: join, score, compare for drift, judge decay. Writes and sends nothing."""

import datetime as dt
import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from monitoring import performance, samples
from monitoring.decisions import Joined
from monitoring.drift import LEAST_BLOCKS, Drift, compare
from monitoring.performance import DecisionScores, WindowVerdict
from monitoring.policy import JOB_LOST, STOPPED, Finding, Level, Situation, counted
from monitoring.tracking import ChampionRecord
from pricing.arrays import Days, Ints
from pricing.config_models import MonitoringConfig
from pricing.data.panel import STEP_DAYS, Panel

SEED = 20240229
SHARES = {
    "elasticity_unidentified": "{share:.0%} of answers keep their price because the history does not tell how demand "
    "answers to it: test prices on these products, let their costs move their prices, or train on more history; the "
    "model itself is not at fault",
    "comp_price_stale": "{share:.0%} of the answers that knew a competitor's price did not use it, since it was older "
    "than decision.comp_price_max_age: look at where competitors' prices come from",
}
CATEGORY = "category_decayed"
LOOKED_BACK = 28  # days whose decisions tell on which weekdays a shop decides


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation."""

    joined: Joined
    newest: DecisionScores  # of the newest drift window
    own: DecisionScores  # the same for decisions by the champion's weights only, comparable with its backtest
    by_category: list[DecisionScores]  # in the newest window
    verdicts: list[WindowVerdict]  # decay in each score window, oldest first
    drift: Drift
    span: str  # the dates that drift compares
    findings: list[Finding]  # breaches first
    explanation: str  # decay and drift, in one or two sentences
    days_without_sales: int  # with decisions
    days_without_decisions: int | None  # with sales; None when the log has no live decision
    undecided_days: int  # with sales since the newest decision, on whose weekday the shop usually decides
    state_age: int | None  # days since the last day in the champion's states; None when unknown
    replay: bool  # every decision with an outcome was made after the days it prices: scored, and calls nobody
    window_days: int  # of a score window; more than configured in a shop of few decisions
    share_scored: float  # of the newest decisions, of those that sales should score; NaN where there are too few


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
    window, reference = drift_window(panel, config), config.reference // step
    frame, decided = joined.frame, joined.decided
    replay = bool(len(frame)) and not frame["live"].any()
    frame = frame if replay else frame[frame["live"]]
    last = panel.dates[-1]
    end = last + np.timedelta64(step - 1, "D")  # the last day of the newest period
    ((name, recent),) = performance.windows(frame, last=end, days=window * step, count=1)
    promised = performance.band(champion.backtest, config)
    by_other_weights = frame["model_version"].isin(champion.others)
    own_frame = frame[~by_other_weights]
    least = max(step, config.score_window // step * step)
    days = performance.window_days(
        own_frame, last=end, least=least, most=config.score_window_most, min_rows=config.min_rows
    )
    verdicts = [
        performance.judge(performance.score(rows, name=name, rng=rng), promised, min_rows=config.min_rows)
        for name, rows in performance.windows(own_frame, last=end, days=days, count=config.windows)
    ]
    taken = samples.take(
        panel, frame, window=window, reference=reference, rows=config.rows_sampled, rng=rng, earlier=earlier
    )
    drift = compare(taken, window=window, step_days=step, false_alarm=config.false_alarm, min_rows=config.min_rows)
    today = _today(decided, panel)
    findings = [*joined.findings, *taken.findings, *drift.findings]
    findings += counted(
        "other_weights",
        "note",
        "{count} decision(s) came from other weights than the champion's; decay is judged by its own",
        int(by_other_weights.sum()),
    )
    share_scored = _share_scored(recent, joined.unmatched, name=name, replay=replay, min_rows=config.min_rows)
    if share_scored < config.scored_share:
        text = (
            f"only {share_scored:.0%} of the newest decisions could be scored by sales ({config.scored_share:.0%} are "
            "expected): error and decay are about these alone; the other findings say what became of the rest"
        )
        findings.append(Finding("scored_few", "warning", text))
    if not replay:
        decayed = performance.decayed_categories(own_frame, last=end, days=days, config=config, rng_seed=SEED)
        findings += [Finding(CATEGORY, "warning", verdict.text, verdict.score.rows, name) for name, verdict in decayed]
    days_without_decisions, undecided_days = _idle(decided, panel), count_undecided(decided, panel)
    waited = days_without_decisions is not None and days_without_decisions > config.silent_days
    if waited or 0 < config.undecided_days <= undecided_days:
        findings.append(
            Finding(
                STOPPED,
                "warning",
                f"sales go on, the newest decision is {max(days_without_decisions or 0, undecided_days)} days older; "
                f"{look_at(log)}",
            )
        )
    if champion.trouble:
        findings.append(
            Finding("champion_unknown", "warning", f"the champion's backtest is unknown: {champion.trouble}")
        )
    if joined.frame.empty and len(decided) and not joined.waiting:
        level: Level = "breach" if decided["live"].any() else "warning"  # a replay calls nobody
        findings.append(Finding("nothing_joined", level, "no decision has met its sales: nothing can be scored"))
    if days > least:
        findings.append(_longer(verdicts[-1], days=days, least=least, config=config))
    order = {"breach": 0, "warning": 1, "note": 2}
    newest = performance.score(recent, name=name, rng=rng)
    findings += of_share("elasticity_unidentified", newest.share_unidentified, warn_above=config.fallback_share)
    findings += of_share("comp_price_stale", newest.share_comp_stale, warn_above=config.fallback_share)
    own = recent[~recent["model_version"].isin(champion.others)]
    return Evaluation(
        joined=replace(joined, frame=frame),
        newest=newest,
        own=newest if len(own) == len(recent) else performance.score(own, name=name, rng=np.random.default_rng(SEED)),
        by_category=performance.groups(recent, "category", rng=rng),
        verdicts=verdicts,
        drift=drift,
        span=taken.span,
        findings=sorted(findings, key=lambda finding: order[finding.level]),
        explanation=performance.explain(verdicts, drift.drifted("input")),
        days_without_sales=max(0, _days(today - last) - step + 1),
        days_without_decisions=days_without_decisions,
        undecided_days=undecided_days,
        state_age=None if champion.state_date is None else max(0, _days(max(today, last) - champion.state_date)),
        replay=replay,
        window_days=days,
        share_scored=share_scored,
    )


def _longer(newest: WindowVerdict, *, days: int, least: int, config: MonitoringConfig) -> Finding:
    """The finding on windows that are longer than configured, since few decisions can be scored.

    Few products are one cause; others are days that were not priced, sold out, or seen by the states before.
    """
    if newest.score.rows >= config.min_rows or days < config.score_window_most // least * least:
        text = (
            f"{least} days hold few decisions that can be scored, so {days} days are judged together, which hold "
            f"{config.min_rows}"
        )
        return Finding("window_longer", "note", text)
    text = (
        f"even {days} days hold fewer than {config.min_rows} scored decisions, so that nothing is judged: lower "
        "monitoring.min_rows, or look at the figures yourself"
    )
    return Finding("window_short", "note", text)


def drift_window(panel: Panel, config: MonitoringConfig) -> int:
    """The periods that drift looks at: as configured, or as many weeks more as hold enough rows in a small shop.

    Not more than a quarter of the reference, which must hold several windows.
    """
    step = STEP_DAYS[panel.period]
    least, week = max(1, config.window // step), 7 // step
    most = max(least, config.reference // step // LEAST_BLOCKS)
    per_period = panel.present[:, -most:].sum(axis=0)[::-1].cumsum()  # rows of the newest 1, 2, … periods
    enough = int(np.searchsorted(per_period, config.min_rows)) + 1
    if enough <= least or enough > most:
        return least
    return min(most, math.ceil(enough / week) * week)


def of_share(code: str, share: float, *, warn_above: float) -> list[Finding]:
    """Returns a finding on a share of answers; never a breach: prices go on."""
    if not share > 0:  # NaN where nothing was decided
        return []
    level: Level = "warning" if share > warn_above else "note"
    return [Finding(code, level, SHARES[code].format(share=share))]


def situation(evaluation: Evaluation, *, now: dt.datetime) -> Situation:
    """Extracts the facts that the rules decide on."""
    newest, drifted = evaluation.verdicts[-1], evaluation.drift.drifted("input")
    judged = [] if evaluation.replay else evaluation.verdicts
    return Situation(
        now=now,
        decayed=tuple(bool(verdict.breaches) if verdict.judged else None for verdict in judged),
        why="; ".join(breach.text for breach in newest.breaches),
        window_days=evaluation.window_days,
        drifted=None if drifted is None else tuple(drifted),
        state_age=evaluation.state_age,
        silent_days=evaluation.days_without_sales,
        idle_days=evaluation.days_without_decisions or 0,
        undecided_days=evaluation.undecided_days,
        share_rule=math.nan if evaluation.replay else evaluation.newest.share_rule,
        broken=tuple(finding.text for finding in evaluation.findings if finding.level == "breach"),
        broken_kinds=tuple(finding.kind for finding in evaluation.findings if finding.level == "breach"),
        unjudged=unjudged(evaluation),
        lost=tuple(finding.text for finding in evaluation.findings if finding.code == JOB_LOST),
    )


def unjudged(evaluation: Evaluation) -> str:
    """Why no window is judged, where more is known than that too few decisions have met their sales."""
    if evaluation.replay:
        return "every decision was made after the days it prices: a replay, which calls nobody and starts nothing"
    if not evaluation.joined.decisions:
        return "no price has been decided yet"
    if evaluation.joined.frame.empty and evaluation.joined.waiting:
        return f"all {evaluation.joined.waiting:,} decisions wait for their sales"
    return ""


def metrics(evaluation: Evaluation, *, backtest_wape: float) -> dict[str, float]:
    """Returns the metrics of an evaluation under their names in MLflow, CloudWatch and alarms; unknown ones are NaN."""
    score, own = evaluation.newest, evaluation.own
    return {
        "wape": own.wape.value,
        "wape_low": own.wape.low,
        "wape_high": own.wape.high,
        "wape_naive": own.earlier_weeks,
        "wape_to_backtest": own.wape.value / backtest_wape if backtest_wape > 0 else float("nan"),
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
        "days_since_sales": evaluation.days_without_sales,
        "days_since_decisions": float("nan")
        if evaluation.days_without_decisions is None
        else evaluation.days_without_decisions,
        "windows_in_breach": sum(bool(verdict.breaches) for verdict in evaluation.verdicts),
        "columns_drifted": sum(column.drifted for column in evaluation.drift.watched),
        "findings_in_breach": sum(finding.level == "breach" for finding in evaluation.findings),
        **{f"drift_{column.watched.column}": column.value for column in evaluation.drift.columns},
        **{f"drift_limit_{column.watched.column}": column.threshold.value for column in evaluation.drift.columns},
    }


def _share_scored(recent: pd.DataFrame, unmatched: pd.DataFrame, *, name: str, replay: bool, min_rows: int) -> float:
    first, last = (pd.Timestamp(day) for day in name.split(" to "))
    lost = unmatched["period"].between(first, last) & (replay | unmatched["live"].astype(bool))
    expected = int(recent["scorable"].sum()) + int(lost.sum())
    return float(recent["scored"].sum()) / expected if expected >= min_rows else math.nan


def _today(decisions: pd.DataFrame, panel: Panel) -> np.datetime64:
    """Returns the newest day on which a live decision was made; the panel's last day without any."""
    live = decisions[decisions["live"]]
    if live.empty:
        return np.datetime64(panel.dates[-1], "D")
    return _day(live["at"].dt.tz_localize(None).max())


def _idle(decisions: pd.DataFrame, panel: Panel) -> int | None:
    """Returns the days from the newest day decided for to the newest sales, less the panel's period.

    A decision made in advance counts for the day it was made on, so that a price for next month hides no outage.
    """
    live = decisions[decisions["live"]]
    if live.empty:
        return None
    made = live["at"].dt.tz_localize(None)
    newest = _day(live["date"].where(live["date"] < made, made).max())
    return max(0, _days(panel.dates[-1] - newest) - STEP_DAYS[panel.period] + 1)


def count_undecided(decisions: pd.DataFrame, panel: Panel) -> int:
    """Returns the days since the newest decision on which one was due, whole periods of the panel.

    That is a day on which the shop sold anything, and on whose weekday it has decided within the four weeks before: a
    shop that is closed, or that decides on some weekdays only, misses nothing. Of a week only sales are asked. A
    decision made the period before counts for the day that it prices, one made earlier for the day it was made on.
    """
    live, step = decisions[decisions["live"]], STEP_DAYS[panel.period]
    if live.empty:
        return 0
    made = live["at"].dt.tz_localize(None).dt.normalize()
    soon = live["date"] - made <= pd.Timedelta(days=step)
    decided = np.unique(live["date"].where(soon, made).to_numpy().astype("datetime64[D]"))
    sold = (np.nan_to_num(panel.units_sold) > 0).any(axis=0)
    missed = panel.dates[sold & (panel.dates > decided[-1])]
    if step == 1:
        usual = decided[decided > decided[-1] - np.timedelta64(LOOKED_BACK, "D")]
        missed = missed[np.isin(_weekday(missed), _weekday(usual))]
    return len(missed) * step


def _weekday(days: Days) -> Ints:
    return days.astype("datetime64[D]").astype(np.int64) % 7


def look_at(log: str) -> str:
    """Tells what to look at where a live shop's decisions do not come."""
    return (
        f"look whether decisions still arrive in {log}, whether the serving tasks are ready (/health/ready), and "
        "whether the shop's API key is taken (answers 401 and 403 in /metrics); where a batch decides, whether it ran"
    )


def _day(moment: pd.Timestamp) -> np.datetime64:
    day: np.datetime64 = moment.to_datetime64().astype("datetime64[D]")
    return day


def _days(span: np.timedelta64) -> int:
    return int(span // np.timedelta64(1, "D"))
