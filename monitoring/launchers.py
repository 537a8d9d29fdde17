"""Start jobs here or by an EventBridge event, and send metrics to CloudWatch; addresses come from outside."""

import datetime as dt
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pricing.config_models import MonitoringConfig
from pricing.errors import DeliveryError
from pricing.paths import ROOT

_log = logging.getLogger(__name__)


class LocalLauncher:
    """Runs `mlflow run . -e ACTION -P reason=…` on this machine, or `pricing ACTION` where there is no MLproject.

    The job survives the monitoring run being killed; then nobody learns how it ended.
    """

    def __init__(
        self, *, parameters: Mapping[str, str], folder: Path, experiment: str | None = None, root: Path = ROOT
    ) -> None:
        """Takes what jobs are started with, the folder for their output, and the MLflow experiment's ID."""
        self._parameters, self._experiment = dict(parameters), experiment
        self._folder, self._root = folder, root

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Runs the entry point to its end; returns that it ended well, and its log. A retraining is told why."""
        command = self._command(action, self._parameters | ({"reason": reason} if action == "retrain" else {}))
        # With MLFLOW_RUN_ID set, the job would write into the monitoring run instead of a new one.
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
        if self._experiment is not None:
            environment.pop("MLFLOW_EXPERIMENT_NAME", None)
            environment["MLFLOW_EXPERIMENT_ID"] = self._experiment
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{action}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}.log"
        try:
            with log.open("wb") as output:
                job = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        except OSError as error:
            raise DeliveryError(f"local: {action} could not be started: {error}") from error
        _log.info("started %s as process %d; its output goes to %s", action, job.pid, log)
        return job.wait() == 0, str(log)

    def _command(self, action: str, parameters: Mapping[str, str]) -> list[str]:
        if not (self._root / "MLproject").is_file():
            options = [word for name, value in parameters.items() for word in (f"--{name}", value)]
            return [sys.executable, "-m", "pricing.runtime.command", action, *options]
        options = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        run = ("mlflow", "run", str(self._root), "-e", action, "--env-manager", "local")
        return [sys.executable, "-m", *run, *options]


class EventBridgeLauncher:
    """Jobs asked for by an event on an EventBridge bus; whoever has a rule for it starts them."""

    def __init__(self, bus: str, *, parameters: Mapping[str, str]) -> None:
        """Takes the bus's name and what goes into each event's detail, for whoever starts the job to hand on."""
        self._bus, self._parameters = bus, parameters

    def run(self, action: str, *, reason: str) -> tuple[bool, str]:
        """Puts an event of source `pricing.monitoring` and type `pricing ACTION`; returns True, and its id.

        The job counts as done once its event is taken: an event tells nothing about its job.
        """
        from pricing.runtime import aws  # noqa: PLC0415 - boto3 is only needed where AWS is

        detail = {**self._parameters, "action": action, "reason": reason}
        entry = {
            "Source": "pricing.monitoring",
            "DetailType": f"pricing {action}",
            "Detail": json.dumps(detail),
            "EventBusName": self._bus,
        }
        with aws.translated_errors("events", "put_events"):
            answer = aws.client("events").put_events(Entries=[entry])
        if answer.get("FailedEntryCount"):
            raise DeliveryError(f"events put_events: refused: {answer['Entries'][0].get('ErrorMessage')}")
        return True, str(answer["Entries"][0]["EventId"])


JobLauncher = LocalLauncher | EventBridgeLauncher


def job_launcher(
    config: MonitoringConfig, *, parameters: Mapping[str, str], folder: Path, experiment: str | None = None
) -> JobLauncher | None:
    """Builds the launcher set by `monitoring.trigger`; None for "none"."""
    if config.trigger == "local":
        return LocalLauncher(parameters=parameters, folder=folder, experiment=experiment)
    if config.trigger == "event":
        return EventBridgeLauncher(config.endpoints.event_bus, parameters=parameters)
    return None


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
