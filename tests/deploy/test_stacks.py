"""What the templates promise, in staging and in production; synthesised once, without an AWS account."""

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import monitoring_world as world
from tests.kit.cdk import lacks_for_cdk

if lacks_for_cdk():
    pytest.skip(str(lacks_for_cdk()), allow_module_level=True)

from aws_cdk import Validations
from cdk_nag import AwsSolutionsChecks

from deploy.app import build, make, new_app
from deploy.environment import DeploymentError, Environment, read_environments
from deploy.jobs import KINDS
from deploy.pipeline import ISSUER, STACKS
from deploy.tasks import LIMIT, SETTINGS_FILE
from deploy.watch import FOLDER, TABLE
from monitoring import evaluate
from monitoring.alert import send_metrics
from monitoring.evaluate import evaluate_decisions
from monitoring.launch import EventBridgeLauncher
from monitoring.tracking import NO_CHAMPION
from pricing.config import Config, load_config
from serving.__main__ import GRACE_SECONDS
from tests.kit.serving import open_app
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = read_environments()
JOBS_OF_STAGING = ENVIRONMENTS["staging"].jobs
SCALED = ENVIRONMENTS["staging"].model_copy(
    update={
        "name": "staging-scaled",
        "jobs": JOBS_OF_STAGING.model_copy(update={"workers": 3}),
        "nightly": ENVIRONMENTS["staging"].nightly.model_copy(update={"partitions": 7}),
    }
)
REPOSITORY = "shop@12/pricing@345"
# It lists no major release alone, which RDS takes for its newest minor; CDK's state machine names its role twice.
UNKNOWN = ("--ignore-checks", "W3691", "W3005")
DIGEST = f"sha256:{'a' * 64}"
JOBS = ("train", "nightly", "promote", "publish")
KEPT = ("AWS::S3::Bucket", "AWS::RDS::DBInstance", "AWS::KMS::Key", "AWS::ECR::Repository")
WITH_KEY = {
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SecretsManager::Secret": "KmsKeyId",
    "AWS::RDS::DBInstance": "KmsKeyId",
}


def flat(value: Any) -> str:
    """A value of a template in one line, with references as their names."""
    if isinstance(value, dict) and "Fn::Join" in value:
        return "".join(map(flat, value["Fn::Join"][1]))
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("Ref", "Fn::GetAtt", "Fn::ImportValue"):
        return flat(next(iter(value.values())))
    return value if isinstance(value, str) else json.dumps(value, default=flat)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def below(places: list[str]) -> list[str]:
    """What stands after the bucket."""
    return sorted(place.partition("/")[2] for place in places)


