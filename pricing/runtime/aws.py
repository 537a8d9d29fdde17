"""The door to AWS: boto3's clients, its errors as ours, and alerts to SNS. Only the store of decision logs is another.

Region, keys and, for tests, AWS_ENDPOINT_URL are boto3's own environment variables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from pricing.config_models import Channel
from pricing.runtime.alerts import Alert, DeliveryError

_PATIENCE = BotoConfig(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"})


class SnsNotifier:
    """Alerts to an SNS topic."""

    channel: Channel = "sns"

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def send(self, alert: Alert) -> bool:
        """Publishes the alert; its severity and its job are message attributes, for filters."""
        words = {"severity": alert.severity, "job": alert.job}
        attributes = {name: {"DataType": "String", "StringValue": word} for name, word in words.items() if word}
        # An SNS subject is ASCII and one line.
        subject = alert.subject.replace("\n", " ").encode("ascii", "replace").decode()
        with translated_errors("sns", "publish"):
            client("sns").publish(
                TopicArn=self._topic, Subject=subject, Message=alert.text, MessageAttributes=attributes
            )
        return True


def client(service: str) -> Any:
    """Makes boto3's client of a service, with timeouts and retries that suit a job."""
    return boto3.client(service, config=_PATIENCE)


@contextmanager
def translated_errors(service: str, call: str) -> Iterator[None]:
    """Turns boto3's errors into a DeliveryError that names service and call."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise DeliveryError(f"{service} {call}: {error}") from error
