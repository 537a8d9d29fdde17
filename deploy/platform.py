"""The configuration that tasks run with: what follows from AWS, under what the environment's `settings` say."""

from collections.abc import Mapping
from typing import Any

from deploy.environment import Environment

ROLLBACK = ("answers-5xx", "slow-p99", "tasks-not-ready")  # alarms that take a deployment back


def namespace(environment: Environment) -> str:
    """The CloudWatch namespace of everything that the platform's programs measure."""
    return f"Pricing/{environment.name}"


def alarm_name(environment: Environment, name: str) -> str:
    """The name of an alarm, the same in every stack."""
    return f"pricing-{environment.name}-{name}"


def platform_settings(environment: Environment, *, topic: str, bus: str) -> dict[str, Any]:
    """A configuration file as a mapping, to be laid over config/default.yaml.

    Args:
        environment: Whose.
        topic: ARN of the topic that alerts go to.
        bus: Name of the event bus on which monitoring asks for jobs.
    """
    ours: dict[str, Any] = {
        "serving": {"keys": "required"},
        "monitoring": {
            "trigger": "event",
            "alerts": ["log", "sns"],
            "metrics": ["cloudwatch"],
            "endpoints": {
                "sns_topic": topic,
                "event_bus": bus,
                "namespace": namespace(environment),
                "mlflow_url": f"https://{environment.mlflow_domain}",
            },
            "alarms": {"inputs_drifted": {"metric": "columns_drifted", "above": 0, "days": 2}},
        },
    }
    return merged(ours, environment.settings)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lays one mapping over another, key by key, as the platform does with configuration files."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def model_name(environment: Environment) -> str:
    """The registered model's name, which monitoring's figures carry as their dimension."""
    return str(environment.settings.get("registry", {}).get("model_name", "pricing"))


def described(environment: Environment, name: str, what: str) -> str:
    """The description of an alarm: what it means, and the section of the guide that says what to do."""
    return f"{what}; what to do: {environment.watch.guide}#{name}"
