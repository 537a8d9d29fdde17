"""Alarms: what callers get, what the service says of itself, what monitoring finds; each tells the topic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from aws_cdk import Duration
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from deploy.environment import ROOT, Environment
from deploy.figures import figure
from deploy.foundation import Foundation
from deploy.platform import alarm_name, described, merged, model_name, namespace, platform_settings
from deploy.service import Service

DEFAULTS = ROOT / "config" / "default.yaml"
DAY_SECONDS = 86_400  # how often monitoring measures
SILENT_SECONDS = 120
WAITING_SEGMENTS = 10  # of half a minute each
COMPARE, TREAT = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData


@dataclass(frozen=True)
class Watched:
    """One alarm on what the service's tasks say of themselves.

    Attributes:
        name: Its name, after the environment's.
        what: What it means when it goes off.
        metric: What it looks at.
        limit: Beyond which it goes off.
        periods: In a row.
        below: Whether it goes off below the limit instead of above.
        missing: Whether no value at all sets it off.
    """

    name: str
    what: str
    metric: cloudwatch.IMetric
    limit: float
    periods: int = 3
    below: bool = False
    missing: bool = False


def of_the_service(environment: Environment) -> list[Watched]:
    """The alarms on the service's own figures."""
    watch, hour = environment.watch, 60

    def of(name: str, statistic: str = "Maximum", **how: Any) -> cloudwatch.Metric:
        return figure(environment, name, statistic, **how)

    by_rule = cloudwatch.MathExpression(
        expression="IF(decisions > 0, FILL(rule, 0) / decisions, 0)",
        using_metrics={
            "rule": of("pricing_decisions_total", "Sum", source="rule"),
            "decisions": of("pricing_decisions_total", "Sum"),
        },
        period=Duration.minutes(5),
        label="share by rule",
    )
    return [
        Watched(
            "answers-by-rule",
            f"more than {watch.rule_share:.0%} of answers come from rules and not from the model",
            by_rule,
            limit=watch.rule_share,
        ),
        Watched(
            "confidence-low",
            f"the mean confidence of answers is below {watch.confidence:g}",
            of("pricing_confidence", "Average"),
            limit=watch.confidence,
            periods=6,
            below=True,
        ),
        Watched(
            "state-old",
            f"the model's states are older than {watch.state_age_days} days: no refresh was promoted",
            of("pricing_state_age_days"),
            limit=watch.state_age_days,
        ),
        Watched(
            "decisions-stopped",
            f"nothing was priced for {watch.silent_hours} hours, or figures do not come",
            of("pricing_decisions_total", "Sum", minutes=hour),
            limit=1,
            periods=watch.silent_hours,
            below=True,
            missing=True,
        ),
        Watched(
            "version-refused",
            "a task refuses a published version: it is damaged, foreign, or prices otherwise than when it was packed",
            of("pricing_refused_versions"),
            limit=0,
        ),
        Watched(
            "follower-blind",
            "a task does not reach what is published, or refuses it: the last version goes on",
            of("pricing_published_silence_seconds"),
            limit=SILENT_SECONDS,
        ),
        Watched(
            "model-failed",
            "the model's answer failed, and a rule gave the price instead",
            of("pricing_edge_fallbacks_total", "Sum"),
            limit=0,
            periods=1,
        ),
        Watched("decisions-lost", "decisions were dropped", of("pricing_log_dropped"), limit=0, periods=1),
        Watched("log-failing", "the decision log cannot be written", of("pricing_log_failing"), limit=0, periods=2),
        Watched(
            "log-upload-late",
            "five minutes of a task's decisions wait for the log's store, and monitoring does not see them",
            of("pricing_log_waiting"),
            limit=WAITING_SEGMENTS,
            periods=2,
        ),
    ]


