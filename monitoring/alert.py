"""Compose the alert of a run for people, and send its figures to CloudWatch for alarms."""

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import takewhile

from monitoring.evaluate import Evaluation
from monitoring.launch import ActionResult
from monitoring.policy import PolicyOutcome
from pricing.config_models import MonitoringConfig, Severity
from pricing.errors import DeliveryError
from pricing.runtime.alerts import Alert

CRITICAL_OFF = 0.5  # from so far off an alert of decay is critical, from half of it a warning: see `WindowVerdict.off`
MEND_SALES = (
    "Until then nothing is retrained and no states are carried forward: prices go on from the last good version."
)
TOLD = "scored_few"  # the finding that goes out as an alert although it asks the rules for nothing


def compose(
    outcome: PolicyOutcome, result: ActionResult, *, evaluation: Evaluation, todo: Sequence[str] = ()
) -> Alert | None:
    """Builds the alert for an outcome and what a person has to do about it; None when there is nothing to report."""
    told = [finding for finding in evaluation.findings if finding.check == TOLD]
    calm = outcome.action == "none" and outcome.cause == "nothing"
    if calm and not result.failures and not told:
        return None

    key = f"{outcome.fault or outcome.cause}-{outcome.action}"
    if outcome.cause == "drift":
        key += f"-{'+'.join(evaluation.drift.drifted('input') or ())}"
    newest = evaluation.verdicts[-1]
    moved = [column.text for column in evaluation.drift.watched if column.drifted]
    steps = [*todo, MEND_SALES] if outcome.doubts_sales else todo
    return Alert(
        key=TOLD if calm and told else key,
        severity=_severity(outcome, result, told=bool(told), off=0.0 if evaluation.replay else newest.off),
        what=told[0].sentence if calm and told else outcome.reason,
        since=_since(evaluation),
        how_bad="; ".join([newest.text, *moved]),
        done="; ".join([result.text, *result.failures]),
        todo=". ".join(steps) or "Nothing.",
        job="monitor",
        findings=tuple(one for one in evaluation.findings if one.level == "breach" or one.check == TOLD),
    )


def _since(evaluation: Evaluation) -> dt.date:
    """Returns the first day of the first window of those in breach without a break, or else of the newest."""
    since = evaluation.verdicts[-1]
    for verdict in takewhile(lambda verdict: verdict.breaches, reversed(evaluation.verdicts)):
        since = verdict
    return since.score.days[0]


def _severity(outcome: PolicyOutcome, result: ActionResult, *, told: bool, off: float) -> Severity:
    """The severity by what is asked of a person, or by how far off the forecasts are: whichever is worse."""
    if outcome.action == "page" or result.failures or off >= CRITICAL_OFF:
        return "critical"
    if told or off >= CRITICAL_OFF / 2:
        return "warning"
    quiet = outcome.cause == "drift" or (outcome.cause == "stale" and not result.by_hand)
    return "info" if outcome.action == "none" or quiet else "warning"


def send_metrics(metrics: Mapping[str, float], config: MonitoringConfig, *, model: str, now: dt.datetime) -> list[str]:
    """Sends metrics to CloudWatch where `monitoring.metrics` lists it, under the names that MLflow and the alarms know.

    Returns:
        What went wrong.
    """
    if "cloudwatch" not in config.metrics:
        return []
    from pricing.runtime import aws  # noqa: PLC0415

    data = [
        {"MetricName": name, "Value": value, "Timestamp": now, "Dimensions": [{"Name": "Model", "Value": model}]}
        for name, value in metrics.items()  # some sixty; a call takes a thousand
    ]
    try:
        with aws.translated_errors("cloudwatch", "put_metric_data"):
            aws.client("cloudwatch").put_metric_data(Namespace=config.endpoints.namespace, MetricData=data)
    except DeliveryError as error:
        return [str(error)]
    return []
