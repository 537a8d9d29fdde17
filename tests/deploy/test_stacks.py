"""What the templates promise, in staging and in production; synthesised once, without an AWS account."""

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import monitoring_world as world
from tests.kit.cdk import lacks_for_cdk

if lacks_for_cdk():
    pytest.skip(str(lacks_for_cdk()), allow_module_level=True)

from aws_cdk import Validations
from aws_cdk.assertions import Match, Template
from cdk_nag import AwsSolutionsChecks

from deploy import database_setup, mlflow_users
from deploy.alarms import of_the_service
from deploy.app import make, new_app
from deploy.containers import SETTINGS_FILE
from deploy.database import ROLES
from deploy.environment import JOBS, DeploymentError, Environment, read_environments
from deploy.figures import FIGURES, KEY
from deploy.jobs import KEEPS_FILES, PUBLISH
from deploy.network import ENDPOINTS
from deploy.stacks import STACKS, build
from monitoring import aws as monitoring_aws
from monitoring import evaluate
from monitoring.evaluate import evaluate_decisions
from monitoring.launchers import JobRequest, send_metrics
from monitoring.tracking import NO_CHAMPION
from pricing.config import load_config
from serving.__main__ import GRACE_SECONDS
from tests.kit.findings import ACCEPTED, Finding, unexplained, without_use
from tests.kit.serving import open_app
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "operating.md"
ENVIRONMENTS = read_environments()
BOTH = pytest.mark.parametrize("name", ENVIRONMENTS)


