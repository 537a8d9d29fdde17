"""The network: a VPC whose tasks reach AWS through endpoints alone, and the table of who may reach whom."""

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from deploy.environment import NetworkPart

PROXY_PORT = 8080
CONSOLE_PORT = 8090  # of the proxy before it
MLFLOW_PORT = 5000
DATABASE_PORT = 5432
TLS_PORT = 443
# AWS services that tasks call, each through an endpoint in the VPC; S3 has a gateway, which costs nothing.
ENDPOINTS = {
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrImages": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Metrics": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_MONITORING,
    "Secrets": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Events": ec2.InterfaceVpcEndpointAwsService.EVENTBRIDGE,
    "Notices": ec2.InterfaceVpcEndpointAwsService.SNS,
}


class Network(Construct):
    """The VPC with its endpoints, and a security group for each kind of resource."""

    def __init__(self, scope: Construct, name: str, *, part: NetworkPart) -> None:
        super().__init__(scope, name)
        subnets = [
            ec2.SubnetConfiguration(
                name="tasks",
                subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS
                if part.nat_gateways
                else ec2.SubnetType.PRIVATE_ISOLATED,
                cidr_mask=22,
            ),
            ec2.SubnetConfiguration(name="data", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24),
        ]
        if part.internet or part.nat_gateways:
            public = ec2.SubnetType.PUBLIC
            subnets.append(
                ec2.SubnetConfiguration(name="public", subnet_type=public, cidr_mask=24, map_public_ip_on_launch=False)
            )
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(part.cidr),
            max_azs=2,
            nat_gateways=part.nat_gateways,
            restrict_default_security_group=False,  # it would need a Lambda function; nothing uses that group
            subnet_configuration=subnets,
        )
        self.tasks = ec2.SubnetSelection(subnet_group_name="tasks")
        self.data = ec2.SubnetSelection(subnet_group_name="data")  # the database's; no route leads out
        self.balancer = self._group("Balancer", "the load balancer")
        self.serving = self._group("Serving", "tasks of the service")
        self.console = self._group("Console", "tasks of the console")
        self.mlflow = self._group("Mlflow", "tasks of MLflow")
        self.jobs = self._group("Jobs", "tasks of jobs")
        self.database = self._group("Database", "the database")
        self._allow(part)
        self._open_endpoints()

    def _group(self, name: str, what: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(self, name, vpc=self.vpc, description=f"Pricing: {what}", allow_all_outbound=False)

    def _allow(self, part: NetworkPart) -> None:
        for cidr in part.callers:
            self.balancer.add_ingress_rule(ec2.Peer.ipv4(cidr), ec2.Port.tcp(TLS_PORT), "callers, by TLS")
        pairs = [
            (self.balancer, self.serving, PROXY_PORT, "requests and readiness"),
            (self.balancer, self.console, CONSOLE_PORT, "pages"),
            (self.jobs, self.mlflow, MLFLOW_PORT, "runs and models"),
            (self.jobs, self.database, DATABASE_PORT, "promotions and switches"),
            (self.console, self.database, DATABASE_PORT, "a manager's decisions"),
            (self.mlflow, self.database, DATABASE_PORT, "its store"),
        ]
        if part.people:
            pairs.append((self.balancer, self.mlflow, MLFLOW_PORT, "people, by the load balancer"))
        for source, target, port, what in pairs:
            target.connections.allow_from(source, ec2.Port.tcp(port), what)
        if part.nat_gateways:
            self.jobs.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(DATABASE_PORT), "a shop's own database")

    def _open_endpoints(self) -> None:
        endpoints = self._group("Endpoints", "endpoints of AWS services")
        # Interface endpoints are reached by their group, S3 through its gateway by public addresses.
        for group in (self.serving, self.console, self.mlflow, self.jobs):
            endpoints.add_ingress_rule(group, ec2.Port.tcp(TLS_PORT), "AWS services")
            group.add_egress_rule(
                ec2.Peer.any_ipv4(), ec2.Port.tcp(TLS_PORT), "AWS services by TLS; routes lead nowhere else"
            )
        self.objects = self.vpc.add_gateway_endpoint(
            "S3", service=ec2.GatewayVpcEndpointAwsService.S3, subnets=[self.tasks]
        )
        for name, service in ENDPOINTS.items():
            self.vpc.add_interface_endpoint(
                name, service=service, subnets=self.tasks, security_groups=[endpoints], open=False
            )
