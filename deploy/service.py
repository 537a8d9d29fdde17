"""The service that prices: its task, its targets, how it is replaced, and how it grows."""

from itertools import zip_longest

from aws_cdk import Duration, TimeZone
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from deploy import grants
from deploy.balancer import Balancer
from deploy.containers import HOME, SETTINGS_FILE, Task, image_of
from deploy.environment import Environment
from deploy.figures import KEY, add_collector
from deploy.foundation import Foundation
from deploy.network import SERVING_PORT
from deploy.platform import ROLLBACK, alarm_name, described, platform_settings
from deploy.storage import DECISIONS, PUBLISHED

HEALTH = (
    "python",
    "-c",
    f"import urllib.request as u; u.urlopen('http://127.0.0.1:{SERVING_PORT}/health/live', timeout=4)",
)
READY = "/health/ready"
JUMP_LEAST = 2  # tasks that a jump adds at least
PRIORITY = 10  # of the rule by which callers reach it
STOP_SECONDS = 30  # serving.__main__.GRACE_SECONDS, and the log's last segment
DRAIN_SECONDS = 20  # after which a task that the load balancer has left is told to end
# With the collector's key beside those that a person keeps.
COMMAND = f'export PRICING_API_KEYS="$PRICING_API_KEYS;collector ${KEY} admin"; exec python -m serving'


