"""The last stack: alarms, one page that shows what goes on, mails of failed jobs, and the budget."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aws_cdk import Duration, Fn, Stack
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from deploy.environment import DeploymentError, Environment
from deploy.foundation import Foundation
from deploy.jobs import Jobs
from deploy.tracking import Tracking

FOLDER = Path(__file__).resolve().parent
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "alarms.yaml").read_text(encoding="utf-8"))
ROLLBACK = [name for name, row in TABLE.items() if row.get("rollback")]
MISSING = {
    "breaching": cloudwatch.TreatMissingData.BREACHING,
    "missing": cloudwatch.TreatMissingData.MISSING,
    "notBreaching": cloudwatch.TreatMissingData.NOT_BREACHING,
}


class Place(NamedTuple):
    """Where CloudWatch has figures of something: a namespace, and the dimensions there."""

    namespace: str
    dimensions: dict[str, str]


Places = dict[str, Place]  # by their word in the table


def alarm_name(environment: Environment, name: str) -> str:
    """The name of an alarm, the same in every stack."""
    return f"pricing-{environment.name}-{name}"


def alarm(scope: Construct, name: str, *, base: Foundation, places: Places) -> cloudwatch.Alarm:
    """Makes an alarm of the table, which notifies the topic when it goes off and when it is over."""
    row = TABLE[name]
    environment = base.environment_
    period = Duration.minutes(row.get("minutes", 5))

    def metric(words: str) -> cloudwatch.Metric:
        place, figure, *labels = words.split()
        return cloudwatch.Metric(
            namespace=places[place].namespace,
            metric_name=figure,
            dimensions_map={**places[place].dimensions, **dict(label.split("=") for label in labels)},
            statistic=row.get("statistic", "Maximum"),
            period=period,
        )

    if "expression" in row:
        figures = {key: metric(words) for key, words in row["of"].items()}
        measured: cloudwatch.IMetric = cloudwatch.MathExpression(
            expression=row["expression"], using_metrics=figures, period=period, label=name
        )
    else:
        measured = metric(row["of"])
    if "below" in row:
        limit = row["below"]
        operator = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
    else:
        limit = row["above"]
        operator = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
    made = cloudwatch.Alarm(
        scope,
        "".join(part.capitalize() for part in name.split("-")),
        alarm_name=alarm_name(environment, name),
        alarm_description=f"{row['what']}; what to do: {environment.watch.guide}#{name}",
        metric=measured,
        threshold=environment.serving.most - 1 if limit == "most" else limit,
        evaluation_periods=row["times"],
        comparison_operator=operator,
        treat_missing_data=MISSING[row.get("missing", "notBreaching")],
    )
    topic = actions.SnsAction(base.pager if row.get("pager") else base.topic)
    made.add_alarm_action(topic)
    made.add_ok_action(topic)
    return made


class Watch(Stack):
    """Every alarm but those that take deployments back, dashboard, mails of failed jobs, and the budget."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        tracking: Tracking,
        jobs: Jobs,
        places: Places,
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        self._base = base
        environment = base.environment_
        cluster = {"ClusterName": base.cluster.cluster_name}
        places = {
            **places,
            "serving": Place(environment.namespace, {"Service": "serving"}),
            "model": Place(environment.namespace, {"Model": environment.model}),
            "firewall": Place(
                "AWS/WAFV2", {"WebACL": f"pricing-{environment.name}", "Rule": "ALL", "Region": self.region}
            ),
            "publisher": Place("ECS/ContainerInsights", {**cluster, "ServiceName": jobs.publisher.service_name}),
            "mlflow": Place("ECS/ContainerInsights", {**cluster, "ServiceName": tracking.service.service_name}),
            "database": Place("AWS/RDS", {"DBInstanceIdentifier": f"pricing-{environment.name}"}),
            "queue": Place("AWS/SQS", {"QueueName": jobs.undelivered.queue_name}),
        }
        unknown = set(environment.watch.without) - set(TABLE)
        if unknown:
            raise DeploymentError(f"{environment.name}.watch.without: no such alarms: {', '.join(sorted(unknown))}")
        for row in TABLE:
            if row not in (*ROLLBACK, *environment.watch.without):
                alarm(self, row, base=base, places=places)
        self._dashboard(places)
        self._failed_jobs()
        self._budget()

    def _dashboard(self, places: Places) -> None:
        """The page for 3 a.m. (`dashboard.json`): is it us, since when, which version, what changed."""
        environment = self._base.environment_
        values = {
            "Environment": environment.name,
            "Guide": environment.watch.guide,
            "Model": environment.model,
            "Balancer": places["balancer"].dimensions["LoadBalancer"],
            "Targets": places["targets"].dimensions["TargetGroup"],
            "Service": places["service"].dimensions["ServiceName"],
        }
        text = (FOLDER / "dashboard.json").read_text(encoding="utf-8")
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=f"pricing-{environment.name}",
            dashboard_body=Fn.sub(json.dumps(json.loads(text), separators=(",", ":")), values),
        )

    def _failed_jobs(self) -> None:
        """Tells the topic of tasks of jobs that ended with a code other than 0, or never began."""
        name = self._base.environment_.name
        field = events.EventField.from_path
        # 3: a gate refused, of which the job itself sends an alert. A person or a deployment stops tasks on purpose.
        ended_badly = {
            "containers": {"exitCode": [{"anything-but": [0, 3]}]},
            "stopCode": [{"anything-but": ["UserInitiated", "ServiceSchedulerInitiated"]}],
        }
        events.Rule(
            self,
            "FailedJobs",
            description="Tasks of jobs that failed",
            event_pattern=events.EventPattern(
                source=["aws.ecs"],
                detail_type=["ECS Task State Change"],
                detail={
                    "clusterArn": [self._base.cluster.cluster_arn],
                    "group": [{"prefix": f"family:pricing-{name}-"}],
                    "lastStatus": ["STOPPED"],
                    "$or": [ended_badly, {"stopCode": ["TaskFailedToStart"]}],
                },
            ),
            targets=[
                targets.SnsTopic(
                    self._base.topic,
                    message=events.RuleTargetInput.from_text(
                        f"Pricing {name}: a task of {field('$.detail.group')} failed: "
                        f"{field('$.detail.stoppedReason')}. Its log is in /pricing/{name}/jobs."
                    ),
                )
            ],
        )

    def _budget(self) -> None:
        """Tells when a month costs more than was meant: at 80 % spent, and where all of it is forecast to be."""
        environment = self._base.environment_
        subscriber = budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=self._base.topic.topic_arn)
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
                    subscribers=[subscriber],
                )
                for kind, threshold in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
