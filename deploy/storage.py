"""Where data lie: the key, the buckets, the files that jobs share, and the repositories of images."""

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_efs as efs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from deploy.environment import Environment
from deploy.network import Network

USER = "10001"  # of every image
SALES, DECISIONS, PUBLISHED = "sales", "decisions", "published"  # in the data bucket
IMAGES_KEPT = 30
RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
}
# Services of AWS that encrypt what they hand on, or write, with our key.
_WRITERS = ("events.amazonaws.com", "budgets.amazonaws.com", "cloudwatch.amazonaws.com", "scheduler.amazonaws.com")


class Key(Construct):
    """The one key that data of an environment are encrypted with.

    Attributes:
        shared: The key as other stacks use it: what they grant goes to their own roles and leaves the key's policy
            alone, which would otherwise have to know stacks that come after it.
    """

    def __init__(self, scope: Construct, name: str, *, environment: Environment) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        key = kms.Key(
            self,
            "Key",
            description=f"Pricing, {environment.name}: data, logs, secrets",
            enable_key_rotation=True,
            removal_policy=removal(environment),
        )
        logs = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com")],
                actions=["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in _WRITERS],
                # Whose alarm or event it is, the topic's and the queue's own policies say.
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
            )
        )
        self.shared = kms.Key.from_key_arn(self, "Shared", key.key_arn)


class Buckets(Construct):
    """The buckets: MLflow's artifacts, data of jobs, and access logs.

    Attributes:
        artifacts: Models and files of MLflow's runs.
        data: Sales under `sales/`, versions that are served under `published/`, decisions under `decisions/`.
        logs: Access logs of the load balancer and of the other buckets.
    """

    def __init__(self, scope: Construct, name: str, *, key: kms.IKey, environment: Environment) -> None:
        super().__init__(scope, name)
        self.logs = s3.Bucket(
            self,
            "Logs",
            encryption=s3.BucketEncryption.S3_MANAGED,  # the load balancer writes with no other
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=removal(environment),
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(environment.watch.log_days),
                    noncurrent_version_expiration=Duration.days(1),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
        )
        self.artifacts, self.data = (
            s3.Bucket(
                self,
                name_,
                encryption=s3.BucketEncryption.KMS,
                encryption_key=key,
                bucket_key_enabled=True,
                block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
                object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
                enforce_ssl=True,
                versioned=True,
                server_access_logs_bucket=self.logs,
                server_access_logs_prefix=f"s3/{name_.lower()}/",
                removal_policy=removal(environment),
                lifecycle_rules=[
                    s3.LifecycleRule(
                        noncurrent_version_expiration=Duration.days(30),
                        abort_incomplete_multipart_upload_after=Duration.days(7),
                    )
                ],
            )
            for name_ in ("Artifacts", "Data")
        )


class JobFiles(Construct):
    """PRICING_HOME of the jobs that keep files from one task to the next (`deploy.jobs.KEEPS_FILES`).

    State that programs share (promotions, switches, experiments, monitoring's memory, the locks of the night and of
    retraining) is in the database; decisions and what is published are in S3. Files remain: the rows that
    `etl --sales etl` keeps and every job then reads, the panel of the last night whose sales could be read,
    Evidently's reports, and a search that goes on. Every other task's PRICING_HOME goes with it.

    Attributes:
        system: The file system.
        access: The folder in it, owned by the images' user.
    """

    def __init__(
        self, scope: Construct, name: str, *, network: Network, key: kms.IKey, environment: Environment
    ) -> None:
        super().__init__(scope, name)
        self.system = efs.FileSystem(
            self,
            "Files",
            vpc=network.vpc,
            vpc_subnets=network.data,
            security_group=network.files,
            encrypted=True,
            kms_key=key,
            enable_automatic_backups=environment.kept,
            lifecycle_policy=efs.LifecyclePolicy.AFTER_60_DAYS,
            throughput_mode=efs.ThroughputMode.ELASTIC,
            removal_policy=removal(environment),
            allow_anonymous_access=False,
        )
        self.access = self.system.add_access_point(
            "Home",
            path="/pricing",
            create_acl=efs.Acl(owner_uid=USER, owner_gid=USER, permissions="750"),
            posix_user=efs.PosixUser(uid=USER, gid=USER),
        )


class Images(Construct):
    """A repository for each image: tags stay what they are, and every push is scanned.

    Attributes:
        repositories: By the image's name: serving, mlflow, jobs, collector.
    """

    def __init__(self, scope: Construct, name: str, *, key: kms.IKey, environment: Environment) -> None:
        super().__init__(scope, name)
        self.repositories = {
            image: ecr.Repository(
                self,
                image.capitalize(),
                repository_name=f"pricing-{environment.name}/{image}",
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                image_scan_on_push=True,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=key,
                removal_policy=removal(environment),
                lifecycle_rules=[ecr.LifecycleRule(max_image_count=IMAGES_KEPT)],
                empty_on_delete=not environment.kept,
            )
            for image in ("serving", "mlflow", "jobs", "collector")
        }


def removal(environment: Environment) -> RemovalPolicy:
    """What happens to data when their stack is deleted."""
    return RemovalPolicy.RETAIN if environment.kept else RemovalPolicy.DESTROY


def log_group(scope: Construct, construct: str, *, name: str, key: kms.IKey, environment: Environment) -> logs.LogGroup:
    """A log group that keeps its lines as long as the environment says."""
    return logs.LogGroup(
        scope,
        construct,
        log_group_name=name,
        retention=RETENTION[environment.watch.log_days],
        encryption_key=key,
        removal_policy=removal(environment),
    )
