"""What the templates promise, in staging and in production; synthesised once, without an AWS account."""

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

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
from deploy.pipeline import ISSUER, STACKS
from deploy.tasks import SETTINGS_FILE
from deploy.watch import FOLDER, ROLLBACK, TABLE
from monitoring import evaluate
from monitoring.actions import EventBridgeLauncher, send_metrics
from monitoring.evaluate import evaluate_decisions
from monitoring.tracking import NO_CHAMPION
from pricing.config import load_config
from serving.__main__ import GRACE_SECONDS
from tests.kit.serving import open_app
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = read_environments()
BOTH = pytest.mark.parametrize("name", ENVIRONMENTS)
REPOSITORY = "shop@12/pricing@345"
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

    def may(self, stack: str, role: str) -> dict[str, str]:
        """What a role's own policy allows: action → resources."""
        found: dict[str, str] = {}
        for logical, policy in self.of("AWS::IAM::Policy", stack).items():
            if logical.startswith(f"{role}DefaultPolicy"):
                for statement in policy["PolicyDocument"]["Statement"]:
                    for action in listed(statement["Action"]):
                        found[action] = found.get(action, "") + flat(statement["Resource"])
        return found

    def reached_from(self, group: str) -> set[str]:
        """The security groups that may reach one."""
        rules = self.of("AWS::EC2::SecurityGroupIngress").values()
        sources = [flat(one["SourceSecurityGroupId"]) for one in rules if f"Network{group}" in flat(one["GroupId"])]
        return {re.sub(r".*Network(\w+?)[0-9A-F]{8}.*", r"\1", one) for one in sources}


@dataclass(frozen=True)
class Synthesis:
    """What one synthesis of every environment left."""

    folder: Path
    made: dict[str, Made]
    findings: list[tuple[str, str]]