@dataclass(frozen=True)
class Synthesised:
    """What one synthesis of every environment left.

    Attributes:
        folder: Of the templates.
        report: Of cdk-nag.
    """

    folder: Path
    report: dict[str, Any]

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        return {
            f"pricing-{name}-{stack}": json.loads(
                (self.folder / f"pricing-{name}-{stack}.template.json").read_text(encoding="utf-8")
            )
            for name in ENVIRONMENTS
            for stack in STACKS
        }

    @cached_property
    def matchers(self) -> dict[str, Template]:
        return {}

    def stack(self, name: str, stack: str) -> Template:
        key = f"pricing-{name}-{stack}"
        if key not in self.matchers:
            self.matchers[key] = Template.from_json(self.templates[key])
        return self.matchers[key]

    def resources(self, name: str, kind: str, *, stack: str | None = None) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a kind, by logical id, in one stack or in all of an environment."""
        return {
            logical: one.get("Properties", {})
            for each in ((stack,) if stack else STACKS)
            for logical, one in self.templates[f"pricing-{name}-{each}"]["Resources"].items()
            if one["Type"] == kind
        }

    def task(self, name: str, family: str) -> dict[str, Any]:
        """The properties of a task definition."""
        (found,) = (
            one
            for one in self.resources(name, "AWS::ECS::TaskDefinition").values()
            if one["Family"] == f"pricing-{name}-{family}"
        )
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    folder = tmp_path_factory.mktemp("cdk")
    app = make(new_app(str(folder)), {})
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError:  # cdk-nag has findings; a test says whether each is explained
        if not (folder / "validation-report.json").is_file():
            raise
    report = json.loads((folder / "validation-report.json").read_text(encoding="utf-8"))
    return Synthesised(folder, report)


def container(task: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in task["ContainerDefinitions"] if one["Name"] == name)
    return dict(found)


def variables(task: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {one["Name"]: one["Value"] for one in container(task, name).get("Environment", [])}


def secrets(task: Mapping[str, Any], name: str) -> set[str]:
    return {one["Name"] for one in container(task, name).get("Secrets", [])}


def statements(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(properties["PolicyDocument"]["Statement"])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def flat(value: Any) -> str:
    """A value with its references, as text to search in."""
    return json.dumps(value)


def with_network(changes: Mapping[str, Any]) -> Environment:
    staging = ENVIRONMENTS["staging"]
    return staging.model_copy(update={"network": staging.network.model_copy(update=dict(changes))})


# The network


@BOTH
def test_an_environment_is_deployed_by_way_of_its_own_bootstrap_alone(made: Synthesised, name: str) -> None:
    artifacts = json.loads((made.folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]

    for stack in STACKS:
        said = json.dumps([artifacts[f"pricing-{name}-{stack}"], artifacts[f"pricing-{name}-{stack}.assets"]])
        assert set(re.findall(r"\bcdk-(\w+)-|/cdk-bootstrap/(\w+)/", said)) == {
            (ENVIRONMENTS[name].qualifier, ""), ("", ENVIRONMENTS[name].qualifier),
        }  # fmt: skip
        assert made.templates[f"pricing-{name}-{stack}"]["Parameters"]["BootstrapVersion"]["Default"] == (
            f"/cdk-bootstrap/{ENVIRONMENTS[name].qualifier}/version"
        )


@BOTH
def test_no_task_needs_a_way_to_the_internet(made: Synthesised, name: str) -> None:
    network = made.stack(name, "foundation")

    network.resource_count_is("AWS::EC2::NatGateway", 0)
    network.resource_count_is("AWS::EC2::VPCEndpoint", len(ENDPOINTS) + 1)
    routes = made.resources(name, "AWS::EC2::Route").values()
    assert {flat(route["RouteTableId"]).count("publicSubnet") for route in routes} == {1}


@BOTH
def test_only_what_trains_or_tracks_reaches_the_database(made: Synthesised, name: str) -> None:
    rules = made.resources(name, "AWS::EC2::SecurityGroupIngress").values()

    into = {flat(one["SourceSecurityGroupId"]) for one in rules if "NetworkDatabase" in flat(one["GroupId"])}

    assert {re.sub(r".*Network(\w+?)[0-9A-F]{8}.*", r"\1", one) for one in into} == {"Mlflow", "Jobs"}


@BOTH
def test_only_the_load_balancer_reaches_the_service(made: Synthesised, name: str) -> None:
    rules = made.resources(name, "AWS::EC2::SecurityGroupIngress").values()

    into = [one for one in rules if "NetworkServing" in flat(one["GroupId"])]

    assert ["NetworkBalancer" in flat(one["SourceSecurityGroupId"]) for one in into] == [True]


@BOTH
def test_callers_reach_the_load_balancer_by_tls_alone(made: Synthesised, name: str) -> None:
    way_in = made.stack(name, "tracking")

    way_in.resource_count_is("AWS::ElasticLoadBalancingV2::Listener", 1)
    way_in.has_resource_properties(
        "AWS::ElasticLoadBalancingV2::Listener",
        {
            "Port": 443,
            "Protocol": "HTTPS",
            "SslPolicy": Match.string_like_regexp("TLS13-1-2"),
            "Certificates": Match.any_value(),
        },
    )
    certificate = f"/pricing/{name}/certificate"
    assert certificate in [
        one.get("Default") for one in made.templates[f"pricing-{name}-tracking"]["Parameters"].values()
    ]


# Images


@BOTH
def test_a_tag_of_an_image_never_moves_and_each_push_is_scanned(made: Synthesised, name: str) -> None:
    repositories = made.resources(name, "AWS::ECR::Repository").values()

    assert {one["RepositoryName"] for one in repositories} == {
        f"pricing-{name}/{image}" for image in ("serving", "mlflow", "jobs", "collector")
    }
    assert {one["ImageTagMutability"] for one in repositories} == {"IMMUTABLE"}
    assert {one["ImageScanningConfiguration"]["ScanOnPush"] for one in repositories} == {True}


# The service


@BOTH
def test_a_deployment_that_fails_rolls_back_by_itself(made: Synthesised, name: str) -> None:
    alarms = {one.get("AlarmName") for one in made.resources(name, "AWS::CloudWatch::Alarm", stack="serving").values()}
    service = made.stack(name, "serving")

    service.has_resource_properties(
        "AWS::ECS::Service",
        {
            "DeploymentConfiguration": {
                "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
                "Alarms": {"Enable": True, "Rollback": True, "AlarmNames": Match.any_value()},
                "MinimumHealthyPercent": 100,
                "MaximumPercent": 200,
            }
        },
    )
    (made_service,) = made.resources(name, "AWS::ECS::Service", stack="serving").values()
    assert set(made_service["DeploymentConfiguration"]["Alarms"]["AlarmNames"]) <= alarms


@BOTH
def test_a_task_gets_requests_once_it_prices_and_is_started_again_once_it_is_dead(made: Synthesised, name: str) -> None:
    made.stack(name, "serving").has_resource_properties(
        "AWS::ElasticLoadBalancingV2::TargetGroup", {"HealthCheckPath": "/health/ready", "Matcher": {"HttpCode": "200"}}
    )

    check = container(made.task(name, "serving"), "serving")["HealthCheck"]["Command"]

    assert check[0] == "CMD"
    assert "/health/live" in check[-1]


@BOTH
def test_a_task_has_time_to_end_before_it_is_killed(made: Synthesised, name: str) -> None:
    stop = container(made.task(name, "serving"), "serving")["StopTimeout"]

    assert GRACE_SECONDS < stop <= 120


@BOTH
def test_no_program_runs_as_root_or_writes_to_its_image(made: Synthesised, name: str) -> None:
    """What prepares a task's volumes is root without capabilities, and ends before the program starts."""
    for family in ("serving", "mlflow", *JOBS):
        task = made.task(name, family)
        for one in task["ContainerDefinitions"]:
            assert one["ReadonlyRootFilesystem"] is True, family
            assert one["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}, family
            assert "Privileged" not in one, family
            if one["Name"] == "prepare":
                assert one["Essential"] is False, family
            else:
                assert one["User"] == "10001:10001", family
        (program,) = (one for one in task["ContainerDefinitions"] if one["Essential"])
        assert {"ContainerName": "prepare", "Condition": "SUCCESS"} in program["DependsOn"], family


@BOTH
def test_the_service_reads_what_is_published_puts_decisions_and_tells_figures(made: Synthesised, name: str) -> None:
    policies = made.resources(name, "AWS::IAM::Policy", stack="serving").values()
    (own,) = (one for one in policies if "Execution" not in flat(one["Roles"]))

    may = {action: flat(one["Resource"]) for one in statements(own) for action in listed(one["Action"])}

    puts, logs = {"s3:PutObject", "s3:AbortMultipartUpload"}, {action for action in may if action.startswith("logs:")}
    assert may.keys() == puts | logs | {"s3:GetObject", "s3:ListBucket", "kms:Decrypt", "kms:GenerateDataKey"}
    assert {action for action, place in may.items() if "/decisions/*" in place} == puts
    assert {action for action, place in may.items() if "/published/*" in place} == {"s3:GetObject"}
    assert logs == {"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}
    assert len(policies) == 2


@BOTH
def test_the_service_knows_neither_database_nor_registry(made: Synthesised, name: str) -> None:
    task = made.task(name, "serving")

    assert not {one for one in variables(task, "serving") if "DATABASE" in one or "MLFLOW" in one}
    assert secrets(task, "serving") == {"PRICING_API_KEYS", KEY}


@BOTH
@pytest.mark.parametrize(
    ("variable", "prefix"), [("PRICING_DECISIONS_URL", "/decisions"), ("PRICING_PUBLISHED", "/published")]
)
def test_tasks_and_jobs_meet_in_the_data_bucket(made: Synthesised, name: str, variable: str, prefix: str) -> None:
    (data,) = (key for key in made.resources(name, "AWS::S3::Bucket") if key.startswith("BucketsData"))
    addresses = [variables(made.task(name, "serving"), "serving")[variable]]
    addresses += [variables(made.task(name, job), "job")[variable] for job in JOBS]

    assert {flat(one) for one in addresses} == {flat(addresses[0])}
    assert data in flat(addresses[0])
    assert addresses[0]["Fn::Join"][1][-1] == prefix


@BOTH
def test_publishing_runs_for_ever_once(made: Synthesised, name: str) -> None:
    (service,) = made.resources(name, "AWS::ECS::Service", stack="jobs").values()

    assert service["DesiredCount"] == 1
    assert "JobsPublish" in flat(service["TaskDefinition"])
    assert container(made.task(name, "publish"), "job")["Command"][-2] == "--every"


@BOTH
def test_the_gateway_to_s3_leads_to_no_bucket_of_anybody_else(made: Synthesised, name: str) -> None:
    (gateway,) = (one for one in made.resources(name, "AWS::EC2::VPCEndpoint").values() if "PolicyDocument" in one)
    buckets = {key for key in made.resources(name, "AWS::S3::Bucket") if "Logs" not in key}

    reached = [one["Resource"] for one in statements(gateway)]

    named = [place for one in reached for place in listed(one)]
    assert {each for one in named for each in buckets if each in flat(one)} == buckets
    (other,) = (flat(one) for one in named if not any(each in flat(one) for each in buckets))
    assert "starport-layer-bucket/*" in other, "the layers of images, which ECR keeps in a bucket of AWS"


@BOTH
def test_every_variable_of_a_task_is_one_that_the_code_reads(made: Synthesised, name: str) -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for package in ("pricing", "serving", "pipelines", "monitoring")
        for path in (ROOT / package).rglob("*.py")
    )
    others = {"TZ", "PGSSLMODE", "PGPASSWORD", KEY}  # of the C library, libpq, and the collector
    others |= {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}

    for family, program in (("serving", "serving"), *((job, "job") for job in JOBS)):
        task = made.task(name, family)
        named = {*variables(task, program), *secrets(task, program)} - others
        assert {one for one in named if f'"{one}"' not in sources} == set(), family


@BOTH
def test_no_secret_stands_in_a_template(made: Synthesised, name: str) -> None:
    for family in ("serving", "mlflow", *JOBS):
        for one in made.task(name, family)["ContainerDefinitions"]:
            plain = {each["Name"] for each in one.get("Environment", [])}
            assert not {each for each in plain if re.search("PASSWORD|API_KEYS|_KEY$|TOKEN|SECRET", each)}, family
    login = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert {family: login - secrets(made.task(name, family), "job") for family in JOBS} == {job: set() for job in JOBS}


# Growing


@BOTH
def test_the_service_follows_requests_cpu_and_jumps(made: Synthesised, name: str) -> None:
    part = ENVIRONMENTS[name].serving
    service = made.stack(name, "serving")

    for metric, value in (
        ("ALBRequestCountPerTarget", part.requests_per_minute),
        ("ECSServiceAverageCPUUtilization", part.cpu_target),
    ):
        service.has_resource_properties(
            "AWS::ApplicationAutoScaling::ScalingPolicy",
            {
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": Match.object_like(
                    {
                        "PredefinedMetricSpecification": Match.object_like({"PredefinedMetricType": metric}),
                        "TargetValue": value,
                        "ScaleInCooldown": 600,
                        "ScaleOutCooldown": 30,
                    }
                ),
            },
        )
    (step,) = (
        one["StepScalingPolicyConfiguration"]
        for one in made.resources(name, "AWS::ApplicationAutoScaling::ScalingPolicy").values()
        if one["PolicyType"] == "StepScaling"
    )
    assert step["AdjustmentType"] == "PercentChangeInCapacity"
    assert all(one["ScalingAdjustment"] > 0 for one in step["StepAdjustments"])
    service.has_resource_properties(
        "AWS::ApplicationAutoScaling::ScalableTarget", {"MinCapacity": part.least, "MaxCapacity": part.most}
    )


