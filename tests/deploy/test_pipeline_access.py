"""What a pipeline may do on AWS: who may take its roles, and that they reach one environment alone."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cdk import lacks_for_cdk

if lacks_for_cdk():
    pytest.skip(str(lacks_for_cdk()), allow_module_level=True)

from aws_cdk import Validations
from cdk_nag import AwsSolutionsChecks

from deploy import pipeline_access
from deploy.app import new_app
from deploy.environment import DeploymentError, environment_named
from deploy.stacks import STACKS
from tests.kit.findings import PIPELINE, Finding, unexplained, without_use

REPOSITORY = "shop/pricing"
ISSUER = pipeline_access.ISSUER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("access")
    app = new_app(str(where))
    pipeline_access.build(app, environment_named("production"), repository=REPOSITORY)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError:  # cdk-nag has findings; a test says whether each is explained
        if not (where / "validation-report.json").is_file():
            raise
    return where


@pytest.fixture(scope="module")
def resources(folder: Path) -> dict[str, dict[str, Any]]:
    text = (folder / "pricing-production-pipeline.template.json").read_text(encoding="utf-8")
    return dict(json.loads(text)["Resources"])


def role(resources: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = (
        one["Properties"] for one in resources.values()
        if one["Type"] == "AWS::IAM::Role" and one["Properties"]["RoleName"] == name
    )  # fmt: skip
    return dict(found)


def statements(resources: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    (found,) = (
        one["Properties"]["PolicyDocument"]["Statement"] for logical, one in resources.items()
        if one["Type"] == "AWS::IAM::Policy" and logical.startswith(name)
    )  # fmt: skip
    return list(found)


def test_deployments_of_an_environment_change_its_stacks_and_no_others(resources: dict[str, dict[str, Any]]) -> None:
    (policy,) = (one["Properties"] for one in resources.values() if one["Type"] == "AWS::IAM::ManagedPolicy")
    (deny,) = policy["PolicyDocument"]["Statement"]

    assert [flat(one) for one in policy["Roles"]] == [
        "cdk-pricingprd-deploy-role-AWS::AccountId-eu-central-1",
    ]
    assert deny["Effect"] == "Deny"
    assert [flat(one).rpartition(":")[2] for one in deny["NotResource"]] == [
        f"stack/pricing-production-{stack}/*" for stack in STACKS
    ]
    assert "pipeline" not in STACKS
    changing = ("CreateChangeSet", "ExecuteChangeSet", "CreateStack", "UpdateStack", "DeleteStack", "RollbackStack")
    for action in changing:
        assert any(fnmatchcase(f"cloudformation:{action}", pattern) for pattern in deny["Action"]), action
    assert not any(fnmatchcase("cloudformation:DescribeStacks", pattern) for pattern in deny["Action"])


def test_the_roles_of_pipelines_are_deployed_past_the_roles_that_a_pipeline_may_assume(folder: Path) -> None:
    artifacts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    stacks = {name: one["properties"] for name, one in artifacts.items() if one["type"] == "aws:cloudformation:stack"}

    assert stacks.keys() == {"pricing-production-pipeline", "pricing-github"}
    assert all((folder / one["templateFile"]).stat().st_size < 51_200 for one in stacks.values())  # go without a bucket
    for properties in stacks.values():
        assert (
            not {"assumeRoleArn", "cloudFormationExecutionRoleArn", "stackTemplateAssetObjectUrl"} & properties.keys()
        )


def flat(value: Any) -> str:
    """A value of a template in one line, with references as their names."""
    if isinstance(value, dict) and "Fn::Join" in value:
        return "".join(map(flat, value["Fn::Join"][1]))
    return str(value["Ref"]) if isinstance(value, dict) and "Ref" in value else str(value)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("name", "gates"), [("deploy", ["production"]), ("promote", ["production", "production-check"])]
)
def test_a_role_is_taken_by_jobs_of_its_own_github_environment_alone(
    resources: dict[str, dict[str, Any]], name: str, gates: list[str]
) -> None:
    (trust,) = role(resources, f"pricing-production-{name}")["AssumeRolePolicyDocument"]["Statement"]

    assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert flat(trust["Principal"]["Federated"]).endswith(f":oidc-provider/{ISSUER}")
    subjects = listed(trust["Condition"]["StringEquals"][f"{ISSUER}:sub"])
    assert subjects == [f"repo:{REPOSITORY}:environment:{gate}" for gate in gates]
    assert trust["Condition"]["StringEquals"][f"{ISSUER}:aud"] == "sts.amazonaws.com"


@pytest.mark.parametrize("name", ["Deploy", "Promote"])
def test_a_role_reaches_nothing_of_another_environment(resources: dict[str, dict[str, Any]], name: str) -> None:
    knows_no_resource = {"ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "cloudwatch:DescribeAlarms"}

    for statement in statements(resources, name):
        for resource in map(flat, listed(statement["Resource"])):
            if resource == "*":
                assert set(listed(statement["Action"])) <= knows_no_resource
            else:
                assert re.search(r"pricing[-/]production\b|:role/cdk-pricingprd-[a-z-]+-role-", resource), resource


def test_who_promotes_deploys_nothing_and_who_deploys_promotes_nothing(resources: dict[str, dict[str, Any]]) -> None:
    actions = {
        name: {action for one in statements(resources, name) for action in listed(one["Action"])}
        for name in ("Deploy", "Promote")
    }

    assert actions["Deploy"] & actions["Promote"] == {"cloudformation:DescribeStacks"}
    assert not any("*" in action for both in actions.values() for action in both)
    assert "ecs:RunTask" not in actions["Deploy"]
    assert not {"sts:AssumeRole", "ecr:PutImage"} & actions["Promote"]


def test_a_role_is_passed_to_ecs_alone_and_tasks_run_in_one_cluster(resources: dict[str, dict[str, Any]]) -> None:
    by_action = {listed(one["Action"])[0]: one for one in statements(resources, "Promote")}

    condition = by_action["iam:PassRole"]["Condition"]
    assert condition == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert flat(by_action["ecs:RunTask"]["Condition"]["ArnEquals"]["ecs:cluster"]).endswith(
        ":cluster/pricing-production"
    )
    started = {flat(one).rpartition("/")[2] for one in by_action["ecs:RunTask"]["Resource"]}
    assert started == {"pricing-production-promote:*", "pricing-production-nightly:*"}


def found_by_nag(folder: Path) -> Iterator[Finding]:
    for plugin in json.loads((folder / "validation-report.json").read_text(encoding="utf-8"))["pluginReports"]:
        for violation in plugin["violations"]:
            for one in violation["violatingConstructs"]:
                yield Finding(violation["ruleName"], one["constructPath"])


def test_cdk_nag_finds_nothing_unexplained_and_every_reason_is_needed(folder: Path) -> None:
    findings = list(found_by_nag(folder))

    assert unexplained(findings, PIPELINE) == []
    assert without_use(findings, PIPELINE) == []


@pytest.mark.slow
def test_cfn_lint_finds_nothing(folder: Path) -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    command = [program, "--format", "parseable", "--", *sorted(folder.glob("*.template.json"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("repository", ["", "pricing", "shop/*", "shop/pricing:ref"])
def test_a_repository_that_would_let_others_in_is_refused(repository: str) -> None:
    with pytest.raises(DeploymentError, match="expected OWNER/NAME"):
        pipeline_access.build(new_app(), environment_named("staging"), repository=repository)


def test_without_an_environment_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline_access.main({"ENV": "nowhere", "REPOSITORY": REPOSITORY}) == 2
    assert "no such environment" in capsys.readouterr().err
