"""The fifth stack: the pages of pricing managers, behind the same proxy and load balancer as the service."""

from typing import Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct

from deploy.environment import DeploymentError, Size
from deploy.foundation import READ, WRITE, Foundation
from deploy.network import CONSOLE_PORT
from deploy.tasks import ENTRY, HOME, PUBLISHED, Task, asks, program_variables, service_of
from deploy.tracking import Tracking
from deploy.watch import Places

PORT = 8091  # of the console, on the task's loopback, behind the proxy
PRIORITY = 30  # of the rule by which managers reach it
SIZE = Size(cpu=1024, memory=4096)
STOP = Duration.seconds(30)


class Console(Stack):
    """The console's service: it reads what is published, and writes the control record, its mirror and price files.

    Raises:
        DeploymentError: The settings have a proxy name persons: this load balancer passes on what anybody says there.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation, tracking: Tracking, **options: Any) -> None:
        super().__init__(scope, name, **options)
        environment, network = base.environment_, base.network
        if environment.settings.get("console", {}).get("trusted_proxy"):
            raise DeploymentError(f"{environment.name}.settings.console.trusted_proxy: on AWS keys alone name persons")
        service = service_of(
            self,
            "Service",
            task=self._task(base, tracking),
            base=base,
            desired_count=1,
            security_groups=[network.console],
            min_healthy_percent=100,
            max_healthy_percent=200,
            health_check_grace_period=Duration.seconds(120),
        )
        targets = elbv2.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=network.vpc,
            port=CONSOLE_PORT,
            protocol=elbv2.ApplicationProtocol.HTTP,
            target_type=elbv2.TargetType.IP,
            deregistration_delay=Duration.seconds(20),
            health_check=elbv2.HealthCheck(path="/health/live", interval=Duration.seconds(15)),
        )
        rule = elbv2.ApplicationListenerRule(
            self,
            "Rule",
            listener=tracking.listener,
            priority=PRIORITY,
            conditions=[elbv2.ListenerCondition.host_headers([environment.console_domain])],
            action=elbv2.ListenerAction.forward([targets]),
        )
        service.attach_to_application_target_group(targets)
        service.node.add_dependency(rule)
        figures = {"ClusterName": base.cluster.cluster_name, "ServiceName": service.service_name}
        self.places: Places = {"console": ("ECS/ContainerInsights", figures)}
        CfnOutput(self, "ServiceName", value=service.service_name)

    def _task(self, base: Foundation, tracking: Tracking) -> Task:
        task = Task(self, "Pages", family="console", size=SIZE, base=base)
        sessions = base.password(self, "Sessions", "what the console signs its sessions with")
        program = task.add(
            "console",
            image="jobs",
            entry_point=ENTRY,
            command=["pricing", "console"],
            variables={
                **program_variables(base),
                "HOST": "127.0.0.1",
                "PORT": str(PORT),
                "PRICING_DATABASE_URL": tracking.url("pricing"),
                "PGSSLMODE": "require",
            },
            secrets={
                "PGPASSWORD": ecs.Secret.from_secrets_manager(tracking.passwords["pricing"]),
                "PRICING_API_KEYS": ecs.Secret.from_secrets_manager(base.api_keys),
                "PRICING_CONSOLE_SECRET": ecs.Secret.from_secrets_manager(sessions),
            },
            writes=("/tmp", HOME),
            health_check=asks(f"http://127.0.0.1:{PORT}/health/live"),
            stop_timeout=STOP,
        )
        behind = {"CONSOLE": f"127.0.0.1:{PORT}", "CONSOLE_PORT": str(CONSOLE_PORT), "SERVING_1": "127.0.0.1:1"}
        task.add_proxy(program, port=CONSOLE_PORT, stop=STOP, **behind)  # no service is in this task
        task.allow_objects(base.data, READ, prefix=f"{PUBLISHED}/")
        for place in ("control", "price_files/"):  # and no version, which jobs alone write
            prefix = f"{PUBLISHED}/{base.environment_.model}/{place}"
            task.allow_objects(base.data, WRITE, prefix=prefix, listing=False)
        task.use_key("s3")
        return task
