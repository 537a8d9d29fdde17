"""AWS: SNS, ECS, EventBridge, CloudWatch. The only module that imports boto3; addresses come from outside.

Region, keys and, for tests, AWS_ENDPOINT_URL are boto3's own environment variables.
"""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from monitoring.alarms import DIMENSION
from monitoring.alerts import Alert, DeliveryError
from monitoring.launchers import JobRequest
from pricing.config_models import EndpointsConfig

_PATIENCE = BotoConfig(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"})
# CloudWatch takes at most 1,000 figures in one call.
_BATCH = 1000


class SnsNotifier:
    """Alerts to an SNS topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def send(self, alert: Alert) -> None:
        """Publishes the alert; its severity is a message attribute, for filters."""
        attributes = {"severity": {"DataType": "String", "StringValue": alert.severity}}
        # An SNS subject is ASCII and one line.
        subject = alert.subject.encode("ascii", "replace").decode()
        with _translated_errors("sns", "publish"):
            _client("sns").publish(
                TopicArn=self._topic, Subject=subject, Message=alert.text, MessageAttributes=attributes
            )


class EcsLauncher:
    """Jobs as Fargate tasks of one task definition.

    Args:
        endpoints: Cluster, task, network.
        parameters: Passed on as --name value, such as sales and config; the task must be able to read what they name.
    """

    def __init__(self, endpoints: EndpointsConfig, *, parameters: Mapping[str, str]) -> None:
        self._endpoints = endpoints
        self._parameters = dict(parameters)

    def start(self, order: JobRequest) -> str:
        """Runs `python -m pipelines.ACTION`, for a retraining with its reason, as a task and returns its ARN."""
        action = order.action
        network = {
            "subnets": self._endpoints.ecs_subnets,
            "securityGroups": self._endpoints.ecs_security_groups,
            "assignPublicIp": "DISABLED",
        }
        words = [
            word for name, value in {**self._parameters, **order.parameters}.items() for word in (f"--{name}", value)
        ]
        command = ["python", "-m", f"pipelines.{action}", *words]
        with _translated_errors("ecs", "run_task"):
            answer = _client("ecs").run_task(
                cluster=self._endpoints.ecs_cluster,
                taskDefinition=self._endpoints.ecs_task,
                launchType="FARGATE",
                count=1,
                networkConfiguration={"awsvpcConfiguration": network},
                overrides={"containerOverrides": [{"name": self._endpoints.ecs_container, "command": command}]},
                startedBy=f"monitoring-{action}",
            )
        if answer.get("failures") or not answer.get("tasks"):
            raise DeliveryError(f"ecs run_task: no task was started for {action}: {answer.get('failures')}")
        return str(answer["tasks"][0]["taskArn"])

    def ended(self, handle: str) -> bool | None:
        """Says whether a task ended well; None while it runs. A task that ECS has forgotten counts as failed."""
        with _translated_errors("ecs", "describe_tasks"):
            found = _client("ecs").describe_tasks(cluster=self._endpoints.ecs_cluster, tasks=[handle])["tasks"]
        if not found:
            return False
        if found[0]["lastStatus"] != "STOPPED":
            return None
        return all(container.get("exitCode") == 0 for container in found[0].get("containers", []))

    def wait(self, handle: str) -> bool | None:
        """Does not wait: the task is on another machine, and the next monitoring run asks again."""
        return self.ended(handle)


class EventBridgeLauncher:
    """Jobs asked for by an EventBridge event; whoever has a rule for it starts them.

    Args:
        bus: Its name.
        parameters: Part of the event's detail, such as sales and config; whoever starts the job hands them to it.
    """

    def __init__(self, bus: str, *, parameters: Mapping[str, str]) -> None:
        self._bus = bus
        self._parameters = dict(parameters)

    def start(self, order: JobRequest) -> str:
        """Puts an event of source `pricing.monitoring` and type `pricing ACTION`, and returns its id."""
        detail = {**self._parameters, "action": order.action, "reason": order.reason, **order.parameters}
        entry = {
            "Source": "pricing.monitoring",
            "DetailType": f"pricing {order.action}",
            "Detail": json.dumps(detail),
            "EventBusName": self._bus,
        }
        with _translated_errors("events", "put_events"):
            answer = _client("events").put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            raise DeliveryError(f"events put_events: refused: {answer['Entries'][0].get('ErrorMessage')}")
        return str(answer["Entries"][0]["EventId"])

    def ended(self, handle: str) -> bool | None:
        """An event tells nothing about its job: it counts as done once it is taken."""
        return bool(handle)

    def wait(self, handle: str) -> bool | None:
        """Does not wait."""
        return self.ended(handle)


def put_metrics(metrics: Mapping[str, float], *, namespace: str, model: str, now: dt.datetime) -> None:
    """Sends figures to CloudWatch, under the names that MLflow and the alarms know.

    Raises:
        DeliveryError: CloudWatch did not take them.
    """
    data = [
        {
            "MetricName": name,
            "Value": value,
            "Timestamp": now,
            "Dimensions": [{"Name": DIMENSION, "Value": model}],
        }
        for name, value in metrics.items()
    ]
    with _translated_errors("cloudwatch", "put_metric_data"):
        for start in range(0, len(data), _BATCH):
            _client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data[start : start + _BATCH])


def put_alarms(alarms: Iterable[Mapping[str, Any]]) -> None:
    """Makes alarms in CloudWatch, or brings them up to date; see `alarms.definitions`.

    Raises:
        DeliveryError: CloudWatch did not take one.
    """
    for alarm in alarms:
        with _translated_errors("cloudwatch", f"put_metric_alarm {alarm['AlarmName']}"):
            _client("cloudwatch").put_metric_alarm(**alarm)


def _client(service: str) -> Any:
    return boto3.client(service, config=_PATIENCE)


@contextmanager
def _translated_errors(service: str, call: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise DeliveryError(f"{service} {call}: {error}") from error
