"""Synthesise the stacks: `python -m deploy.app`, and what `cdk` runs. Needs no AWS account."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from aws_cdk import App, DefaultStackSynthesizer, LegacyStackSynthesizer, Stack, Tags
from aws_cdk import Environment as Place

from deploy.console import Console
from deploy.environment import DeploymentError, Environment, read_environments
from deploy.foundation import Foundation
from deploy.jobs import Jobs
from deploy.pipeline import GithubProvider, Pipeline
from deploy.serving import Serving
from deploy.tracking import Tracking
from deploy.watch import Watch

# Behaviour of aws-cdk-lib that new projects get; without these it is that of its first release.
FLAGS = dict.fromkeys(
    (
        "@aws-cdk/aws-ecs:disableExplicitDeploymentControllerForCircuitBreaker",
        "@aws-cdk/aws-ecs:reduceEc2FargateCloudWatchPermissions",
        "@aws-cdk/aws-ecs:removeDefaultDeploymentAlarm",
        "@aws-cdk/aws-events:eventsTargetQueueSameAccount",
        "@aws-cdk/aws-iam:minimizePolicies",
        "@aws-cdk/aws-s3:createDefaultLoggingPolicy",
        "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy",
        "@aws-cdk/core:checkSecretUsage",
        "@aws-cdk/core:enablePartitionLiterals",
    ),
    True,
)


def new_app(outdir: str | None = None) -> App:
    """Makes an app without stacks, whose templates go to `outdir`, or where `cdk` wants them."""
    return App(context=FLAGS, outdir=outdir, analytics_reporting=False, tree_metadata=False)


def make(app: App, variables: Mapping[str, str]) -> App:
    """Adds the stacks that are asked for.

    Variables are ENV, without which every environment is meant; IMAGES as `serving=sha256:… jobs=sha256:…`, without
    which those stay that run; REPOSITORY, of which the pipelines' roles are made.

    Raises:
        DeploymentError: There is no such environment, or one cannot be used.
    """
    environments = read_environments(images=variables.get("IMAGES", ""))
    wanted = variables.get("ENV", "")
    repository = variables.get("REPOSITORY", "")
    if wanted and wanted not in environments:
        raise DeploymentError(f"ENV={wanted}: no such environment; there are {', '.join(environments)}")
    for name, environment in environments.items():
        if wanted in ("", name):
            build(app, environment, repository=repository)
    return app


def build(app: App, environment: Environment, *, repository: str = "") -> None:
    """Adds every stack of an environment, in the order in which they are deployed."""

    def options(**more: Any) -> dict[str, Any]:
        return {
            "env": Place(region=environment.region),  # the account is that of whoever deploys
            "termination_protection": environment.kept,
            "synthesizer": DefaultStackSynthesizer(qualifier=environment.qualifier),  # one serves one stack
            **more,
        }

    name = f"pricing-{environment.name}"
    base = Foundation(app, f"{name}-foundation", environment=environment, **options())
    tracking = Tracking(app, f"{name}-tracking", base=base, **options())
    jobs = Jobs(app, f"{name}-jobs", base=base, tracking=tracking, **options())
    serving = Serving(app, f"{name}-serving", base=base, tracking=tracking, **options())
    console = Console(app, f"{name}-console", base=base, tracking=tracking, **options())
    places = serving.places | console.places
    watch = Watch(app, f"{name}-watch", base=base, tracking=tracking, jobs=jobs, places=places, **options())
    stacks: list[Stack] = [base, tracking, jobs, serving, console, watch]
    if repository:
        # No role stands between: whoever deploys these must hold their rights.
        provider = app.node.try_find_child("pricing-github") or GithubProvider(
            app, "pricing-github", env=Place(region=environment.region), synthesizer=LegacyStackSynthesizer()
        )
        own = options(synthesizer=LegacyStackSynthesizer())
        stacks.append(Pipeline(app, f"{name}-pipeline", environment=environment, repository=repository, **own))
        stacks[-1].node.add_dependency(provider)
    for stack in stacks:
        Tags.of(stack).add("pricing:environment", environment.name)


def main() -> int:
    """Synthesises to `cdk.out`, or where `cdk` wants them; returns the exit code."""
    try:
        assembly = make(new_app(), os.environ).synth()
    except DeploymentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(assembly.stacks)} stacks in {assembly.directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
