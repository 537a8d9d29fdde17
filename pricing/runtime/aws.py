"""The door to AWS: boto3's clients, and its errors as ours. Only the store of decision logs is another.

Region, keys and, for tests, AWS_ENDPOINT_URL are boto3's own environment variables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from pricing.errors import DeliveryError

_PATIENCE = BotoConfig(connect_timeout=5, read_timeout=20, retries={"max_attempts": 3, "mode": "standard"})


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
