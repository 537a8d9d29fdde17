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
from deploy.storage import DECISIONS, PUBLISHED, SALES, log_group
from deploy.tracking import Tracking, tracking_uri

CONTAINER = "job"
WITHOUT_SALES = {"promote", "publish"}
LOOP = ("--every", "10")  # of `publish`, in seconds
# Who publishes, reads decisions, archives them and deletes old ones, sends figures, and asks for jobs.
PUBLISH = {"refresh", "retrain", "nightly", "promote", "publish"}
READ_DECISIONS = {"train", "tune", "retrain", "monitor", "nightly"}
WRITE_DECISIONS = {"nightly"}
MEASURE = {"monitor", "nightly"}
ASK = {"monitor", "nightly"}
# Who keeps files from one task to the next, and which.
KEEPS_FILES = {
    "etl": "the rows made of the shop's tables, and the panel",
    "tune": "a search that was cut off and goes on",
    "monitor": "Evidently's reports, and the panel of the last night",
    "nightly": "the panel of the last night, Evidently's reports",
}
EVERYTHING = (*grants.READ_OBJECTS, *grants.WRITE_OBJECTS, *grants.DELETE_OBJECTS)
FROM_TABLES = "etl"  # as --sales: every job reads the tables that etl keeps


class Jobs(Construct):
    """A task definition for each job.

    Jobs of KEEPS_FILES have PRICING_HOME on the file system that they share; where sales come from `etl`, all have,
    since all read the tables there. Any other job's PRICING_HOME is its task's own, and goes with it.

    Attributes:
        tasks: By the job's name.
    """

    def __init__(
        self, scope: Construct, name: str, *, base: Foundation, database: Database, tracking: Tracking
    ) -> None:
        super().__init__(scope, name)
        self._base, self._database, self._tracking = base, database, tracking
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
        self._publish()

    def _publish(self) -> None:
        """Runs `publish` for ever: it mends what a job could not publish, and publishes what persons did by hand."""
        ecs.FargateService(
            self,
            "Publisher",
            cluster=self._base.cluster,
            task_definition=self.tasks["publish"].definition,
            desired_count=1,
            security_groups=[self._base.network.jobs],
            vpc_subnets=self._base.network.tasks,
            assign_public_ip=False,
            min_healthy_percent=0,
            max_healthy_percent=100,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            enable_ecs_managed_tags=True,
        )

    def _task(self, job: str, module: str) -> Task:
        base, environment = self._base, self._base.environment_
        task = Task(self, job.capitalize(), family=job, size=environment.jobs[job], base=base, log=self._log)
        data = base.buckets.data.bucket_name
        sales = () if job in WITHOUT_SALES else ("--sales", environment.sales.replace("{data}", data))
        words = LOOP if job == "publish" else sales
        container = task.add(
            CONTAINER,
            image=self._image,
            command=["python", "-m", module, *words],
            variables={
                "TZ": environment.nightly.time_zone,
                "MLFLOW_TRACKING_URI": tracking_uri(environment),
                "PRICING_DATABASE_URL": self._database.url("pricing", database="pricing"),
                "PRICING_CONFIG": SETTINGS_FILE,
                "PRICING_HOME": HOME,
                "PRICING_PUBLISHED": f"s3://{data}/{PUBLISHED}",
                "PRICING_DECISIONS_URL": f"s3://{data}/{DECISIONS}",
                "PRICING_ACTOR": f"{job}@aws",
                "PGSSLMODE": "require",
            },
            secrets={
                "PGPASSWORD": ecs.Secret.from_secrets_manager(self._database.passwords["pricing"]),
                **self._tracking.login(),
                **{name: ecs.Secret.from_secrets_manager(secret) for name, secret in self._secrets.items()},
            },
        )
        settings = platform_settings(environment, topic=base.topic.topic_arn, bus=base.bus.event_bus_name)
        shares = job in KEEPS_FILES or environment.sales == FROM_TABLES
        own = {"tmp": "/tmp"} if shares else {"tmp": "/tmp", "home": HOME}
        task.add_volumes(container, image=self._image, paths=own, settings=settings)
        if shares:
            self._mount_home(task, container)
            grants.use_files(task.role, base.files.system, base.files.access)
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
        grants.objects(role, base.buckets.data, grants.READ_OBJECTS, prefix=SALES)  # a promotion may compare on them
        if job in READ_DECISIONS:
            actions = EVERYTHING if job in WRITE_DECISIONS else grants.READ_OBJECTS
            grants.objects(role, base.buckets.data, actions, prefix=f"{DECISIONS}/")
        if job in PUBLISH:
            grants.objects(role, base.buckets.data, EVERYTHING, prefix=f"{PUBLISHED}/")
        grants.use_key(role, base.key, by=["s3", "sns"], scope=self)
        if job in MEASURE:
            grants.put_metrics(role, namespace=namespace(base.environment_))
        if job in ASK:
            role.add_to_principal_policy(
                iam.PolicyStatement(actions=["events:PutEvents"], resources=[base.bus.event_bus_arn])
            )
