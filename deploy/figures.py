"""The service's figures on CloudWatch: a collector beside each task reads its `/metrics` and sends what is watched.

It is the AWS Distro for OpenTelemetry, whose image lies in the environment's own repository (`deploy.images` copies it
there), since tasks reach no other. It logs in to the service by a key of its own, which opens figures alone.
"""

import json
from collections.abc import Sequence
from typing import Any

from aws_cdk import Duration, Fn
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs

from deploy import grants
from deploy.containers import Task
from deploy.environment import Environment
from deploy.foundation import Foundation
from deploy.images import COLLECTOR
from deploy.network import SERVING_PORT
from deploy.platform import namespace
from deploy.storage import log_group

KEY = "METRICS_KEY"  # the variable with the collector's key, in both containers
# Figures of `serving.metrics`, and the label, beside `Service`, that each is also told apart by.
FIGURES: dict[str, str | None] = {
    "pricing_requests_total": "status",
    "pricing_decisions_total": "source",
    "pricing_workers": "version",
    "pricing_confidence": None,
    "pricing_edge_fallbacks_total": None,
    "pricing_challenger_failures_total": None,
    "pricing_state_age_days": None,
    "pricing_refused_versions": None,
    "pricing_published_silence_seconds": None,
    "pricing_control_unread": None,
    "pricing_log_dropped": None,
    "pricing_log_failing": None,
    "pricing_log_waiting": None,
}
_SERVICE = {"Service": "serving"}


def figure(
    environment: Environment, name: str, statistic: str, *, minutes: int = 5, **labels: str
) -> cloudwatch.Metric:
    """A figure of all tasks together, or of those with a label that FIGURES names."""
    return cloudwatch.Metric(
        namespace=namespace(environment),
        metric_name=name,
        dimensions_map={**_SERVICE, **labels},
        statistic=statistic,
        period=Duration.minutes(minutes),
    )


def by_label(environment: Environment, name: str, statistic: str) -> cloudwatch.MathExpression:
    """A line for each value of the label that FIGURES names."""
    of = f"{{{namespace(environment)},Service,{FIGURES[name]}}}"
    return cloudwatch.MathExpression(
        expression=f"SEARCH('{of} MetricName=\"{name}\" Service=\"serving\"', '{statistic}', 300)",
        using_metrics={},
        label="",
        period=Duration.minutes(5),
    )


def configuration(environment: Environment, *, group: str) -> dict[str, Any]:
    """The collector's: counts as what came in a minute, and of each figure few dimensions, since each costs.

    Args:
        environment: Whose.
        group: The log group in which CloudWatch finds the figures.
    """
    target = {"targets": [f"127.0.0.1:{SERVING_PORT}"], "labels": _SERVICE}
    names = "|".join(FIGURES)
    kept = {"source_labels": ["__name__"], "regex": f"({names})(_bucket|_sum|_count)?", "action": "keep"}
    scrape = {
        "job_name": "serving",
        "scrape_interval": "60s",
        "authorization": {"credentials": f"${{env:{KEY}}}"},
        "static_configs": [target],
        "metric_relabel_configs": [kept],
    }
    return {
        "receivers": {"prometheus": {"config": {"scrape_configs": [scrape]}}},
        "processors": {"cumulativetodelta": {"initial_value": "keep"}},
        "exporters": {
            "awsemf": {
                "region": "${AWS::Region}",
                "namespace": namespace(environment),
                "log_group_name": group,
                "log_stream_name": "figures",
                "dimension_rollup_option": "NoDimensionRollup",
                "metric_declarations": [_declared(name, label) for name, label in FIGURES.items()],
            }
        },
        "service": {
            "pipelines": {
                "metrics": {"receivers": ["prometheus"], "processors": ["cumulativetodelta"], "exporters": ["awsemf"]}
            }
        },
    }


def add_collector(task: Task, *, base: Foundation, key: ecs.Secret) -> None:
    """Adds the collector to the service's task, which goes on pricing where it ends.

    Args:
        task: The service's.
        base: What it stands on.
        key: The key that the service knows, too.
    """
    environment = base.environment_
    tag = COLLECTOR.rpartition(":")[2]
    name = f"/pricing/{environment.name}/figures"
    # CloudFormation puts the region in and leaves ${!…} to the collector.
    text = json.dumps(configuration(environment, group=name)).replace("${env:", "${!env:")
    group = log_group(task, "Figures", name=name, key=base.key, environment=environment)
    task.add(
        "collector",
        image=ecs.ContainerImage.from_ecr_repository(base.images.repositories["collector"], tag),
        variables={"AOT_CONFIG_CONTENT": Fn.sub(text)},
        secrets={KEY: key},
        stop_seconds=30,
        essential=False,
    )
    grants.write_log(task.role, group)


def _declared(name: str, label: str | None) -> dict[str, Any]:
    dimensions: list[Sequence[str]] = [[*_SERVICE]]
    if label is not None:
        dimensions.append([*_SERVICE, label])
    return {"dimensions": dimensions, "metric_name_selectors": [f"^{name}"]}
