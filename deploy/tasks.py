"""Task definitions as every task here has them: no root, no writable root, settings by a file, rights by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from aws_cdk import Duration, Size, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from deploy.environment import Environment
from deploy.environment import Size as TaskSize
from deploy.foundation import Foundation

HOME = "/var/lib/pricing"
SETTINGS_FILE = "/tmp/settings.yaml"
# Writes the settings' file before whatever the command is, also one that `aws ecs run-task` puts in its place.
ENTRY = ["sh", "-c", f'printf %s "$SETTINGS" > {SETTINGS_FILE} && exec "$@"', "sh"]
# Of a job: one that hangs is over before the next night, whose locks it would hold.
LIMIT = ("timeout", "--kill-after=60", "20h")
# ECS stops it by SIGTERM, at which HAProxy would cut off what it has; at SIGUSR1 it answers that first.
PROXY = "haproxy -db -f /app/haproxy.cfg & trap 'kill -USR1 $!' TERM; wait $! || wait $!"
LONGEST_STOP = Duration.seconds(120)  # Fargate waits no longer between SIGTERM and SIGKILL
PUBLISHED = "published"  # in the data bucket, as the next
DECISIONS = "decisions"


class Task(Construct):
    """A Fargate task definition, its roles and its log.

    The execution role, by which ECS starts the task, reads its image, its secrets and writes its log; the task role,
    by which the program itself calls AWS, may nothing until it is granted.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        family: str,
        size: TaskSize,
        base: Foundation,
        log: logs.ILogGroup | None = None,
    ) -> None:
        super().__init__(scope, name)
        self._base = base
        self._decrypts = False
        self.log = log or base.log_group(self, family)
        ecs_tasks = iam.ServicePrincipal("ecs-tasks.amazonaws.com")
        self._execution = iam.Role(self, "Execution", assumed_by=ecs_tasks)
        self.definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            family=f"pricing-{base.environment_.name}-{family}",
            cpu=size.cpu,
            memory_limit_mib=size.memory,
            ephemeral_storage_gib=size.disk,
            execution_role=self._execution,
            task_role=iam.Role(self, "Role", assumed_by=ecs_tasks),
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
        )

    def add(
        self,
        name: str,
        *,
        image: str,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, secretsmanager.ISecret | ecs.Secret] | None = None,
        writes: Sequence[str] = (),
        **options: Any,
    ) -> ecs.ContainerDefinition:
        """Adds a container; `options` of ecs.ContainerDefinition go over what is usual here.

        A secret is a whole one of Secrets Manager, or a field of it.

        Its image lies in one of the environment's repositories: serving, mlflow, jobs by the digest that is given for
        this deployment, else by the one that runs; or another by its own, as `collector@sha256:…`. A folder that it
        `writes` to is a VOLUME of its image, which sets its owner.
        """
        parameters = ecs.LinuxParameters(self, f"{name.capitalize()}Linux", init_process_enabled=True)
        parameters.drop_capabilities(ecs.Capability.ALL)
        if secrets:
            self._decrypt()
        container = self.definition.add_container(
            name,
            image=self._image(image),
            environment=dict(variables or {}),
            secrets={
                variable: secret if isinstance(secret, ecs.Secret) else ecs.Secret.from_secrets_manager(secret)
                for variable, secret in (secrets or {}).items()
            },
            user="10001:10001",  # of every image
            readonly_root_filesystem=True,
            linux_parameters=parameters,
            # What waits for CloudWatch lies in memory and never holds up an answer.
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix=name,
                log_group=self.log,
                mode=ecs.AwsLogDriverMode.NON_BLOCKING,
                max_buffer_size=Size.mebibytes(8),
            ),
            **{"stop_timeout": LONGEST_STOP, **options},
        )
        for path in writes:
            volume = path.strip("/").replace("/", "-")
            self.definition.add_volume(name=volume)
            container.add_mount_points(ecs.MountPoint(container_path=path, source_volume=volume, read_only=False))
        return container

    def _image(self, image: str) -> ecs.ContainerImage:
        """Names an image by its digest, and lets ECS fetch it."""
        environment = self._base.environment_
        name, _, digest = image.partition("@")
        if not digest:
            digest = environment.images.get(name) or ssm.StringParameter.value_for_string_parameter(
                self, environment.image_parameter(name)
            )
        repository = self._base.repositories[name]
        repository.grant_pull(self._execution)
        return ecs.ContainerImage.from_registry(f"{repository.repository_uri}@{digest}")

    def add_proxy(
        self, before: ecs.ContainerDefinition, *, port: int, stop: Duration, **variables: str
    ) -> ecs.ContainerDefinition:
        """Adds HAProxy, through which alone a program is reached; it believes the load balancer who the caller is.

        The program starts `before` its proxy and so is stopped after it. `stop` is the time for its open requests,
        `variables` are those of `compose/haproxy.cfg`.
        """
        proxy = self.add(
            "proxy",
            image="serving",
            command=["sh", "-c", PROXY],
            variables={**variables, "TRUSTED_PROXIES": self._base.environment_.network.cidr},
            stop_timeout=stop,
        )
        proxy.add_port_mappings(ecs.PortMapping(container_port=port))
        proxy.add_container_dependencies(
            ecs.ContainerDependency(container=before, condition=ecs.ContainerDependencyCondition.START)
        )
        self.definition.default_container = proxy
        return proxy

    def allow(self, actions: Sequence[str], resources: Sequence[str], **conditions: Mapping[str, Any]) -> None:
        """Lets the program do what the actions say, and nothing more: CDK's own grants are wider."""
        self.definition.add_to_task_role_policy(
            iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions or None)
        )

    def allow_objects(self, bucket: s3.IBucket, actions: Sequence[str], *, prefix: str, listing: bool = True) -> None:
        """Lets the program do so with the objects under a prefix.

        Without the right to list, S3 answers 403 where an object is missing, which readers take for an error.
        """
        self.allow(actions, [bucket.arn_for_objects(f"{prefix}*")])
        if listing:
            self.allow(["s3:ListBucket"], [bucket.bucket_arn])

    def use_key(self, *services: str) -> None:
        """Lets the program use the key by way of AWS services, such as s3, and not by itself.

        Whoever puts an object in several parts must be able to decrypt them, so that writing takes both actions.
        """
        via = [f"{service}.{Stack.of(self).region}.amazonaws.com" for service in services]
        self.allow(
            ["kms:Decrypt", "kms:GenerateDataKey"], [self._base.key.key_arn], StringEquals={"kms:ViaService": via}
        )

    def _decrypt(self) -> None:
        """Lets ECS decrypt secrets, once; the secrets themselves grant that they are read."""
        if self._decrypts:
            return
        self._decrypts = True
        via = f"secretsmanager.{Stack.of(self).region}.amazonaws.com"
        self._execution.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[self._base.key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": via}},
            )
        )


