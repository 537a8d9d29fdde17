"""Roles that pipelines on GitHub take on AWS by OIDC, without a key that anybody keeps.

The stack `pricing-ENV-pipeline` is synthesised only where REPOSITORY is given, so that no pipeline deploys its own
rights: an administrator does, with credentials of his own and past the roles of `cdk bootstrap`, which here lose the
right to change any stack but the environment's. Names, not references, tie it to the other stacks.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from deploy.environment import DeploymentError, Environment

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
STACKS = ("foundation", "tracking", "jobs", "serving", "console", "watch")
# Roles of `cdk bootstrap`, which a deployment goes through; its own role for CloudFormation is not among them.
BOOTSTRAPPED = ("deploy", "file-publishing", "lookup")
PUSH = (
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImages",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
)
CHANGES = tuple(  # whatever changes a stack; reading stays as `cdk bootstrap` allows it
    f"cloudformation:{verb}*"
    for verb in ("Cancel", "Continue", "Create", "Delete", "Execute", "Import", "Rollback", "Set", "Signal", "Update")
)


class GithubProvider(Stack):
    """What lets an account believe GitHub's tokens; an account has one of it at most, whoever made it."""

    def __init__(self, scope: Construct, name: str, **options: Any) -> None:
        super().__init__(scope, name, **options)
        iam.CfnOIDCProvider(self, "Provider", url=f"https://{ISSUER}", client_id_list=[AUDIENCE])


class Pipeline(Stack):
    """Two roles of an environment: one that deploys code, one that promotes models.

    Each is taken by jobs of one GitHub environment of one repository alone, whose rules (reviewers, branches) so guard
    the role. The check that goes before an approval has an environment of its own, ENV-check.

    Args:
        repository: `OWNER@ID/NAME@ID`, as GitHub's tokens name it: a name that is given away takes no role along.

    Raises:
        DeploymentError: The repository is written in another way.
    """

    def __init__(
        self, scope: Construct, name: str, *, environment: Environment, repository: str, **options: Any
    ) -> None:
        super().__init__(scope, name, **options)
        if not re.fullmatch(r"[\w.-]+@\d+/[\w.-]+@\d+", repository):
            raise DeploymentError(
                f"REPOSITORY={repository}: expected OWNER@ID/NAME@ID, which `gh api repos/OWNER/NAME --jq "
                "'\"\\(.owner.login)@\\(.owner.id)/\\(.name)@\\(.id)\"'` prints"
            )
        self._environment = environment
        self._repository = repository
        self._pricing = f"pricing-{environment.name}"
        self._may_deploy(self._role("Deploy", gates=[environment.name]))
        self._may_promote(self._role("Promote", gates=[environment.name, f"{environment.name}-check"]))

    def _role(self, name: str, *, gates: Sequence[str]) -> iam.Role:
        subjects = [f"repo:{self._repository}:environment:{gate}" for gate in gates]
        role = iam.Role(
            self,
            name,
            role_name=f"{self._pricing}-{name.lower()}",
            max_session_duration=Duration.hours(2),
            assumed_by=iam.FederatedPrincipal(
                self._arn("iam", f"oidc-provider/{ISSUER}", region=""),
                {"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": subjects}},
                "sts:AssumeRoleWithWebIdentity",
            ),
        )
        CfnOutput(self, f"{name}Role", value=role.role_arn, description=f"AWS_{name.upper()}_ROLE on GitHub")
        return role

    def _may_deploy(self, role: iam.Role) -> None:
        """Pushes images, deploys the environment's stacks, and looks how that went."""
        serving = [self._arn("cloudformation", f"stack/{self._pricing}-serving/*")]
        _allow(role, ["ecr:GetAuthorizationToken"], ["*"])  # knows no resource to name
        _allow(role, PUSH, [self._arn("ecr", f"repository/{self._pricing}/*")])
        # Where a deployment writes which images run, and the next one reads it.
        names = [self._environment.image_parameter(image) for image in ("serving", "mlflow", "jobs")]
        noted = [self._arn("ssm", f"parameter{name}") for name in names]
        _allow(role, ["ssm:GetParameter", "ssm:PutParameter"], noted)
        bootstrapped = [self._arn("iam", f"role/{self._cdk(name)}", region="") for name in BOOTSTRAPPED]
        _allow(role, ["sts:AssumeRole"], bootstrapped)
        _allow(role, ["cloudformation:CancelUpdateStack", "cloudformation:DescribeStacks"], serving)
        _allow(role, ["ecs:DescribeServices"], [self._arn("ecs", f"service/{self._pricing}/*")])
        # CDK lets its role change every stack of the account, with the rights that a stack was last deployed with.
        own = [self._arn("cloudformation", f"stack/{self._pricing}-{stack}/*") for stack in STACKS]
        iam.ManagedPolicy(
            self,
            "OwnStacks",
            description=f"Keeps deployments of {self._environment.name} from every other stack",
            roles=[iam.Role.from_role_name(self, "Bootstrapped", self._cdk("deploy"))],
            statements=[iam.PolicyStatement(effect=iam.Effect.DENY, actions=list(CHANGES), not_resources=own)],
        )

    def _may_promote(self, role: iam.Role) -> None:
        """Starts the tasks that promote and roll back models, and reads their log."""
        cluster = {"ArnEquals": {"ecs:cluster": self._arn("ecs", f"cluster/{self._pricing}")}}
        tasks = [self._arn("ecs", f"task/{self._pricing}/*")]
        log = f"log-group:/pricing/{self._environment.name}/jobs:log-stream:job/job/*"
        _allow(role, ["ecs:RunTask"], [self._arn("ecs", f"task-definition/{self._pricing}-promote:*")], **cluster)
        _allow(role, ["ecs:DescribeTasks", "ecs:StopTask"], tasks, **cluster)
        _allow(role, ["ecs:TagResource"], tasks, StringEquals={"ecs:CreateAction": "RunTask"})
        _allow(
            role,
            ["iam:PassRole"],
            [self._arn("iam", f"role/{self._pricing}-jobs-Promote*", region="")],
            StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"},
        )
        _allow(role, ["logs:GetLogEvents"], [self._arn("logs", log)])
        foundation = [self._arn("cloudformation", f"stack/{self._pricing}-foundation/*")]
        _allow(role, ["cloudformation:DescribeStacks"], foundation)

    def _cdk(self, role: str) -> str:
        """The name of a role that `cdk bootstrap` made for this environment."""
        return f"cdk-{self._environment.qualifier}-{role}-role-{self.account}-{self.region}"

    def _arn(self, service: str, rest: str, *, region: str | None = None) -> str:
        place = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{place}:{self.account}:{rest}"


def _allow(role: iam.Role, actions: Sequence[str], resources: Sequence[str], **conditions: Mapping[str, Any]) -> None:
    role.add_to_policy(
        iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions or None)
    )