def test_capacity_follows_the_shops_day_in_its_own_time_zone(made: Synthesised) -> None:
    (target,) = made.resources("production", "AWS::ApplicationAutoScaling::ScalableTarget").values()

    actions = target["ScheduledActions"]

    assert [one["Timezone"] for one in actions] == ["Europe/Berlin"] * 2
    assert [one["ScalableTargetAction"]["MinCapacity"] for one in actions] == [3, 2]


# MLflow and the database


@BOTH
def test_the_database_is_encrypted_private_and_backed_up(made: Synthesised, name: str) -> None:
    part = ENVIRONMENTS[name].tracking

    made.stack(name, "tracking").has_resource_properties(
        "AWS::RDS::DBInstance",
        {
            "Engine": "postgres",
            "StorageEncrypted": True,
            "KmsKeyId": Match.any_value(),
            "PubliclyAccessible": False,
            "BackupRetentionPeriod": part.backup_days,
            "MultiAZ": part.multi_az,
            "DeletionProtection": ENVIRONMENTS[name].kept,
        },
    )


def test_production_keeps_its_data_when_a_stack_goes(made: Synthesised) -> None:
    kept = {"AWS::S3::Bucket", "AWS::EFS::FileSystem", "AWS::RDS::DBInstance", "AWS::KMS::Key", "AWS::ECR::Repository"}

    policies = {
        one["Type"]: one.get("DeletionPolicy")
        for key, template in made.templates.items()
        if "production" in key
        for one in template["Resources"].values()
        if one["Type"] in kept
    }

    assert policies == {**dict.fromkeys(kept, "Retain"), "AWS::RDS::DBInstance": "Snapshot"}