def of_monitoring(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The alarms of the configuration `monitoring.alarms`, as `pricing alarms` makes them.

    Args:
        settings: The configuration that is laid over config/default.yaml.
    """
    defaults = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    whole = merged(defaults, settings)
    model, monitoring = whole["registry"]["model_name"], whole["monitoring"]
    return {
        name: {
            "metric": alarm["metric"],
            "above": alarm.get("below") is None,
            "limit": alarm["above"] if alarm.get("below") is None else alarm["below"],
            "days": alarm.get("days", 1),
            "missing": alarm.get("missing", "missing"),
            "model": model,
            "namespace": monitoring["endpoints"]["namespace"],
        }
        for name, alarm in monitoring["alarms"].items()
    }


class Alarms(Construct):
    """Every alarm, and the topic that each tells when it goes off and when it is over.

    Attributes:
        all: In the order of their gravity.
    """

    def __init__(
        self, scope: Construct, name: str, *, base: Foundation, service: Service, undelivered: sqs.IQueue
    ) -> None:
        super().__init__(scope, name)
        self._base, self._environment = base, base.environment_
        named = [
            cloudwatch.Alarm.from_alarm_arn(self, f"Of{place}", alarm.alarm_arn)
            for place, alarm in enumerate(service.rollback)
        ]
        told = actions.SnsAction(base.topic)
        for alarm in service.rollback:
            alarm.add_alarm_action(told)
            alarm.add_ok_action(told)
        made = [self._of_service(watched) for watched in of_the_service(self._environment)]
        made += [self._of_monitoring(key, one) for key, one in self._monitored().items()]
        made.append(self._undelivered(undelivered))
        if self._environment.nightly.enabled:
            made.append(self._nightly_silent())
        for alarm in made:
            alarm.add_alarm_action(told)
            alarm.add_ok_action(told)
        self.all: list[cloudwatch.IAlarm] = [*named, *made]
        self._failed_jobs()

    def _monitored(self) -> dict[str, dict[str, Any]]:
        topic, bus = self._base.topic.topic_arn, self._base.bus.event_bus_name
        return of_monitoring(platform_settings(self._environment, topic=topic, bus=bus))

    def _of_service(self, one: Watched) -> cloudwatch.Alarm:
        missing = TREAT.BREACHING if one.missing else TREAT.NOT_BREACHING
        return self._alarm(one.name, one.what, one.metric, one.limit, one.periods, below=one.below, missing=missing)

    def _of_monitoring(self, name: str, alarm: Mapping[str, Any]) -> cloudwatch.Alarm:
        above, limit, days = alarm["above"], alarm["limit"], alarm["days"]
        beyond = f"{'above' if above else 'below'} {limit:g}"
        return self._alarm(
            f"monitoring-{name.replace('_', '-')}",
            f"monitoring.alarms.{name}: {alarm['metric']} {beyond}, {days} days in a row",
            cloudwatch.Metric(
                namespace=alarm["namespace"],
                metric_name=alarm["metric"],
                dimensions_map={"Model": alarm["model"]},
                statistic="Maximum" if above else "Minimum",
                period=Duration.seconds(DAY_SECONDS),
            ),
            limit,
            days,
            below=not above,
            missing=TREAT.BREACHING if alarm["missing"] == "breaching" else TREAT.MISSING,
        )

    def _undelivered(self, queue: sqs.IQueue) -> cloudwatch.Alarm:
        return self._alarm(
            "jobs-not-started",
            "the nightly schedule, or an event of monitoring, could not start its task",
            queue.metric_approximate_number_of_messages_visible(period=Duration.minutes(5), statistic="Maximum"),
            0,
            1,
        )

    def _nightly_silent(self) -> cloudwatch.Alarm:
        """Goes off an hour or two after a night that did not come: every night measures how many decisions it read."""
        hours = self._environment.watch.night_hours
        return self._alarm(
            "nightly-silent",
            f"no night has measured anything for {hours} hours",
            cloudwatch.Metric(
                namespace=namespace(self._environment),
                metric_name="decisions",
                dimensions_map={"Model": model_name(self._environment)},
                statistic="SampleCount",
                period=Duration.hours(1),
            ),
            1,
            hours,
            below=True,
            missing=TREAT.BREACHING,
        )

    def _alarm(
        self,
        name: str,
        what: str,
        metric: cloudwatch.IMetric,
        limit: float,
        periods: int,
        *,
        below: bool = False,
        missing: cloudwatch.TreatMissingData = TREAT.NOT_BREACHING,
    ) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            _logical(name),
            alarm_name=alarm_name(self._environment, name),
            alarm_description=described(self._environment, name, what),
            metric=metric,
            threshold=limit,
            evaluation_periods=periods,
            comparison_operator=COMPARE.LESS_THAN_THRESHOLD if below else COMPARE.GREATER_THAN_THRESHOLD,
            treat_missing_data=missing,
        )

    def _failed_jobs(self) -> None:
        """Tells the topic of tasks of jobs that ended with a code other than 0, or never began."""
        families = [f"family:pricing-{self._environment.name}-{job}" for job in self._environment.jobs]
        events.Rule(
            self,
            "FailedJobs",
            description="Tasks of jobs that failed",
            event_pattern=events.EventPattern(
                source=["aws.ecs"],
                detail_type=["ECS Task State Change"],
                detail={
                    "clusterArn": [self._base.cluster.cluster_arn],
                    "group": families,
                    "lastStatus": ["STOPPED"],
                    "$or": [
                        {"containers": {"exitCode": [{"anything-but": 0}]}},
                        {"stopCode": ["TaskFailedToStart"]},
                    ],
                },
            ),
            targets=[
                targets.SnsTopic(
                    self._base.topic,
                    message=events.RuleTargetInput.from_text(
                        f"Pricing {self._environment.name}: a task of {events.EventField.from_path('$.detail.group')} "
                        f"failed: {events.EventField.from_path('$.detail.stoppedReason')}. Its log is in "
                        f"/pricing/{self._environment.name}/jobs."
                    ),
                )
            ],
        )


class Budget(Construct):
    """Tells when a month costs more than was meant: at 80 % spent, and where all of it is forecast to be."""

    def __init__(self, scope: Construct, name: str, *, base: Foundation) -> None:
        super().__init__(scope, name)
        environment = base.environment_
        to = [budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=base.topic.topic_arn)]
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=f"pricing-{environment.name}",
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=environment.watch.budget_usd, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:pricing:environment${environment.name}"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=threshold,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=to,
                )
                for kind, threshold in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )


def _logical(name: str) -> str:
    return "".join(part.capitalize() for part in name.replace("_", "-").split("-"))
