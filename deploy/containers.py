"""Task definitions as every task here has them: no root, no writable root, settings by a file, logs that end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from aws_cdk import Duration, Size, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from deploy.environment import Size as TaskSize
from deploy.foundation import Foundation
from deploy.prepare import SETTINGS
from deploy.storage import USER, log_group

HOME = "/var/lib/pricing"
VOLUMES = "/prepared"  # where what runs first in a task has its volumes
SETTINGS_FOLDER = "/etc/pricing"
SETTINGS_FILE = f"{SETTINGS_FOLDER}/{SETTINGS}"
PREPARE = (Path(__file__).parent / "prepare.py").read_text(encoding="utf-8")
LONGEST_STOP = 120  # seconds; Fargate waits no longer between SIGTERM and SIGKILL


class Task(Construct):
    """A Fargate task definition, its roles and its log.

    The execution role, by which ECS starts the task, reads its image, its secrets and writes its log; the task role,
    by which the program itself calls AWS, may nothing until it is granted.

    Attributes:
        definition: The task definition.
        log: The log group.
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
        environment = base.environment_
        self._key = base.key
        self._decrypts = False
        self.log = log or log_group(
            self, "Log", name=f"/pricing/{environment.name}/{family}", key=base.key, environment=environment
        )
        self._execution = iam.Role(
            self,
            "Execution",
            assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
            description=f"Starts {family} of pricing, {environment.name}",
        )
        self.definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            family=f"pricing-{environment.name}-{family}",
            cpu=size.cpu,
            memory_limit_mib=size.memory,
            ephemeral_storage_gib=size.disk,
            execution_role=self._execution,
            task_role=iam.Role(
                self,
                "Role",
                assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
                description=f"What {family} of pricing, {environment.name}, may do",
            ),
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
        )

    @property
    def role(self) -> iam.IRole:
        """The role of the program itself."""
        return self.definition.task_role

    def add(
        self,
        name: str,
        *,
        image: ecs.ContainerImage,
        command: Sequence[str] | None = None,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, ecs.Secret] | None = None,
        health: Sequence[str] | None = None,
        stop_seconds: int = LONGEST_STOP,
        essential: bool = True,
    ) -> ecs.ContainerDefinition:
        """Adds the container that the task is for.

        Args:
            name: Of the container.
            image: What it runs.
            command: Absent: the image's.
            variables: Environment variables.
            secrets: Environment variable → secret.
            health: Command that says whether it lives, run every 10 s.
            stop_seconds: Between SIGTERM and SIGKILL.
            essential: Whether the task ends with it; otherwise it alone is started again.
        """
        check = ecs.HealthCheck(
            command=["CMD", *(health or ["true"])],
            interval=Duration.seconds(10),
            timeout=Duration.seconds(5),
            retries=3,
            start_period=Duration.seconds(60),
        )
        self._read_secrets(secrets)
        return self.definition.add_container(
            name,
            image=image,
            command=None if command is None else list(command),
            environment=dict(variables or {}),
            secrets=dict(secrets or {}),
            essential=essential,
            enable_restart_policy=not essential,
            user=f"{USER}:{USER}",
            readonly_root_filesystem=True,
            linux_parameters=_without_capabilities(self, name),
            logging=self._logging(name),
            stop_timeout=Duration.seconds(stop_seconds),
            health_check=check if health else None,
        )

    def add_first(
        self,
        name: str,
        *,
        image: ecs.ContainerImage,
        command: Sequence[str],
        variables: Mapping[str, str],
        secrets: Mapping[str, ecs.Secret] | None = None,
        user: str = f"{USER}:{USER}",
    ) -> ecs.ContainerDefinition:
        """Adds a container that must have ended well before another, which `starts_after` names, starts."""
        self._read_secrets(secrets)
        return self.definition.add_container(
            name,
            image=image,
            command=list(command),
            environment=dict(variables),
            secrets=dict(secrets or {}),
            essential=False,
            user=user,
            readonly_root_filesystem=True,
            linux_parameters=_without_capabilities(self, name),
            logging=self._logging(name),
        )

    def add_volumes(
        self,
        container: ecs.ContainerDefinition,
        *,
        image: ecs.ContainerImage,
        paths: Mapping[str, str],
        settings: Mapping[str, object] | None = None,
        before: ecs.ContainerDefinition | None = None,
    ) -> None:
        """Gives a container folders of the task's own to write to, and a settings file to read.

        Args:
            container: Which one.
            image: Of the container that prepares them first; any with Python.
            paths: Volume → where it is mounted.
            settings: Configuration that lies as YAML in SETTINGS_FILE.
            before: One that runs before the container and gets the same.
        """
        all_paths = {**paths, **({"settings": SETTINGS_FOLDER} if settings is not None else {})}
        variables = {"VOLUMES": VOLUMES}
        if settings is not None:
            variables["SETTINGS"] = yaml.safe_dump(dict(settings), sort_keys=True, allow_unicode=True)
        first = self.add_first(
            "prepare", image=image, command=["python", "-c", PREPARE], variables=variables, user="0:0"
        )
        for name, path in all_paths.items():
            self.definition.add_volume(name=name)
            first.add_mount_points(_mount(name, f"{VOLUMES}/{name}"))
            for one in filter(None, (before, container)):
                one.add_mount_points(_mount(name, path, read_only=name == "settings"))
        for one in filter(None, (before, container)):
            starts_after(one, first)

    def _logging(self, name: str) -> ecs.LogDriver:
        # What waits for CloudWatch lies in memory and never holds up an answer.
        return ecs.LogDrivers.aws_logs(
            stream_prefix=name,
            log_group=self.log,
            mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            max_buffer_size=Size.mebibytes(8),
        )

    def _read_secrets(self, secrets: Mapping[str, ecs.Secret] | None) -> None:
        """Lets ECS decrypt secrets, once; the secrets themselves grant that they are read."""
        if not secrets or self._decrypts:
            return
        self._decrypts = True
        stack = Stack.of(self)
        self._execution.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt"],
                resources=[self._key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"secretsmanager.{stack.region}.amazonaws.com"}},
            )
        )


def starts_after(container: ecs.ContainerDefinition, first: ecs.ContainerDefinition) -> None:
    """Lets a container start once another has ended well."""
    container.add_container_dependencies(
        ecs.ContainerDependency(container=first, condition=ecs.ContainerDependencyCondition.SUCCESS)
    )


def _mount(name: str, path: str, *, read_only: bool = False) -> ecs.MountPoint:
    return ecs.MountPoint(container_path=path, source_volume=name, read_only=read_only)


def image_of(base: Foundation, name: str) -> ecs.ContainerImage:
    """The image that the environment names: serving, mlflow or jobs."""
    reference = str(getattr(base.environment_.images, name))
    return ecs.ContainerImage.from_ecr_repository(base.images.repositories[name], reference)


def _without_capabilities(scope: Construct, name: str) -> ecs.LinuxParameters:
    parameters = ecs.LinuxParameters(scope, f"{name.capitalize()}Linux", init_process_enabled=True)
    parameters.drop_capabilities(ecs.Capability.ALL)
    return parameters
