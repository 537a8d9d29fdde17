"""Decide when to refresh, retrain or call a person. Pure rules: no clock, no files, no MLflow."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from pricing.config_models import SCORE_WINDOWS, MonitoringConfig
from pricing.data.findings import Finding

Action = Literal["none", "refresh", "retrain", "page"]
Cause = Literal["fault", "decay", "drift", "stale", "nothing"]
BREACHES = 2  # score windows in breach, of SCORE_WINDOWS and the newest among them, before anything is done
MAX_STATE_AGE = 28  # days after which states are stale: as long as their forecasts reach
DAILY_BUDGET = 2  # refreshes and retrainings started in a day, at most: one that fails may be repeated once
JOB_LOST = "job_lost"  # a job that was given up since nothing tells how it ended
STOPPED = "decisions_stopped"
# Faults with which pricing, once it is live, does not decide or leaves no trace of it: the run that finds one fails.
SILENT = frozenset({STOPPED, "log_empty"})
# Faults that do not put the sales in doubt: states may still be refreshed with them.
SALES_ARE_FINE = frozenset({*SILENT, "answers_by_rule", JOB_LOST})
REQUESTS = "-request_"  # in the code of a fault of what requests name, which is not in the sales


@dataclass(frozen=True)
class JobHistory:
    """Earlier refreshes and retrainings."""

    started_today: int = 0
    retrained: dt.datetime | None = None  # start of the last successful retraining
    refreshed: dt.datetime | None = None  # start of the last refresh against decay
    running_since: dt.datetime | None = None  # start of a job that still runs
    failed: int = 0  # retrainings since the last success
    failures: tuple[tuple[dt.datetime, dt.datetime], ...] = ()  # start and end of those that monitoring started


@dataclass(frozen=True)
class Situation:
    """Current facts that the rules decide on."""

    decayed: tuple[bool | None, ...]  # one per score window, newest last: in breach, not, or not judged
    why: str  # the newest breach
    window_days: int  # per score window; more than configured in a shop of few decisions
    drifted: tuple[str, ...] | None  # inputs; None when none could be compared
    state_age: int | None  # days since the last day in the champion's states; None when unknown
    silent_days: int  # with decisions but without sales
    share_rule: float  # of answers by rule in the newest window; NaN without decisions
    idle_days: int | None = None  # with sales but without decisions; None when the log has no live decision
    undecided_days: int = 0  # since the newest decision on which one was due: the shop sold, and usually decides
    broken: tuple[Finding, ...] = ()  # data faults, such as a column that is suddenly empty
    lost: tuple[str, ...] = ()  # jobs that this run gave up, since nothing tells how they ended
    unjudged: str = ""  # why no window is judged, where more is known than that too few decisions met their sales


@dataclass(frozen=True)
class PolicyOutcome:
    """Decision of the rules."""

    action: Action
    reason: str
    cause: Cause
    fault: str = ""  # its codes, joined by "+"; empty unless the cause is "fault"

    @property
    def silent(self) -> bool:
        """True when pricing has been live and no decision has come of it."""
        return self.cause == "fault" and not SILENT.isdisjoint(self.fault.split("+"))

    @property
    def doubts_sales(self) -> bool:
        """True when the sales may be wrong, so that neither states nor weights should be updated with them."""
        about_sales = [kind for kind in self.fault.split("+") if kind not in SALES_ARE_FINE and REQUESTS not in kind]
        return self.cause == "fault" and bool(about_sales)


def decide(seen: Situation, past: JobHistory, rules: MonitoringConfig, *, now: dt.datetime) -> PolicyOutcome:
    """Decides on one action. The first rule that applies wins, in this order.

    1. Faults of data or serving call a person: retraining on faulty data would make the model worse.
    2. While a job runs nothing is started; one that ran for too long was given up, which is a fault.
    3. Lasting decay: a refresh when the states do not include the decayed days, then a wait of one window; otherwise,
       or when the states are still old after it, a retraining. Within the cooldown of a retraining nothing; when a
       retraining did not help, or two failed, a person.
    4. Stale states, or drifted inputs without decay: a refresh.
    Starts are limited by the daily budget.
    """
    fault, words = _fault(seen, rules)
    if fault:
        return PolicyOutcome("page", words, "fault", fault=fault)
    breached = sum(window is True for window in seen.decayed[-SCORE_WINDOWS:])
    newest = bool(seen.decayed) and seen.decayed[-1] is True
    lasting = newest and breached >= BREACHES
    if past.running_since is not None:
        since = f"a job is running since {past.running_since:%Y-%m-%d %H:%M}"
        return PolicyOutcome("none", f"{since}; nothing else is started", "decay" if lasting else "nothing")
    outcome = (
        _against_decay(seen, past, rules, now=now, breached=breached)
        if lasting
        else _upkeep(seen, breached if newest else 0)
    )
    if outcome.action in ("refresh", "retrain") and past.started_today >= DAILY_BUDGET:
        spent = f"{outcome.reason}; but today's budget of {DAILY_BUDGET} starts is used up"
        return PolicyOutcome("none", spent, outcome.cause)
    return outcome


def _fault(seen: Situation, rules: MonitoringConfig) -> tuple[str, str]:
    """Returns the code of the first fault, empty when there is none, and its description."""
    if seen.silent_days > rules.silent_days:
        feed = f"decisions go on, but no sales have come for {seen.silent_days} days: the feed of sales has stopped"
        return "sales_stopped", feed
    idle = (seen.idle_days or 0) > rules.silent_days
    if idle or 0 < rules.undecided_days <= seen.undecided_days:
        days = f"{seen.undecided_days} day(s) on which the shop sold and usually decides"
        days = f"{seen.idle_days} days, and sales go on" if idle else days
        return STOPPED, f"nothing has been decided for {days}: serving, batch pricing or their log has stopped"
    if seen.broken:
        texts = "; ".join(finding.sentence for finding in seen.broken)
        kinds = "+".join(sorted({finding.kind for finding in seen.broken}))
        return kinds, f"the data are at fault, not the model: {texts}"
    if seen.lost:
        return JOB_LOST, "; ".join(seen.lost)
    if seen.share_rule > rules.fallback_share:
        by_rule = f"{seen.share_rule:.0%} of answers come from the rule and not from the model"
        return "answers_by_rule", f"{by_rule}: look at serving's log and at the confidence threshold"
    return "", ""


def _against_decay(
    seen: Situation, past: JobHistory, rules: MonitoringConfig, *, now: dt.datetime, breached: int
) -> PolicyOutcome:
    what = f"{seen.why} ({breached} of the last {min(SCORE_WINDOWS, len(seen.decayed))} windows in breach)"
    if past.failed >= 2:
        return PolicyOutcome("page", f"{what}, and the last {past.failed} retrainings failed: see their runs", "decay")
    if past.retrained is not None:
        days = (now - past.retrained).days
        if days < rules.cooldown:
            wait = f"{what}; retrained {days} days ago, the next one may start after {rules.cooldown}"
            return PolicyOutcome("none", wait, "decay")
        if days < SCORE_WINDOWS * seen.window_days + rules.cooldown:
            doubt = "its model was not promoted, or does not mend it"
            return PolicyOutcome("page", f"{what}, although retrained {days} days ago: {doubt}", "decay")
    tried = False
    if past.refreshed is not None:
        days = (now - past.refreshed).days
        if days < seen.window_days:
            day = f"{past.refreshed:%Y-%m-%d}"
            wait = f"{what}; states were carried forward on {day}, a whole window since then is needed"
            return PolicyOutcome("none", wait, "decay")
        # States at least as old as the refresh: it was not promoted, or they have aged again. It did not help.
        tried = days <= (seen.state_age or 0)
    if seen.state_age is not None and seen.state_age >= seen.window_days and not tried:
        return PolicyOutcome("refresh", f"{what}; the states are {seen.state_age} days old, so they go first", "decay")
    return PolicyOutcome("retrain", what, "decay")


def _upkeep(seen: Situation, breached: int) -> PolicyOutcome:
    names = ", ".join(seen.drifted or ())
    judged = any(window is not None for window in seen.decayed)
    hold = "forecasts hold" if judged else "whether forecasts hold is unknown"
    if seen.state_age is not None and seen.state_age > MAX_STATE_AGE:
        old = f"the states are {seen.state_age} days old, stale after {MAX_STATE_AGE}"
        return PolicyOutcome("refresh", old, "stale")
    if breached:
        few = f"{seen.why}, but in {breached} window only; {BREACHES} are needed"
        return PolicyOutcome("none", few, "decay")
    if seen.drifted and seen.state_age:
        return PolicyOutcome("refresh", f"inputs drifted ({names}), {hold}: states go forward, weights stay", "drift")
    if seen.drifted:
        return PolicyOutcome("none", f"inputs drifted ({names}), {hold}; there are no newer states to go to", "drift")
    if not judged:
        why = seen.unjudged or "too few decisions have met their sales"
        return PolicyOutcome("none", f"no window could be judged yet: {why}", "nothing")
    drift = "whether inputs drifted is unknown" if seen.drifted is None else "no input drifted"
    return PolicyOutcome("none", f"forecasts hold what their backtest promised; {drift}", "nothing")
