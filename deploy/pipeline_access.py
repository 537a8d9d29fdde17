"""What pipelines on GitHub may do on AWS: roles that they take by OIDC, without a key that anybody keeps.

A stack of its own, `pricing-ENV-pipeline`, in an app of its own, so that no pipeline deploys its own rights:
`make access ENV=staging` by an administrator after `cdk bootstrap`, before anything else. It goes to AWS with the
administrator's own credentials, past the roles of `cdk bootstrap`, which here lose the right to change any stack but
the environment's. Names, not references, tie it to the other stacks.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from aws_cdk import App, CfnOutput, Duration, LegacyStackSynthesizer, Stack, Tags
from aws_cdk import Environment as Place
from aws_cdk import aws_iam as iam
from constructs import Construct

from deploy.app import new_app
from deploy.environment import DeploymentError, Environment, environment_named
from deploy.stacks import STACKS

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
# Roles of `cdk bootstrap`, which a deployment goes through; its own role for CloudFormation is not among them.
BOOTSTRAPPED = ("deploy", "file-publishing", "lookup")
SESSION = Duration.hours(4)  # at most: whoever starts the night's task watches it to its end
PUSH = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
CHANGES = tuple(  # whatever changes a stack; reading stays as `cdk bootstrap` allows it
    f"cloudformation:{verb}*"
    for verb in ("Cancel", "Continue", "Create", "Delete", "Execute", "Import", "Rollback", "Set", "Signal", "Update")
)
MODEL_TASKS = ("promote", "nightly")  # of which a pipeline may start one


class PipelineAccess(Stack):
    """Two roles of an environment: one that deploys code, one that promotes models.

    Each is taken by jobs of one GitHub environment of one repository alone, whose rules (reviewers, branches) so guard
    the role. The check that goes before an approval has an environment of its own, ENV-check.

    Attributes:
        deploy: Pushes images to the environment's repositories, deploys its stacks, and looks how that went.
        promote: Starts the tasks that promote and roll back models, and reads their log.
    """

    def __init__(
        self, scope: Construct, name: str, *, environment: Environment, repository: str, **options: Any
    ) -> None:
        super().__init__(scope, name, **options)
        self._name, self._repository, self._qualifier = environment.name, repository, environment.qualifier
        self.deploy = self._role("Deploy", "deploys code", gates=[environment.name])
        self._may_push()
        self._may_deploy()
        self.promote = self._role("Promote", "promotes models", gates=[environment.name, f"{environment.name}-check"])
        self._may_run_jobs()
        self._may_look()

    def _role(self, name: str, what: str, *, gates: list[str]) -> iam.Role:
        role = iam.Role(
            self,
            name,
            role_name=f"pricing-{self._name}-{name.lower()}",
            description=f"Pipeline of {self._repository} that {what} in {self._name}",
            max_session_duration=SESSION,
            assumed_by=iam.FederatedPrincipal(
                self._arn("iam", f"oidc-provider/{ISSUER}", region=""),
                {
                    "StringEquals": {
                        f"{ISSUER}:aud": AUDIENCE,
                        f"{ISSUER}:sub": [f"repo:{self._repository}:environment:{gate}" for gate in gates],
                    }
                },
                "sts:AssumeRoleWithWebIdentity",
            ),
        )
        CfnOutput(self, f"{name}Role", value=role.role_arn, description=f"AWS_{name.upper()}_ROLE on GitHub")
        return role

    def _arn(self, service: str, rest: str, *, region: str | None = None) -> str:
        place = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{place}:{self.account}:{rest}"

    def _may(self, role: iam.Role, actions: list[str], resources: list[str], **conditions: Mapping[str, Any]) -> None:
        role.add_to_policy(iam.PolicyStatement(actions=actions, resources=resources, conditions=dict(conditions)))

    def _may_push(self) -> None:
        self._may(self.deploy, ["ecr:GetAuthorizationToken"], ["*"])
        self._may(self.deploy, list(PUSH), [self._arn("ecr", f"repository/pricing-{self._name}/*")])

    def _may_deploy(self) -> None:
        roles = [self._arn("iam", f"role/{self._bootstrapped(one)}", region="") for one in BOOTSTRAPPED]
        self._may(self.deploy, ["sts:AssumeRole"], roles)
        serving = self._arn("cloudformation", f"stack/pricing-{self._name}-serving/*")
        self._may(self.deploy, ["cloudformation:CancelUpdateStack"], [serving])
        # CDK lets that role change every stack of the account, with the rights that a stack was last deployed with.
        iam.ManagedPolicy(
            self,
            "OwnStacks",
            description=f"Keeps deployments of {self._name} from every other stack",
            roles=[iam.Role.from_role_name(self, "Bootstrapped", self._bootstrapped("deploy"))],
            statements=[
                iam.PolicyStatement(
                    effect=iam.Effect.DENY,
                    actions=list(CHANGES),
                    not_resources=[
                        self._arn("cloudformation", f"stack/pricing-{self._name}-{stack}/*") for stack in STACKS
                    ],
                )
            ],
        )

    def _bootstrapped(self, role: str) -> str:
        """The name of a role that `cdk bootstrap` made for this environment."""
        return f"cdk-{self._qualifier}-{role}-role-{self.account}-{self.region}"

    def _may_run_jobs(self) -> None:
        cluster = self._arn("ecs", f"cluster/pricing-{self._name}")
        tasks = [self._arn("ecs", f"task-definition/pricing-{self._name}-{job}:*") for job in MODEL_TASKS]
        running = self._arn("ecs", f"task/pricing-{self._name}/*")
        only_here = {"ArnEquals": {"ecs:cluster": cluster}}
        self._may(self.promote, ["ecs:RunTask"], tasks, **only_here)
        self._may(self.promote, ["ecs:DescribeTasks", "ecs:StopTask"], [running], **only_here)
        self._may(self.promote, ["ecs:TagResource"], [running], StringEquals={"ecs:CreateAction": "RunTask"})
        self._may(
            self.promote,
            ["iam:PassRole"],
            [self._arn("iam", f"role/pricing-{self._name}-jobs-*", region="")],
            StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"},
        )
        log = self._arn("logs", f"log-group:/pricing/{self._name}/jobs:log-stream:job/job/*")
        self._may(self.promote, ["logs:GetLogEvents"], [log])

    def _may_look(self) -> None:
        """Both roles read the outputs of the stacks; the one that deploys also how the service stands."""
        for role, stack in ((self.promote, "foundation"), (self.deploy, "serving")):
            self._may(
                role,
                ["cloudformation:DescribeStacks"],
                [self._arn("cloudformation", f"stack/pricing-{self._name}-{stack}/*")],
            )
        service = self._arn("ecs", f"service/pricing-{self._name}/*")
        self._may(self.deploy, ["ecs:DescribeServices"], [service])
        # These two know no resource to name.
        self._may(self.deploy, ["ecs:DescribeTaskDefinition", "cloudwatch:DescribeAlarms"], ["*"])


class GithubProvider(Stack):
    """What lets an account believe GitHub's tokens; an account has one of it at most, whoever made it."""

    def __init__(self, scope: Construct, name: str, **options: Any) -> None:
        super().__init__(scope, name, **options)
        iam.CfnOIDCProvider(self, "Provider", url=f"https://{ISSUER}", client_id_list=[AUDIENCE])


