"""Clients of AWS for the programs that deliver: one door to boto3, with timeouts and retries."""

from typing import Any

import boto3
from botocore.config import Config


def client(service: str, *, region: str) -> Any:
    """A client of one service of AWS.

    Args:
        service: Such as "ecs".
        region: Such as "eu-central-1".
    """
    settings = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 5})
    return boto3.client(service, region_name=region, config=settings)
