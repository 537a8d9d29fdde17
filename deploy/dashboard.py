"""The dashboard for 3 a.m.: is it us, since when, which version, what changed, and where to look next."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_rds as rds
from constructs import Construct

from deploy.alarms import Alarms
from deploy.figures import by_label, figure
from deploy.foundation import Foundation
from deploy.platform import model_name, namespace
from deploy.service import Service

WIDTH = 24  # of CloudWatch's grid
CODES = (
    elbv2.HttpCodeTarget.TARGET_2XX_COUNT,
    elbv2.HttpCodeTarget.TARGET_4XX_COUNT,
    elbv2.HttpCodeTarget.TARGET_5XX_COUNT,
)
# Title of a widget → the service's own figures in it and in which way tasks' values become one.
BY_LABEL = {
    "Prices, by who gave them": ("pricing_decisions_total", "Sum"),
    "Requests, by status": ("pricing_requests_total", "Sum"),
}
OF_THE_SERVICE: dict[str, tuple[tuple[str, ...], str]] = {
    "Confidence": (("pricing_confidence",), "Average"),
    "Failures behind an answer": (("pricing_edge_fallbacks_total", "pricing_challenger_failures_total"), "Sum"),
    "Age of the model's states, days": (("pricing_state_age_days",), "Maximum"),
    "Versions that tasks refuse": (("pricing_refused_versions", "pricing_control_unread"), "Maximum"),
    "Seconds since all that is published was followed": (("pricing_published_silence_seconds",), "Maximum"),
    "Decision log: segments that wait, decisions dropped, 1 where it fails": (
        ("pricing_log_waiting", "pricing_log_dropped", "pricing_log_failing"),
        "Maximum",
    ),
}
# What monitoring measures once a night (`monitoring.evaluate.metrics`).
OF_MONITORING: dict[str, tuple[str, ...]] = {
    "Forecast error as a multiple of the backtest's": ("wape_to_backtest",),
    "Bias, and its size": ("bias", "bias_size"),
    "Shares: by rule, followed, scored": ("share_rule", "share_followed", "share_scored"),
    "Inputs that drifted, windows in breach": ("columns_drifted", "windows_in_breach"),
    "Days without sales, without decisions": ("days_since_sales", "days_since_decisions"),
    "Decisions that monitoring read": ("decisions", "decisions_waiting"),
}


class Dashboard(Construct):
    """One page, most urgent first."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        service: Service,
        alarms: Alarms,
        database: rds.IDatabaseInstance,
    ) -> None:
        super().__init__(scope, name)
        self._base, self._environment = base, base.environment_
        self._service = service
        cloudwatch.Dashboard(
            self,
            "Page",
            dashboard_name=f"pricing-{self._environment.name}",
            default_interval=Duration.hours(6),
            widgets=[
                [self._head()],
                [cloudwatch.AlarmStatusWidget(title="Alarms", width=WIDTH, height=5, alarms=alarms.all)],
                self._callers(),
                self._versions_and_tasks(),
                *_rows(
                    [
                        *(_graph(title, [by_label(self._environment, *named)]) for title, named in BY_LABEL.items()),
                        *(
                            _graph(title, [figure(self._environment, name, statistic) for name in names])
                            for title, (names, statistic) in OF_THE_SERVICE.items()
                        ),
                    ]
                ),
                *_rows([self._of_monitoring(title, names) for title, names in OF_MONITORING.items()]),
                self._below(database),
                [self._errors()],
            ],
        )

    def _head(self) -> cloudwatch.TextWidget:
        name = self._environment.name
        return cloudwatch.TextWidget(
            width=WIDTH,
            height=3,
            markdown=f"# Pricing, {name}\n"
            f"Prices wrong: freeze them. Version bad: roll back. Both as tasks, by the commands in "
            f"{self._environment.watch.guide}, which has a section for each alarm. "
            f"Logs: `/pricing/{name}/serving`, `/pricing/{name}/jobs`, `/pricing/{name}/mlflow`.",
        )

    def _callers(self) -> list[cloudwatch.IWidget]:
        minute = Duration.minutes(1)
        metrics = self._service.targets.metrics
        from_targets = cloudwatch.Metric(
            namespace="AWS/WAFV2",
            metric_name="BlockedRequests",
            dimensions_map={"WebACL": f"pricing-{self._environment.name}", "Rule": "ALL", "Region": self._base.region},
            statistic="Sum",
            period=minute,
        )
        answers = [metrics.http_code_target(code, period=minute, statistic="Sum") for code in CODES]
        return [
            _graph(
                "Requests a minute, and those the firewall blocked",
                [metrics.request_count(period=minute, statistic="Sum"), from_targets],
            ),
            _graph("Answers by status", answers),
            _graph(
                "Time to answer, seconds: median, p99, worst",
                [metrics.target_response_time(period=minute, statistic=one) for one in ("p50", "p99", "Maximum")],
            ),
        ]

    def _versions_and_tasks(self) -> list[cloudwatch.IWidget]:
        minute = Duration.minutes(1)
        service, targets = self._service.service, self._service.targets.metrics
        return [
            _graph("Version served: tasks, by version", [by_label(self._environment, "pricing_workers", "Sum")]),
            _graph(
                "Tasks ready and not ready",
                [
                    targets.healthy_host_count(period=minute, statistic="Minimum"),
                    targets.unhealthy_host_count(period=minute, statistic="Maximum"),
                ],
            ),
            _graph(
                "CPU and memory of tasks, per cent",
                [
                    service.metric_cpu_utilization(period=minute, statistic="Maximum"),
                    service.metric_memory_utilization(period=minute, statistic="Maximum"),
                ],
            ),
        ]

    def _below(self, database: rds.IDatabaseInstance) -> list[cloudwatch.IWidget]:
        five = Duration.minutes(5)
        return [
            _graph("Database: CPU, per cent", [database.metric_cpu_utilization(period=five)]),
            _graph("Database: free storage, bytes", [database.metric_free_storage_space(period=five)]),
            _graph("Database: connections", [database.metric_database_connections(period=five)]),
        ]

    def _errors(self) -> cloudwatch.LogQueryWidget:
        name = self._environment.name
        return cloudwatch.LogQueryWidget(
            title="Last errors",
            width=WIDTH,
            height=8,
            log_group_names=[f"/pricing/{name}/{part}" for part in ("serving", "jobs", "mlflow")],
            query_lines=[
                "fields @timestamp, @logStream, @message",
                "filter @message like /(?i)error|critical|traceback/",
                "sort @timestamp desc",
                "limit 50",
            ],
        )

    def _of_monitoring(self, title: str, names: Sequence[str]) -> cloudwatch.GraphWidget:
        return _graph(
            title,
            [
                cloudwatch.Metric(
                    namespace=namespace(self._environment),
                    metric_name=name,
                    dimensions_map={"Model": model_name(self._environment)},
                    statistic="Maximum",
                    period=Duration.days(1),
                )
                for name in names
            ],
        )


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=WIDTH // 3, height=6)


def _rows(widgets: Sequence[cloudwatch.IWidget]) -> list[list[cloudwatch.IWidget]]:
    """Three of them to a row."""
    return [list(widgets[start : start + 3]) for start in range(0, len(widgets), 3)]