@BOTH
def test_mlflow_keeps_runs_in_the_database_and_files_in_its_bucket(made: Synthesised, name: str) -> None:
    given = variables(made.task(name, "mlflow"), "mlflow")

    assert "postgresql+psycopg2://mlflow@" in flat(given["MLFLOW_BACKEND_STORE_URI"])
    assert "s3://" in flat(given["MLFLOW_ARTIFACTS_DESTINATION"])
    assert f"mlflow.{name}.pricing.internal:*" in flat(given["MLFLOW_SERVER_ALLOWED_HOSTS"])
    uris = {variables(made.task(name, job), "job")["MLFLOW_TRACKING_URI"] for job in JOBS}
    assert uris == {f"http://mlflow.{name}.pricing.internal:5000"}


def test_every_role_that_is_made_has_a_password_and_the_reverse() -> None:
    assert set(ROLES) == set(database_setup.ROLES)


@BOTH
def test_databases_and_roles_are_made_before_mlflow_starts(made: Synthesised, name: str) -> None:
    program = container(made.task(name, "mlflow"), "mlflow")

    assert {"ContainerName": "database", "Condition": "SUCCESS"} in container(made.task(name, "mlflow"), "users")[
        "DependsOn"
    ]
    assert {"ContainerName": "users", "Condition": "SUCCESS"} in program["DependsOn"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Template]:
    """Staging with people who open MLflow, and with sales from tables that etl keeps."""
    changed = with_network({"people": ["203.0.113.0/24"]})
    stacks = build(new_app(str(tmp_path_factory.mktemp("other"))), changed.model_copy(update={"sales": "etl"}))
    return {name: Template.from_stack(stacks[name]) for name in ("tracking", "jobs")}


def test_people_see_mlflow_from_their_networks_alone(other: dict[str, Template]) -> None:
    other["tracking"].has_resource_properties(
        "AWS::ElasticLoadBalancingV2::ListenerRule",
        {
            "Conditions": [
                {"Field": "host-header", "HostHeaderConfig": {"Values": ["mlflow.staging.example.com"]}},
                {"Field": "source-ip", "SourceIpConfig": {"Values": ["203.0.113.0/24"]}},
            ]
        },
    )


@BOTH
def test_mlflow_asks_everybody_for_a_password(made: Synthesised, name: str) -> None:
    task = made.task(name, "mlflow")

    assert "Command" not in container(task, "mlflow")  # the image's own, which a password makes ask for one
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in secrets(task, "mlflow")
    assert secrets(task, "users") == {"PGPASSWORD", "PASSWORD_ADMIN"}


@BOTH
def test_mlflow_starts_once_its_users_are_there(made: Synthesised, name: str) -> None:
    task = made.task(name, "mlflow")

    def after(program: str) -> set[str]:
        return {one["ContainerName"] for one in container(task, program)["DependsOn"] if one["Condition"] == "SUCCESS"}

    assert after("users") == {"prepare", "database"}
    assert "users" in after("mlflow")
    assert container(task, "users")["Command"] == ["python", "-c", Path(mlflow_users.__file__).read_text("utf-8")]


# Jobs


@BOTH
def test_every_job_has_the_size_that_its_environment_names(made: Synthesised, name: str) -> None:
    sizes = {job: (made.task(name, job)["Cpu"], made.task(name, job)["Memory"]) for job in JOBS}

    assert sizes == {job: (str(size.cpu), str(size.memory)) for job, size in ENVIRONMENTS[name].jobs.items()}


@BOTH
def test_a_job_runs_its_module_on_the_environments_sales(made: Synthesised, name: str) -> None:
    modules = {job: container(made.task(name, job), "job")["Command"][:3] for job in JOBS}

    assert modules == {job: ["python", "-m", module] for job, module in JOBS.items()}
    assert "--sales" in container(made.task(name, "nightly"), "job")["Command"]
    assert all(
        (ROOT / Path(*module.split("."))).with_suffix(".py").exists() or module == "monitoring"
        for module in JOBS.values()
    )


