"""What a pipeline asks of AWS: a job's task to its end, and how a deployment ended. Against moto's AWS."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ecs.models import ecs_backends

from deploy import job, rollout
from deploy.aws import client
from deploy.environment import DeploymentError, environment_named
from deploy.platform import ROLLBACK, alarm_name

STAGING = environment_named("staging")
REGION = STAGING.region
OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
IMAGE = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/pricing-staging/serving"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def outputs(stack: str, **values: str) -> None:
    """A stack that has these outputs."""
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in values.items()},
    }
    client("cloudformation", region=REGION).create_stack(StackName=stack, TemplateBody=json.dumps(template))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


@pytest.fixture
def cluster(aws: None) -> Any:
    ecs, ec2 = client("ecs", region=REGION), client("ec2", region=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})  # without it moto has no name for a task
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="jobs", Description="jobs", VpcId=vpc)["GroupId"]
    network = f"awsvpcConfiguration={{subnets=[{subnet}],securityGroups=[{group}],assignPublicIp=DISABLED}}"
    outputs("pricing-staging-foundation", TaskNetwork=network)
    ecs.create_cluster(clusterName="pricing-staging")
    ecs.register_task_definition(
        family="pricing-staging-promote",
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[{"name": "job", "image": "jobs", "cpu": 256, "memory": 512}],
    )
    logs = client("logs", region=REGION)
    logs.create_log_group(logGroupName="/pricing/staging/jobs")
    return ecs


def log(arn: str, *lines: str) -> None:
    logs, group = client("logs", region=REGION), "/pricing/staging/jobs"
    stream = f"job/job/{arn.rpartition('/')[2]}"
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    events = [{"timestamp": int(1000 * time.time()), "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def ends_with(arn: str, code: int | None, *, reason: str = "") -> None:
    """How the task will have ended, once ECS says that it is stopped."""
    task = ecs_backends[DEFAULT_ACCOUNT_ID][REGION].tasks["pricing-staging"][arn]
    task.containers[0].exitCode, task.stopped_reason = code, reason


def runner() -> job.Runner:
    return job.Runner(STAGING, pause=lambda _: None)


def test_a_job_is_started_with_its_command_its_actor_and_the_network_of_tasks(cluster: Any) -> None:
    command = ["python", "-m", "pipelines.promote", "--version", "7"]

    arn = runner().start("promote", command=command, who="ann@github")

    task = ecs_backends[DEFAULT_ACCOUNT_ID][REGION].tasks["pricing-staging"][arn]
    assert task.started_by == "ann-github"  # of signs ECS takes few
    (override,) = task.overrides["containerOverrides"]
    assert override["command"] == command
    assert override["environment"] == [{"name": "PRICING_ACTOR", "value": "ann@github"}]
    assert task.network_configuration["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"


@pytest.mark.parametrize("code", [0, 3])
def test_a_jobs_log_and_exit_code_come_back(cluster: Any, code: int) -> None:
    seen: list[str] = []
    arn = runner().start("promote", command=[], who="ann")
    ends_with(arn, code)
    log(arn, "note", "# pricing version 7 passes all 9 gates")

    ended = runner().wait(arn, minutes=10, show=seen.append)

    assert ended == job.Ended(code, ["note", "# pricing version 7 passes all 9 gates"])
    assert seen == ended.lines


def test_a_line_that_comes_after_the_end_is_not_lost(cluster: Any) -> None:
    arn = runner().start("promote", command=[], who="ann")
    ends_with(arn, 0)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if seconds == 1.0 and pauses.count(1.0) == 1:
            log(arn, "the last line")

    assert job.Runner(STAGING, pause=pause).wait(arn, minutes=10, show=print).lines == ["the last line"]


def test_a_task_that_never_ran_its_job_is_an_error_that_says_why(cluster: Any) -> None:
    arn = runner().start("promote", command=[], who="ann")
    ends_with(arn, None, reason="CannotPullContainerError: no such image")

    with pytest.raises(job.TaskError, match="stopped before the job ended: CannotPullContainerError"):
        runner().wait(arn, minutes=10, show=print)


def test_a_job_that_takes_too_long_is_stopped(cluster: Any) -> None:
    arn = runner().start("promote", command=[], who="ann")

    with pytest.raises(job.TaskError, match="took longer than 0 minutes, and was stopped"):
        runner().wait(arn, minutes=0, show=print)

    assert ecs_backends[DEFAULT_ACCOUNT_ID][REGION].tasks["pricing-staging"][arn].desired_status == "STOPPED"


def test_the_report_of_a_job_goes_into_the_summary(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    start = job.Runner.start

    def started(self: job.Runner, task: str, **options: Any) -> str:
        arn = start(self, task, **options)
        ends_with(arn, 3)
        log(arn, "downloading", "# pricing version 7 fails 1 of 9 gates", "| gate |")
        return arn

    monkeypatch.setattr(job.Runner, "start", started)
    monkeypatch.setattr(job, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(job, "LATE_LINES", 0)

    code = job.main(["--environment", "staging", "--task", "promote", "--summary", str(summary), "--", "python"])

    assert code == 3
    assert summary.read_text() == "# pricing version 7 fails 1 of 9 gates\n\n| gate |\n"


REPORT = """\
# pricing version 7 fails 1 of 2 gates and is refused

