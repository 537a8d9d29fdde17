"""What an environment costs a month, estimated from its sizes and the list prices of `prices.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.balancer import MANAGED
from deploy.database import ROLES
from deploy.environment import Environment, ServingPart, Size, TrackingPart
from deploy.network import ENDPOINTS

PRICES = Path(__file__).parent / "prices.yaml"
ZONES = 2
DAYS = 30.4
# CloudWatch metrics of the service's and monitoring's own, and metrics in alarms, rounded up.
METRICS, ALARM_METRICS = 70, 30
MLFLOW_SECRETS = 2  # of its two users


@dataclass(frozen=True)
class Load:
    """What an environment is used for.

    Attributes:
        tasks: Tasks of the service, on average.
        requests: Millions of requests a month.
        night_hours: Hours of a night's job.
        train_hours: Hours of training beside it, a month.
        data: GB in S3.
        files: GB of the jobs' files.
        logs: GB of logs a month.
    """

    tasks: float
    requests: float
    night_hours: float
    train_hours: float
    data: float
    files: float
    logs: float


def monthly(environment: Environment, load: Load, prices: Mapping[str, Any]) -> dict[str, float]:
    """Dollars a month by part.

    Raises:
        KeyError: The database's class has no price in the file.
    """
    hours = float(prices["hours"])
    part, zones = environment.tracking, 2 if environment.tracking.multi_az else 1
    network = ZONES * len(ENDPOINTS) * prices["endpoint"] + environment.network.nat_gateways * prices["nat"]
    # A capacity unit of the balancer is 25 new connections a second or 1 GB an hour; one suffices up to that.
    units = max(1.0, load.requests * 1e6 * 2e-6 / hours)
    night = _task(environment.jobs["nightly"], prices) * load.night_hours * DAYS
    return {
        "service": _task(environment.serving.size, prices) * load.tasks * hours,
        "load balancer": hours * (prices["balancer"] + units * prices["balancer_unit"]),
        "firewall": prices["firewall"]
        + (1 + len(MANAGED)) * prices["firewall_rule"]
        + load.requests * prices["firewall_requests"],
        "network (endpoints)": hours * network,
        "MLflow": _task(environment.tracking.size, prices) * hours,
        "database": zones * (hours * prices["database"][part.instance] + part.storage * prices["database_storage"]),
        "jobs": night + _task(environment.jobs["train"], prices) * load.train_hours,
        "storage": load.data * prices["object_storage"] + load.files * prices["file_storage"],
        "keys and secrets": prices["key"] + (2 + len(ROLES) + MLFLOW_SECRETS) * prices["secret"],
        "logs, metrics, alarms": load.logs * prices["logs"]
        + METRICS * prices["metric"]
        + ALARM_METRICS * prices["alarm"]
        + prices["dashboard"],
    }


def cost_table(environments: Mapping[str, Environment]) -> str:
    """The table of three sizes, in Markdown."""
    prices = yaml.safe_load(PRICES.read_text(encoding="utf-8"))
    sizes = _sizes(environments)
    parts = {name: monthly(environment, load, prices) for name, (environment, load) in sizes.items()}
    lines = [
        f"Estimates in US dollars a month, to be checked: list prices of us-east-1 as noted on {prices['noted']} in "
        "`deploy/prices.yaml`,\nwithout traffic, taxes and discounts.\n",
        "| | " + " | ".join(parts) + " |",
        "|" + "---|" * (1 + len(parts)),
    ]
    for what in next(iter(parts.values())):
        lines.append(f"| {what} | " + " | ".join(f"{each[what]:,.0f}" for each in parts.values()) + " |")
    lines.append("| **together** | " + " | ".join(f"**{sum(each.values()):,.0f}**" for each in parts.values()) + " |")
    lines.append("")
    lines += [
        f"*{name}*: {_described(environment, load)}" + ("" if name == list(sizes)[-1] else "\\")
        for name, (environment, load) in sizes.items()
    ]
    return "\n".join(lines) + "\n"


def _sizes(environments: Mapping[str, Environment]) -> dict[str, tuple[Environment, Load]]:
    staging, production = environments["staging"], environments["production"]
    large = production.model_copy(
        update={
            "serving": ServingPart(
                size=Size(cpu=2048, memory=4096), least=6, most=60, saturation=2000, requests_per_address=5_000_000
            ),
            "tracking": TrackingPart(
                size=Size(cpu=2048, memory=8192), instance="m7g.xlarge", storage=200, multi_az=True, backup_days=14
            ),
            "network": production.network.model_copy(update={"nat_gateways": 2}),
        }
    )
    return {
        "small (staging)": (
            staging,
            Load(tasks=1, requests=1, night_hours=0.5, train_hours=4, data=10, files=2, logs=2),
        ),
        "medium (production)": (
            production,
            Load(tasks=3, requests=100, night_hours=1, train_hours=8, data=200, files=20, logs=20),
        ),
        "large": (
            large,
            Load(tasks=10, requests=1500, night_hours=3, train_hours=24, data=2000, files=100, logs=200),
        ),
    }


def _described(environment: Environment, load: Load) -> str:
    size = environment.serving.size
    return (
        f"{load.tasks:g} tasks of {size.cpu / 1024:g} vCPU on average, {load.requests:g} million requests, a night of "
        f"{load.night_hours:g} h, {load.train_hours:g} h of training, database {environment.tracking.instance}"
        f"{' in two zones' if environment.tracking.multi_az else ''}, {load.data:g} GB in S3, {load.logs:g} GB of logs."
    )


def _task(size: Size, prices: Mapping[str, Any]) -> float:
    """Dollars an hour of a task."""
    return float(size.cpu / 1024 * prices["fargate_cpu"] + size.memory / 1024 * prices["fargate_memory"])
