"""Synthesises the stacks: `python -m deploy.app`, and what `cdk` runs (`deploy/cdk.json`). Needs no AWS account.

The environment is that of the context `env` or of ENV; without one every environment is synthesised.
"""

import os
import sys
from collections.abc import Mapping

from aws_cdk import App

from deploy.environment import DeploymentError, read_environments, with_images
from deploy.stacks import build

# Behaviour of aws-cdk-lib that new projects get; without these it is that of its first release.
FLAGS = dict.fromkeys(
    (
        "@aws-cdk/aws-ec2:uniqueImdsv2TemplateName",
        "@aws-cdk/aws-ecs:disableExplicitDeploymentControllerForCircuitBreaker",
        "@aws-cdk/aws-ecs:reduceEc2FargateCloudWatchPermissions",
        "@aws-cdk/aws-ecs:removeDefaultDeploymentAlarm",
        "@aws-cdk/aws-efs:denyAnonymousAccess",
        "@aws-cdk/aws-events:eventsTargetQueueSameAccount",
        "@aws-cdk/aws-iam:minimizePolicies",
        "@aws-cdk/aws-rds:databaseProxyUniqueResourceName",
        "@aws-cdk/aws-s3:createDefaultLoggingPolicy",
        "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy",
        "@aws-cdk/core:checkSecretUsage",
        "@aws-cdk/core:enablePartitionLiterals",
    ),
    True,
)


def new_app(outdir: str | None = None) -> App:
    """An app without stacks.

    Args:
        outdir: Where templates go; absent: where `cdk` says, or `cdk.out`.
    """
    return App(context=FLAGS, outdir=outdir, analytics_reporting=False, tree_metadata=False)


def make(app: App, variables: Mapping[str, str] = os.environ) -> App:
    """Adds the stacks that are asked for.

    Args:
        app: Gets the stacks.
        variables: ENV, and IMAGES as `serving=TAG jobs=sha256:…`.

    Raises:
        DeploymentError: There is no such environment, or one cannot be used.
    """
    environments = read_environments()
    wanted = str(app.node.try_get_context("env") or variables.get("ENV", ""))
    if wanted and wanted not in environments:
        raise DeploymentError(f"ENV={wanted}: no such environment; there are {', '.join(environments)}")
    for name, environment in environments.items():
        if wanted in ("", name):
            build(app, with_images(environment, variables.get("IMAGES", "")))
    return app


def main() -> int:
    """Synthesises to `cdk.out`, or where `cdk` says; returns the exit code."""
    try:
        assembly = make(new_app()).synth()
    except DeploymentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(assembly.stacks)} stacks in {assembly.directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
