"""The fifth stack: the pages of pricing managers, behind the same proxy and load balancer as the service."""

from typing import Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct

from deploy.environment import DeploymentError, Size
from deploy.foundation import READ, WRITE, Foundation
from deploy.network import CONSOLE_PORT
from deploy.tasks import ENTRY, HOME, PUBLISHED, Task, asks, program_variables, service_of
from deploy.tracking import Tracking
from deploy.watch import Place, Places

PORT = 8091  # of the console, on the task's loopback, behind the proxy
PRIORITY = 30  # of the rule by which managers reach it
SIZE = Size(cpu=1024, memory=4096)
STOP = Duration.seconds(30)


class Console(Stack):
    """The console's service: it reads what is published, and writes the control record, its mirror and price files.

    Raises:
        DeploymentError: The settings have a proxy name people: this load balancer passes on what anybody claims there.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation, tracking: Tracking, **options: Any) -> None:
        super().__init__(scope, name, **options)
        environment = base.environment_
        if environment.settings.get("console", {}).get("trusted_proxy"):
            raise DeploymentError(f"{environment.name}.settings.console.trusted_proxy: on AWS keys alone name people")
        service = service_of(
            self,
            "Service",
            task=self._task(base, tracking),
            base=base,
            desired_count=1,
            security_groups=[base.network.console],
            min_healthy_percent=100,
            max_healthy_percent=200,
            health_check_grace_period=Duration.seconds(120),
        )
        targets = tracking.put_behind(
            self,
            service,
            host=environment.console_domain,
            port=CONSOLE_PORT,
            priority=PRIORITY,
            health_check=elbv2.HealthCheck(path="/health/ready", interval=Duration.seconds(15)),
        )
        figures = {
            "LoadBalancer": tracking.balancer.load_balancer_full_name,
            "TargetGroup": targets.target_group_full_name,
        }
        self.places: Places = {"console": Place("AWS/ApplicationELB", figures)}
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
                "PGPASSWORD": tracking.passwords["pricing"],
                "PRICING_API_KEYS": base.api_keys,
                "PRICING_CONSOLE_SECRET": sessions,
            },
            writes=("/tmp", HOME),
            health_check=asks(f"http://127.0.0.1:{PORT}/health/live"),
            stop_timeout=STOP,
        )
        task.add_proxy(
            program,
            port=CONSOLE_PORT,
            stop=STOP,
            CONSOLE=f"127.0.0.1:{PORT}",
            CONSOLE_PORT=str(CONSOLE_PORT),
            SERVING_1="127.0.0.1:1",  # no service is in this task
        )
        task.allow_objects(base.data, READ, prefix=f"{PUBLISHED}/")
        for place in ("control", "price_files/"):  # and no version, which jobs alone write
            prefix = f"{PUBLISHED}/{base.environment_.model}/{place}"
            task.allow_objects(base.data, WRITE, prefix=prefix, listing=False)
        task.use_key("s3")
        return task
