"""Say what a person has to do: what, why, and the command to type. Pure: starts, reads and writes nothing."""

from dataclasses import dataclass

from monitoring.actions import ActionResult
from monitoring.evaluate import Evaluation
from monitoring.policy import PolicyOutcome
from pricing.runtime.cli import CommandLine


@dataclass(frozen=True)
class Task:
    """One thing to do: what, why, and the commands to type one after the other, which may be none."""

    what: str
    why: str
    commands: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Tells what to do and how, in one line."""
        return self.what + (f": {' && '.join(self.commands)}" if self.commands else "")


def tasks(
    evaluation: Evaluation,
    outcome: PolicyOutcome,
    result: ActionResult,
    *,
    line: CommandLine,
) -> list[Task]:
    """Lists what a person has to do, most urgent first; empty where that is nothing."""
    found: dict[str, Task] = {}
    for code, why in _matters(evaluation, outcome):
        found.setdefault(code, _task(code, why, line))
    todo = list(found.values())
    if outcome.action == "page" and outcome.cause == "decay":
        todo.insert(0, Task("See why retraining does not mend it", outcome.reason, (line.job("history", all="true"),)))
    if result.failures and not result.by_hand:
        todo.insert(0, Task("Look at the job that failed", "; ".join(result.failures)))
    if result.by_hand and outcome.action in _DUE:
        commands = line.job(outcome.action), line.job("promote")
        todo.insert(0, Task(_DUE[outcome.action], outcome.reason, commands))
    if evaluation.joined.frame.empty and evaluation.joined.waiting:
        why = f"{evaluation.joined.waiting:,} decision(s) wait for their sales, and nothing else can be compared yet"
        what = f"Look again when the sales of {evaluation.joined.waiting_for} are in"
        todo.append(Task(what, why, (line.job("monitor"),)))
    return todo


_DUE = {
    "retrain": "Train a new model, and promote it",
    "refresh": "Carry the model forward to the newest sales, and promote it",
}
_WHAT = {
    "sales_stopped": "Bring in the newest sales, then look again",
    "decisions_stopped": "Find out why nothing is decided: do decisions still arrive in the log, are the serving tasks "
    "ready, is the shop's API key taken? Or decide prices by this; where they are decided more rarely, raise "
    "monitoring.undecided_days and monitoring.silent_days",
    "answers_by_rule": "Find out why the model does not answer",
    "job_hangs": "End the job that hangs; its log lies in monitoring/jobs under PRICING_HOME",
    "log_empty": "Restore the folder of the decision log, or have prices decided again, by this or by the service; see "
    "whether PRICING_DECISIONS_URL names where decisions go, and whether tasks are ready",
    "no_decisions": "Have prices decided and charge them, by this or by the service; look again when they have sold",
    "nothing_joined": "Compare product ids and days of the sales with those of the decisions",
    "product_unknown": "Compare the product ids of the shop with those of the sales",
    "column_empty": "Mend the source of this column in the sales",
    "column_emptier": "Look at the source of this column in the sales",
    "champion_unknown": "Train and promote a version, or mend the way to the registry",
    "log_damaged": "Look at the first damaged line, which the job's log names",
    "clock_ahead": "Set the clock of the machine that decides",
    "clock_back": "Set the clock of the machine that decides",
    "truth_partial": "Look again when that day's sales are complete",
    "elasticity_unidentified": "Test prices on some products, so that how demand answers to them becomes known",
    "job_lost": "Look at the job where it ran: did it make a version? Then look again",
    "category_decayed": "Look at what changed in this category; where it lasts, train a new model",
    "scored_few": "Find out why decisions meet no sales, or have no forecast at the price charged",
    "job_failed": "Look at the run of the job that failed",
}


def _matters(evaluation: Evaluation, outcome: PolicyOutcome) -> list[tuple[str, str]]:
    """Returns code and reason of what is wrong: the fault that the rules found, then findings that can be acted on."""
    first = [(outcome.fault, outcome.reason)] if outcome.fault in _WHAT else []
    findings = sorted(evaluation.findings, key=lambda one: one.level != "breach" and one.code != "champion_unknown")
    actionable = [one for one in findings if one.level == "breach" or (one.level == "warning" and one.code in _WHAT)]
    return first + [(one.code if one.code in _WHAT else one.kind, one.text) for one in actionable]


def _task(code: str, why: str, line: CommandLine) -> Task:
    price, again = line.job("price", applied="true"), line.job("monitor")
    commands = {
        "sales_stopped": (again,),
        "decisions_stopped": (price,),
        "answers_by_rule": (line.job("doctor"),),
        "log_empty": (price,),
        "no_decisions": (price,),
        "category_decayed": (line.job("retrain"),),
        "champion_unknown": (line.job("train"), line.job("promote")),
        "truth_partial": (again,),
        "elasticity_unidentified": (line.job("experiment plan", name="first", draw="0.2", weeks="26"),),
    }
    return Task(_WHAT.get(code, "Look at what is named"), why, commands.get(code, ()))
