"""The first stack: what all others stand on, and what must be there before the first image is pushed."""

from typing import Any

from aws_cdk import CfnOutput, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as discovery
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from deploy import grants
from deploy.environment import Environment
from deploy.network import Network
from deploy.storage import Buckets, Images, JobFiles, Key, log_group

# Services of AWS that tell the topic of alarms, spent money and failed tasks.
_TELLERS = ("cloudwatch.amazonaws.com", "budgets.amazonaws.com", "events.amazonaws.com")


class Foundation(Stack):
    """Network, key, data, repositories, the topic of alarms, the bus of events, and the cluster.

    Attributes:
        environment_: What it was made for; `environment` is a word of Stack's own.
        network: Who may reach whom.
        key: The key of all data.
        buckets: Artifacts, data, access logs.
        files: What jobs remember.
        images: Repositories.
        cluster: Of every task, with the zone of names by which they find each other.
        topic: Told of alarms and alerts.
        bus: Where monitoring asks for jobs.
        api_keys: Secret of the service's keys: `name key scope,scope`, entries parted by `;`.
    """

    def __init__(self, scope: Construct, name: str, *, environment: Environment, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self.environment_ = environment
        self.key = Key(self, "Encryption", environment=environment).shared
        self.network = Network(self, "Network", part=environment.network)
        self._log_flows()
        self.buckets = Buckets(self, "Buckets", key=self.key, environment=environment)
        grants.through_gateway(self.network.objects, [self.buckets.artifacts, self.buckets.data], scope=self)
        self.files = JobFiles(self, "JobFiles", network=self.network, key=self.key, environment=environment)
        self.images = Images(self, "Images", key=self.key, environment=environment)
        self.topic = self._topic()
        self.bus = events.EventBus(self, "Bus", event_bus_name=f"pricing-{environment.name}")
        self.cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=f"pricing-{environment.name}",
            vpc=self.network.vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            default_cloud_map_namespace=ecs.CloudMapNamespaceOptions(
                name=private_domain(environment), type=discovery.NamespaceType.DNS_PRIVATE, vpc=self.network.vpc
            ),
        )
        self.api_keys = secretsmanager.Secret(
            self,
            "ApiKeys",
            secret_name=f"pricing/{environment.name}/api-keys",
            description="Pricing: keys of the service, as PRICING_API_KEYS takes them; put yours in before it starts",
            encryption_key=self.key,
            removal_policy=RemovalPolicy.RETAIN if environment.kept else RemovalPolicy.DESTROY,
        )
        self._tell()

    def _tell(self) -> None:
        """Says what a person who starts a task, or uploads sales, needs to know."""
        CfnOutput(self, "DataBucket", value=self.buckets.data.bucket_name)
        subnets = ",".join(self.network.vpc.select_subnets(subnet_group_name="tasks").subnet_ids)
        groups = self.network.jobs.security_group_id
        CfnOutput(
            self,
            "TaskNetwork",
            description="--network-configuration of aws ecs run-task",
            value=f"awsvpcConfiguration={{subnets=[{subnets}],securityGroups=[{groups}],assignPublicIp=DISABLED}}",
        )

    def _log_flows(self) -> None:
        environment = self.environment_
        group = log_group(
            self, "Flows", name=f"/pricing/{environment.name}/network", key=self.key, environment=environment
        )
        self.network.vpc.add_flow_log(
            "Flow",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(self, "Alarms", display_name=f"Pricing {self.environment_.name}", master_key=self.key)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="OnlyByTls",
                effect=iam.Effect.DENY,
                principals=[iam.AnyPrincipal()],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"Bool": {"aws:SecureTransport": "false"}},
            )
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in _TELLERS],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        for address in self.environment_.watch.emails:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        return topic


def private_domain(environment: Environment) -> str:
    """The zone of names that tasks find each other by."""
    return f"{environment.name}.pricing.internal"
