"""Run a job's task on ECS to its end, print its log, and end with its exit code.

`python -m deploy.job --environment staging --task promote -- python -m pipelines.promote --version 7`; without the
words after `--` the task runs its own command.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from deploy.aws import client
from deploy.environment import JOBS, DeploymentError, Environment, environment_named

CONTAINER = "job"
LOOK_SECONDS = 10.0
LATE_LINES = 3  # looks without a new line, after the end, until the log counts as whole


class TaskError(RuntimeError):
    """A task that did not run to its end; says what ECS says."""


@dataclass(frozen=True)
class Ended:
    """A task that ended.

    Attributes:
        code: Exit code of the job.
        lines: Its log.
    """

    code: int
    lines: list[str]


class Runner:
    """Starts tasks of one environment.

    Args:
        environment: Whose.
        pause: Waits between two looks; a test's own does not.
    """

    def __init__(self, environment: Environment, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._cluster = f"pricing-{environment.name}"
        self._log = f"/pricing/{environment.name}/jobs"
        self._foundation = f"pricing-{environment.name}-foundation"
        self._ecs, self._logs, self._stacks = (
            client(service, region=environment.region) for service in ("ecs", "logs", "cloudformation")
        )
        self._pause = pause

    def start(self, task: str, *, command: Sequence[str], who: str) -> str:
        """Starts a task; returns its ARN.

        Args:
            task: Name of the job whose task definition is used.
            command: What it runs; empty: its own command.
            who: Recorded as the actor (PRICING_ACTOR).

        Raises:
            TaskError: ECS did not start it.
        """
        override: dict[str, Any] = {"name": CONTAINER, "environment": [{"name": "PRICING_ACTOR", "value": who}]}
        if command:
            override["command"] = list(command)
        started = self._ecs.run_task(
            cluster=self._cluster,
            taskDefinition=f"{self._cluster}-{task}",
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": self._network()},
            overrides={"containerOverrides": [override]},
            startedBy=re.sub(r"[^\w/-]", "-", who, flags=re.ASCII)[:36],
            propagateTags="TASK_DEFINITION",
        )
        if not started["tasks"]:
            raise TaskError(f"{task} was not started: {started['failures']}")
        return str(started["tasks"][0]["taskArn"])

    def wait(self, arn: str, *, minutes: float, show: Callable[[str], None]) -> Ended:
        """Follows a task to its end.

        Args:
            arn: Of the task.
            minutes: Longest time that it may take; then it is stopped.
            show: Gets each line of the log as it comes.

        Raises:
            TaskError: It took too long, or was stopped before the job ended.
        """
        stream = f"{CONTAINER}/{CONTAINER}/{arn.rpartition('/')[2]}"
        reader = _LogReader(self._logs, group=self._log, stream=stream)
        lines: list[str] = []

        def look() -> int:
            new = reader.new_lines()
            lines.extend(new)
            for line in new:
                show(line)
            return len(new)

        for _ in range(max(1, int(60 * minutes / LOOK_SECONDS))):
            task = self._task(arn)
            look()
            if task["lastStatus"] == "STOPPED":
                for _ in range(LATE_LINES):  # the log driver hands the last lines over after the end
                    self._pause(1.0)
                    look()
                return Ended(_code(task), lines)
            self._pause(LOOK_SECONDS)
        self._ecs.stop_task(cluster=self._cluster, task=arn, reason=f"took longer than {minutes:g} minutes")
        raise TaskError(f"{arn} took longer than {minutes:g} minutes, and was stopped")

    def _task(self, arn: str) -> dict[str, Any]:
        found = self._ecs.describe_tasks(cluster=self._cluster, tasks=[arn])
        if not found["tasks"]:
            raise TaskError(f"{arn} is not known to ECS any more: {found['failures']}")
        return dict(found["tasks"][0])

    def _network(self) -> dict[str, Any]:
        """The network of tasks, from the output `TaskNetwork`, which is written for the command line."""
        (stack,) = self._stacks.describe_stacks(StackName=self._foundation)["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
        if "TaskNetwork" not in outputs:
            raise TaskError(f"{self._foundation} has no output TaskNetwork: deploy it first")
        return parse_network(outputs["TaskNetwork"])


class _LogReader:
    """Reads a log stream from where it stopped; one that is not there yet has no lines."""

    def __init__(self, logs: Any, *, group: str, stream: str) -> None:
        self._logs, self._where = logs, {"logGroupName": group, "logStreamName": stream}
        self._token: str | None = None

    def new_lines(self) -> list[str]:
        """The lines that came since the last look."""
        lines: list[str] = []
        while True:
            token = {} if self._token is None else {"nextToken": self._token}
            try:
                page = self._logs.get_log_events(**self._where, startFromHead=True, **token)
            except self._logs.exceptions.ResourceNotFoundException:
                return lines
            lines += [str(event["message"]) for event in page["events"]]
            if page["nextForwardToken"] == self._token:
                return lines
            self._token = page["nextForwardToken"]


def parse_network(words: str) -> dict[str, Any]:
    """Reads `awsvpcConfiguration={subnets=[a,b],securityGroups=[c],assignPublicIp=DISABLED}`.

    Raises:
        TaskError: It is written in another way.
    """
    inner = words.strip().removeprefix("awsvpcConfiguration={").removesuffix("}")
    parts: dict[str, Any] = {}
    for part in inner.replace("],", "]|").split("|"):
        name, equals, value = part.partition("=")
        if not equals:
            raise TaskError(f"TaskNetwork: expected awsvpcConfiguration={{subnets=[…],…}}, found {words}")
        parts[name] = value[1:-1].split(",") if value.startswith("[") else value
    return parts


def report_of(lines: Sequence[str]) -> str:
    """The Markdown report that a job prints, from its heading on; everything where it prints none.

    CloudWatch keeps no empty lines, without which a table after a list is none: they are put back.
    """
    headings = [place for place, line in enumerate(lines) if line.startswith("# ")]
    report = [line for line in lines[headings[0] if headings else 0 :] if line.strip()]
    spaced = report[:1]
    for before, line in pairwise(report):
        spaced += ["", line] if _block(line) != _block(before) or _block(line) == "#" else [line]
    return "\n".join(spaced) + "\n"


def _block(line: str) -> str:
    """The kind of a Markdown block that a line is of: heading, table, list, or text."""
    return next((sign for sign in ("#", "|", "- ") if line.startswith(sign)), "")


def _code(task: dict[str, Any]) -> int:
    (container,) = (one for one in task["containers"] if one["name"] == CONTAINER)
    if container.get("exitCode") is None:
        why = container.get("reason") or task.get("stoppedReason") or "ECS does not say why"
        raise TaskError(f"{task['taskArn']} stopped before the job ended: {why}")
    return int(container["exitCode"])


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.job", description=__doc__)
    parser.add_argument("--environment", required=True, help="of deploy/environments.yaml")
    parser.add_argument("--task", required=True, choices=sorted(JOBS), help="whose size and rights count")
    parser.add_argument("--who", default="deploy.job", help="recorded as the actor")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="longest time (default 60)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the job's report to this file")
    parser.add_argument("command", nargs="*", metavar="-- WORD", help="what the task runs; absent: its own command")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the task; returns the job's exit code, or 2 where it could not run to its end."""
    options = _options(argv)
    try:
        runner = Runner(environment_named(options.environment))
        arn = runner.start(options.task, command=options.command, who=options.who)
        print(f"started {arn}", file=sys.stderr, flush=True)
        ended = runner.wait(arn, minutes=options.minutes, show=lambda line: print(line, flush=True))
    except (DeploymentError, TaskError, BotoCoreError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(report_of(ended.lines))
    return ended.code


if __name__ == "__main__":
    sys.exit(main())
