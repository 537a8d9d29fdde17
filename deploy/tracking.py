"""The second stack: the way in, the database, and MLflow."""

import json
from typing import Any

from aws_cdk import ArnFormat, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_rds as rds
from aws_cdk import aws_servicediscovery as discovery
from aws_cdk import aws_ssm as ssm
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from deploy.database_setup import ROLES
from deploy.foundation import DELETE, READ, WRITE, Foundation
from deploy.network import DATABASE_PORT, MLFLOW_PORT, TLS_PORT
from deploy.tasks import Task, asks, service_of

# Less than the 60 s after which the proxy ends a silent connection, so that it never ends one in use.
IDLE_SECONDS = 55
DRAIN = Duration.seconds(20)  # after which a task that the load balancer has left must end
PEOPLE_PRIORITY = 20  # of the rule by which people reach MLflow
# Rules of AWS that the firewall has beside its own. That of common attacks is not among them: it refuses bodies above
# 8 KiB, and a batch of requests is larger.
MANAGED = ("AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesAmazonIpReputationList")


class Tracking(Stack):
    """The load balancer with its firewall, PostgreSQL, and MLflow on it."""

    def __init__(self, scope: Construct, name: str, *, base: Foundation, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self._base = base
        self.balancer, self.listener = self._way_in()
        self._firewall()
        self.passwords = {
            role: base.password(self, f"{role.capitalize()}Password", f"password of the database role {role}")
            for role in ROLES
        }
        # MLflow's user, who jobs and people are: whoever may move an alias decides prices.
        self.login = base.password(
            self,
            "MlflowAdmin",
            "password of MLflow's user admin",
            secret_string_template=json.dumps({"username": "admin"}),
            generate_string_key="password",
        )
        self.database = self._database()
        # MLFLOW_TRACKING_URI of every other task:
        self.uri = f"http://mlflow.{base.environment_.private_domain}:{MLFLOW_PORT}"
        self.service = self._mlflow()
        if base.environment_.network.people:
            self._show_to_people()
        CfnOutput(self, "MlflowLogin", value=self.login.secret_name)
        for role, secret in self.passwords.items():
            CfnOutput(self, f"{role.capitalize()}Secret", value=secret.secret_name)
        CfnOutput(self, "ServiceName", value=self.service.service_name)
        CfnOutput(self, "Address", value=self.balancer.load_balancer_dns_name)

    def url(self, role: str) -> str:
        """The address of a role's database for SQLAlchemy, without the password, which libpq takes from PGPASSWORD."""
        return f"postgresql://{role}@{self.database.db_instance_endpoint_address}:{DATABASE_PORT}/{role}"

    def put_behind(
        self, scope: Construct, service: ecs.FargateService, *, host: str, port: int, priority: int, **options: Any
    ) -> elbv2.ApplicationTargetGroup:
        """Lets the load balancer pass on what comes for a host name to a service, which then waits for that rule.

        `priority` is that of the rule, `port` that of the tasks, `options` those of elbv2.ApplicationTargetGroup.
        """
        targets = elbv2.ApplicationTargetGroup(
            scope,
            "Targets",
            vpc=self._base.network.vpc,
            port=port,
            protocol=elbv2.ApplicationProtocol.HTTP,
            target_type=elbv2.TargetType.IP,
            deregistration_delay=DRAIN,
            **options,
        )
        rule = elbv2.ApplicationListenerRule(
            scope,
            "Rule",
            listener=self.listener,
            priority=priority,
            conditions=[elbv2.ListenerCondition.host_headers([host])],
            action=elbv2.ListenerAction.forward([targets]),
        )
        service.attach_to_application_target_group(targets)
        service.node.add_dependency(rule)
        return targets

    def _way_in(self) -> tuple[elbv2.ApplicationLoadBalancer, elbv2.ApplicationListener]:
        base = self._base
        environment = base.environment_
        balancer = elbv2.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=base.network.vpc,
            internet_facing=environment.network.internet,
            vpc_subnets=None if environment.network.internet else base.network.tasks,
            security_group=base.network.balancer,
            drop_invalid_header_fields=True,
            desync_mitigation_mode=elbv2.DesyncMitigationMode.DEFENSIVE,
            idle_timeout=Duration.seconds(IDLE_SECONDS),
            deletion_protection=environment.kept,
        )
        balancer.log_access_logs(base.access_logs, "balancer")
        # The parameter names the certificate, which holds an account's id and so is in no file here.
        arn = ssm.StringParameter.value_for_string_parameter(self, f"/pricing/{environment.name}/certificate")
        listener = balancer.add_listener(
            "Tls",
            port=TLS_PORT,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            certificates=[acm.Certificate.from_certificate_arn(self, "Certificate", arn)],
            ssl_policy=elbv2.SslPolicy.RECOMMENDED_TLS,
            open=False,
            default_action=elbv2.ListenerAction.fixed_response(
                404, content_type="text/plain", message_body="no such host"
            ),
        )
        return balancer, listener

    def _firewall(self) -> None:
        """Blocks addresses that send too much, that are known for attacks, and requests that are one."""
        name = f"pricing-{self._base.environment_.name}"
        acl = waf.CfnWebACL(
            self,
            "Firewall",
            name=name,
            scope="REGIONAL",
            default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=waf.CfnWebACL.VisibilityConfigProperty(
                cloud_watch_metrics_enabled=True,
                metric_name=name,
                sampled_requests_enabled=True,
            ),
        )
        acl.add_property_override("Rules", self._firewall_rules())
        waf.CfnWebACLAssociation(
            self, "Association", resource_arn=self.balancer.load_balancer_arn, web_acl_arn=acl.attr_arn
        )
        # AWS demands the beginning of the name.
        group = self._base.log_group(self, "firewall", name=f"aws-waf-logs-{name}")
        kept = {
            "Behavior": "KEEP",
            "Requirement": "MEETS_ANY",
            "Conditions": [{"ActionCondition": {"Action": "BLOCK"}}],
        }
        waf.CfnLoggingConfiguration(
            self,
            "FirewallLogging",
            resource_arn=acl.attr_arn,
            log_destination_configs=[  # as WAF takes it: an attribute of the group ends with :*
                self.format_arn(
                    service="logs",
                    resource="log-group",
                    resource_name=group.log_group_name,
                    arn_format=ArnFormat.COLON_RESOURCE_NAME,
                )
            ],
            redacted_fields=[
                waf.CfnLoggingConfiguration.FieldToMatchProperty(single_header={"Name": header})
                for header in ("x-api-key", "authorization")
            ],
            logging_filter={"DefaultBehavior": "DROP", "Filters": [kept]},
        )

    def _firewall_rules(self) -> list[dict[str, Any]]:
        rate = {
            "AggregateKeyType": "IP",
            "Limit": self._base.environment_.serving.requests_per_address,
            "EvaluationWindowSec": 300,
        }
        too_much = {
            "Name": "rate",
            "Priority": 0,
            "Action": {"Block": {"CustomResponse": {"ResponseCode": 429}}},
            "Statement": {"RateBasedStatement": rate},
            "VisibilityConfig": _visible("rate"),
        }
        managed = [
            {
                "Name": name,
                "Priority": place,
                "OverrideAction": {"None": {}},
                "Statement": {"ManagedRuleGroupStatement": {"Name": name, "VendorName": "AWS"}},
                "VisibilityConfig": _visible(name),
            }
            for place, name in enumerate(MANAGED, start=1)
        ]
        return [too_much, *managed]

    def _database(self) -> rds.DatabaseInstance:
        base = self._base
        environment = base.environment_
        part = environment.tracking
        engine = rds.DatabaseInstanceEngine.postgres(version=rds.PostgresEngineVersion.of("17", "17"))
        name = f"pricing-{environment.name}"
        # The instance would make its log group itself, for ever and without our key.
        group = base.log_group(self, "database", name=f"/aws/rds/instance/{name}/postgresql")
        instance = rds.DatabaseInstance(
            self,
            "Database",
            instance_identifier=name,
            engine=engine,
            instance_type=ec2.InstanceType(part.instance),
            vpc=base.network.vpc,
            vpc_subnets=base.network.data,
            security_groups=[base.network.database],
            publicly_accessible=False,
            port=DATABASE_PORT,
            credentials=rds.Credentials.from_generated_secret("dbmaster", encryption_key=base.key),
            allocated_storage=part.storage,
            max_allocated_storage=4 * part.storage,
            storage_type=rds.StorageType.GP3,
            storage_encrypted=True,
            storage_encryption_key=base.key,
            multi_az=part.multi_az,
            backup_retention=Duration.days(part.backup_days),
            copy_tags_to_snapshot=True,
            delete_automated_backups=not environment.kept,
            deletion_protection=environment.kept,
            removal_policy=RemovalPolicy.SNAPSHOT if environment.kept else RemovalPolicy.DESTROY,
            auto_minor_version_upgrade=True,
            cloudwatch_logs_exports=["postgresql"],
            parameter_group=rds.ParameterGroup(
                self,
                "Parameters",
                engine=engine,
                parameters={"rds.force_ssl": "1", "log_statement": "ddl", "log_min_duration_statement": "1000"},
            ),
        )
        instance.node.add_dependency(group)
        return instance

    def _mlflow(self) -> ecs.FargateService:
        """MLflow, which hands out artifacts itself; before it starts, its task makes databases and roles.

        Its own program brings tables and users up to date (`deploy/mlflow_server.py`).
        """
        base = self._base
        environment = base.environment_
        task = Task(self, "Mlflow", family="mlflow", size=environment.tracking.size, base=base)
        setup = self._add_setup(task)
        hosts = (f"mlflow.{environment.private_domain}:*", environment.mlflow_domain, "localhost:*", "127.0.0.1:*")
        server = task.add(
            "mlflow",
            image="mlflow",
            variables={
                "MLFLOW_BACKEND_STORE_URI": self.url("mlflow"),
                "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{base.artifacts.bucket_name}/mlflow",
                "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
                "PGSSLMODE": "require",
            },
            secrets={
                "PGPASSWORD": self.passwords["mlflow"],
                "MLFLOW_AUTH_ADMIN_PASSWORD": ecs.Secret.from_secrets_manager(self.login, "password"),
            },
            writes=("/tmp", "/var/lib/mlflow"),
            health_check=asks(f"http://127.0.0.1:{MLFLOW_PORT}/health"),
            stop_timeout=Duration.seconds(30),
        )
        server.add_port_mappings(ecs.PortMapping(container_port=MLFLOW_PORT))
        server.add_container_dependencies(
            ecs.ContainerDependency(container=setup, condition=ecs.ContainerDependencyCondition.SUCCESS)
        )
        task.definition.default_container = server
        task.allow_objects(base.artifacts, [*READ, *WRITE, *DELETE], prefix="mlflow")
        task.use_key("s3")
        return service_of(
            self,
            "Service",
            task=task,
            base=base,
            desired_count=1,
            security_groups=[base.network.mlflow],
            min_healthy_percent=0,  # two of different releases would not agree on the tables
            max_healthy_percent=100,
            cloud_map_options=ecs.CloudMapOptions(
                name="mlflow", dns_record_type=discovery.DnsRecordType.A, dns_ttl=Duration.seconds(10)
            ),
            # A first start on an empty database takes a minute.
            health_check_grace_period=Duration.minutes(5) if environment.network.people else None,
        )

    def _add_setup(self, task: Task) -> ecs.ContainerDefinition:
        """Adds the container that makes databases and roles."""
        master = self.database.secret
        if master is None:  # the types allow it; RDS makes it with the credentials that it is given
            raise ValueError("the database has no secret of its master")
        return task.add(
            "database",
            image="mlflow",
            command=["python", "/app/database_setup.py"],
            variables={
                "PGHOST": self.database.db_instance_endpoint_address,
                "PGPORT": str(DATABASE_PORT),
                "PGSSLMODE": "require",
            },
            secrets={
                "PGUSER": ecs.Secret.from_secrets_manager(master, "username"),
                "PGPASSWORD": ecs.Secret.from_secrets_manager(master, "password"),
                **{f"PASSWORD_{role.upper()}": secret for role, secret in self.passwords.items()},
            },
            essential=False,
        )

    def _show_to_people(self) -> None:
        """Lets the load balancer hand MLflow's pages to the networks of `people`, under its own name."""
        environment = self._base.environment_
        self.listener.add_targets(
            "People",
            priority=PEOPLE_PRIORITY,
            conditions=[
                elbv2.ListenerCondition.host_headers([environment.mlflow_domain]),
                elbv2.ListenerCondition.source_ips(list(environment.network.people)),
            ],
            port=MLFLOW_PORT,
            protocol=elbv2.ApplicationProtocol.HTTP,
            targets=[self.service],
            deregistration_delay=DRAIN,
            health_check=elbv2.HealthCheck(path="/health", interval=Duration.seconds(15)),
        )


def _visible(name: str) -> dict[str, Any]:
    return {"CloudWatchMetricsEnabled": True, "MetricName": name, "SampledRequestsEnabled": True}
