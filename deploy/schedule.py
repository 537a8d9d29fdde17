"""When jobs start: the night by EventBridge Scheduler, retraining and refresh by an event of monitoring."""

from collections.abc import Sequence

from aws_cdk import Duration, TimeZone
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduler_targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from deploy.environment import JOBS
from deploy.foundation import Foundation
from deploy.jobs import CONTAINER, Jobs

# What `monitoring.aws.EventBridgeLauncher` puts.
SOURCE = "pricing.monitoring"
DETAIL_TYPE = {"retrain": "pricing retrain", "refresh": "pricing refresh"}


class Schedule(Construct):
    """The night's schedule and the rules of events; what cannot be started waits in a queue, and an alarm says so.

    Attributes:
        undelivered: The queue.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation, jobs: Jobs) -> None:
        super().__init__(scope, name)
        self._base, self._jobs = base, jobs
        self.undelivered = sqs.Queue(
            self,
            "Undelivered",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=base.key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        self._nightly()
        self._rule("Refresh", "refresh", options=())
        self._rule("Retrain", "retrain", options=("reason",))

    def _nightly(self) -> None:
        base, part = self._base, self._base.environment_.nightly
        scheduler.Schedule(
            self,
            "Nightly",
            schedule_name=f"pricing-{base.environment_.name}-nightly",
            description="Reads sales, monitors, refreshes or retrains, and lets the gates decide",
            schedule=scheduler.ScheduleExpression.expression(part.at, TimeZone.of(part.time_zone)),
            enabled=part.enabled,
            target=scheduler_targets.EcsRunFargateTask(
                base.cluster,
                task_definition=self._jobs.tasks["nightly"].definition,
                security_groups=[base.network.jobs],
                vpc_subnets=base.network.tasks,
                assign_public_ip=False,
                enable_ecs_managed_tags=True,
                propagate_tags=True,
                dead_letter_queue=self.undelivered,
                retry_attempts=5,
                max_event_age=Duration.hours(2),
            ),
        )

    def _rule(self, name: str, job: str, *, options: Sequence[str]) -> None:
        """Starts a job's task for its events, with the sales and the options that they name.

        An event without sales starts nothing: a path that leads nowhere would become an empty word.
        """
        words = [
            word
            for option in ("sales", *options)
            for word in (f"--{option}", events.EventField.from_path(f"$.detail.{option}"))
        ]
        events.Rule(
            self,
            name,
            event_bus=self._base.bus,
            description=f"Starts {job} where monitoring asks for it",
            event_pattern=events.EventPattern(
                source=[SOURCE], detail_type=[DETAIL_TYPE[job]], detail={"sales": events.Match.exists()}
            ),
            targets=[
                targets.EcsTask(
                    cluster=self._base.cluster,
                    task_definition=self._jobs.tasks[job].definition,
                    security_groups=[self._base.network.jobs],
                    subnet_selection=self._base.network.tasks,
                    assign_public_ip=False,
                    propagate_tags=ecs.PropagatedTagSource.TASK_DEFINITION,
                    container_overrides=[
                        targets.ContainerOverride(container_name=CONTAINER, command=["python", "-m", JOBS[job], *words])
                    ],
                    dead_letter_queue=self.undelivered,
                    retry_attempts=5,
                    max_event_age=Duration.hours(2),
                )
            ],
        )
