"""The first stack: what all others stand on, and what must be there before the first image is pushed."""

from collections.abc import Sequence
from typing import Any

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as discovery
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from deploy.environment import Environment
from deploy.network import Network

READ = ("s3:GetObject",)
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")
DELETE = ("s3:DeleteObject",)
RELEASES_KEPT = 30
PARTITIONS = "etl/partitions/"  # in the data bucket: what jobs cut the sales into, each time anew
# Services of AWS that tell the topics of alarms, spent money and failed tasks, with our key.
_TELLERS = ("cloudwatch.amazonaws.com", "budgets.amazonaws.com", "events.amazonaws.com")


class Foundation(Stack):
    """Network, key, data, repositories, the topic of alarms, the bus of events, and the cluster."""

    def __init__(self, scope: Construct, name: str, *, environment: Environment, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self.environment_ = environment  # `environment` is a word of Stack's own
        self.removal = RemovalPolicy.RETAIN if environment.kept else RemovalPolicy.DESTROY
        # As other stacks use it: what they grant goes to their own roles and leaves the key's policy alone, which would
        # otherwise have to know stacks that come after it.
        self.key = self._key()
        self.network = Network(self, "Network", part=environment.network)
        self.network.vpc.add_flow_log(
            "Flow",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(self.log_group(self, "network")),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        self.access_logs = self._bucket("Logs", logs_of_others=True)
        self.artifacts = self._bucket("Artifacts")  # models and files of MLflow's runs
        self.data = self._bucket("Data")  # `sales/`, rows of `etl/`, versions under `published/`, and `decisions/`
        # A job that failed may be repeated on them for a fortnight.
        self.data.add_lifecycle_rule(
            prefix=PARTITIONS, expiration=Duration.days(14), noncurrent_version_expiration=Duration.days(1)
        )
        self.sales = environment.sales.replace("{data}", self.data.bucket_name)  # what jobs get as --sales
        self._let_s3_through()
        self.repositories = {
            image: ecr.Repository(
                self,
                image.capitalize(),
                repository_name=f"pricing-{environment.name}/{image}",
                image_tag_mutability=ecr.TagMutability.IMMUTABLE,
                image_scan_on_push=True,
                encryption=ecr.RepositoryEncryption.KMS,
                encryption_key=self.key,
                removal_policy=self.removal,
                # A release is a tag; the manifests of its parts have none, and go with it.
                lifecycle_rules=[
                    ecr.LifecycleRule(tag_pattern_list=["*"], max_image_count=RELEASES_KEPT),
                    ecr.LifecycleRule(tag_status=ecr.TagStatus.UNTAGGED, max_image_age=Duration.days(1)),
                ],
                empty_on_delete=not environment.kept,
            )
            for image in ("serving", "mlflow", "jobs", "collector")
        }
        self.topic = self._topic("Alarms", environment.watch.emails)  # what can wait: by mail
        self.pager = self._topic("Pager", environment.watch.pagers)  # what wakes somebody
        # Where monitoring asks for jobs.
        self.bus = events.EventBus(self, "Bus", event_bus_name=f"pricing-{environment.name}")
        self.cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=f"pricing-{environment.name}",
            vpc=self.network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            default_cloud_map_namespace=ecs.CloudMapNamespaceOptions(
                name=environment.private_domain, type=discovery.NamespaceType.DNS_PRIVATE, vpc=self.network.vpc
            ),
        )
        self.api_keys = secretsmanager.Secret(
            self,
            "ApiKeys",
            secret_name=f"pricing/{environment.name}/api-keys",
            description="Pricing: keys of the service, as PRICING_API_KEYS takes them; put yours in before it starts",
            encryption_key=self.key,
            removal_policy=self.removal,
        )
        self._tell()

    def log_group(self, scope: Construct, part: str, *, name: str | None = None) -> logs.LogGroup:
        """Makes the log group of a part, which keeps its lines as long as the environment wants."""
        group = logs.LogGroup(
            scope,
            f"{part.capitalize()}Log",
            log_group_name=name or f"/pricing/{self.environment_.name}/{part}",
            encryption_key=self.key,
            removal_policy=self.removal,
        )
        group.node.default_child.add_property_override("RetentionInDays", self.environment_.watch.log_days)
        return group

    def password(self, scope: Construct, name: str, what: str, **template: str) -> secretsmanager.Secret:
        """Makes a secret with a password of its own."""
        return secretsmanager.Secret(
            scope,
            name,
            description=f"Pricing: {what}",
            encryption_key=self.key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=40, exclude_punctuation=True, **template
            ),
        )

    def _key(self) -> kms.IKey:
        key = kms.Key(
            self,
            "Encryption",
            description=f"Pricing, {self.environment_.name}: data, logs, secrets",
            enable_key_rotation=True,
            removal_policy=self.removal,
        )
        logs = f"arn:{self.partition}:logs:{self.region}:{self.account}:*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.region}.amazonaws.com")],
                actions=["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": logs}},
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in _TELLERS],
                # Whose alarm or event it is, the topic's and the queue's own policies say.
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
            )
        )
        return kms.Key.from_key_arn(self, "Shared", key.key_arn)

    def _bucket(self, name: str, *, logs_of_others: bool = False) -> s3.Bucket:
        days = Duration.days
        if logs_of_others:  # the load balancer writes with no key of ours
            own: dict[str, Any] = {"encryption": s3.BucketEncryption.S3_MANAGED}
            rule = s3.LifecycleRule(
                expiration=days(self.environment_.watch.log_days),
                noncurrent_version_expiration=days(1),
                abort_incomplete_multipart_upload_after=days(1),
            )
        else:
            own = {
                "encryption": s3.BucketEncryption.KMS,
                "encryption_key": self.key,
                "bucket_key_enabled": True,
                "server_access_logs_bucket": self.access_logs,
                "server_access_logs_prefix": f"s3/{name.lower()}/",
            }
            rule = s3.LifecycleRule(
                noncurrent_version_expiration=days(30), abort_incomplete_multipart_upload_after=days(7)
            )
        return s3.Bucket(
            self,
            name,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            versioned=True,
            removal_policy=self.removal,
            lifecycle_rules=[rule],
            **own,
        )

    def _let_s3_through(self) -> None:
        """Lets the VPC reach these buckets of S3 and the layers of images, and no bucket of anybody else.

        So a program that was taken over carries no data away to a bucket elsewhere.
        """
        buckets = [self.artifacts, self.data]
        layers = f"arn:{self.partition}:s3:::prod-{self.region}-starport-layer-bucket/*"  # ECR's own
        objects = [bucket.arn_for_objects("*") for bucket in buckets]
        for actions, resources in (
            (["s3:ListBucket", "s3:GetBucketLocation"], [bucket.bucket_arn for bucket in buckets]),
            ([*READ, *WRITE, *DELETE], objects),
            (list(READ), [layers]),
        ):
            self.network.objects.add_to_policy(
                iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=actions, resources=resources)
            )

    def _topic(self, name: str, addresses: Sequence[str]) -> sns.Topic:
        topic = sns.Topic(
            self, name, display_name=f"Pricing {self.environment_.name}", master_key=self.key, enforce_ssl=True
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in _TELLERS],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        for address in addresses:
            web = address.startswith("https://")
            kind = subscriptions.UrlSubscription if web else subscriptions.EmailSubscription
            topic.add_subscription(kind(address))
        return topic

    def _tell(self) -> None:
        """Says what a person who starts a task, or uploads sales, needs to know."""
        CfnOutput(self, "DataBucket", value=self.data.bucket_name)
        CfnOutput(self, "Sales", description="--sales of jobs", value=self.sales)
        subnets = ",".join(self.network.vpc.select_subnets(subnet_group_name="tasks").subnet_ids)
        groups = self.network.jobs.security_group_id
        CfnOutput(
            self,
            "TaskNetwork",
            description="--network-configuration of aws ecs run-task",
            value=f"awsvpcConfiguration={{subnets=[{subnets}],securityGroups=[{groups}],assignPublicIp=DISABLED}}",
        )