@pytest.fixture(scope="module")
def synthesis(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    folder = tmp_path_factory.mktemp("cdk")
    app = make(new_app(str(folder)), {"REPOSITORY": REPOSITORY})
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

    return Synthesis(folder, {name: Made(one, read(name)) for name, one in ENVIRONMENTS.items()}, findings)


# Promises: each is true of both environments.

Promise = Callable[[Made], bool]
PROMISES: list[Promise] = []


def promise(check: Promise) -> Promise:
    PROMISES.append(check)
    return check


@promise
def no_task_needs_a_way_to_the_internet_and_the_load_balancer_has_no_public_address(made: Made) -> bool:
    ways = [made.of(f"AWS::EC2::{kind}Gateway") for kind in ("Nat", "Internet")]
    return not any(ways) and made.one("AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internal"


@promise
def callers_reach_the_load_balancer_by_tls_alone(made: Made) -> bool:
    listener = made.one("AWS::ElasticLoadBalancingV2::Listener")
    return (listener["Port"], listener["Protocol"]) == (443, "HTTPS") and "TLS13-1-2" in listener["SslPolicy"]


@promise
def only_the_load_balancer_reaches_the_service(made: Made) -> bool:
    return made.reached_from("Serving") == {"Balancer"}


@promise
def only_the_load_balancer_reaches_the_console_and_its_proxy_alone(made: Made) -> bool:
    console, proxy = made.variables("console", "console"), made.variables("console", "proxy")
    return (
        made.reached_from("Console") == {"Balancer"}
        and (console["HOST"], proxy["CONSOLE"]) == ("127.0.0.1", f"127.0.0.1:{console['PORT']}")
        and made.container("console", "proxy")["PortMappings"][0]["ContainerPort"] == int(proxy["CONSOLE_PORT"]) == 8090
        and proxy["TRUSTED_PROXIES"] == made.environment.network.cidr
    )


@promise
def managers_open_the_console_under_its_own_name_with_keys_and_sessions_outlive_its_task(made: Made) -> bool:
    rule = made.one("AWS::ElasticLoadBalancingV2::ListenerRule", "console")
    (host,) = (one["HostHeaderConfig"]["Values"] for one in rule["Conditions"])
    return host == [made.environment.console_domain] and made.secrets("console", "console") == {
        *("PGPASSWORD", "PRICING_API_KEYS", "PRICING_CONSOLE_SECRET"),
    }


@promise
def the_console_reads_what_is_published_and_writes_decisions_and_price_files_alone(made: Made) -> bool:
    may = made.may("console", "PagesRole")
    puts = {"s3:PutObject", "s3:AbortMultipartUpload"}
    written = re.findall(r"/published/([^*]*)\*", may["s3:PutObject"])
    return (
        may.keys() == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt", "kms:GenerateDataKey"} | puts
        and may["s3:GetObject"].endswith("/published/*")
        and written == [f"{made.environment.model}/control", f"{made.environment.model}/price_files/"]
    )


@promise
def only_what_trains_tracks_or_decides_reaches_the_database(made: Made) -> bool:
    return made.reached_from("Database") == {"Mlflow", "Jobs", "Console"}


@promise
def the_gateway_to_s3_leads_to_no_bucket_of_anybody_else(made: Made) -> bool:
    (gateway,) = (one for one in made.of("AWS::EC2::VPCEndpoint").values() if "PolicyDocument" in one)
    reached = [flat(place) for one in gateway["PolicyDocument"]["Statement"] for place in listed(one["Resource"])]
    own = r"(Artifacts|Data)[0-9A-F]{8}"
    return all(re.search(own, one) or "starport-layer-bucket/*" in one for one in reached)


@promise
def an_address_that_sends_too_much_is_blocked(made: Made) -> bool:
    rate = made.one("AWS::WAFv2::WebACL")["Rules"][0]
    limit = rate["Statement"]["RateBasedStatement"]["Limit"]
    return limit == made.environment.serving.requests_per_address and len(made.of("AWS::WAFv2::WebACLAssociation")) == 1


@promise
def a_tag_of_an_image_never_moves_and_each_push_is_scanned(made: Made) -> bool:
    found = made.of("AWS::ECR::Repository").values()
    scanned = all(one["ImageScanningConfiguration"]["ScanOnPush"] for one in found)
    return len(found) == 4 and {one["ImageTagMutability"] for one in found} == {"IMMUTABLE"} and scanned


@promise
def a_deployment_that_fails_rolls_back_by_itself_and_none_resets_the_number_of_tasks(made: Made) -> bool:
    service = made.one("AWS::ECS::Service", "serving")
    how = service["DeploymentConfiguration"]
    alarms = {one.get("AlarmName") for one in made.of("AWS::CloudWatch::Alarm", "serving").values()}
    return (
        how["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
        and how["Alarms"]["Rollback"]
        and set(how["Alarms"]["AlarmNames"]) <= alarms
        and "DesiredCount" not in service
        and (how["MinimumHealthyPercent"], how["MaximumPercent"]) == (100, 200)
    )


@promise
def a_task_gets_requests_once_it_prices_and_is_started_again_once_it_is_dead(made: Made) -> bool:
    ready = made.one("AWS::ElasticLoadBalancingV2::TargetGroup", "serving")["HealthCheckPath"]
    return (
        ready == "/health/ready"
        and "/health/live" in made.container("serving", "serving")["HealthCheck"]["Command"][-1]
    )


@promise
def requests_reach_the_service_through_its_proxy_which_stops_first_and_believes_the_load_balancer_alone(
    made: Made,
) -> bool:
    proxy = made.container("serving", "proxy")
    return (
        proxy["PortMappings"][0]["ContainerPort"] == 8080
        and proxy["DependsOn"] == [{"ContainerName": "serving", "Condition": "START"}]
        and made.variables("serving", "serving")["HOST"] == "127.0.0.1"
        and made.variables("serving", "proxy")["TRUSTED_PROXIES"] == made.environment.network.cidr
    )


@promise
def a_task_has_time_to_end_before_it_is_killed(made: Made) -> bool:
    return GRACE_SECONDS < made.container("serving", "serving")["StopTimeout"] <= 120


@promise
def no_container_is_root_or_writes_to_its_image(made: Made) -> bool:
    return all(
        one["User"] == "10001:10001"
        and one["ReadonlyRootFilesystem"]
        and one["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
        for one in made.containers()
    )


@promise
def no_secret_stands_in_a_template(made: Made) -> bool:
    plain = {each["Name"] for one in made.containers() for each in one.get("Environment", [])}
    return not [name for name in plain if re.search("PASSWORD|API_KEYS|_KEY$|TOKEN|SECRET", name)]


@promise
def the_service_reads_what_is_published_and_puts_lines_of_the_log(made: Made) -> bool:
    may = made.may("serving", "TaskRole")
    kms, logs = {"kms:Decrypt", "kms:GenerateDataKey"}, {one for one in may if one.startswith("logs:")}
    puts = {"s3:PutObject", "s3:AbortMultipartUpload"}
    return (
        may.keys() == {"s3:GetObject", "s3:ListBucket"} | kms | puts | logs
        and may["s3:GetObject"].endswith("/published/*")
        and all(may[one].endswith("/decisions/lines/*") for one in puts)
    )


@promise
def the_service_knows_neither_database_nor_registry(made: Made) -> bool:
    named = " ".join(made.variables("serving", "serving"))
    secrets = made.secrets("serving", "serving")
    return not re.search("DATABASE|MLFLOW", named) and secrets == {"PRICING_API_KEYS", "METRICS_KEY"}


@promise
def versions_are_written_by_jobs_and_lines_of_the_log_by_the_service_and_the_night(made: Made) -> bool:
    writers = {kind: made.may("jobs", f"{kind.capitalize()}Role").get("s3:PutObject", "") for kind in JOBS}
    return all("/published/*" in one for one in writers.values()) and {
        kind for kind, where in writers.items() if "/decisions/" in where
    } == {"nightly"}


@promise
def only_the_night_measures_asks_and_deletes_decisions(made: Made) -> bool:
    may = {kind: made.may("jobs", f"{kind.capitalize()}Role") for kind in JOBS}
    asking = {kind for kind, one in may.items() if {"events:PutEvents", "cloudwatch:PutMetricData"} & one.keys()}
    return asking == {"nightly"} and "/sales*" not in flat(may["publish"].get("s3:GetObject", ""))


@promise
def tasks_and_jobs_meet_in_the_data_bucket(made: Made) -> bool:
    both = [
        made.variables("serving", "serving"),
        made.variables("console", "console"),
        *(made.variables(kind, "job") for kind in JOBS),
    ]
    names = ("PRICING_DECISIONS_URL", "PRICING_PUBLISHED")
    return all(len({flat(one[name]) for one in both}) == 1 and "Data" in flat(both[0][name]) for name in names)


@promise
def the_service_follows_its_cpu_and_a_burst_calls_the_peak(made: Made) -> bool:
    part = made.environment.serving
    policies = made.of("AWS::ApplicationAutoScaling::ScalingPolicy").values()
    by_kind = {one["PolicyType"]: one for one in policies}
    cpu = by_kind["TargetTrackingScaling"]["TargetTrackingScalingPolicyConfiguration"]
    burst = by_kind["StepScaling"]["StepScalingPolicyConfiguration"]
    measured = made.one("AWS::ECS::Service", "serving")["Monitoring"]["MetricConfigurations"]
    return (
        cpu["PredefinedMetricSpecification"]["PredefinedMetricType"] == "ECSServiceAverageCPUUtilizationHighResolution"
        and measured == [{"MetricNames": ["CPUUtilization"], "ResolutionSeconds": 20}]
        and (burst["AdjustmentType"], burst["StepAdjustments"][0]["ScalingAdjustment"]) == ("ExactCapacity", part.most)
    )


@promise
def a_tenth_of_the_peak_always_finds_its_tasks_running(made: Made) -> bool:
    part, target = made.environment.serving, made.one("AWS::ApplicationAutoScaling::ScalableTarget")
    return (
        target["MinCapacity"] * part.saturation >= part.peak / 5
        and target["MaxCapacity"] * part.saturation / 2 >= part.peak
    )


@promise
def the_database_is_private_backed_up_and_guarded(made: Made) -> bool:
    part, found = made.environment.tracking, made.one("AWS::RDS::DBInstance")
    return (
        found["StorageEncrypted"]
        and not found["PubliclyAccessible"]
        and found["DBInstanceClass"].startswith("db.t4g.")
        and (found["BackupRetentionPeriod"], found["MultiAZ"]) == (part.backup_days, part.multi_az)
        and found["DeletionProtection"] == made.environment.kept
    )


@promise
def data_go_with_the_stacks_or_outlive_them_as_the_environment_says(made: Made) -> bool:
    wanted = {"Retain", "Snapshot"} if made.environment.kept else {"Delete"}
    every = [one for stack in STACKS for one in made.templates[stack]["Resources"].values() if one["Type"] in KEPT]
    return {one["DeletionPolicy"] for one in every} == wanted


@promise
def everything_that_is_kept_is_encrypted_with_the_environments_key(made: Made) -> bool:
    buckets = made.of("AWS::S3::Bucket").items()
    return all(
        "Encryption" in flat(one.get(field)) for kind, field in WITH_KEY.items() for one in made.of(kind).values()
    ) and all(("aws:kms" in flat(one["BucketEncryption"])) != name.startswith("Logs") for name, one in buckets)


@promise
def mlflow_asks_everybody_for_a_password_and_starts_after_its_databases(made: Made) -> bool:
    server = made.container("mlflow", "mlflow")
    first = {"ContainerName": "database", "Condition": "SUCCESS"}
    return "MLFLOW_AUTH_ADMIN_PASSWORD" in made.secrets("mlflow", "mlflow") and server["DependsOn"] == [first]


@promise
def two_releases_of_mlflow_never_run_at_once(made: Made) -> bool:
    return made.one("AWS::ECS::Service", "tracking")["DeploymentConfiguration"]["MaximumPercent"] == 100


@promise
def the_night_starts_by_itself_in_the_shops_time_and_what_cannot_start_waits(made: Made) -> bool:
    part, found = made.environment.nightly, made.one("AWS::Scheduler::Schedule")
    when = (found["ScheduleExpression"], found["ScheduleExpressionTimezone"], found["State"])
    return when == (part.at, part.time_zone, "ENABLED") and "DeadLetterConfig" in found["Target"]


@promise
def a_task_runs_the_job_that_it_is_named_after_and_publishing_runs_for_ever_once(made: Made) -> bool:
    commands = {kind: made.container(kind, "job")["Command"] for kind in JOBS}
    once = made.one("AWS::ECS::Service", "jobs")["DesiredCount"] == 1 and commands["publish"][2:] == ["--every", "10"]
    return once and all(command[:2] == ["pricing", kind] for kind, command in commands.items())


@promise
def every_alarm_of_the_table_tells_the_topic_when_it_begins_and_when_it_ends(made: Made) -> bool:
    alarms = {one["AlarmName"]: one for one in made.of("AWS::CloudWatch::Alarm").values() if "AlarmName" in one}
    meant = {f"pricing-{made.environment.name}-{row}" for row in set(TABLE) - set(made.environment.watch.without)}
    return alarms.keys() == meant and all(
        "Alarms" in flat(one["AlarmActions"]) and one["OKActions"] == one["AlarmActions"] for one in alarms.values()
    )


@promise
def failed_jobs_and_a_month_that_becomes_too_dear_are_told(made: Made) -> bool:
    pattern = made.one("AWS::Events::Rule", "watch")["EventPattern"]
    budget = made.one("AWS::Budgets::Budget")
    told = [one["Notification"]["NotificationType"] for one in budget["NotificationsWithSubscribers"]]
    return pattern["detail-type"] == ["ECS Task State Change"] and told == ["ACTUAL", "FORECASTED"]


@promise
def every_log_ends(made: Made) -> bool:
    days = {one["RetentionInDays"] for one in made.of("AWS::Logs::LogGroup").values()}
    return days == {made.environment.watch.log_days}


@promise
def a_pipelines_role_is_taken_by_jobs_of_one_environment_of_one_repository_by_its_ids(made: Made) -> bool:
    name = made.environment.name
    roles = made.of("AWS::IAM::Role", "pipeline").values()
    trusts = {one["RoleName"]: one["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] for one in roles}
    gates = {role: listed(one["StringEquals"][f"{ISSUER}:sub"]) for role, one in trusts.items()}
    mine = f"repo:{REPOSITORY}:environment:{name}"
    return gates == {f"pricing-{name}-deploy": [mine], f"pricing-{name}-promote": [mine, f"{mine}-check"]}


@promise
def deployments_change_the_environments_own_stacks_and_no_others(made: Made) -> bool:
    (deny,) = made.one("AWS::IAM::ManagedPolicy", "pipeline")["PolicyDocument"]["Statement"]
    own = [f"stack/pricing-{made.environment.name}-{stack}/*" for stack in STACKS]
    changing = ("CreateChangeSet", "ExecuteChangeSet", "UpdateStack", "DeleteStack", "RollbackStack")
    return (
        deny["Effect"] == "Deny"
        and [flat(one).rpartition(":")[2] for one in deny["NotResource"]] == own
        and all(any(fnmatchcase(f"cloudformation:{one}", verb) for verb in deny["Action"]) for one in changing)
    )


@promise
def who_promotes_deploys_nothing_and_who_deploys_promotes_nothing(made: Made) -> bool:
    deploy, promote = made.may("pipeline", "Deploy"), made.may("pipeline", "Promote")
    passed = promote["iam:PassRole"].endswith("-jobs-Promote*")
    started = promote["ecs:RunTask"].endswith("-promote:*")
    return deploy.keys() & promote.keys() == {"cloudformation:DescribeStacks"} and passed and started


@promise
def a_pipelines_role_reaches_nothing_of_another_environment(made: Made) -> bool:
    name, qualifier = made.environment.name, made.environment.qualifier
    own = re.compile(rf"pricing[-/]{name}\b|:role/cdk-{qualifier}-")
    every = [
        one
        for policy in made.of("AWS::IAM::Policy", "pipeline").values()
        for one in listed(policy["PolicyDocument"]["Statement"])
    ]
    return all(
        own.search(flat(place)) or (place == "*" and listed(one["Action"]) == ["ecr:GetAuthorizationToken"])
        for one in every
        for place in listed(one["Resource"])
    )


@BOTH
@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_the_templates_promise_that(synthesis: Synthesis, name: str, check: Promise) -> None:
    assert check(synthesis.made[name])


# What templates and programs must agree on


@BOTH
@pytest.mark.parametrize("family", ["serving", "console", "nightly"])
def test_the_platform_takes_the_settings_that_a_task_gets(
    synthesis: Synthesis, name: str, family: str, tmp_path: Path
) -> None:
    container = "job" if family == "nightly" else family
    path = tmp_path / "settings.yaml"
    path.write_text(flat(synthesis.made[name].variables(family, container)["SETTINGS"]), encoding="utf-8")

    config = load_config(path)

    assert config.serving.keys == "required"
    assert (config.monitoring.trigger, config.monitoring.metrics) == ("event", ["cloudwatch"])
    assert config.monitoring.endpoints.namespace == f"Pricing/{name}"


def test_a_tasks_settings_are_there_whatever_it_is_told_to_run(synthesis: Synthesis) -> None:
    entry = synthesis.made["staging"].container("promote", "job")["EntryPoint"]
    words = [*entry[:2], entry[2].replace(SETTINGS_FILE, "/dev/stdout"), *entry[3:], "echo", "'other words'"]

    done = subprocess.run(words, env={"SETTINGS": "a: 'b'\n"}, capture_output=True, text=True, check=True)

    assert done.stdout == "a: 'b'\n'other words'\n"


@BOTH
def test_every_variable_of_a_task_is_one_that_the_code_reads(synthesis: Synthesis, name: str) -> None:
    packages = ("pricing", "serving", "pipelines", "monitoring", "console")
    sources = "".join(path.read_text("utf-8") for package in packages for path in (ROOT / package).rglob("*.py"))
    others = {"TZ", "PGSSLMODE", "PGPASSWORD", "METRICS_KEY", "SETTINGS"}  # of C, libpq, the collector, the shell
    others |= {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    made = synthesis.made[name]

    for family, program in (("serving", "serving"), ("console", "console"), *((kind, "job") for kind in JOBS)):
        named = {*made.variables(family, program), *made.secrets(family, program)} - others
        assert {one for one in named if f'"{one}"' not in sources} == set(), family


class Bus:
    """Takes events as EventBridge does."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.entries += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


@pytest.mark.parametrize(
    ("action", "more"), [("refresh", []), ("retrain", ["--reason", 'decay, "bias"'])], ids=["refresh", "retrain"]
)
def test_what_monitoring_asks_for_is_started(
    synthesis: Synthesis, action: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus()
    monkeypatch.setattr("pricing.runtime.aws.client", lambda service: bus)
    sales = [flat(word) for word in synthesis.made["staging"].container("nightly", "job")["Command"][2:]]

    EventBridgeLauncher("pricing-staging").run(action, reason='decay, "bias"')

    (entry,) = bus.entries
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


class CloudWatch:
    """Takes figures as CloudWatch does."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's names
        self.taken += MetricData


def sent_by_monitoring() -> Iterator[str]:
    panel, _ = world.build(world.World(products=4, days=60))
    now = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    config = load_config().monitoring
    sends = config.model_copy(update={"metrics": ["cloudwatch"]})
    evaluation = evaluate_decisions(panel, world.joined([], panel, now=now), champion=NO_CHAMPION, config=config)
    cloud = CloudWatch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pricing.runtime.aws.client", lambda service: cloud)
        send_metrics(evaluate.metrics(evaluation, backtest_wape=0.4), sends, model="pricing", now=now)
    assert {json.dumps(one["Dimensions"]) for one in cloud.taken} == {'[{"Name": "Model", "Value": "pricing"}]'}
    yield from (f"model {one['MetricName']}" for one in cloud.taken)


# Tools


ACCEPTED = {
    "AwsSolutions-SMG4 .*": "passwords are renewed by hand: put the secret, start the task anew (docs/operating.md)",
    "AwsSolutions-RDS(3|10) .*staging.*": "staging may lose its database: one zone, and destroy takes it along",
    "AwsSolutions-RDS11 .*": "another port than 5432 hides nothing from what its security group lets in",
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
    words = [program, "--format", "parseable", "--", *sorted(synthesis.folder.glob("*.template.json"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 0)


def test_no_account_stands_in_a_source_or_a_template(synthesis: Synthesis) -> None:
    account = re.compile(r"(?<![\w.])\d{12}(?![\w.])")
    pages = [ROOT / "docs" / name for name in ("deploy.md", "operating.md")]
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


@BOTH
def test_an_environment_is_deployed_by_way_of_its_own_bootstrap_and_protected_where_it_is_kept(
    synthesis: Synthesis, name: str
) -> None:
    artifacts = json.loads((synthesis.folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    made = synthesis.made[name]

    for stack in STACKS:
        said = artifacts[f"pricing-{name}-{stack}"]["properties"]
        assert f"cdk-{made.environment.qualifier}-deploy-role" in said["assumeRoleArn"]
        assert said["terminationProtection"] == made.environment.kept
    past = artifacts[f"pricing-{name}-pipeline"]["properties"]
    assert not {"assumeRoleArn", "cloudFormationExecutionRoleArn"} & past.keys()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"ENV": "live"}, "ENV=live: no such environment; there are staging, production"),
        ({"ENV": "staging", "IMAGES": "service=1"}, r"staging\.images\.service"),
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


def test_workers_find_the_scheduler_by_name_and_are_reached_by_jobs_alone(tmp_path: Path) -> None:
    staging = ENVIRONMENTS["staging"]
    environment = staging.model_copy(update={"jobs": staging.jobs.model_copy(update={"workers": 3})})
    app = new_app(str(tmp_path))
    build(app, environment)
    app.synth()
    read = {one: json.loads((tmp_path / f"pricing-staging-{one}.template.json").read_text("utf-8")) for one in STACKS}
    made = Made(environment, read)

    assert environment.scheduler in flat(made.variables("worker", "job")["SETTINGS"])
    assert made.container("worker", "job")["Command"][:3] == ["dask", "worker", environment.scheduler]
    services = made.of("AWS::ECS::Service", "jobs")
    (workers,) = (one for name, one in services.items() if name.startswith("DaskWorker"))
    assert workers["DesiredCount"] == 3
    (name,) = made.of("AWS::ServiceDiscovery::Service", "jobs").values()
    assert f"{name['Name']}.{environment.private_domain}" in environment.scheduler
    assert made.reached_from("Jobs") == {"Jobs"}
    assert load_config(_settings_of(made, tmp_path)).scale.scheduler == environment.scheduler


def _settings_of(made: Made, folder: Path) -> str:
    (folder / "settings.yaml").write_text(flat(made.variables("worker", "job")["SETTINGS"]), encoding="utf-8")
    return str(folder / "settings.yaml")


def test_an_alarm_that_takes_deployments_back_is_one_of_callers() -> None:
    assert ROLLBACK == ["answers-5xx", "slow-p99", "tasks-not-ready"]