@BOTH
def test_the_night_starts_by_itself_in_the_shops_time(made: Synthesised, name: str) -> None:
    part = ENVIRONMENTS[name].nightly

    made.stack(name, "jobs").has_resource_properties(
        "AWS::Scheduler::Schedule",
        {
            "ScheduleExpression": part.at,
            "ScheduleExpressionTimezone": part.time_zone,
            "State": "ENABLED",
            "Target": Match.object_like({"DeadLetterConfig": Match.any_value(), "EcsParameters": Match.any_value()}),
        },
    )


class Bus:
    """Takes events as EventBridge does."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.entries += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """What EventBridge does with a pattern of values and of `exists`."""
    for key, wanted in pattern.items():
        if isinstance(wanted, Mapping):
            if not matches(wanted, event.get(key, {})):
                return False
        elif not any(
            one["exists"] == (key in event) if isinstance(one, Mapping) else one == event.get(key) for one in wanted
        ):
            return False
    return True


@BOTH
@pytest.mark.parametrize(
    ("order", "words"),
    [
        (JobRequest("refresh", "states are old"), ["pipelines.refresh", "--sales", "s3://shop/sales"]),
        (
            JobRequest("retrain", 'decay, "bias"'),
            ["pipelines.retrain", "--sales", "s3://shop/sales", "--reason", 'decay, "bias"'],
        ),
    ],
    ids=["refresh", "retrain"],
)
def test_what_monitoring_asks_for_is_started_once(
    made: Synthesised, name: str, order: JobRequest, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus()
    monkeypatch.setattr(monitoring_aws, "client", lambda service: bus)
    given = {"sales": "s3://shop/sales", "config": SETTINGS_FILE}

    monitoring_aws.EventBridgeLauncher(f"pricing-{name}", parameters=given).start(order)

    (entry,) = bus.entries
    event = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
    rules = made.resources(name, "AWS::Events::Rule", stack="jobs").values()
    (rule,) = (one for one in rules if matches(one["EventPattern"], event))
    transformer = rule["Targets"][0]["InputTransformer"]
    text = transformer["InputTemplate"]
    for variable, path in transformer["InputPathsMap"].items():
        text = text.replace(f"<{variable}>", json.dumps(event["detail"][path.removeprefix("$.detail.")]))
    (override,) = json.loads(text)["containerOverrides"]
    assert (override["name"], override["command"]) == ("job", ["python", "-m", *words])


@BOTH
def test_monitoring_asks_on_the_bus_whose_rules_listen(made: Synthesised, name: str) -> None:
    settings = variables(made.task(name, "monitor"), "prepare")["SETTINGS"]
    (bus,) = made.resources(name, "AWS::Events::EventBus")

    assert "trigger: event" in flat(settings)
    assert bus in flat(settings)


# Rights


@BOTH
def test_no_role_may_do_everything_of_a_service(made: Synthesised, name: str) -> None:
    wide = [
        (logical, action)
        for logical, policy in made.resources(name, "AWS::IAM::Policy").items()
        for statement in statements(policy)
        for action in listed(statement["Action"])
        if "*" in action
    ]

    assert wide == []


def test_each_job_may_do_what_it_needs_and_no_more(made: Synthesised) -> None:
    may: dict[str, set[str]] = {}
    for logical, policy in made.resources("production", "AWS::IAM::Policy", stack="jobs").items():
        found = re.match(r"Jobs([A-Z][a-z]+)RoleDefaultPolicy", logical)
        if found:
            may[found[1].lower()] = {action for one in statements(policy) for action in listed(one["Action"])}

    reads = {"sns:Publish", "kms:Decrypt", "kms:GenerateDataKey", "s3:ListBucket", "s3:GetObject"}
    files = {"elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"}
    asks = reads | files | {"events:PutEvents", "cloudwatch:PutMetricData"}
    writes = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
    assert may == {
        "train": reads,
        **dict.fromkeys(("refresh", "retrain", "promote", "publish"), reads | writes),
        **dict.fromkeys(("etl", "tune"), reads | files),
        "monitor": asks,
        "nightly": asks | writes,
    }


@BOTH
def test_only_jobs_that_keep_files_share_a_file_system(made: Synthesised, name: str) -> None:
    def home(job: str) -> dict[str, Any]:
        (volume,) = (one for one in made.task(name, job)["Volumes"] if one["Name"] == "home")
        return volume

    assert {job for job in JOBS if "EFSVolumeConfiguration" in home(job)} == set(KEEPS_FILES)
    assert {variables(made.task(name, job), "job")["PRICING_HOME"] for job in JOBS} == {"/var/lib/pricing"}, (
        "where both kinds are mounted"
    )


def test_all_jobs_read_the_tables_that_etl_keeps_where_sales_come_from_them(other: dict[str, Template]) -> None:
    tasks = other["jobs"].find_resources("AWS::ECS::TaskDefinition").values()

    assert [flat(one).count("EFSVolumeConfiguration") for one in tasks] == [1] * len(JOBS)


@BOTH
@pytest.mark.parametrize(
    ("prefix", "readers", "writers"),
    [
        ("/decisions/*", {"train", "tune", "retrain", "monitor", "nightly"}, {"nightly"}),
        ("/published/*", PUBLISH, PUBLISH),
    ],
)
def test_decisions_and_versions_are_read_and_written_by_those_who_need_to(
    made: Synthesised, name: str, prefix: str, readers: set[str], writers: set[str]
) -> None:
    may: dict[str, set[str]] = {}
    for logical, policy in made.resources(name, "AWS::IAM::Policy", stack="jobs").items():
        found = re.match(r"Jobs([A-Z][a-z]+)RoleDefaultPolicy", logical)
        for one in statements(policy) if found else ():
            if found and prefix in flat(one["Resource"]):
                may.setdefault(found[1].lower(), set()).update(listed(one["Action"]))

    assert set(may) == readers
    assert {job for job, actions in may.items() if "s3:DeleteObject" in actions} == writers


# Keys


@BOTH
def test_everything_that_is_kept_is_encrypted_with_the_environments_key(made: Synthesised, name: str) -> None:
    made.stack(name, "foundation").has_resource_properties("AWS::KMS::Key", {"EnableKeyRotation": True})
    kinds = {
        "AWS::Logs::LogGroup": "KmsKeyId",
        "AWS::SNS::Topic": "KmsMasterKeyId",
        "AWS::SQS::Queue": "KmsMasterKeyId",
        "AWS::SecretsManager::Secret": "KmsKeyId",
        "AWS::EFS::FileSystem": "KmsKeyId",
        "AWS::RDS::DBInstance": "KmsKeyId",
    }

    for kind, field in kinds.items():
        found = made.resources(name, kind)
        assert found, kind
        assert {logical for logical, one in found.items() if "EncryptionKey" not in flat(one.get(field))} == set(), kind
    for logical, one in made.resources(name, "AWS::S3::Bucket").items():
        assert ("EncryptionKey" in flat(one["BucketEncryption"])) == ("Logs" not in logical), logical


# The firewall and the budget


@BOTH
def test_an_address_that_sends_too_much_is_blocked(made: Synthesised, name: str) -> None:
    (acl,) = made.resources(name, "AWS::WAFv2::WebACL").values()
    rate = acl["Rules"][0]

    assert rate["Statement"]["RateBasedStatement"]["Limit"] == ENVIRONMENTS[name].serving.requests_per_address
    assert rate["Action"]["Block"]["CustomResponse"]["ResponseCode"] == 429
    made.stack(name, "tracking").resource_count_is("AWS::WAFv2::WebACLAssociation", 1)


@BOTH
def test_a_month_that_becomes_too_dear_is_told(made: Synthesised, name: str) -> None:
    (budget,) = made.resources(name, "AWS::Budgets::Budget").values()

    told = [one["Notification"]["NotificationType"] for one in budget["NotificationsWithSubscribers"]]

    assert budget["Budget"]["BudgetLimit"]["Amount"] == ENVIRONMENTS[name].watch.budget_usd
    assert told == ["ACTUAL", "FORECASTED"]


# What is watched


@BOTH
def test_every_log_ends(made: Synthesised, name: str) -> None:
    groups = made.resources(name, "AWS::Logs::LogGroup")

    assert {logical for logical, one in groups.items() if one["RetentionInDays"] < 1} == set()
    assert {one["RetentionInDays"] for logical, one in groups.items() if "Database" not in logical} == {
        ENVIRONMENTS[name].watch.log_days
    }


@BOTH
def test_every_alarm_tells_the_topic_when_it_begins_and_when_it_ends(made: Synthesised, name: str) -> None:
    alarms = {
        logical: one
        for logical, one in made.resources(name, "AWS::CloudWatch::Alarm").items()
        if "JumpUpperAlarm" not in logical and "UpperAlarm" not in logical
    }

    silent = [
        logical
        for logical, one in alarms.items()
        if "Alarms" not in flat(one.get("AlarmActions")) or "Alarms" not in flat(one.get("OKActions"))
    ]

    assert silent == []
    assert len(alarms) >= 3 + len(of_the_service(ENVIRONMENTS[name]))


@BOTH
def test_an_operator_is_called_for_everything_that_stops_good_prices(made: Synthesised, name: str) -> None:
    names = {one.get("AlarmName", "") for one in made.resources(name, "AWS::CloudWatch::Alarm").values()}

    asked = {
        *("answers-5xx", "slow-p99", "tasks-not-ready", "answers-by-rule", "confidence-low", "state-old"),
        *("decisions-stopped", "version-refused", "follower-blind", "jobs-not-started"),
        *("nightly-silent", "log-upload-late"),
        *("monitoring-error-above-backtest", "monitoring-inputs-drifted", "monitoring-monitoring-silent"),
    }
    assert {f"pricing-{name}-{one}" for one in asked} - names == set()
    made.stack(name, "watch").has_resource_properties(
        "AWS::Events::Rule", {"EventPattern": Match.object_like({"detail-type": ["ECS Task State Change"]})}
    )


def settings_file(made: Synthesised, name: str, family: str, folder: Path) -> Path:
    """The settings of a task as its program gets them, what only AWS knows put in."""
    text = variables(made.task(name, family), "prepare")["SETTINGS"]
    parts = (
        text
        if isinstance(text, str)
        else "".join(one if isinstance(one, str) else "arn:known:to:aws" for one in text["Fn::Join"][1])
    )
    path = folder / "settings.yaml"
    path.write_text(parts, encoding="utf-8")
    return path


@BOTH
@pytest.mark.parametrize("family", ["serving", *JOBS])
def test_the_platform_takes_the_settings_that_a_task_gets(
    made: Synthesised, name: str, family: str, tmp_path: Path
) -> None:
    config = load_config(settings_file(made, name, family, tmp_path))

    assert config.serving.keys == "required"
    assert config.monitoring.trigger == "event"
    assert config.monitoring.endpoints.namespace == f"Pricing/{name}"
    assert "sns" in config.monitoring.alerts


Figure = tuple[str, str]  # dimensions, name


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> set[Figure]:
    """What reaches CloudWatch: the figures of a service with a decision that are declared, and a monitoring run's."""
    return {*sent_by_the_service(tmp_path_factory.mktemp("service")), *sent_by_monitoring()}


