"""Jobs as tasks: one task definition each, with its size and with no more rights than it needs."""

from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from deploy import grants
from deploy.containers import HOME, SETTINGS_FILE, Task, image_of
from deploy.database import Database
from deploy.environment import JOBS
from deploy.foundation import Foundation
from deploy.platform import namespace, platform_settings
from deploy.storage import log_group
from deploy.tracking import tracking_uri

CONTAINER = "job"
SALES = "sales"
DECISIONS = "decisions"
WITHOUT_SALES = {"promote"}
# Who reads the archive of decisions, moves decisions there and deletes old ones, sends figures, and asks for jobs.
READ_DECISIONS = {"train", "tune", "retrain", "monitor", "nightly"}
WRITE_DECISIONS = {"nightly"}
MEASURE = {"monitor", "nightly"}
ASK = {"monitor", "nightly"}


class Jobs(Construct):
    """A task definition for each job.

    Attributes:
        tasks: By the job's name.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation, database: Database) -> None:
        super().__init__(scope, name)
        self._base, self._database = base, database
        environment = base.environment_
        self._image = image_of(base, "jobs")
        self._log = log_group(
            self, "Log", name=f"/pricing/{environment.name}/jobs", key=base.key, environment=environment
        )
        self._secrets = {
            variable: secretsmanager.Secret.from_secret_name_v2(self, variable.title().replace("_", ""), secret)
            for variable, secret in environment.job_secrets.items()
        }
        self.tasks = {job: self._task(job, module) for job, module in JOBS.items()}

    def _task(self, job: str, module: str) -> Task:
        base, environment = self._base, self._base.environment_
        task = Task(self, job.capitalize(), family=job, size=environment.jobs[job], base=base, log=self._log)
        data = base.buckets.data.bucket_name
        sales = () if job in WITHOUT_SALES else ("--sales", environment.sales.replace("{data}", data))
        container = task.add(
            CONTAINER,
            image=self._image,
            command=["python", "-m", module, *sales],
            variables={
                "TZ": environment.nightly.time_zone,
                "MLFLOW_TRACKING_URI": tracking_uri(environment),
                "PRICING_DATABASE_URL": self._database.url("pricing", database="pricing"),
                "PRICING_CONFIG": SETTINGS_FILE,
                "PRICING_HOME": HOME,
                "PRICING_DECISIONS_ARCHIVE": f"s3://{data}/{DECISIONS}",
                "PRICING_ACTOR": f"{job}@aws",
                "PGSSLMODE": "require",
            },
            secrets={
                "PGPASSWORD": ecs.Secret.from_secrets_manager(self._database.passwords["pricing"]),
                **{name: ecs.Secret.from_secrets_manager(secret) for name, secret in self._secrets.items()},
            },
        )
        settings = platform_settings(environment, topic=base.topic.topic_arn, bus=base.bus.event_bus_name)
        task.add_volumes(container, image=self._image, paths={"tmp": "/tmp"}, settings=settings)
        self._mount_home(task, container)
        self._grant(job, task.role)
        return task

    def _mount_home(self, task: Task, container: ecs.ContainerDefinition) -> None:
        files = self._base.files
        task.definition.add_volume(
            name="home",
            efs_volume_configuration=ecs.EfsVolumeConfiguration(
                file_system_id=files.system.file_system_id,
                transit_encryption="ENABLED",
                authorization_config=ecs.AuthorizationConfig(
                    access_point_id=files.access.access_point_id, iam="ENABLED"
                ),
            ),
        )
        container.add_mount_points(ecs.MountPoint(container_path=HOME, source_volume="home", read_only=False))

    def _grant(self, job: str, role: iam.IRole) -> None:
        base = self._base
        grants.publish(role, base.topic)  # every job that fails says so
        grants.use_files(role, base.files.system, base.files.access)
        grants.objects(role, base.buckets.data, grants.READ_OBJECTS, prefix=SALES)  # a promotion may compare on them
        if job in READ_DECISIONS:
            writes = (*grants.WRITE_OBJECTS, *grants.DELETE_OBJECTS) if job in WRITE_DECISIONS else ()
            grants.objects(role, base.buckets.data, [*grants.READ_OBJECTS, *writes], prefix=DECISIONS)
        grants.use_key(role, base.key, by=["s3", "sns"], scope=self)
        if job in MEASURE:
            grants.put_metrics(role, namespace=namespace(base.environment_))
        if job in ASK:
            role.add_to_principal_policy(
                iam.PolicyStatement(actions=["events:PutEvents"], resources=[base.bus.event_bus_arn])
            )
