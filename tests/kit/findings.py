"""Findings of cdk-nag and checkov on the templates that stay, each with its reason."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """What a tool found.

    Attributes:
        rule: Its name there, such as AwsSolutions-RDS3 or CKV_AWS_157.
        where: The resource: its path or logical id, after the name of its stack.
    """

    rule: str
    where: str


class Reason(NamedTuple):
    """Why findings stay: pattern of the whole rule, pattern that is searched for in the place, the reason."""

    rule: str
    where: str
    why: str


ACCEPTED = (
    Reason(
        r"AwsSolutions-EC23",
        r"Network/Balancer/",
        "callers are those of network.callers; TLS, keys and the firewall's rate stand in front of an open one",
    ),
    Reason(
        r"AwsSolutions-SMG4",
        r"ApiKeys/",
        "keys are given to callers by a person, who renews them: put the new secret, deploy (docs/operating.md)",
    ),
    Reason(
        r"AwsSolutions-SMG4",
        r"Database/|Mlflow/",
        "rotation needs a Lambda function in the VPC; a new secret comes into force when MLflow's task starts, which "
        "sets the passwords of the database's roles and of MLflow's user (docs/operating.md)",
    ),
    Reason(
        r"AwsSolutions-SMG4",
        r"MetricsKey/",
        "it opens the figures of a task to the collector beside it; both read a new secret when the task starts",
    ),
    Reason(
        r"AwsSolutions-RDS3|AwsSolutions-RDS10|CKV_AWS_157",
        r"staging.*Database",
        "staging may lose its database: one zone, and destroy takes it along",
    ),
    Reason(
        r"AwsSolutions-RDS11",
        r"Database/",
        "another port than 5432 hides nothing from what its security group lets in",
    ),
    Reason(
        r"CKV_AWS_161",
        r"Database",
        "programs log in by passwords that Secrets Manager keeps; a token of IAM lives 15 minutes, a pool longer",
    ),
    Reason(
        r"AwsSolutions-IAM4\[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole\]",
        r"Database/Instance/MonitoringRole/",
        "RDS demands this policy of AWS for enhanced monitoring",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::\*\]",
        r"/Execution/",
        "ecr:GetAuthorizationToken, by which ECS pulls an image, knows no resource",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::\*\]",
        r"Jobs/(Monitor|Nightly)/Role/",
        "cloudwatch:PutMetricData knows no resource; a condition names the one namespace",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::.*Buckets\w+/(sales|decisions/|published/|mlflow)\*\]",
        r"/Role/",
        "objects have names that nobody knows beforehand; the role reaches one prefix of one bucket",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:aws:ecs:.*:task/.*Cluster.*/\*\]",
        r"EventsRole|SchedulerRole",
        "ecs:TagResource of tasks of this one cluster, which have no names before they start",
    ),
    Reason(
        r"AwsSolutions-ECS2",
        r"Definition/",
        "variables that are no secrets: addresses, folders, settings; passwords and keys come from Secrets Manager",
    ),
    Reason(r"AwsSolutions-SQS3", r"Schedule/Undelivered/", "it is itself the queue of what could not be delivered"),
    Reason(r"CKV_AWS_18", r"BucketsLogs", "the bucket of access logs, which would log its own logging"),
)


# Of the stack of pipelines (deploy/pipeline_access.py), which is synthesised alone.
PIPELINE = (
    Reason(
        r"AwsSolutions-IAM5\[Resource::\*\]",
        r"Deploy/DefaultPolicy",
        "ecr:GetAuthorizationToken, ecs:DescribeTaskDefinition and cloudwatch:DescribeAlarms know no resource",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:.*:repository/pricing-\w+/\*\]",
        r"Deploy/DefaultPolicy",
        "the repositories of one environment, whose names all begin so",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:.*:(stack/pricing-\w+-\w+|service/pricing-\w+|task/pricing-\w+)/\*\]",
        r"(Deploy|Promote)/DefaultPolicy",
        "AWS adds an id to the name of a stack, a service and a task",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:.*:task-definition/pricing-\w+-(promote|nightly):\*\]",
        r"Promote/DefaultPolicy",
        "revisions of one task definition: the newest has a number that nobody knows beforehand",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:.*:role/pricing-\w+-jobs-\*\]",
        r"Promote/DefaultPolicy",
        "roles of the jobs' tasks, to which CloudFormation gives names; ECS alone may be handed them",
    ),
    Reason(
        r"AwsSolutions-IAM5\[Resource::arn:.*:log-stream:job/job/\*\]",
        r"Promote/DefaultPolicy",
        "a log stream is named after its task",
    ),
)


def explains(reason: Reason, finding: Finding) -> bool:
    """Whether a reason is about a finding."""
    return bool(re.fullmatch(reason.rule, finding.rule) and re.search(reason.where, finding.where))


def unexplained(findings: Iterable[Finding], accepted: tuple[Reason, ...]) -> list[Finding]:
    """The findings that no reason explains."""
    return [finding for finding in findings if not any(explains(reason, finding) for reason in accepted)]


def without_use(findings: Iterable[Finding], accepted: tuple[Reason, ...]) -> list[Reason]:
    """The reasons that explain nothing any more."""
    found = list(findings)
    return [reason for reason in accepted if not any(explains(reason, finding) for finding in found)]
