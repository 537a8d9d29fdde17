"""List what a person has to do after a run, most urgent first, with the commands that do it."""

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.evaluate import Evaluation
from monitoring.launch import ActionResult
from monitoring.policy import PolicyOutcome
from pricing.runtime.cli import command_line


@dataclass(frozen=True)
class Task:
    """One thing to do: what, why, and the commands to type one after the other, which may be none."""

    what: str
    why: str
    commands: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Returns what to do and how, in one line."""
        return self.what + (f": {' && '.join(self.commands)}" if self.commands else "")


_DUE = {
    "retrain": "Train a new model, and promote it",
    "refresh": "Carry the model forward to the newest sales, and promote it",
}
_WHAT: dict[str, tuple[str, ...]] = {  # check of a finding, or a fault: what to do, and the jobs that do it
    "sales_stopped": ("Bring in the newest sales, then look again", "monitor"),
    "decisions_stopped": (
        "Find out why nothing is decided: do decisions still arrive in the log, are serving tasks ready, is the API "
        "key taken? Or decide by this; if that is rarer, raise monitoring.undecided_days and monitoring.silent_days",
        "price",
    ),
    "answers_by_rule": ("Find out why the model does not answer", "doctor"),
    "log_empty": (
        "Restore the decision log (PRICING_DECISIONS_URL), or have prices decided again, by this or by the service",
        "price",
    ),
    "no_decisions": ("Have prices decided and charge them; look again when they have sold", "price"),
    "nothing_joined": ("Compare product ids and days of the sales with those of the decisions",),
    "product_unknown": ("Compare the product ids of the shop with those of the sales",),
    "column_empty": ("Mend the source of this column in the sales",),
    "column_emptier": ("Look at the source of this column in the sales",),
    "champion_unknown": ("Train and promote a version, or mend the way to the registry", "train", "promote"),
    "log_damaged": ("Look at the first damaged line, which the job's log names",),
    "clock_ahead": ("Set the clock of the machine that decides",),
    "elasticity_unidentified": ("Test prices on products whose elasticity is unknown", "experiment plan"),
    "job_lost": (
        "Look at the job where it ran, a local one's log in PRICING_HOME/monitoring/jobs: is there a version?",
    ),
    "scored_few": ("Find out why decisions meet no sales, or have no forecast at the price charged",),
}
_OPTIONS = {
    "price": {"applied": "true"},
    "experiment plan": {"name": "first", "draw": "0.2", "weeks": "26"},
    "history": {"all": "true"},
}


def tasks(
    evaluation: Evaluation, outcome: PolicyOutcome, result: ActionResult, *, given: Mapping[str, str]
) -> list[Task]:
    """Lists what a person has to do, most urgent first; empty where that is nothing."""

    def task(what: str, why: str, *jobs: str) -> Task:
        return Task(what, why, tuple(command_line(job, given, **_OPTIONS.get(job, {})) for job in jobs))

    todo = []
    if result.by_hand and outcome.action in _DUE:
        todo.append(task(_DUE[outcome.action], outcome.reason, outcome.action, "promote"))
    if result.failures and not result.by_hand:
        todo.append(task("Look at the job that failed", "; ".join(result.failures)))
    if outcome.action == "page" and outcome.cause == "decay":
        todo.append(task("See why retraining does not mend it", outcome.reason, "history"))
    for check, why in _matters(evaluation, outcome).items():
        what, *jobs = _WHAT.get(check, ("Look at what is named",))
        todo.append(task(what, why, *jobs))
    joined = evaluation.joined
    if joined.frame.empty and joined.waiting:
        why = f"{joined.waiting:,} decision(s) wait for their sales, and nothing else can be compared yet"
        todo.append(task(f"Look again when the sales of {joined.waiting_for} are in", why, "monitor"))
    return todo


def _matters(evaluation: Evaluation, outcome: PolicyOutcome) -> dict[str, str]:
    """Returns the faults and findings on which a person can act, each once, with its reason: breaches first."""
    matters = {outcome.fault: outcome.reason} if outcome.fault in _WHAT else {}
    urgent = sorted(evaluation.findings, key=lambda one: one.level != "breach" and one.check != "champion_unknown")
    for finding in urgent:
        known = finding.check in _WHAT
        if finding.level == "breach" or (finding.level == "warning" and known):
            matters.setdefault(finding.check if known else finding.kind, finding.sentence)
    return matters
