"""Ask for jobs by an EventBridge event, and send metrics to CloudWatch; addresses come from outside."""

import datetime as dt
import json
from collections.abc import Mapping

from monitoring.launchers import JobRequest
from pricing.runtime.alerts import DeliveryError
from pricing.runtime.aws import client, translated_errors


class EventBridgeLauncher:
    """Jobs asked for by an event on an EventBridge bus; whoever has a rule for it starts them."""

    def __init__(self, bus: str, *, parameters: Mapping[str, str]) -> None:
        """Takes the bus's name and what goes into each event's detail, for whoever starts the job to hand on."""
        self._bus, self._parameters = bus, parameters

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
        """Counts the job as done once its event is taken: an event tells nothing about its job."""
        return bool(handle)

    wait = ended


def put_metrics(metrics: Mapping[str, float], *, namespace: str, model: str, now: dt.datetime) -> None:
    """Sends figures to CloudWatch, under the names that MLflow and the alarms know; DeliveryError where it refuses."""
    data = [
        {"MetricName": name, "Value": value, "Timestamp": now, "Dimensions": [{"Name": "Model", "Value": model}]}
        for name, value in metrics.items()  # some sixty; a call takes a thousand
    ]
    with translated_errors("cloudwatch", "put_metric_data"):
        client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