def sent_by_the_service(folder: Path) -> Iterator[Figure]:
    with open_app(folder, version=shared_version()) as shop:
        shop.price()
        page = text_string_to_metric_families(shop.service.metrics.page().decode())
    for family in page:
        for sample in family.samples:
            name = sample.name.removesuffix("_sum")
            if name in FIGURES:
                label = FIGURES[name]
                yield "Service", name
                if label is not None:
                    assert label in sample.labels
                    yield f"Service,{label}", name


class CloudWatch:
    """Takes figures as CloudWatch does."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's names
        self.taken += [(Namespace, one) for one in MetricData]


def sent_by_monitoring() -> Iterator[Figure]:
    panel, _ = world.build(world.World(products=4, days=60))
    now = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    config = load_config().monitoring
    endpoints = config.endpoints.model_copy(update={"namespace": "Shop"})
    sends = config.model_copy(update={"metrics": ["cloudwatch"], "endpoints": endpoints})
    found = world.joined([], panel, now=now)
    evaluation = evaluate_decisions(panel, found, champion=NO_CHAMPION, config=config)
    cloud = CloudWatch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitoring_aws, "client", lambda service: cloud)
        send_metrics(evaluate.metrics(evaluation, backtest_wape=0.4), sends, model="pricing", now=now)
    for namespace, one in cloud.taken:
        assert (namespace, one["Dimensions"]) == ("Shop", [{"Name": "Model", "Value": "pricing"}])
        yield "Model", one["MetricName"]


def asked_for(made: Synthesised, name: str) -> set[Figure]:
    """Every figure of our own namespace in the environment's dashboard and alarms."""
    found = set()
    for one in made.resources(name, "AWS::CloudWatch::Alarm").values():
        parts = [part["MetricStat"]["Metric"] for part in one.get("Metrics", []) if "MetricStat" in part]
        for metric in (one, *parts):
            if metric.get("Namespace") == f"Pricing/{name}":
                found.add((",".join(sorted(each["Name"] for each in metric["Dimensions"])), metric["MetricName"]))
    (dashboard,) = made.resources(name, "AWS::CloudWatch::Dashboard").values()
    body = dashboard["DashboardBody"]
    text = (
        body if isinstance(body, str) else "".join(one if isinstance(one, str) else "x" for one in body["Fn::Join"][1])
    )
    for widget in json.loads(text)["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if metric[0] == f"Pricing/{name}":
                found.add((",".join(one for one in metric[2::2] if isinstance(one, str)), metric[1]))
            elif isinstance(metric[0], dict):
                found |= set(re.findall(rf'{{Pricing/{name},([\w,]+)}} MetricName="(\w+)"', metric[0]["expression"]))
    return found


@BOTH
def test_the_programs_send_every_figure_of_their_own_that_is_shown_or_watched(
    made: Synthesised, name: str, emitted: set[Figure]
) -> None:
    asked = asked_for(made, name)

    assert asked - emitted == set()
    assert {figure for dimensions, figure in asked if dimensions.startswith("Service")} == set(FIGURES)
    assert {("Model", "wape_to_backtest"), ("Service,version", "pricing_workers")} <= asked


@BOTH
def test_the_collector_reads_the_service_and_sends_what_is_declared_by_its_own_key(
    made: Synthesised, name: str
) -> None:
    task = made.task(name, "serving")
    collector, config = (
        container(task, "collector"),
        json.loads(variables(task, "collector")["AOT_CONFIG_CONTENT"]["Fn::Sub"]),
    )
    (scrape,) = config["receivers"]["prometheus"]["config"]["scrape_configs"]
    groups = made.resources(name, "AWS::Logs::LogGroup", stack="serving").values()

    assert collector["Essential"] is False
    assert collector["RestartPolicy"]["Enabled"] is True
    assert flat(collector["Image"]).count("v0.") == 1
    assert scrape["authorization"] == {"credentials": f"${{!env:{KEY}}}"}  # Fn::Sub takes the ! away
    assert scrape["static_configs"][0]["targets"] == ["127.0.0.1:8080"]
    assert config["exporters"]["awsemf"]["namespace"] == f"Pricing/{name}"
    assert config["exporters"]["awsemf"]["log_group_name"] in {one["LogGroupName"] for one in groups}
    assert f";collector ${KEY} admin" in container(task, "serving")["Command"][-1]


@BOTH
def test_a_night_that_does_not_come_is_told_within_hours(made: Synthesised, name: str) -> None:
    made.stack(name, "watch").has_resource_properties(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmName": f"pricing-{name}-nightly-silent",
            "MetricName": "decisions",
            "Statistic": "SampleCount",
            "Period": 3600,
            "EvaluationPeriods": ENVIRONMENTS[name].watch.night_hours,
            "TreatMissingData": "breaching",
        },
    )


