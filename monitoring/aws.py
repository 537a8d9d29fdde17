"""Jobs as ECS tasks or EventBridge events, metrics and alarms in CloudWatch; addresses come from outside."""

import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from monitoring.alarms import DIMENSION
from monitoring.launchers import JobRequest, RunStatus
from pricing.config_models import EndpointsConfig
from pricing.paths import STARTED_VARIABLE
from pricing.runtime.alerts import DeliveryError
from pricing.runtime.aws import client, translated_errors

# CloudWatch takes at most 1,000 figures in one call.
_BATCH = 1000


class EcsLauncher:
    """Jobs as Fargate tasks of one task definition.

    How a job ended is what its MLflow run says, which carries the token that the task was started with. ECS forgets a
    stopped task within an hour or so: what it knows helps where there is no run, and a task that it does not know has
    neither failed nor succeeded.

    Args:
        endpoints: Cluster, task, network.
        parameters: Passed on as --name value, such as sales and config; the task must be able to read what they name.
        run_status: Says how the MLflow run with a start token goes on; None where there is none.
    """

    def __init__(
        self,
        endpoints: EndpointsConfig,
        *,
        parameters: Mapping[str, str],
        run_status: Callable[[str], RunStatus | None],
    ) -> None:
        self._endpoints = endpoints
        self._parameters = dict(parameters)
        self._run_status = run_status

    def start(self, order: JobRequest) -> str:
        """Runs `python -m pipelines.ACTION`, for a retraining with its reason, as a task; the handle is "TOKEN ARN"."""
        action, token = order.action, f"{order.action}-{uuid.uuid4().hex}"
        network = {
            "subnets": self._endpoints.ecs_subnets,
            "securityGroups": self._endpoints.ecs_security_groups,
            "assignPublicIp": "DISABLED",
        }
        words = [
            word for name, value in {**self._parameters, **order.parameters}.items() for word in (f"--{name}", value)
        ]
        container = {
            "name": self._endpoints.ecs_container,
            "command": ["python", "-m", f"pipelines.{action}", *words],
            "environment": [{"name": STARTED_VARIABLE, "value": token}],
        }
        with translated_errors("ecs", "run_task"):
            answer = client("ecs").run_task(
                cluster=self._endpoints.ecs_cluster,
                taskDefinition=self._endpoints.ecs_task,
                launchType="FARGATE",
                count=1,
                networkConfiguration={"awsvpcConfiguration": network},
                overrides={"containerOverrides": [container]},
                startedBy=f"monitoring-{action}",
            )
        if answer.get("failures") or not answer.get("tasks"):
            raise DeliveryError(f"ecs run_task: no task was started for {action}: {answer.get('failures')}")
        return f"{token} {answer['tasks'][0]['taskArn']}"

    def ended(self, handle: str) -> bool | None:
        """Says whether a job ended well; None while it runs.

        Raises:
            DeliveryError: It cannot be learnt: there is no run of this start, and the task has ended or is forgotten.
        """
        token, arn = handle.split()
        run = self._run_status(token)
        if run in ("finished", "failed"):
            return run == "finished"
        task = self._task(arn, needed=run is None)
        return job_end(run, task, name=token)

    def _task(self, arn: str, *, needed: bool) -> Mapping[str, Any] | None:
        """What ECS knows of a task; None where it knows nothing, or does not answer and is not `needed`."""
        try:
            with translated_errors("ecs", "describe_tasks"):
                found = client("ecs").describe_tasks(cluster=self._endpoints.ecs_cluster, tasks=[arn])["tasks"]
        except DeliveryError:
            if needed:
                raise
            return None
        return found[0] if found else None

    def wait(self, handle: str) -> bool | None:
        """Does not wait: the next run of monitoring asks."""
        return None


def job_end(run: RunStatus | None, task: Mapping[str, Any] | None, *, name: str) -> bool | None:
    """Says whether a job ended well whose run has not ended; None while it runs.

    Args:
        run: How its run goes on; None where there is none.
        task: What ECS knows of its task; None where that is nothing.
        name: Of the job, for the message.

    Raises:
        DeliveryError: It cannot be learnt.
    """
    if task is not None and task["lastStatus"] == "STOPPED":
        codes = [container.get("exitCode") for container in task.get("containers", [])]
        if not codes or any(code != 0 for code in codes):
            return False  # it never began, or was killed before it could say so in its run
        why = "its task ended with exit code 0"
    elif task is not None or run == "running":
        return None
    else:
        why = "ECS does not know its task any more"
    told = "its MLflow run has not ended" if run else "no MLflow run was started with that name"
    raise DeliveryError(
        f"the end of {name} is unknown: {why}, and {told}; jobs must write to monitoring's tracking store"
    )


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
        with translated_errors("events", "put_events"):
            answer = client("events").put_events(Entries=[entry])
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
    with translated_errors("cloudwatch", "put_metric_data"):
        for start in range(0, len(data), _BATCH):
            client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data[start : start + _BATCH])


def put_alarms(alarms: Iterable[Mapping[str, Any]]) -> None:
    """Makes alarms in CloudWatch, or brings them up to date; see `alarms.definitions`.

    Raises:
        DeliveryError: CloudWatch did not take one.
    """
    for alarm in alarms:
        with translated_errors("cloudwatch", f"put_metric_alarm {alarm['AlarmName']}"):
            client("cloudwatch").put_metric_alarm(**alarm)
