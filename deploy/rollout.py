"""Say how the newest deployment of the service ended: in place, or taken back by ECS.

CloudFormation waits for it, and fails where ECS takes it back. This asks ECS itself, so that the pipeline says which
alarm or which failing task it was, and never calls an old image that runs on a success. With --cancel it ends an
update of the service's stack that is under way, so that another can begin.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.aws import client
from deploy.environment import DeploymentError, Environment, environment_named
from deploy.platform import ROLLBACK, alarm_name

CONTAINER = "serving"
LOOK_SECONDS = 15.0


@dataclass(frozen=True)
class Rollout:
    """How a deployment stands.

    Attributes:
        state: COMPLETED, IN_PROGRESS or FAILED, of the newest deployment.
        why: ECS's reason for it.
        image: The image of the tasks that are to run.
        running: Tasks of it that run.
        desired: Tasks of it that are to run.
        alarms: Names of the alarms that take a deployment back and are in alarm now.
        events: What ECS told last, newest first.
    """

    state: str
    why: str
    image: str
    running: int
    desired: int
    alarms: tuple[str, ...]
    events: tuple[str, ...]

    def fault(self, digest: str | None) -> str | None:
        """What is wrong with it, in words; None where nothing is.

        Args:
            digest: Of the image that was to be deployed, `sha256:…`; None: any.
        """
        if digest is not None and not self.image.endswith(f"@{digest}"):
            return f"the tasks run {self.image}, not {digest}: the deployment was taken back, or never began"
        if self.state != "COMPLETED":
            return f"the deployment is {self.state}: {self.why}"
        if self.running < self.desired:
            return f"{self.running} of {self.desired} tasks run"
        return f"in alarm: {', '.join(self.alarms)}" if self.alarms else None

    def markdown(self, name: str, fault: str | None) -> str:
        """A paragraph for the pipeline's summary."""
        lines = [
            f"### Deployment of the service, {name}: {'FAILED' if fault else 'in place'}",
            "",
            *([f"**{fault}**", ""] if fault else []),
            f"- state: {self.state} ({self.why})",
            f"- image: `{self.image}`",
            f"- tasks: {self.running} of {self.desired}",
            f"- alarms: {', '.join(self.alarms) or 'none'}",
            *(f"- {event}" for event in self.events[:5] if fault),
        ]
        return "\n".join(lines) + "\n"


def look(environment: Environment) -> Rollout:
    """Asks ECS and CloudWatch how the service stands.

    Raises:
        DeploymentError: There is no service yet.
    """
    cluster = f"pricing-{environment.name}"
    ecs = client("ecs", region=environment.region)
    stack = f"{cluster}-serving"
    stacks = client("cloudformation", region=environment.region).describe_stacks(StackName=stack)["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks[0].get("Outputs", [])}
    found = ecs.describe_services(cluster=cluster, services=[outputs.get("ServiceName", "none")])["services"]
    if not found:
        raise DeploymentError(f"{stack}: there is no service yet")
    service = found[0]
    (primary,) = (one for one in service["deployments"] if one["status"] == "PRIMARY")
    task = ecs.describe_task_definition(taskDefinition=primary["taskDefinition"])["taskDefinition"]
    names = [alarm_name(environment, one) for one in ROLLBACK]
    alarms = client("cloudwatch", region=environment.region).describe_alarms(AlarmNames=names)["MetricAlarms"]
    return Rollout(
        state=primary.get("rolloutState", "COMPLETED"),
        why=primary.get("rolloutStateReason", "no reason given"),
        image=_image(task),
        running=primary["runningCount"],
        desired=primary["desiredCount"],
        alarms=tuple(sorted(one["AlarmName"] for one in alarms if one["StateValue"] == "ALARM")),
        events=tuple(one["message"] for one in service.get("events", [])),
    )


def watch(
    environment: Environment, *, digest: str | None, minutes: float, pause: Callable[[float], None] = time.sleep
) -> tuple[Rollout, str | None]:
    """Looks until the deployment has ended, or the time is up; returns how it stands and what is wrong with it."""
    rollout = look(environment)
    for _ in range(int(60 * minutes / LOOK_SECONDS)):
        if rollout.state != "IN_PROGRESS":
            break
        pause(LOOK_SECONDS)
        rollout = look(environment)
    return rollout, rollout.fault(digest)


def cancel(environment: Environment, *, minutes: float, pause: Callable[[float], None] = time.sleep) -> str:
    """Cancels an update of the service's stack that is under way, and waits until the stack is at rest.

    CloudFormation then puts back what ran before the update. What it cannot cancel, such as an update that it takes
    back already, is waited for.

    Args:
        environment: Whose service.
        minutes: Longest time to wait.
        pause: Waits for seconds.

    Returns:
        The stack's status, such as UPDATE_ROLLBACK_COMPLETE.

    Raises:
        DeploymentError: The stack could not be put back, or is not at rest in time.
    """
    stack = f"pricing-{environment.name}-serving"
    formation = client("cloudformation", region=environment.region)
    for _ in range(1 + int(60 * minutes / LOOK_SECONDS)):
        found = formation.describe_stacks(StackName=stack)["Stacks"][0]
        status = str(found["StackStatus"])
        if status.endswith("ROLLBACK_FAILED"):
            why = found.get("StackStatusReason", "no reason given")
            raise DeploymentError(f"{stack}: {status}: {why}; aws cloudformation continue-update-rollback comes first")
        if not status.endswith("_IN_PROGRESS"):
            return status
        if status == "UPDATE_IN_PROGRESS":
            try:
                formation.cancel_update_stack(StackName=stack)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ValidationError":  # which says: it has ended since
                    raise
        pause(LOOK_SECONDS)
    raise DeploymentError(f"{stack}: still {status} after {minutes:g} minutes")


def _image(task: dict[str, Any]) -> str:
    (image,) = (str(one["image"]) for one in task["containerDefinitions"] if one["name"] == CONTAINER)
    return image


def main(argv: Sequence[str] | None = None) -> int:
    """Watches, or cancels; returns 0 where that ended well, 1 where the deployment is not in place, 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m deploy.rollout", description=__doc__)
    parser.add_argument("--environment", required=True, help="of deploy/environments.yaml")
    parser.add_argument("--digest", help="sha256:… of the image of the service that must run; absent: any")
    parser.add_argument("--minutes", type=float, default=15, metavar="N", help="longest time to wait (default 15)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append what was found to this file")
    parser.add_argument("--cancel", action="store_true", help="cancel an update under way and wait for that, no more")
    options = parser.parse_args(argv)
    try:
        environment = environment_named(options.environment)
        if options.cancel:
            print(f"pricing-{environment.name}-serving: {cancel(environment, minutes=options.minutes)}")
            return 0
        rollout, fault = watch(environment, digest=options.digest, minutes=options.minutes)
    except (DeploymentError, BotoCoreError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = rollout.markdown(environment.name, fault)
    print(text)
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(text)
    return 0 if fault is None else 1


if __name__ == "__main__":
    sys.exit(main())