# Stacks, tools, pages


def test_production_cannot_be_deleted_by_one_command() -> None:
    app = make(new_app(), {"ENV": "production"})

    protected = {child.node.id: child.termination_protection for child in app.node.children}

    assert protected == {f"pricing-production-{stack}": True for stack in STACKS}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"ENV": "live"}, "ENV=live: no such environment; there are staging, production"),
        ({"ENV": "staging", "IMAGES": "service=1"}, "IMAGES: expected serving="),
    ],
)
def test_a_deployment_that_cannot_be_meant_is_refused(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(DeploymentError, match=complaint):
        make(new_app(), given)


def test_no_account_stands_in_a_source_or_a_template(made: Synthesised) -> None:
    account = re.compile(r"(?<![\w.])\d{12}(?![\w.])")
    pages = [ROOT / "docs" / name for name in ("deploy.md", "operating.md")]
    sources = [*(ROOT / "deploy").glob("*"), *pages]

    named = {path.name for path in sources if path.is_file() and account.search(path.read_text(encoding="utf-8"))}
    in_templates = {
        found
        for template in made.templates.values()
        for logical, one in template["Resources"].items()
        if "BucketsLogsPolicy" not in logical  # it names the account by which AWS's load balancers write their logs
        for found in account.findall(flat(one))
    }

    assert named == set()
    assert in_templates == set()


def found_by_nag(made: Synthesised) -> Iterator[Finding]:
    for plugin in made.report["pluginReports"]:
        for violation in plugin["violations"]:
            for one in violation["violatingConstructs"]:
                yield Finding(violation["ruleName"], one["constructPath"])


def test_cdk_nag_finds_nothing_unexplained(made: Synthesised) -> None:
    assert unexplained(found_by_nag(made), ACCEPTED) == []


@pytest.mark.slow
def test_cfn_lint_finds_nothing(made: Synthesised) -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [program, "--format", "parseable", "--", *sorted(made.folder.glob("*.template.json"))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.slow
def test_checkov_finds_nothing_unexplained_and_every_reason_is_needed(made: Synthesised) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "run", "--quiet", "--isolated", "--no-project", "--python", sys.executable]
    command += ["--with-requirements", ROOT / "requirements" / "scan.txt", "checkov"]
    if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("checkov cannot be installed here: no package index is reached")
    done = subprocess.run(
        [*command, "--directory", made.folder, "--framework", "cloudformation", "--output", "json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        cwd=made.folder,
    )
    results = json.loads(done.stdout)["results"]["failed_checks"]
    findings = [Finding(one["check_id"], f"{one['file_path']} {one['resource']}") for one in results]

    assert unexplained(findings, ACCEPTED) == []
    assert without_use([*findings, *found_by_nag(made)], ACCEPTED) == []


def test_every_output_and_name_that_the_guide_uses_is_there(made: Synthesised) -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    used = set(re.findall(r"output (\w+) (\w+)", guide))

    outputs = {
        (stack, key) for stack in STACKS for key in made.templates[f"pricing-staging-{stack}"].get("Outputs", {})
    }
    families = {one["Family"] for one in made.resources("staging", "AWS::ECS::TaskDefinition").values()}
    started = set(re.findall(r"`?job (\w+)", guide)) & set(JOBS)

    assert len(used) >= 4
    assert used - outputs == set()
    assert {f"pricing-staging-{job}" for job in started} - families == set()
    (schedule,) = made.resources("staging", "AWS::Scheduler::Schedule").values()
    assert schedule["Name"] == "pricing-staging-nightly"
    groups = {one["LogGroupName"] for one in made.resources("staging", "AWS::Logs::LogGroup").values()}
    named = {name.replace("ENV", "staging") for name in re.findall(r"`(/pricing/ENV/\w+)`", guide)}
    tailed = {f"/pricing/staging/{group}" for group in re.findall(r"`errors (\w+)", guide)}
    assert len(named | tailed) >= 3
    assert (named | tailed) - groups == set()
    assert "/pricing/staging/certificate" in flat(made.templates["pricing-staging-tracking"])
    assert "pricing/staging/api-keys" in flat(made.templates["pricing-staging-foundation"])


@BOTH
def test_each_alarm_has_its_section_in_the_guide_and_its_description_leads_there(made: Synthesised, name: str) -> None:
    alarms = {
        one["AlarmName"].removeprefix(f"pricing-{name}-"): one["AlarmDescription"]
        for one in made.resources(name, "AWS::CloudWatch::Alarm").values()
        if "AlarmName" in one  # the jumps' alarm, by which tasks are added, calls nobody
    }

    sections = alarm_sections()

    assert set(sections) == set(alarms)
    assert {key: said for key, said in alarms.items() if not said.endswith(f": docs/operating.md#{key}")} == {}


def alarm_sections() -> dict[str, str]:
    """The sections of the guide's chapter on alarms, by their headings."""
    chapter = GUIDE.read_text(encoding="utf-8").partition("\n## Alarms\n")[2]
    parts = re.split(r"^### (.+)$", chapter, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))