@dataclass(frozen=True)
class Made:
    """The synthesised stacks of an environment.

    Attributes:
        environment: It.
        templates: By the stack's name; `pipeline` is among them.
    """

    environment: Environment
    templates: dict[str, dict[str, Any]]

    def of(self, kind: str, *stacks: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a kind, by logical id, in some stacks or in all."""
        return {
            logical: one.get("Properties", {})
            for stack in stacks or STACKS
            for logical, one in self.templates[stack]["Resources"].items()
            if one["Type"] == kind
        }

    def one(self, kind: str, *stacks: str) -> dict[str, Any]:
        (found,) = self.of(kind, *stacks).values()
        return found

    def container(self, family: str, name: str) -> dict[str, Any]:
        (task,) = (
            one
            for one in self.of("AWS::ECS::TaskDefinition").values()
            if one["Family"] == f"pricing-{self.environment.name}-{family}"
        )
        (found,) = (one for one in task["ContainerDefinitions"] if one["Name"] == name)
        return dict(found)

    def containers(self) -> list[dict[str, Any]]:
        tasks = self.of("AWS::ECS::TaskDefinition").values()
        return [container for task in tasks for container in task["ContainerDefinitions"]]

    def variables(self, family: str, name: str) -> dict[str, Any]:
        return {one["Name"]: one["Value"] for one in self.container(family, name).get("Environment", [])}

    def secrets(self, family: str, name: str) -> set[str]:
        return {one["Name"] for one in self.container(family, name).get("Secrets", [])}

    def may(self, stack: str, role: str) -> dict[str, list[str]]:
        """What a role's own policy allows: action → resources."""
        found: dict[str, list[str]] = {}
        for logical, policy in self.of("AWS::IAM::Policy", stack).items():
            if logical.startswith(f"{role}DefaultPolicy"):
                for statement in policy["PolicyDocument"]["Statement"]:
                    for action in listed(statement["Action"]):
                        found.setdefault(action, []).extend(map(flat, listed(statement["Resource"])))
        return found

    def reached_from(self, group: str) -> set[str]:
        """The security groups that may reach one."""
        rules = self.of("AWS::EC2::SecurityGroupIngress").values()
        sources = [flat(one["SourceSecurityGroupId"]) for one in rules if f"Network{group}" in flat(one["GroupId"])]
        return {re.sub(r".*Network(\w+?)[0-9A-F]{8}.*", r"\1", one) for one in sources}


@dataclass(frozen=True)
class Synthesis:
    """What one synthesis of every environment left, and of one with workers."""

    folder: Path
    made: dict[str, Made]
    findings: list[tuple[str, str]]


@pytest.fixture(scope="module")
def synthesis(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    folder = tmp_path_factory.mktemp("cdk")
    app = make(new_app(str(folder)), {"REPOSITORY": REPOSITORY})
    build(app, SCALED, repository=REPOSITORY)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError:  # cdk-nag has findings; a test says whether each is explained
        if not (folder / "validation-report.json").is_file():
            raise
    report = json.loads((folder / "validation-report.json").read_text(encoding="utf-8"))
    findings = [
        (violation["ruleName"], one["constructPath"])
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for one in violation["violatingConstructs"]
    ]

    def read(name: str) -> dict[str, dict[str, Any]]:
        stacks = (*STACKS, "pipeline")
        return {one: json.loads((folder / f"pricing-{name}-{one}.template.json").read_text("utf-8")) for one in stacks}

    every = (*ENVIRONMENTS.values(), SCALED)
    return Synthesis(folder, {one.name: Made(one, read(one.name)) for one in every}, findings)


# Promises: each is true of both environments.


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def made(synthesis: Synthesis, request: pytest.FixtureRequest) -> Made:
    return synthesis.made[request.param]


def test_no_task_needs_a_way_to_the_internet_and_callers_reach_the_load_balancer_inside_by_tls_alone(
    made: Made,
) -> None:
    listener = made.one("AWS::ElasticLoadBalancingV2::Listener")

    assert not made.of("AWS::EC2::NatGateway") | made.of("AWS::EC2::InternetGateway")
    assert made.one("AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert "TLS13-1-2" in listener["SslPolicy"]


def test_the_load_balancer_alone_reaches_services_and_what_trains_tracks_or_decides_the_database(made: Made) -> None:
    assert made.reached_from("Serving") == made.reached_from("Console") == {"Balancer"}
    assert made.reached_from("Database") == {"Mlflow", "Jobs", "Console"}


@pytest.mark.parametrize(
    ("family", "port", "named", "before"),
    [("serving", 8080, "PORT", "SERVING_1"), ("console", 8090, "CONSOLE_PORT", "CONSOLE")],
)
def test_a_program_is_reached_through_its_proxy_which_stops_first_and_believes_the_load_balancer_alone(
    made: Made, family: str, port: int, named: str, before: str
) -> None:
    program, proxy = made.variables(family, family), made.variables(family, "proxy")
    container = made.container(family, "proxy")

    assert program["HOST"] == "127.0.0.1"
    assert proxy[before] == f"127.0.0.1:{program['PORT']}"
    assert container["PortMappings"][0]["ContainerPort"] == int(proxy[named]) == port
    assert container["DependsOn"] == [{"ContainerName": family, "Condition": "START"}]
    assert proxy["TRUSTED_PROXIES"] == made.environment.network.cidr


def test_managers_open_the_console_under_its_own_name(made: Made) -> None:
    rule = made.one("AWS::ElasticLoadBalancingV2::ListenerRule", "console")

    (host,) = (one["HostHeaderConfig"]["Values"] for one in rule["Conditions"])

    assert host == [made.environment.console_domain]


def test_the_gateway_to_s3_leads_to_no_bucket_of_anybody_else(made: Made) -> None:
    (gateway,) = (one for one in made.of("AWS::EC2::VPCEndpoint").values() if "PolicyDocument" in one)

    reached = [flat(place) for one in gateway["PolicyDocument"]["Statement"] for place in listed(one["Resource"])]

    own = r"(Artifacts|Data)[0-9A-F]{8}"
    assert [one for one in reached if not re.search(own, one) and "starport-layer-bucket/*" not in one] == []


def test_an_address_that_sends_too_much_is_blocked(made: Made) -> None:
    rate = made.one("AWS::WAFv2::WebACL")["Rules"][0]["Statement"]["RateBasedStatement"]

    assert rate["Limit"] == made.environment.serving.requests_per_address
    assert len(made.of("AWS::WAFv2::WebACLAssociation")) == 1


def test_a_tag_of_an_image_never_moves_and_each_push_is_scanned(made: Made) -> None:
    found = made.of("AWS::ECR::Repository").values()

    assert [one["ImageTagMutability"] for one in found] == ["IMMUTABLE"] * 4
    assert all(one["ImageScanningConfiguration"]["ScanOnPush"] for one in found)


def test_releases_are_kept_by_their_tags_and_not_by_the_manifests_that_make_one_up(made: Made) -> None:
    for one in made.of("AWS::ECR::Repository").values():
        rules = [rule["selection"] for rule in json.loads(one["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]]
        counted = [rule["tagStatus"] for rule in rules if rule["countType"] == "imageCountMoreThan"]
        assert counted == ["tagged"]


def test_a_deployment_names_images_by_digest_and_those_that_run_where_none_are_given(
    made: Made, tmp_path: Path
) -> None:
    given = made.environment.model_copy(update={"images": {"serving": DIGEST}})
    app = new_app(str(tmp_path))
    build(app, given)
    app.synth()
    template = json.loads((tmp_path / f"pricing-{given.name}-serving.template.json").read_text(encoding="utf-8"))
    (task,) = (one for one in template["Resources"].values() if one["Type"] == "AWS::ECS::TaskDefinition")
    named = {one["Name"]: flat(one["Image"]).partition("@")[2] for one in task["Properties"]["ContainerDefinitions"]}

    kept = flat(made.container("serving", "serving")["Image"]).partition("@")[2]
    parameter = made.templates["serving"]["Parameters"][kept]

    assert named["serving"] == named["proxy"] == DIGEST
    assert re.fullmatch("sha256:[0-9a-f]{64}", named["collector"])
    assert parameter["Type"] == "AWS::SSM::Parameter::Value<String>"
    assert parameter["Default"] == f"/pricing/{given.name}/images/serving"


def test_a_deployment_that_fails_rolls_back_by_itself_and_none_resets_the_number_of_tasks(made: Made) -> None:
    service = made.one("AWS::ECS::Service", "serving")
    how = service["DeploymentConfiguration"]
    names = [f"pricing-{made.environment.name}-{row}" for row in ("answers-5xx", "slow-p99", "tasks-not-ready")]

    assert how["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (how["Alarms"]["Rollback"], how["Alarms"]["AlarmNames"]) == (True, names)
    assert set(names) <= {one.get("AlarmName") for one in made.of("AWS::CloudWatch::Alarm", "serving").values()}
    assert "DesiredCount" not in service
    assert (how["MinimumHealthyPercent"], how["MaximumPercent"]) == (100, 200)


def test_a_task_gets_requests_once_it_prices_is_started_again_once_it_is_dead_and_has_time_to_end(made: Made) -> None:
    service = made.container("serving", "serving")

    assert made.one("AWS::ElasticLoadBalancingV2::TargetGroup", "serving")["HealthCheckPath"] == "/health/ready"
    assert "/health/live" in service["HealthCheck"]["Command"][-1]
    assert GRACE_SECONDS < service["StopTimeout"] <= 120


def test_no_container_is_root_writes_to_its_image_or_is_told_a_secret_openly(made: Made) -> None:
    for one in made.containers():
        names = " ".join(each["Name"] for each in one.get("Environment", []))
        assert (one["User"], one["ReadonlyRootFilesystem"]) == ("10001:10001", True)
        assert one["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
        assert not re.search(r"PASSWORD|API_KEYS|_KEY\b|TOKEN|SECRET", names)


def test_secrets_go_to_whom_they_are_for_and_the_service_knows_neither_database_nor_registry(made: Made) -> None:
    assert made.secrets("serving", "serving") == {"PRICING_API_KEYS", "METRICS_KEY"}
    assert not re.search("DATABASE|MLFLOW", " ".join(made.variables("serving", "serving")))
    assert made.secrets("console", "console") == {"PGPASSWORD", "PRICING_API_KEYS", "PRICING_CONSOLE_SECRET"}
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in made.secrets("mlflow", "mlflow")


def test_service_and_console_read_what_is_published_and_write_what_is_theirs(made: Made) -> None:
    service, console = made.may("serving", "TaskRole"), made.may("console", "PagesRole")
    puts, own = {"s3:PutObject", "s3:AbortMultipartUpload"}, f"published/{made.environment.model}"
    both = {"s3:GetObject", "s3:ListBucket", "kms:Decrypt", "kms:GenerateDataKey"} | puts

    assert {one for one in service if not one.startswith("logs:")} == console.keys() == both
    assert below(service["s3:GetObject"]) == below(console["s3:GetObject"]) == ["published/*"]
    for one in puts:
        assert below(service[one]) == ["decisions/lines/*"]
        assert below(console[one]) == [f"{own}/control*", f"{own}/price_files/*"]


def test_jobs_write_versions_and_the_night_alone_measures_asks_and_changes_decisions(made: Made) -> None:
    may = {kind: made.may("jobs", f"{kind.capitalize()}Role") for kind in JOBS}

    for action in ("s3:PutObject", "s3:DeleteObject"):
        places = {kind: below(one[action]) for kind, one in may.items()}
        assert all("published/*" in one for one in places.values())
        assert [kind for kind, one in places.items() if any("decisions" in place for place in one)] == ["nightly"]
    asking = {"events:PutEvents", "cloudwatch:PutMetricData"}
    assert [kind for kind, one in may.items() if asking & one.keys()] == ["nightly"]
    assert below(may["publish"]["s3:GetObject"]) == ["published/*"]


def test_tasks_and_jobs_meet_in_the_data_bucket(made: Made) -> None:
    both = [made.variables(one, one) for one in ("serving", "console")] + [made.variables(one, "job") for one in JOBS]

    for name in ("PRICING_DECISIONS_URL", "PRICING_PUBLISHED"):
        (place,) = {flat(one[name]) for one in both}
        assert "Data" in place


def test_the_service_follows_its_cpu_a_burst_calls_the_peak_and_a_tenth_of_it_always_finds_its_tasks(
    made: Made,
) -> None:
    part, target = made.environment.serving, made.one("AWS::ApplicationAutoScaling::ScalableTarget")
    policies = made.of("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    by_kind = {one["PolicyType"]: one for one in policies}
    cpu = by_kind["TargetTrackingScaling"]["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]
    burst = by_kind["StepScaling"]["StepScalingPolicyConfiguration"]
    measured = made.one("AWS::ECS::Service", "serving")["Monitoring"]["MetricConfigurations"]

    assert cpu["PredefinedMetricType"] == "ECSServiceAverageCPUUtilizationHighResolution"
    assert measured == [{"MetricNames": ["CPUUtilization"], "ResolutionSeconds": 20}]
    assert (burst["AdjustmentType"], burst["StepAdjustments"][0]["ScalingAdjustment"]) == ("ExactCapacity", part.most)
    assert {flat(one["ScalingTargetId"]) for one in policies} == set(
        made.of("AWS::ApplicationAutoScaling::ScalableTarget")
    )
    alarms = [one for one in made.of("AWS::CloudWatch::Alarm", "serving").values() if "AlarmName" not in one]
    assert [(one["MetricName"], one["Period"], one["Threshold"]) for one in alarms] == [
        ("RequestCountPerTarget", 60, 60 * part.saturation)  # twice what CPU is kept at
    ]
    assert {one["ScalingAdjustment"] for one in burst["StepAdjustments"]} == {part.most}
    assert target["MinCapacity"] * part.saturation >= part.peak / 5
    assert target["MaxCapacity"] * part.saturation / 2 >= part.peak


def test_the_database_is_private_and_backed_up(made: Made) -> None:
    found = made.one("AWS::RDS::DBInstance")

    assert not found["PubliclyAccessible"]
    assert found["BackupRetentionPeriod"] == made.environment.tracking.backup_days


def test_data_go_with_the_stacks_or_outlive_them_and_logs_end_as_the_environment_says(made: Made) -> None:
    every = [one for stack in STACKS for one in made.templates[stack]["Resources"].values() if one["Type"] in KEPT]
    logs = made.of("AWS::Logs::LogGroup").values()

    assert {one["DeletionPolicy"] for one in every} == ({"Retain", "Snapshot"} if made.environment.kept else {"Delete"})
    assert {one["RetentionInDays"] for one in logs} == {made.environment.watch.log_days}


def test_everything_that_is_kept_is_encrypted_with_the_environments_key(made: Made) -> None:
    for kind, field in WITH_KEY.items():
        assert all("Encryption" in flat(one.get(field)) for one in made.of(kind).values()), kind
    assert all("aws:SecureTransport" in flat(one) for one in made.of("AWS::SNS::TopicPolicy").values())
    for name, one in made.of("AWS::S3::Bucket").items():
        assert ("aws:kms" in flat(one["BucketEncryption"])) != name.startswith("Logs")


def test_mlflow_starts_after_its_databases_and_two_releases_of_it_never_run_at_once(made: Made) -> None:
    first = {"ContainerName": "database", "Condition": "SUCCESS"}

    assert made.container("mlflow", "mlflow")["DependsOn"] == [first]
    assert made.one("AWS::ECS::Service", "tracking")["DeploymentConfiguration"]["MaximumPercent"] == 100


def test_the_night_starts_by_itself_in_the_shops_time_and_what_cannot_start_waits(made: Made) -> None:
    part, found = made.environment.nightly, made.one("AWS::Scheduler::Schedule")
    when = (found["ScheduleExpression"], found["ScheduleExpressionTimezone"], found["State"])

    assert when == (part.at, part.time_zone, "ENABLED")
    assert "DeadLetterConfig" in found["Target"]


def test_the_schedule_may_write_to_the_encrypted_queue_of_what_cannot_start(made: Made) -> None:
    role = flat(made.one("AWS::Scheduler::Schedule")["Target"]["RoleArn"])

    may = made.may("jobs", "Starter")

    assert "Starter" in role
    assert {"sqs:SendMessage", "kms:GenerateDataKey", "kms:Decrypt"} <= may.keys()


def test_the_firewall_logs_to_a_group_that_it_takes(made: Made) -> None:
    (place,) = made.one("AWS::WAFv2::LoggingConfiguration")["LogDestinationConfigs"]

    assert ":log-group:" in flat(place)
    assert "Arn" not in flat(place)  # which ends with :*


def test_a_task_runs_the_job_that_it_is_named_after_and_publishing_runs_for_ever_once(made: Made) -> None:
    commands = {kind: made.container(kind, "job")["Command"] for kind in JOBS}

    assert {kind: command[:2] for kind, command in commands.items()} == {kind: ["pricing", kind] for kind in JOBS}
    assert commands["promote"][2:] == commands["nightly"][2:]  # the sales, on which versions are compared
    assert commands["publish"][2:] == ["--every", "10"]
    assert made.one("AWS::ECS::Service", "jobs")["DesiredCount"] == 1


def test_alarms_failed_jobs_and_a_month_that_becomes_too_dear_are_told(made: Made) -> None:
    alarms = {one["AlarmName"]: one for one in made.of("AWS::CloudWatch::Alarm").values() if "AlarmName" in one}
    meant = {f"pricing-{made.environment.name}-{row}" for row in set(TABLE) - set(made.environment.watch.without)}
    budget = made.one("AWS::Budgets::Budget")["NotificationsWithSubscribers"]

    assert alarms.keys() == meant
    for name, one in alarms.items():  # when it begins, and when it ends
        wakes = TABLE[name.removeprefix(f"pricing-{made.environment.name}-")].get("pager")
        assert ("Pager" if wakes else "Alarms") in flat(one["AlarmActions"])
        assert one["OKActions"] == one["AlarmActions"]
    pattern = made.one("AWS::Events::Rule", "watch")["EventPattern"]
    (badly, _) = pattern["detail"]["$or"]
    assert pattern["detail-type"] == ["ECS Task State Change"]
    assert badly["containers"]["exitCode"] == [{"anything-but": [0, 3]}]
    assert "UserInitiated" in flat(badly["stopCode"])
    assert [one["Notification"]["NotificationType"] for one in budget] == ["ACTUAL", "FORECASTED"]


def test_a_pipelines_role_is_taken_by_jobs_of_one_environment_of_one_repository_by_its_ids(made: Made) -> None:
    name, mine = made.environment.name, f"repo:{REPOSITORY}:environment:{made.environment.name}"
    roles = made.of("AWS::IAM::Role", "pipeline").values()

    trusts = {one["RoleName"]: one["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] for one in roles}

    gates = {role: listed(one["StringEquals"][f"{ISSUER}:sub"]) for role, one in trusts.items()}
    assert gates == {f"pricing-{name}-deploy": [mine], f"pricing-{name}-promote": [mine, f"{mine}-check"]}


def test_deployments_change_the_environments_own_stacks_and_no_others(made: Made) -> None:
    (deny,) = made.one("AWS::IAM::ManagedPolicy", "pipeline")["PolicyDocument"]["Statement"]
    own = [f"stack/pricing-{made.environment.name}-{stack}/*" for stack in STACKS]

    assert deny["Effect"] == "Deny"
    assert [flat(one).rpartition(":")[2] for one in deny["NotResource"]] == own
    for one in ("CreateChangeSet", "ExecuteChangeSet", "UpdateStack", "DeleteStack", "RollbackStack"):
        assert any(fnmatchcase(f"cloudformation:{one}", verb) for verb in deny["Action"]), one


def test_who_promotes_deploys_nothing_and_who_deploys_promotes_nothing(made: Made) -> None:
    deploy, promote = made.may("pipeline", "Deploy"), made.may("pipeline", "Promote")

    assert deploy.keys() & promote.keys() == {"cloudformation:DescribeStacks"}
    assert all(one.endswith("-jobs-Promote*") for one in promote["iam:PassRole"])
    assert all(one.endswith("-promote:*") for one in promote["ecs:RunTask"])


def test_a_pipelines_role_reaches_nothing_of_another_environment(made: Made) -> None:
    own = re.compile(rf"pricing[-/]{made.environment.name}\b|:role/cdk-{made.environment.qualifier}-")

    for policy in made.of("AWS::IAM::Policy", "pipeline").values():
        for one in listed(policy["PolicyDocument"]["Statement"]):
            for place in map(flat, listed(one["Resource"])):
                assert own.search(place) or (place, one["Action"]) == ("*", "ecr:GetAuthorizationToken")


# What templates and programs must agree on


def settings_of(made: Made, family: str, folder: Path) -> Config:
    path = folder / "settings.yaml"
    container = family if family in ("serving", "console") else "job"
    path.write_text(flat(made.variables(family, container)["SETTINGS"]), encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize("family", ["serving", "console", "nightly"])
def test_the_platform_takes_the_settings_that_a_task_gets(made: Made, family: str, tmp_path: Path) -> None:
    config = settings_of(made, family, tmp_path)

    assert config.serving.keys == "required"
    assert (config.monitoring.trigger, config.monitoring.metrics) == ("event", ["cloudwatch"])
    assert config.monitoring.endpoints.namespace == f"Pricing/{made.environment.name}"


def test_a_tasks_settings_are_there_whatever_it_is_told_to_run(synthesis: Synthesis) -> None:
    entry = synthesis.made["staging"].container("promote", "job")["EntryPoint"]
    words = [*entry[:2], entry[2].replace(SETTINGS_FILE, "/dev/stdout"), *entry[3:], "echo", "'other words'"]

    done = subprocess.run(words, env={"SETTINGS": "a: 'b'\n"}, capture_output=True, text=True, check=True)

    assert done.stdout == "a: 'b'\n'other words'\n"


def test_every_variable_of_a_task_is_one_that_the_code_reads(made: Made) -> None:
    packages = ("pricing", "serving", "pipelines", "monitoring", "console")
    sources = "".join(path.read_text("utf-8") for package in packages for path in (ROOT / package).rglob("*.py"))
    others = {"TZ", "PGSSLMODE", "PGPASSWORD", "METRICS_KEY", "SETTINGS"}  # of C, libpq, the collector, the shell
    others |= {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}

    for family, program in (("serving", "serving"), ("console", "console"), *((kind, "job") for kind in JOBS)):
        named = {*made.variables(family, program), *made.secrets(family, program)} - others
        assert {one for one in named if f'"{one}"' not in sources} == set(), family


@pytest.mark.parametrize(
    ("action", "more"), [("refresh", []), ("retrain", ["--reason", 'decay, "bias"'])], ids=["refresh", "retrain"]
)
def test_what_monitoring_asks_for_is_started(
    synthesis: Synthesis, action: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Mock(**{"put_events.return_value": {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}})
    monkeypatch.setattr("pricing.runtime.aws.client", lambda service: bus)
    sales = [flat(word) for word in synthesis.made["staging"].container("nightly", "job")["Command"][2:]]

    EventBridgeLauncher("pricing-staging").run(action, reason='decay, "bias"')

    (entry,) = bus.put_events.call_args.kwargs["Entries"]
    rules = synthesis.made["staging"].of("AWS::Events::Rule", "jobs").values()
    (rule,) = (one for one in rules if one["EventPattern"]["detail-type"] == [entry["DetailType"]])
    assert rule["EventPattern"]["source"] == [entry["Source"]]
    detail = json.loads(entry["Detail"])
    target = rule["Targets"][0]
    given = target.get("InputTransformer", {"InputPathsMap": {}, "InputTemplate": target.get("Input")})
    text = flat(given["InputTemplate"])
    for variable, path in given["InputPathsMap"].items():
        text = text.replace(f"<{variable}>", json.dumps(detail[path.removeprefix("$.detail.")]))
    (override,) = json.loads(text)["containerOverrides"]
    assert (override["name"], override["command"]) == ("job", ["pricing", action, *sales, *more])


def test_the_programs_send_every_figure_of_their_own_that_is_shown_or_watched(tmp_path: Path) -> None:
    sent = {*sent_by_the_service(tmp_path), *sent_by_monitoring()}

    asked = {
        " ".join(words.split()[:2]).partition("=")[0] for words in watched() if words.split()[0] in ("serving", "model")
    }
    asked |= set(shown())

    assert {one for one in asked if "haproxy_" not in one} - sent == set()
    assert {"model wape_to_backtest", "serving pricing_workers"} <= asked
    declared = yaml.safe_load((FOLDER / "collector.yaml").read_text())["exporters"]["awsemf"]["metric_declarations"]
    patterns = [pattern for one in declared for pattern in one["metric_name_selectors"]]
    figures = {one.removeprefix("serving ") for one in asked if one.startswith("serving ")}
    assert {one for one in figures if not any(re.search(pattern, one) for pattern in patterns)} == set()


def watched() -> Iterator[str]:
    for row in TABLE.values():
        yield from row["of"].values() if isinstance(row["of"], dict) else [row["of"]]


def shown() -> Iterator[str]:
    """Every figure of our own namespace on the dashboard."""
    for widget in json.loads((FOLDER / "dashboard.json").read_text())["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], dict):
                yield "serving " + re.findall(r'MetricName="(\w+)"', metric[0]["expression"])[0]
            elif metric[0].startswith("Pricing/"):
                yield f"{'model' if metric[2] == 'Model' else 'serving'} {metric[1]}"


def sent_by_the_service(folder: Path) -> Iterator[str]:
    with open_app(folder, version=shared_version()) as shop:
        shop.price()
        page = text_string_to_metric_families(shop.service.metrics.page().decode())
    yield from (f"serving {sample.name.removesuffix('_sum')}" for family in page for sample in family.samples)


def sent_by_monitoring() -> Iterator[str]:
    panel, _ = world.build(world.World(products=4, days=60))
    now = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    config = load_config().monitoring
    sends = config.model_copy(update={"metrics": ["cloudwatch"]})
    evaluation = evaluate_decisions(panel, world.joined([], panel, now=now), champion=NO_CHAMPION, config=config)
    cloud = Mock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pricing.runtime.aws.client", lambda service: cloud)
        send_metrics(evaluate.metrics(evaluation, backtest_wape=0.4), sends, model="pricing", now=now)
    for one in (figure for call in cloud.put_metric_data.call_args_list for figure in call.kwargs["MetricData"]):
        assert one["Dimensions"] == [{"Name": "Model", "Value": "pricing"}]
        yield f"model {one['MetricName']}"


# Tools


ACCEPTED = {
    "AwsSolutions-SMG4 .*": "passwords are renewed by hand: new secret, new task (docs/operator/operating.md)",
    "AwsSolutions-RDS(3|10) .*staging.*": "staging may lose its database: one zone, and destroy takes it along",
    "AwsSolutions-RDS11 .*": "another port than 5432 hides nothing from what its security group lets in",
    r"AwsSolutions-IAM5\[.*\] .*/Partitioned/Machine/Role/.*": "tasks have no name before they run: by family, or any",
    "AwsSolutions-SF[12] .*/Partitioned/.*": "its tasks have a log; AWS keeps an execution's history for 90 days",
    "AwsSolutions-ECS2 .*": "variables that are no secrets: addresses, folders, settings",
    "AwsSolutions-SQS3 .*/Undelivered/.*": "it is itself the queue of what could not be delivered",
    r"AwsSolutions-IAM5\[Resource::\*\] .*/Execution/.*": "ecr:GetAuthorizationToken knows no resource",
    r"AwsSolutions-IAM5\[Resource::\*\] .*Nightly/Role/.*": "cloudwatch:PutMetricData: a condition names the namespace",
    r"AwsSolutions-IAM5\[Resource::\*\] .*pipeline/Deploy/.*": "ecr:GetAuthorizationToken knows no resource",
    r"AwsSolutions-IAM5\[Resource::.*GetAtt(Data|Artifacts)\w+/[\w/]+\*\] .*": "objects of one prefix of one bucket",
    r"AwsSolutions-IAM5\[Resource::arn:aws:ecs:.*:task/.*Cluster.*/\*\] .*": "ecs:TagResource of this cluster's tasks",
    r"AwsSolutions-IAM5\[Resource::arn:.*pricing-\w+.*\*\] .*pipeline/.*": "AWS adds ids to names of one environment",
    r"AwsSolutions-IAM5\[Resource::arn:.*:log-stream:job/job/\*\] .*pipeline/.*": "a log stream is named after a task",
}


def test_cdk_nag_finds_nothing_unexplained_and_no_reason_is_left_over(synthesis: Synthesis) -> None:
    found = [" ".join(one) for one in synthesis.findings if one[0].startswith("AwsSolutions")]

    assert [one for one in found if not any(re.fullmatch(rule, one) for rule in ACCEPTED)] == []
    assert [rule for rule in ACCEPTED if not any(re.fullmatch(rule, one) for one in found)] == []


@pytest.mark.slow
def test_cfn_lint_finds_nothing(synthesis: Synthesis) -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    words = [program, "--format", "parseable", *UNKNOWN, "--", *sorted(synthesis.folder.glob("*.template.json"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 0)


def test_no_account_stands_in_a_source_or_a_template(synthesis: Synthesis) -> None:
    account = re.compile(r"(?<![\w.])\d{12}(?![\w.])")
    pages = [ROOT / "docs" / "operator" / name for name in ("deploy.md", "operating.md")]
    sources = [path for path in (*(ROOT / "deploy").glob("*"), *pages) if path.is_file()]

    found = {path.name for path in sources if account.search(path.read_text("utf-8"))}
    for made in synthesis.made.values():
        for template in made.templates.values():
            # The policy of the access logs' bucket names the account by which AWS's load balancers write.
            found |= {
                name
                for name, one in template["Resources"].items()
                if not name.startswith("LogsPolicy") and account.search(flat(one))
            }

    assert found == set()


def test_an_environment_is_deployed_by_way_of_its_own_bootstrap_and_protected_where_it_is_kept(
    synthesis: Synthesis, made: Made
) -> None:
    artifacts = json.loads((synthesis.folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    said = {one: artifacts[f"pricing-{made.environment.name}-{one}"]["properties"] for one in made.templates}

    past = said.pop("pipeline")
    assert not {"assumeRoleArn", "cloudFormationExecutionRoleArn"} & past.keys()
    for one in said.values():
        assert f"cdk-{made.environment.qualifier}-deploy-role" in one["assumeRoleArn"]
        assert one["terminationProtection"] == made.environment.kept


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"ENV": "live"}, "ENV=live: no such environment; there are staging, production"),
        ({"ENV": "staging", "IMAGES": "service=1"}, r"staging\.IMAGES\.service"),
        ({"ENV": "staging", "REPOSITORY": "shop/pricing"}, "expected OWNER@ID/NAME@ID"),
        ({"ENV": "staging", "REPOSITORY": "shop@1/*"}, "expected OWNER@ID/NAME@ID"),
    ],
)
def test_a_deployment_that_cannot_be_meant_is_refused(given: Mapping[str, str], complaint: str) -> None:
    with pytest.raises(DeploymentError, match=complaint):
        make(new_app(), given)


def test_on_aws_no_proxy_names_who_decides(tmp_path: Path) -> None:
    settings = {"console": {"trusted_proxy": "10.0.0.0/8"}}
    environment = ENVIRONMENTS["staging"].model_copy(update={"settings": settings})

    with pytest.raises(DeploymentError, match="trusted_proxy"):
        build(new_app(str(tmp_path)), environment)


def test_workers_find_the_scheduler_by_name_and_are_reached_by_jobs_alone(synthesis: Synthesis, tmp_path: Path) -> None:
    made = synthesis.made[SCALED.name]
    scheduler = made.environment.scheduler

    assert settings_of(made, "worker", tmp_path).scale.scheduler == scheduler
    assert made.container("worker", "job")["Command"][:3] == ["dask", "worker", scheduler]
    (name,) = made.of("AWS::ServiceDiscovery::Service", "jobs").values()
    assert f"{name['Name']}.{made.environment.private_domain}" in scheduler
    assert made.reached_from("Jobs") == {"Jobs"}


# A job on partitions: its state machine, walked through with what its states come to.


def walk(made: Made, **outcomes: str) -> list[str]:
    """The states that an execution passes; `outcomes`: state → the error that it ends with, or what it assigns."""
    definition = defined(made)
    name, failed, passed = definition["StartAt"], "", list[str]()
    while True:
        passed.append(name)
        state, outcome = definition["States"][name], outcomes.get(name, "")
        if state["Type"] == "Choice":
            ways = {found["Condition"]: found["Next"] for found in state["Choices"]}
            name = ways.get(f"{{% $failed = '{failed}' %}}", state["Default"])
        elif state["Type"] == "Task" and outcome and name != "Others":
            (caught,) = state["Catch"]
            assert caught["ErrorEquals"] == ["States.ALL"]
            assert caught["Assign"] == {"failed": "{% $states.errorOutput.Error %}"}
            name, failed = caught["Next"], outcome
        elif state["Type"] == "Task":
            failed = outcome or failed
            name = state["Next"]
        else:
            return passed


def defined(made: Made) -> dict[str, Any]:
    """The state machine's definition; what other resources are called stands there without quotes."""
    parts = made.one("AWS::StepFunctions::StateMachine")["DefinitionString"]["Fn::Join"][1]
    text = "".join(part if isinstance(part, str) else flat(part).replace('"', "") for part in parts)
    return dict(json.loads(text))


def states(made: Made) -> dict[str, Any]:
    return dict(defined(made)["States"])


def test_a_partitioned_night_cuts_the_sales_and_has_its_workers_only_while_it_runs(synthesis: Synthesis) -> None:
    made = synthesis.made[SCALED.name]

    passed = walk(made)

    assert passed == ["Others", "Alone", "Partition", "Workers", "Job", "NoWorkers", "Ended", "Done"]
    counts = {name: states(made)[name]["Arguments"]["DesiredCount"] for name in ("Workers", "NoWorkers")}
    assert counts == {"Workers": 3, "NoWorkers": 0}
    words = {
        name: states(made)[name]["Arguments"]["Overrides"]["ContainerOverrides"][0]["Command"]
        for name in ("Partition", "Job")
    }
    assert words["Partition"][:3] == ["pricing", "partition", "--sales"]
    assert words["Partition"][-2:] == ["--count", "7"]
    assert words["Partition"][5] == words["Job"][-1]  # what it writes is read
    assert "/etl/partitions/' & $states.context.Execution.Name" in words["Job"][-1]
    schedule = made.one("AWS::Scheduler::Schedule")["Target"]
    assert json.loads(schedule["Input"]) == {"job": "nightly"}
    assert not made.of("AWS::Events::Rule", "jobs")


@pytest.mark.parametrize("state", ["Partition", "Workers", "Job"])
@pytest.mark.parametrize(("error", "told"), [("States.TaskFailed", False), ("AmazonECS.Unknown", True)])
def test_workers_end_whatever_fails_and_what_no_mail_tells_goes_to_the_queue(
    synthesis: Synthesis, state: str, error: str, told: bool
) -> None:
    passed = walk(synthesis.made[SCALED.name], **{state: error})

    assert passed[passed.index(state) + 1] == "NoWorkers"
    assert ("Note" in passed, passed[-1]) == (told, "Failed")


def test_a_second_job_does_not_stop_the_workers_of_the_first(synthesis: Synthesis) -> None:
    passed = walk(synthesis.made[SCALED.name], Others="another execution runs")

    assert passed == ["Others", "Alone", "Ended", "Note", "Failed"]


def test_of_two_executions_the_earlier_goes_on(synthesis: Synthesis) -> None:
    found = states(synthesis.made[SCALED.name])["Others"]["Assign"]["failed"]

    assert "$toMillis(StartDate) < $began" in found
    assert "ExecutionArn < $own" in found  # of one moment


def test_a_deployment_leaves_the_number_of_workers_alone(synthesis: Synthesis) -> None:
    services = synthesis.made[SCALED.name].of("AWS::ECS::Service", "jobs")

    assert ["DesiredCount" in one for name, one in services.items() if name.startswith("DaskWorker")] == [False]


def test_every_job_has_a_time_limit_and_no_service_has_one(synthesis: Synthesis) -> None:
    made = synthesis.made[SCALED.name]
    limited = {kind: made.container(kind, "job")["EntryPoint"][4:] for kind in (*JOBS, "scheduler", "worker")}

    assert limited == {kind: list(LIMIT) if kind in KINDS else [] for kind in limited}
