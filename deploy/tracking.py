"""MLflow on Fargate: one task on PostgreSQL, with artifacts in S3 that it hands out itself; users log in."""

import json
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as discovery
from constructs import Construct

from deploy import grants
from deploy.containers import Task, image_of, starts_after
from deploy.database import SETUP, Database
from deploy.environment import Environment
from deploy.foundation import Foundation, private_domain
from deploy.mlflow_users import ADMIN
from deploy.network import DATABASE_PORT, MLFLOW_PORT

HEALTH = (
    "python",
    "-c",
    f"import urllib.request as u; u.urlopen('http://127.0.0.1:{MLFLOW_PORT}/health', timeout=4)",
)
PRIORITY = 20  # of the rule by which people reach it
USERS = (Path(__file__).parent / "mlflow_users.py").read_text(encoding="utf-8")


def tracking_uri(environment: Environment) -> str:
    """MLFLOW_TRACKING_URI of every other task."""
    return f"http://mlflow.{private_domain(environment)}:{MLFLOW_PORT}"


class Tracking(Construct):
    """MLflow's service, which the image's own command starts (`deploy/tracking_server.py`).

    Before it starts, its task makes databases and roles that are missing (`deploy.database_setup`), and its user
    `admin` (`deploy.mlflow_users`), whom jobs and people are: whoever may move an alias decides prices.

    Attributes:
        service: The service.
        password: Secret with name and password of MLflow's user.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        database: Database,
    ) -> None:
        super().__init__(scope, name)
        self._base, environment, artifacts = base, base.environment_, base.buckets.artifacts
        image = image_of(base, "mlflow")
        self.password = secretsmanager.Secret(
            self,
            "AdminPassword",
            description=f"Pricing: password of MLflow's user {ADMIN}",
            encryption_key=base.key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=40,
                exclude_punctuation=True,
                secret_string_template=json.dumps({"username": ADMIN}),
                generate_string_key="password",
            ),
        )
        password = ecs.Secret.from_secrets_manager(self.password, "password")
        store = database.url("mlflow", database="mlflow")
        store_password = {"PGPASSWORD": ecs.Secret.from_secrets_manager(database.passwords["mlflow"])}
        task = Task(self, "Task", family="mlflow", size=environment.tracking.size, base=base)
        names = [
            f"mlflow.{private_domain(environment)}:*",
            f"{environment.mlflow_domain}",
            "localhost:*",
            "127.0.0.1:*",
        ]
        container = task.add(
            "mlflow",
            image=image,
            variables={
                "MLFLOW_BACKEND_STORE_URI": store,
                "MLFLOW_PORT": str(MLFLOW_PORT),
                "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{artifacts.bucket_name}/mlflow",
                "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(names),
                "PGSSLMODE": "require",
            },
            secrets={
                **store_password,
                "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            },
            health=HEALTH,
            stop_seconds=30,
        )
        container.add_port_mappings(ecs.PortMapping(container_port=MLFLOW_PORT))
        setup = _setup(task, database, image=image)
        users = task.add_first(
            "users",
            image=image,
            command=["python", "-c", USERS],
            variables={"MLFLOW_BACKEND_STORE_URI": store, "PGSSLMODE": "require"},
            secrets={**store_password, "PASSWORD_ADMIN": password},
        )
        task.add_volumes(
            container,
            image=image,
            paths={"tmp": "/tmp", "home": "/var/lib/mlflow"},
            before=users,
        )
        starts_after(users, setup)
        starts_after(container, users)
        grants.objects(
            task.role,
            artifacts,
            [*grants.READ_OBJECTS, *grants.WRITE_OBJECTS, *grants.DELETE_OBJECTS],
            prefix="mlflow",
        )
        grants.use_key(task.role, base.key, by=["s3"], scope=self)
        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=base.cluster,
            task_definition=task.definition,
            desired_count=1,
            security_groups=[base.network.mlflow],
            vpc_subnets=base.network.tasks,
            assign_public_ip=False,
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            cloud_map_options=ecs.CloudMapOptions(
                name="mlflow", dns_record_type=discovery.DnsRecordType.A, dns_ttl=Duration.seconds(10)
            ),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            enable_ecs_managed_tags=True,
            # A first start on an empty database takes a minute.
            health_check_grace_period=Duration.minutes(5) if environment.network.people else None,
        )
        self.service.node.add_dependency(database.instance)

    def login(self) -> dict[str, ecs.Secret]:
        """What MLflow's client takes user and password from, for a task."""
        return {
            f"MLFLOW_TRACKING_{name.upper()}": ecs.Secret.from_secrets_manager(self.password, name)
            for name in ("username", "password")
        }

    def show_to_people(self, listener: elbv2.IApplicationListener) -> None:
        """Lets the load balancer hand MLflow's pages to the networks of `people`, under its own name."""
        environment = self._base.environment_
        group = elbv2.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=self._base.network.vpc,
            port=MLFLOW_PORT,
            protocol=elbv2.ApplicationProtocol.HTTP,
            target_type=elbv2.TargetType.IP,
            deregistration_delay=Duration.seconds(20),
            health_check=elbv2.HealthCheck(path="/health", interval=Duration.seconds(15)),
        )
        rule = elbv2.ApplicationListenerRule(
            self,
            "Rule",
            listener=listener,
            priority=PRIORITY,
            conditions=[
                elbv2.ListenerCondition.host_headers([environment.mlflow_domain]),
                elbv2.ListenerCondition.source_ips(list(environment.network.people)),
            ],
            action=elbv2.ListenerAction.forward([group]),
        )
        self.service.attach_to_application_target_group(group)
        self.service.node.add_dependency(rule)


def _setup(task: Task, database: Database, *, image: ecs.ContainerImage) -> ecs.ContainerDefinition:
    master = database.instance.secret
    if master is None:  # the types allow it; RDS makes it with the credentials that Database gives
        raise ValueError("the database has no secret of its master")
    passwords = {
        f"PASSWORD_{role.upper()}": ecs.Secret.from_secrets_manager(secret)
        for role, secret in database.passwords.items()
    }
    return task.add_first(
        "database",
        image=image,
        command=["python", "-c", SETUP],
        variables={"PGHOST": database.instance.db_instance_endpoint_address, "PGPORT": str(DATABASE_PORT)},
        secrets={
            "PGUSER": ecs.Secret.from_secrets_manager(master, "username"),
            "PGPASSWORD": ecs.Secret.from_secrets_manager(master, "password"),
            **passwords,
        },
    )