def build(app: App, environment: Environment, *, repository: str) -> PipelineAccess:
    """Adds the stack of an environment, and that of the account's provider.

    Args:
        app: Gets the stack.
        environment: Whose.
        repository: `OWNER/NAME` on GitHub, as GitHub spells it.

    Raises:
        DeploymentError: The repository is written in another way.
    """
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or any(sign in repository for sign in "*? :"):
        raise DeploymentError(f"REPOSITORY={repository}: expected OWNER/NAME of the repository on GitHub")
    stack = PipelineAccess(
        app,
        f"pricing-{environment.name}-pipeline",
        environment=environment,
        repository=repository,
        env=Place(region=environment.region),
        termination_protection=environment.kept,
        synthesizer=LegacyStackSynthesizer(),  # no role stands between: whoever deploys it must hold its rights
    )
    provider = GithubProvider(
        app, "pricing-github", env=Place(region=environment.region), synthesizer=LegacyStackSynthesizer()
    )
    stack.add_dependency(provider)
    Tags.of(stack).add("pricing:environment", environment.name)
    return stack


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Synthesises the stack of ENV for REPOSITORY; returns the exit code."""
    try:
        app = new_app()
        build(app, environment_named(variables.get("ENV", "")), repository=variables.get("REPOSITORY", ""))
    except DeploymentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
