"""The stacks of an environment, in the order in which they are deployed."""

from typing import Any

from aws_cdk import App, CfnOutput, DefaultStackSynthesizer, Stack, Tags
from aws_cdk import Environment as Place
from constructs import Construct

from deploy.alarms import Alarms, Budget
from deploy.balancer import Balancer, Firewall
from deploy.dashboard import Dashboard
from deploy.database import Database
from deploy.environment import Environment
from deploy.foundation import Foundation
from deploy.jobs import Jobs
from deploy.schedule import Schedule
from deploy.service import Service, scale, serving_task
from deploy.tracking import Tracking

STACKS = ("foundation", "tracking", "jobs", "serving", "watch")


class TrackingStack(Stack):
    """The way in, the database, and MLflow."""

    def __init__(self, scope: Construct, name: str, *, base: Foundation, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self.balancer = Balancer(self, "Balancer", base=base)
        Firewall(self, "Firewall", balancer=self.balancer, base=base)
        self.database = Database(self, "Database", base=base)
        self.tracking = Tracking(self, "Mlflow", base=base, database=self.database)
        CfnOutput(self, "MlflowLogin", value=self.tracking.password.secret_name)
        if base.environment_.network.people:
            self.tracking.show_to_people(self.balancer.listener)
        CfnOutput(self, "ServiceName", value=self.tracking.service.service_name)
        CfnOutput(self, "Address", value=self.balancer.balancer.load_balancer_dns_name)


class JobsStack(Stack):
    """Jobs, and when they start."""

    def __init__(
        self, scope: Construct, name: str, *, base: Foundation, tracking: TrackingStack, **options: Any
    ) -> None:
        super().__init__(scope, name, **options)
        jobs = Jobs(self, "Jobs", base=base, database=tracking.database, tracking=tracking.tracking)
        self.schedule = Schedule(self, "Schedule", base=base, jobs=jobs)


class ServingStack(Stack):
    """The service that prices."""

    def __init__(
        self, scope: Construct, name: str, *, base: Foundation, tracking: TrackingStack, **options: Any
    ) -> None:
        super().__init__(scope, name, **options)
        self.service = Service(
            self, "Service", base=base, balancer=tracking.balancer, task=serving_task(self, base=base)
        )
        scale(self.service, environment=base.environment_)
        CfnOutput(self, "ServiceName", value=self.service.service.service_name)


class WatchStack(Stack):
    """Alarms, dashboard, budget."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        tracking: TrackingStack,
        jobs: JobsStack,
        serving: ServingStack,
        **options: Any,
    ) -> None:
        super().__init__(scope, name, **options)
        alarms = Alarms(self, "Alarms", base=base, service=serving.service, undelivered=jobs.schedule.undelivered)
        Dashboard(
            self,
            "Dashboard",
            base=base,
            service=serving.service,
            alarms=alarms,
            database=tracking.database.instance,
        )
        Budget(self, "Budget", base=base)


def build(app: App, environment: Environment) -> dict[str, Stack]:
    """Makes every stack of an environment; returns them by their names in STACKS."""

    def options() -> dict[str, Any]:
        return {
            "env": Place(region=environment.region),  # the account is that of whoever deploys
            "termination_protection": environment.kept,
            "synthesizer": DefaultStackSynthesizer(qualifier=environment.qualifier),  # one serves one stack
        }

    def name(stack: str) -> str:
        return f"pricing-{environment.name}-{stack}"

    base = Foundation(app, name("foundation"), environment=environment, **options())
    tracking = TrackingStack(app, name("tracking"), base=base, **options())
    jobs = JobsStack(app, name("jobs"), base=base, tracking=tracking, **options())
    serving = ServingStack(app, name("serving"), base=base, tracking=tracking, **options())
    watch = WatchStack(app, name("watch"), base=base, tracking=tracking, jobs=jobs, serving=serving, **options())
    stacks: dict[str, Stack] = dict(zip(STACKS, (base, tracking, jobs, serving, watch), strict=True))
    for stack in stacks.values():
        Tags.of(stack).add("pricing:environment", environment.name)
    return stacks