def service_of(scope: Construct, name: str, *, task: Task, base: Foundation, **options: Any) -> ecs.FargateService:
    """Makes a service of a task, in the private subnets, whose failing deployments are taken back."""
    return ecs.FargateService(
        scope,
        name,
        cluster=base.cluster,
        task_definition=task.definition,
        vpc_subnets=base.network.tasks,
        assign_public_ip=False,
        circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
        propagate_tags=ecs.PropagatedTagSource.SERVICE,
        enable_ecs_managed_tags=True,
        **options,
    )


def program_variables(base: Foundation) -> dict[str, str]:
    """Returns the variables of every program of ours: settings, zone, and where what is published and decisions lie."""
    environment = base.environment_
    data = f"s3://{base.data.bucket_name}"
    return {
        "TZ": environment.nightly.time_zone,
        "PRICING_CONFIG": SETTINGS_FILE,
        "PRICING_HOME": HOME,
        "PRICING_PUBLISHED": f"{data}/{PUBLISHED}",
        "PRICING_DECISIONS_URL": f"{data}/{DECISIONS}",
        "SETTINGS": yaml.safe_dump(_settings(environment, base), allow_unicode=True),
    }


def _settings(environment: Environment, base: Foundation) -> dict[str, Any]:
    """The configuration that follows from AWS, under what the environment's `settings` say."""
    ours: dict[str, Any] = {
        "serving": {"keys": "required"},
        "scale": {"scheduler": environment.scheduler},
        "monitoring": {
            "trigger": "none" if environment.nightly.partitions else "event",  # that night retrains by itself
            "alerts": ["log", "sns"],
            "metrics": ["cloudwatch"],
            "endpoints": {
                "sns_topic": base.topic.topic_arn,
                "event_bus": base.bus.event_bus_name,
                "namespace": environment.namespace,
                "mlflow_url": f"https://{environment.mlflow_domain}",
            },
        },
    }
    return merged(ours, environment.settings)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lays one mapping over another, key by key, as the platform does with configuration files."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def asks(url: str) -> ecs.HealthCheck:
    """Makes the check that a container answers at an address, every 10 s."""
    return ecs.HealthCheck(
        command=["CMD", "python", "-c", f"import urllib.request as u; u.urlopen({url!r}, timeout=4)"],
        interval=Duration.seconds(10),
        timeout=Duration.seconds(5),
        retries=3,
        start_period=Duration.seconds(300),
    )