class Service(Construct):
    """The service behind the load balancer.

    Attributes:
        service: The service.
        targets: Its target group, whose health is readiness: a golden request that was priced.
        rollback: Alarms that end a deployment and bring the tasks before back.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        base: Foundation,
        balancer: Balancer,
        task: Task,
    ) -> None:
        super().__init__(scope, name)
        network, environment = base.network, base.environment_
        part = environment.serving
        self.targets = elbv2.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=network.vpc,
            port=SERVING_PORT,
            protocol=elbv2.ApplicationProtocol.HTTP,
            target_type=elbv2.TargetType.IP,
            deregistration_delay=Duration.seconds(DRAIN_SECONDS),
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            health_check=elbv2.HealthCheck(
                path=READY,
                healthy_http_codes="200",
                interval=Duration.seconds(5),
                timeout=Duration.seconds(4),
                healthy_threshold_count=2,
                unhealthy_threshold_count=2,
            ),
        )
        rule = elbv2.ApplicationListenerRule(
            self,
            "Rule",
            listener=balancer.listener,
            priority=PRIORITY,
            conditions=[elbv2.ListenerCondition.host_headers([environment.domain])],
            action=elbv2.ListenerAction.forward([self.targets]),
        )
        self.rollback = _rollback_alarms(self, self.targets, balancer=balancer.balancer, environment=environment)
        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=base.cluster,
            task_definition=task.definition,
            desired_count=part.least,
            security_groups=[network.serving],
            vpc_subnets=network.tasks,
            assign_public_ip=False,
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            deployment_alarms=ecs.DeploymentAlarmConfig(
                alarm_names=[alarm_name(environment, one) for one in ROLLBACK],
                behavior=ecs.AlarmBehavior.ROLLBACK_ON_ALARM,
            ),
            health_check_grace_period=Duration.seconds(120),  # the first version is fetched meanwhile
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            enable_ecs_managed_tags=True,
        )
        self.service.attach_to_application_target_group(self.targets)
        self.service.node.add_dependency(rule, *self.rollback)


def serving_task(scope: Construct, *, base: Foundation) -> Task:
    """The task of the service: it reads what is published and puts decisions, without MLflow or the database.

    Its PRICING_HOME is the image's, with what was baked in; two folders of it are the task's own.
    """
    environment, image, data = base.environment_, image_of(base, "serving"), base.buckets.data
    task = Task(scope, "Task", family="serving", size=environment.serving.size, base=base)
    key = ecs.Secret.from_secrets_manager(
        secretsmanager.Secret(
            scope,
            "MetricsKey",
            description="Pricing: key by which the collector reads the service's figures",
            encryption_key=base.key,
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=40, exclude_punctuation=True),
        )
    )
    container = task.add(
        "serving",
        image=image,
        command=["sh", "-c", COMMAND],
        variables={
            "HOST": "0.0.0.0",
            "PORT": str(SERVING_PORT),
            "TZ": environment.nightly.time_zone,
            "PRICING_CONFIG": SETTINGS_FILE,
            "PRICING_HOME": HOME,
            "PRICING_PUBLISHED": f"s3://{data.bucket_name}/{PUBLISHED}",
            "PRICING_DECISIONS_URL": f"s3://{data.bucket_name}/{DECISIONS}",
        },
        secrets={"PRICING_API_KEYS": ecs.Secret.from_secrets_manager(base.api_keys), KEY: key},
        health=HEALTH,
        stop_seconds=STOP_SECONDS,
    )
    container.add_port_mappings(ecs.PortMapping(container_port=SERVING_PORT))
    settings = platform_settings(environment, topic=base.topic.topic_arn, bus=base.bus.event_bus_name)
    paths = {"tmp": "/tmp", **{folder: f"{HOME}/{folder}" for folder in ("serving", "segments")}}
    task.add_volumes(container, image=image, paths=paths, settings=settings)
    add_collector(task, base=base, key=key)
    grants.objects(task.role, data, grants.READ_OBJECTS, prefix=f"{PUBLISHED}/")
    grants.put_objects(task.role, data, prefix=f"{DECISIONS}/")
    grants.use_key(task.role, base.key, by=["s3"], scope=scope)
    return task


def scale(service: Service, *, environment: Environment) -> None:
    """Lets the number of tasks follow load.

    Target tracking holds requests per task and CPU at their targets. A jump, which target tracking would take three
    minutes to believe, adds tasks after one. Fewer tasks come only `shrink_seconds` after the last change, and where
    both policies agree, so that a second wave meets what the first one called.
    """
    part = environment.serving
    capacity = service.service.auto_scale_task_count(min_capacity=part.least, max_capacity=part.most)
    capacity.scale_on_request_count(
        "Requests",
        requests_per_target=part.requests_per_minute,
        target_group=service.targets,
        scale_out_cooldown=Duration.seconds(part.grow_seconds),
        scale_in_cooldown=Duration.seconds(part.shrink_seconds),
    )
    capacity.scale_on_cpu_utilization(
        "Cpu",
        target_utilization_percent=part.cpu_target,
        scale_out_cooldown=Duration.seconds(part.grow_seconds),
        scale_in_cooldown=Duration.seconds(part.shrink_seconds),
    )
    capacity.scale_on_metric(
        "Jump",
        metric=service.targets.metrics.request_count_per_target(period=Duration.minutes(1), statistic="Sum"),
        adjustment_type=autoscaling.AdjustmentType.PERCENT_CHANGE_IN_CAPACITY,
        min_adjustment_magnitude=JUMP_LEAST,
        cooldown=Duration.seconds(part.jump_seconds),
        evaluation_periods=1,
        scaling_steps=[
            autoscaling.ScalingInterval(
                lower=jump.above * part.requests_per_minute,
                upper=None if after is None else after.above * part.requests_per_minute,
                change=jump.add,
            )
            for jump, after in zip_longest(part.jumps, part.jumps[1:])
        ],
    )
    for window in part.windows:
        capacity.scale_on_schedule(
            window.name.capitalize(),
            schedule=autoscaling.Schedule.expression(window.at),
            time_zone=_zone(environment),
            min_capacity=window.least,
            max_capacity=window.most,
        )


def _zone(environment: Environment) -> TimeZone:
    return TimeZone.of(environment.nightly.time_zone)


def _rollback_alarms(
    scope: Construct,
    targets: elbv2.ApplicationTargetGroup,
    *,
    balancer: elbv2.IApplicationLoadBalancer,
    environment: Environment,
) -> list[cloudwatch.Alarm]:
    """Alarms on what the load balancer sees, that is on what callers get."""
    part, minute = environment.serving, Duration.minutes(1)
    failed = targets.metrics.http_code_target(elbv2.HttpCodeTarget.TARGET_5XX_COUNT, period=minute, statistic="Sum")
    refused = balancer.metrics.http_code_elb(elbv2.HttpCodeElb.ELB_5XX_COUNT, period=minute, statistic="Sum")
    requests = targets.metrics.request_count(period=minute, statistic="Sum")
    share = cloudwatch.MathExpression(
        expression="(FILL(failed, 0) + FILL(refused, 0)) / IF(FILL(requests, 0) > 0, requests, 1)",
        using_metrics={"failed": failed, "refused": refused, "requests": requests},
        period=minute,
        label="share of 5xx",
    )
    p99 = targets.metrics.target_response_time(period=minute, statistic="p99")
    unready = targets.metrics.unhealthy_host_count(period=minute, statistic="Minimum")
    return [
        cloudwatch.Alarm(
            scope,
            name.title().replace("-", ""),
            alarm_name=alarm_name(environment, name),
            alarm_description=described(environment, name, what),
            metric=metric,
            threshold=limit,
            evaluation_periods=minutes,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        for name, metric, limit, minutes, what in (
            (ROLLBACK[0], share, part.error_share, 2, "more answers with status 5xx than serving.error_share"),
            (
                ROLLBACK[1],
                p99,
                part.p99_seconds,
                3,
                "the slowest percent of answers takes longer than serving.p99_seconds",
            ),
            (ROLLBACK[2], unready, 0, 5, "a task that /health/ready refuses to call ready"),
        )
    ]
