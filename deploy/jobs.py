"""The third stack: jobs as three kinds of tasks, the publisher, Dask's workers, and when they start."""

from collections.abc import Sequence
from typing import Any

from aws_cdk import CfnOutput, Duration, Stack, TimeZone
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduler_targets
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from deploy.environment import DASK_PORT, Size
from deploy.foundation import DELETE, READ, WRITE, Foundation
from deploy.partitions import PartitionedJob
from deploy.tasks import DECISIONS, ENTRY, HOME, LIMIT, PUBLISHED, Task, program_variables, service_of
from deploy.tracking import Tracking

CONTAINER = "job"
EVERYTHING = (*READ, *WRITE, *DELETE)
# The job that a task runs where no other is named; etl, tune, retrain, refresh go by `train`, monitor by `nightly`,
# and what a person decides by `promote`.
KINDS = ("train", "nightly", "promote")
PUBLISHER = Size(cpu=256, memory=1024)
SCHEDULER = Size(cpu=1024, memory=4096)
WORKER = Size(cpu=1024, memory=8192)  # partitions are cut for 8 GB a worker
WORKER_PORT = DASK_PORT + 1
NANNY_PORT = DASK_PORT + 2  # of what restarts a worker


class Jobs(Stack):
    """Task definitions, the publisher's service, the night's schedule, and the rules of monitoring's events."""

    def __init__(self, scope: Construct, name: str, *, base: Foundation, tracking: Tracking, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self._base = base
        self._tracking = tracking
        environment = base.environment_
        self._log = base.log_group(self, "jobs")
        self._secrets = {
            variable: secretsmanager.Secret.from_secret_name_v2(self, variable.title().replace("_", ""), secret)
            for variable, secret in environment.job_secrets.items()
        }
        self._sales = ("--sales", base.sales)
        self.tasks = {kind: self._task(kind, getattr(environment.jobs, kind), self._sales) for kind in KINDS}
        publisher = self._task("publish", PUBLISHER, ["--every", "10"])
        self._grant(publisher)
        # It mends what a job could not publish, and publishes what people did by hand.
        self.publisher = service_of(
            self,
            "Publisher",
            task=publisher,
            base=base,
            desired_count=1,
            security_groups=[base.network.jobs],
            min_healthy_percent=0,
            max_healthy_percent=100,
        )
        self.undelivered = sqs.Queue(
            self,
            "Undelivered",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=base.key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        self._schedule()
        if not environment.nightly.partitions:  # whose night does both by itself
            self._on_event("refresh", options=())
            self._on_event("retrain", options=("reason",))
        CfnOutput(self, "ServiceName", value=self.publisher.service_name)

    def _task(self, kind: str, size: Size, options: Sequence[str] = (), *, command: Sequence[str] = ()) -> Task:
        base = self._base
        tracking = self._tracking
        task = Task(self, kind.capitalize(), family=kind, size=size, base=base, log=self._log)
        task.add(
            CONTAINER,
            image="jobs",
            entry_point=[*ENTRY, *LIMIT] if kind in KINDS else ENTRY,
            command=list(command) or ["pricing", kind, *options],
            variables={
                **program_variables(base),
                "MLFLOW_TRACKING_URI": tracking.uri,
                "PRICING_DATABASE_URL": tracking.url("pricing"),
                "PRICING_TUNING_STORAGE": tracking.url("pricing"),
                "PRICING_ETL": f"s3://{base.data.bucket_name}/etl",
                "PRICING_ACTOR": f"{kind}@aws",
                "PGSSLMODE": "require",
            },
            secrets={
                "PGPASSWORD": tracking.passwords["pricing"],
                "MLFLOW_TRACKING_USERNAME": ecs.Secret.from_secrets_manager(tracking.login, "username"),
                "MLFLOW_TRACKING_PASSWORD": ecs.Secret.from_secrets_manager(tracking.login, "password"),
                **self._secrets,
            },
            writes=("/tmp", HOME),
        )
        if kind in (*KINDS, "worker"):
            self._grant(task)
            self._grant_learning(kind, task)
        return task

    def _grant(self, task: Task) -> None:
        """Publishing: the service reads there, and jobs alone write."""
        base = self._base
        task.allow(["sns:Publish"], [base.topic.topic_arn])  # a job that fails sends an alert
        task.allow_objects(base.data, EVERYTHING, prefix=f"{PUBLISHED}/")
        task.use_key("s3", "sns")

    def _grant_learning(self, kind: str, task: Task) -> None:
        base = self._base
        task.allow_objects(base.data, READ, prefix="sales")  # a promotion may compare on them
        task.allow_objects(base.data, READ if kind == "promote" else EVERYTHING, prefix="etl/")
        if kind == "train":
            task.allow_objects(base.data, READ, prefix=f"{DECISIONS}/")
        if kind == "worker":  # it logs the prices that it makes
            task.allow_objects(base.data, WRITE, prefix=f"{DECISIONS}/", listing=False)
        if kind == "nightly":  # it makes Parquet of past days' lines
            task.allow_objects(base.data, EVERYTHING, prefix=f"{DECISIONS}/")
            task.allow(["events:PutEvents"], [base.bus.event_bus_arn])
            # CloudWatch knows no resource to name.
            namespace = {"cloudwatch:namespace": base.environment_.namespace}
            task.allow(["cloudwatch:PutMetricData"], ["*"], StringEquals=namespace)

    def _add_workers(self) -> ecs.FargateService:
        """Adds Dask for sales in partitions: a scheduler that jobs find by name, and the service of workers.

        Workers have no number, which would reset at each deployment what a job that runs has set.
        """
        environment = self._base.environment_
        group = self._base.network.jobs
        group.connections.allow_internally(ec2.Port.tcp_range(DASK_PORT, NANNY_PORT), "Dask")
        work = (
            f"dask worker {environment.scheduler} --nthreads 1 --memory-limit 0 "
            f"--worker-port {WORKER_PORT} --nanny-port {NANNY_PORT} --local-directory /tmp --no-dashboard"
        ).split()

        def service(name: str, size: Size, command: Sequence[str], **options: Any) -> ecs.FargateService:
            return service_of(
                self,
                f"Dask{name.capitalize()}",
                task=self._task(name, size, command=command),
                base=self._base,
                security_groups=[group],
                min_healthy_percent=0,
                max_healthy_percent=100,
                **options,
            )

        meet = ["dask", "scheduler", "--port", str(DASK_PORT), "--no-dashboard"]
        service("scheduler", SCHEDULER, meet, desired_count=1, cloud_map_options=ecs.CloudMapOptions(name="scheduler"))
        return service("worker", WORKER, work)

    def _schedule(self) -> None:
        base = self._base
        part = base.environment_.nightly
        scheduler.Schedule(
            self,
            "Night",
            schedule_name=f"pricing-{base.environment_.name}-nightly",
            description="Reads sales, monitors, refreshes or retrains, and lets the gates decide",
            schedule=scheduler.ScheduleExpression.expression(part.at, TimeZone.of(part.time_zone)),
            target=self._partitioned_night() if part.partitions else self._night(),
        )

    def _night(self) -> scheduler_targets.EcsRunFargateTask:
        base = self._base
        return scheduler_targets.EcsRunFargateTask(
            base.cluster,
            task_definition=self.tasks["nightly"].definition,
            security_groups=[base.network.jobs],
            vpc_subnets=base.network.tasks,
            assign_public_ip=False,
            enable_ecs_managed_tags=True,
            propagate_tags=True,
            **self._start(),
        )

    def _partitioned_night(self) -> scheduler_targets.StepFunctionsStartExecution:
        job = PartitionedJob(
            self,
            "Partitioned",
            base=self._base,
            task=self.tasks["nightly"].definition,
            container=CONTAINER,
            workers=self._add_workers(),
            undelivered=self.undelivered,
        )
        night = scheduler.ScheduleTargetInput.from_object({"job": "nightly"})
        return scheduler_targets.StepFunctionsStartExecution(job.machine, input=night, **self._start())

    def _start(self) -> dict[str, Any]:
        """Returns how the schedule starts its target, and puts what cannot start into the queue."""
        return {
            "dead_letter_queue": self.undelivered,
            "retry_attempts": 5,
            "max_event_age": Duration.hours(2),
            "role": self._starter(),
        }

    def _starter(self) -> iam.Role:
        """Makes the role by which the schedule starts its task, and puts what cannot start into the encrypted queue."""
        account = {"StringEquals": {"aws:SourceAccount": self.account}}
        role = iam.Role(self, "Starter", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com", conditions=account))
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=[self._base.key.key_arn],
                conditions={"StringEquals": {"kms:ViaService": f"sqs.{self.region}.amazonaws.com"}},
            )
        )
        return role

    def _on_event(self, job: str, *, options: Sequence[str]) -> None:
        """Starts a job for events of `actions.EventBridgeLauncher`, on this environment's sales.

        The events name its options. One that an event lacks is an empty word, which counts as not given.
        """
        words = [
            word for option in options for word in (f"--{option}", events.EventField.from_path(f"$.detail.{option}"))
        ]
        command = ["pricing", job, *self._sales, *words]
        events.Rule(
            self,
            f"On{job.capitalize()}",
            event_bus=self._base.bus,
            description=f"Starts {job} where monitoring asks for it",
            event_pattern=events.EventPattern(
                source=["pricing.monitoring"],
                detail_type=[f"pricing {job}"],
            ),
            targets=[
                targets.EcsTask(
                    cluster=self._base.cluster,
                    task_definition=self.tasks["train"].definition,
                    security_groups=[self._base.network.jobs],
                    subnet_selection=self._base.network.tasks,
                    assign_public_ip=False,
                    propagate_tags=ecs.PropagatedTagSource.TASK_DEFINITION,
                    container_overrides=[targets.ContainerOverride(container_name=CONTAINER, command=command)],
                    dead_letter_queue=self.undelivered,
                    retry_attempts=5,
                    max_event_age=Duration.hours(2),
                )
            ],
        )
