"""The PostgreSQL database of MLflow's store, promotions and switches, and the passwords of those who use it."""

from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from deploy.foundation import Foundation
from deploy.network import DATABASE_PORT

ROLES = ("mlflow", "pricing")  # as `database_setup` makes them, which only MLflow's image can import
SETUP = (Path(__file__).parent / "database_setup.py").read_text(encoding="utf-8")
VERSION = rds.PostgresEngineVersion.of("17.6", "17")


class Database(Construct):
    """The RDS instance, its master's secret, and one secret for each role.

    Attributes:
        instance: The instance.
        passwords: Secret of each role: mlflow, pricing.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation) -> None:
        super().__init__(scope, name)
        environment, network, key = base.environment_, base.network, base.key
        part = environment.tracking
        engine = rds.DatabaseInstanceEngine.postgres(version=VERSION)
        self.instance = rds.DatabaseInstance(
            self,
            "Instance",
            engine=engine,
            instance_type=ec2.InstanceType(part.instance),
            vpc=network.vpc,
            vpc_subnets=network.data,
            security_groups=[network.database],
            publicly_accessible=False,
            port=DATABASE_PORT,
            credentials=rds.Credentials.from_generated_secret("dbmaster", encryption_key=key),
            allocated_storage=part.storage,
            max_allocated_storage=4 * part.storage,
            storage_type=rds.StorageType.GP3,
            storage_encrypted=True,
            storage_encryption_key=key,
            multi_az=part.multi_az,
            backup_retention=Duration.days(part.backup_days),
            copy_tags_to_snapshot=True,
            delete_automated_backups=not environment.kept,
            deletion_protection=environment.kept,
            removal_policy=RemovalPolicy.SNAPSHOT if environment.kept else RemovalPolicy.DESTROY,
            auto_minor_version_upgrade=True,
            monitoring_interval=Duration.seconds(60),
            enable_performance_insights=True,
            performance_insight_encryption_key=key,
            cloudwatch_logs_exports=["postgresql"],
            cloudwatch_logs_retention=None,
            parameter_group=rds.ParameterGroup(
                self,
                "Parameters",
                engine=engine,
                parameters={"rds.force_ssl": "1", "log_statement": "ddl", "log_min_duration_statement": "1000"},
            ),
        )
        # The instance would make it itself, for ever and without our key.
        group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/rds/instance/pricing-{environment.name}/postgresql",
            retention=logs.RetentionDays.ONE_MONTH,
            encryption_key=key,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.instance.node.default_child.add_property_override("DBInstanceIdentifier", f"pricing-{environment.name}")
        self.instance.node.add_dependency(group)
        self.passwords = {
            role: secretsmanager.Secret(
                self,
                f"{role.capitalize()}Password",
                description=f"Pricing: password of the database role {role}",
                encryption_key=key,
                generate_secret_string=secretsmanager.SecretStringGenerator(
                    password_length=40, exclude_punctuation=True
                ),
            )
            for role in ROLES
        }

    def url(self, role: str, *, database: str) -> str:
        """The database's address for SQLAlchemy, without the password, which libpq takes from PGPASSWORD."""
        return f"postgresql+psycopg2://{role}@{self.instance.db_instance_endpoint_address}:{DATABASE_PORT}/{database}"
