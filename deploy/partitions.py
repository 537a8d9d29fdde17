"""A job on sales in partitions: partitions first, then the job, over workers that run meanwhile and no longer."""

from typing import Any

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from deploy.foundation import PARTITIONS, Foundation

ATTEMPTS = 6  # to change the number of workers, over a minute: without the last change they would run all day
JOB_FAILED = "States.TaskFailed"  # a container ended with another code than 0, of which a mail tells already


class PartitionedJob(Construct):
    """The state machine of a job that its input names, as `{"job": "nightly"}`.

    Whatever fails, the workers end. An execution ends at once where an earlier one has not ended, whose workers it
    would stop; of two of one moment the first by name goes on. What is no failure of a job goes to the queue of what
    could not start.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        task: ecs.TaskDefinition,
        container: str,
        workers: ecs.FargateService,
        undelivered: sqs.Queue,
    ) -> None:
        super().__init__(scope, name)
        self._base = base
        self._task = task
        self._container = container
        self._workers = workers
        environment = base.environment_
        output = f"{{% 's3://{base.data.bucket_name}/{PARTITIONS}' & $states.context.Execution.Name %}}"
        partition = ["partition", "--sales", base.sales, "--output", output]
        job = ["{% $states.context.Execution.Input.job %}", "--sales", output]
        end = self._end(undelivered)
        released = self._scaled("NoWorkers", 0)
        released.next(end)
        self._catch(released, by=end)
        alone = self._ask_for_others()
        self._catch(alone, by=end)
        steps = [
            self._job("Partition", [*partition, "--count", str(environment.nightly.partitions)]),
            self._scaled("Workers", environment.jobs.workers),
            self._job("Job", job),
        ]
        for step, following in zip(steps, [*steps[1:], released], strict=True):
            step.next(following)
            self._catch(step, by=released)
        alone.next(self._choice("Alone", {"": steps[0]}, otherwise=end))
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=self._name,
            definition_body=sfn.DefinitionBody.from_chainable(alone),
            query_language=sfn.QueryLanguage.JSONATA,
        )

    @property
    def _name(self) -> str:
        return f"pricing-{self._base.environment_.name}-partitioned"

    def _ask_for_others(self) -> tasks.CallAwsService:
        """Makes the state that notes as a failure that an earlier execution runs beside this one."""
        others = (
            "{% ($began := $toMillis($states.context.Execution.StartTime); $own := $states.context.Execution.Id;"
            " $earlier := $states.result.Executions[ExecutionArn != $own and ($toMillis(StartDate) < $began or"
            " ($toMillis(StartDate) = $began and ExecutionArn < $own))];"
            " $count($earlier) > 0 ? 'another execution runs' : '') %}"
        )
        arn = Stack.of(self).format_arn(
            service="states",
            resource="stateMachine",
            resource_name=self._name,
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        return tasks.CallAwsService.jsonata(
            self,
            "Others",
            service="sfn",
            action="listExecutions",
            iam_action="states:ListExecutions",
            iam_resources=[arn],
            parameters={"StateMachineArn": "{% $states.context.StateMachine.Id %}", "StatusFilter": "RUNNING"},
            assign={"failed": others},
        )

    def _job(self, name: str, words: list[str]) -> tasks.EcsRunTask:
        network = self._base.network
        return tasks.EcsRunTask.jsonata(
            self,
            name,
            integration_pattern=sfn.IntegrationPattern.RUN_JOB,
            cluster=self._base.cluster,
            task_definition=self._task,
            launch_target=tasks.EcsFargateLaunchTarget(platform_version=ecs.FargatePlatformVersion.LATEST),
            assign_public_ip=False,
            subnets=network.tasks,
            security_groups=[network.jobs],
            propagated_tag_source=ecs.PropagatedTagSource.TASK_DEFINITION,
            container_overrides=[
                tasks.ContainerOverride(
                    container_definition=self._task.find_container(self._container), command=["pricing", *words]
                )
            ],
        )

    def _scaled(self, name: str, count: int) -> tasks.CallAwsService:
        """Makes the state that sets the number of workers; what a job gives them meanwhile waits in the scheduler."""
        state = tasks.CallAwsService.jsonata(
            self,
            name,
            service="ecs",
            action="updateService",
            iam_resources=[self._workers.service_arn],
            parameters={
                "Cluster": self._base.cluster.cluster_name,
                "Service": self._workers.service_name,
                "DesiredCount": count,
            },
        )
        state.add_retry(max_attempts=ATTEMPTS)
        return state

    def _catch(self, state: Any, *, by: sfn.IChainable) -> None:
        state.add_catch(by, assign={"failed": "{% $states.errorOutput.Error %}"})

    def _end(self, undelivered: sqs.Queue) -> sfn.Choice:
        """Makes the states that end an execution as its job ended."""
        failed = sfn.Fail(self, "Failed")
        note = tasks.SqsSendMessage.jsonata(
            self,
            "Note",
            queue=undelivered,
            message_body=sfn.TaskInput.from_object(
                {"failed": "{% $failed %}", "execution": "{% $states.context.Execution.Id %}"}
            ),
        )
        ends = {"": sfn.Succeed(self, "Done"), JOB_FAILED: failed}
        return self._choice("Ended", ends, otherwise=note.next(failed))

    def _choice(self, name: str, ways: dict[str, Any], *, otherwise: sfn.IChainable) -> sfn.Choice:
        choice = sfn.Choice.jsonata(self, name)
        for failed, way in ways.items():
            choice.when(sfn.Condition.jsonata(f"{{% $failed = '{failed}' %}}"), way)
        return choice.otherwise(otherwise)
