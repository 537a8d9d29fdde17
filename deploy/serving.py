"""The fourth stack: the service that prices: its task with proxy and collector, how it is replaced, how it grows."""

import json
from typing import Any

import yaml
from aws_cdk import CfnOutput, Duration, Fn, Stack
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from constructs import Construct

from deploy.environment import SHARE
from deploy.foundation import READ, WRITE, Foundation
from deploy.network import PROXY_PORT
from deploy.tasks import DECISIONS, ENTRY, HOME, PUBLISHED, Task, asks, program_variables, service_of
from deploy.tracking import Tracking
from deploy.watch import FOLDER, ROLLBACK, Place, Places, alarm, alarm_name

PORT = 8081  # of the service, on the task's loopback, behind the proxy
KEY = "METRICS_KEY"  # the variable with the collector's key, in both containers
# Of public.ecr.aws/aws-observability/aws-otel-collector, release v0.43.3.
COLLECTOR = "collector@sha256:8aa9ea5f67b8d318f7d6af24677e3c70f7098bc0631147cb5fa91addbe980b06"
PRIORITY = 10  # of the rule by which callers reach it
STOP = Duration.seconds(30)  # for open requests and the log's last segment
# With the collector's key beside those that a person keeps.
COMMAND = ["sh", "-c", f'export PRICING_API_KEYS="$PRICING_API_KEYS;collector ${KEY} admin"; exec python -m serving']


class Serving(Stack):
    """The service behind the load balancer."""

    def __init__(self, scope: Construct, name: str, *, base: Foundation, tracking: Tracking, **options: Any) -> None:
        super().__init__(scope, name, **options)
        self._base = base
        environment = base.environment_
        # No number of tasks, which would reset at each deployment what load has called for.
        self._service = service_of(
            self,
            "Service",
            task=self._task(),
            base=base,
            security_groups=[base.network.serving],
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            deployment_alarms=ecs.DeploymentAlarmConfig(
                alarm_names=[alarm_name(environment, name) for name in ROLLBACK],
                behavior=ecs.AlarmBehavior.ROLLBACK_ON_ALARM,
            ),
            health_check_grace_period=Duration.seconds(120),  # the first version is fetched meanwhile
        )
        self._targets = tracking.put_behind(
            self,
            self._service,
            host=environment.domain,
            port=PROXY_PORT,
            priority=PRIORITY,
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            health_check=elbv2.HealthCheck(
                path="/health/ready",  # a golden request was priced
                healthy_http_codes="200",
                interval=Duration.seconds(5),
                timeout=Duration.seconds(4),
                healthy_threshold_count=2,
                unhealthy_threshold_count=2,
            ),
        )
        balancer = {"LoadBalancer": tracking.balancer.load_balancer_full_name}
        service = {"ClusterName": base.cluster.cluster_name, "ServiceName": self._service.service_name}
        self.places: Places = {
            "balancer": Place("AWS/ApplicationELB", balancer),
            "targets": Place("AWS/ApplicationELB", {**balancer, "TargetGroup": self._targets.target_group_full_name}),
            "service": Place("ECS/ContainerInsights", service),
        }
        for row in ROLLBACK:
            self._service.node.add_dependency(alarm(self, row, base=base, places=self.places))
        self._scale()
        CfnOutput(self, "ServiceName", value=self._service.service_name)

    def _task(self) -> Task:
        """The task: it reads what is published and puts decisions, without MLflow or the database."""
        base = self._base
        environment = base.environment_
        task = Task(self, "Task", family="serving", size=environment.serving.size, base=base)
        key = base.password(self, "MetricsKey", "key by which the collector reads the service's figures")
        service = task.add(
            "serving",
            image="serving",
            entry_point=ENTRY,
            command=COMMAND,
            variables={**program_variables(base), "HOST": "127.0.0.1", "PORT": str(PORT)},
            secrets={"PRICING_API_KEYS": base.api_keys, KEY: key},
            writes=("/tmp", HOME),
            health_check=asks(f"http://127.0.0.1:{PORT}/health/live"),
            stop_timeout=STOP,
        )
        task.add_proxy(service, port=PROXY_PORT, stop=STOP, SERVING_1=f"127.0.0.1:{PORT}", PORT=str(PROXY_PORT))
        group = base.log_group(self, "figures")
        config = json.dumps(yaml.safe_load((FOLDER / "collector.yaml").read_text(encoding="utf-8")))
        values = {"Environment": environment.name, "Group": group.log_group_name}
        task.add(
            "collector",
            image=COLLECTOR,
            variables={"AOT_CONFIG_CONTENT": Fn.sub(config, values)},
            secrets={KEY: key},
            stop_timeout=STOP,
            essential=False,
        )
        task.allow_objects(base.data, READ, prefix=f"{PUBLISHED}/")
        task.allow_objects(base.data, WRITE, prefix=f"{DECISIONS}/lines/", listing=False)
        task.allow(["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"], [group.log_group_arn])
        task.use_key("s3")
        return task

    def _scale(self) -> None:
        """Lets the number of tasks follow load."""
        part = self._base.environment_.serving
        tasks = self._service.auto_scale_task_count(min_capacity=part.least, max_capacity=part.most)
        self._follow_cpu(tasks)
        self._meet_bursts(tasks)

    def _follow_cpu(self, tasks: ecs.ScalableTaskCount) -> None:
        """Keeps the CPU, as ECS measures it every 20 s, at its share.

        Fewer tasks come only ten minutes after the last change, so that a second wave meets what the first one called.
        `scale_on_cpu_utilization` knows the CPU of every minute alone, so that the policy is made without it.
        """
        # Which ECS measures only where it is asked to.
        self._service.node.default_child.add_property_override(
            "Monitoring.MetricConfigurations", [{"MetricNames": ["CPUUtilization"], "ResolutionSeconds": 20}]
        )
        policy = autoscaling.CfnScalingPolicy
        policy(
            self,
            "Cpu",
            policy_name="cpu",
            policy_type="TargetTrackingScaling",
            scaling_target_id=tasks.scalable_target_ref.resource_id,  # a `Ref`, which for CloudFormation is its id
            target_tracking_scaling_policy_configuration=policy.TargetTrackingScalingPolicyConfigurationProperty(
                predefined_metric_specification=policy.PredefinedMetricSpecificationProperty(
                    predefined_metric_type="ECSServiceAverageCPUUtilizationHighResolution"
                ),
                target_value=100 * SHARE,
                scale_out_cooldown=30,
                scale_in_cooldown=600,
            ),
        )

    def _meet_bursts(self, tasks: ecs.ScalableTaskCount) -> None:
        """Calls the tasks of the peak at once where requests per task are twice what CPU is kept at."""
        part = self._base.environment_.serving
        burst = 2 * 60 * SHARE * part.saturation
        tasks.scale_on_metric(
            "Burst",
            metric=self._targets.metrics.request_count_per_target(period=Duration.minutes(1), statistic="Sum"),
            adjustment_type=autoscaling.AdjustmentType.EXACT_CAPACITY,
            # CDK takes two steps at least.
            scaling_steps=[autoscaling.ScalingInterval(lower=lower, change=part.most) for lower in (burst, 2 * burst)],
            cooldown=Duration.seconds(180),
        )