- against: version 6
- why: fails fresh

| gate | | figure | needed |
|---|---|---|---|
| golden | pass | 1 | ≤ 5 |

- golden: fast

## Prices that would move furthest

| product |
|---|
| A |
"""


def test_a_report_has_the_empty_lines_again_that_the_log_lost() -> None:
    kept = [line for line in ["downloading", *REPORT.splitlines()] if line]

    assert job.report_of(kept) == REPORT
    assert job.report_of(["no report", "at all"]) == "no report\nat all\n"


def test_an_environment_that_was_never_deployed_is_said(aws: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(["--environment", "staging", "--task", "promote"]) == 2
    assert rollout.main(["--environment", "staging"]) == 2
    assert "error: An error occurred (ValidationError)" in capsys.readouterr().err


def test_a_network_in_other_words_is_refused() -> None:
    with pytest.raises(job.TaskError, match="expected awsvpcConfiguration="):
        job.parse_network("none")


@pytest.fixture
def service(aws: None) -> Callable[[str], None]:
    """Deploys the service with the image of a digest."""
    ecs = client("ecs", region=REGION)
    ecs.create_cluster(clusterName="pricing-staging")
    outputs("pricing-staging-serving", ServiceName="serving")

    def deploy(digest: str) -> None:
        container = {"name": "serving", "image": f"{IMAGE}@{digest}", "cpu": 256, "memory": 512}
        task = ecs.register_task_definition(family="pricing-staging-serving", containerDefinitions=[container])
        revision = task["taskDefinition"]["taskDefinitionArn"]
        if ecs.list_services(cluster="pricing-staging")["serviceArns"]:
            ecs.update_service(cluster="pricing-staging", service="serving", taskDefinition=revision)
        else:
            ecs.create_service(
                cluster="pricing-staging", serviceName="serving", taskDefinition=revision, desiredCount=1
            )

    return deploy


def test_a_deployment_in_place_is_told_from_one_that_was_taken_back(service: Callable[[str], None]) -> None:
    service(NEW)

    now, fault = rollout.watch(STAGING, digest=NEW, minutes=0)
    _, other = rollout.watch(STAGING, digest=OLD, minutes=0)

    assert now.image == f"{IMAGE}@{NEW}"
    assert "taken back" not in str(fault)
    assert other is not None
    assert f"not {OLD}: the deployment was taken back" in other


def test_an_alarm_that_takes_deployments_back_is_named(service: Callable[[str], None]) -> None:
    service(NEW)
    name = alarm_name(STAGING, ROLLBACK[0])
    watch = client("cloudwatch", region=REGION)
    watch.put_metric_alarm(
        AlarmName=name, Namespace="n", MetricName="m", Period=60, EvaluationPeriods=1, Threshold=1.0, Statistic="Sum",
        ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="test")

    assert rollout.look(STAGING).alarms == (name,)


def standing(**changes: Any) -> rollout.Rollout:
    values = {"state": "COMPLETED", "why": "done", "image": f"{IMAGE}@{NEW}", "running": 2, "desired": 2}
    return rollout.Rollout(**{**values, "alarms": (), "events": ("(task 1) started",), **changes})


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (standing(), None),
        (standing(state="FAILED", why="alarm"), "the deployment is FAILED: alarm"),
        (standing(state="IN_PROGRESS"), "the deployment is IN_PROGRESS"),
        (standing(running=1), "1 of 2 tasks run"),
        (standing(alarms=("pricing-staging-slow-p99",)), "in alarm: pricing-staging-slow-p99"),
        (standing(image=f"{IMAGE}@{OLD}"), "the deployment was taken back"),
    ],
)
def test_only_a_whole_deployment_without_alarms_is_a_success(found: rollout.Rollout, complaint: str | None) -> None:
    fault = found.fault(NEW)

    assert (fault is None) if complaint is None else (complaint in str(fault))
    assert ("FAILED" in found.markdown("staging", fault).splitlines()[0]) == (complaint is not None)


def test_a_deployment_is_watched_until_it_has_ended(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([standing(state="IN_PROGRESS"), standing(state="IN_PROGRESS"), standing()])
    monkeypatch.setattr(rollout, "look", lambda _: next(states))

    assert rollout.watch(STAGING, digest=NEW, minutes=10, pause=lambda _: None) == (standing(), None)


def test_a_service_that_was_never_made_is_an_error(aws: None) -> None:
    client("ecs", region=REGION).create_cluster(clusterName="pricing-staging")
    outputs("pricing-staging-serving", Other="x")

    with pytest.raises(DeploymentError, match="there is no service yet"):
        rollout.look(STAGING)


@pytest.fixture
def formation(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """CloudFormation's answers in order: moto's updates end at once, and it cannot cancel one."""
    real = client("cloudformation", region=REGION)
    monkeypatch.setattr(rollout, "client", lambda service, **_: real)
    with Stubber(real) as stub:
        yield stub


STACK = {"StackName": "pricing-staging-serving"}


def stands(formation: Stubber, *states: str) -> None:
    for state in states:
        stack = {**STACK, "CreationTime": "2026-01-01T00:00:00Z", "StackStatus": state}
        formation.add_response("describe_stacks", {"Stacks": [stack]}, STACK)


def cancelled() -> str:
    return rollout.cancel(STAGING, minutes=1, pause=lambda _: None)


def test_an_update_under_way_is_cancelled_and_waited_for(formation: Stubber) -> None:
    stands(formation, "UPDATE_IN_PROGRESS")
    formation.add_response("cancel_update_stack", {}, STACK)
    stands(formation, "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    stands(formation, "UPDATE_ROLLBACK_COMPLETE")

    assert cancelled() == "UPDATE_ROLLBACK_COMPLETE"
    formation.assert_no_pending_responses()


@pytest.mark.parametrize("states", [["UPDATE_COMPLETE"], ["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"]])
def test_what_is_no_update_under_way_is_not_cancelled(formation: Stubber, states: list[str]) -> None:
    stands(formation, *states)

    assert cancelled() == "UPDATE_COMPLETE"
    formation.assert_no_pending_responses()


def test_an_update_that_ends_before_it_is_cancelled_is_no_error(formation: Stubber) -> None:
    stands(formation, "UPDATE_IN_PROGRESS")
    formation.add_client_error("cancel_update_stack", "ValidationError", "cannot be called from current stack status")
    stands(formation, "UPDATE_COMPLETE")

    assert cancelled() == "UPDATE_COMPLETE"


def test_a_right_that_is_missing_is_an_error(formation: Stubber, capsys: pytest.CaptureFixture[str]) -> None:
    stands(formation, "UPDATE_IN_PROGRESS")
    formation.add_client_error("cancel_update_stack", "AccessDenied", "not authorized")

    assert rollout.main(["--environment", "staging", "--cancel"]) == 2
    assert "not authorized" in capsys.readouterr().err


def test_a_stack_that_cannot_be_put_back_or_takes_too_long_is_said(formation: Stubber) -> None:
    stands(formation, "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(DeploymentError, match=r"UPDATE_ROLLBACK_FAILED: .*continue-update-rollback"):
        cancelled()

    stands(formation, *["UPDATE_ROLLBACK_IN_PROGRESS"] * 5)
    with pytest.raises(DeploymentError, match="still UPDATE_ROLLBACK_IN_PROGRESS after 1 minutes"):
        cancelled()


def test_the_command_line_says_how_the_stack_came_to_rest(
    formation: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(formation, "UPDATE_ROLLBACK_COMPLETE")

    assert rollout.main(["--environment", "staging", "--cancel"]) == 0
    assert capsys.readouterr().out == "pricing-staging-serving: UPDATE_ROLLBACK_COMPLETE\n"
