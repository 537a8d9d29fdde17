"""The way in: a load balancer that ends TLS, and the firewall in front of it."""

from aws_cdk import Duration
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_ssm as ssm
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from deploy.environment import Environment
from deploy.foundation import Foundation
from deploy.network import TLS_PORT
from deploy.storage import log_group

IDLE_SECONDS = (
    60  # less than the 75 s after which the service ends a silent connection, so that it never ends one in use
)
# Rules of AWS that the firewall has beside its own. That of common attacks is not among them: it refuses bodies above
# 8 KiB, and a batch of requests is larger.
MANAGED = ("AWSManagedRulesKnownBadInputsRuleSet", "AWSManagedRulesAmazonIpReputationList")


def certificate_parameter(environment: Environment) -> str:
    """The parameter of SSM that names the certificate, which holds an account's id and so is in no file here."""
    return f"/pricing/{environment.name}/certificate"


class Balancer(Construct):
    """The load balancer.

    Attributes:
        balancer: Itself.
        listener: On port 443; what no rule takes is answered 404.
    """

    def __init__(self, scope: Construct, name: str, *, base: Foundation) -> None:
        super().__init__(scope, name)
        network, environment = base.network, base.environment_
        self.balancer = elbv2.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            internet_facing=True,
            security_group=network.balancer,
            drop_invalid_header_fields=True,
            desync_mitigation_mode=elbv2.DesyncMitigationMode.DEFENSIVE,
            idle_timeout=Duration.seconds(IDLE_SECONDS),
            deletion_protection=environment.kept,
        )
        self.balancer.log_access_logs(base.buckets.logs, "balancer")
        arn = ssm.StringParameter.value_for_string_parameter(self, certificate_parameter(environment))
        self.listener = self.balancer.add_listener(
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


class Firewall(Construct):
    """Blocks addresses that send too much, that are known for attacks, and requests that are one."""

    def __init__(self, scope: Construct, name: str, *, balancer: Balancer, base: Foundation) -> None:
        super().__init__(scope, name)
        environment = base.environment_
        rate = waf.CfnWebACL.RuleProperty(
            name="rate",
            priority=0,
            action=waf.CfnWebACL.RuleActionProperty(
                block=waf.CfnWebACL.BlockActionProperty(
                    custom_response=waf.CfnWebACL.CustomResponseProperty(response_code=429)
                )
            ),
            statement=waf.CfnWebACL.StatementProperty(
                rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
                    aggregate_key_type="IP",
                    limit=environment.serving.requests_per_address,
                    evaluation_window_sec=300,
                )
            ),
            visibility_config=_visible("rate"),
        )
        managed = [
            waf.CfnWebACL.RuleProperty(
                name=rules,
                priority=place,
                override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
                statement=waf.CfnWebACL.StatementProperty(
                    managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(
                        name=rules, vendor_name="AWS"
                    )
                ),
                visibility_config=_visible(rules),
            )
            for place, rules in enumerate(MANAGED, start=1)
        ]
        acl = waf.CfnWebACL(
            self,
            "Acl",
            name=f"pricing-{environment.name}",
            scope="REGIONAL",
            default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
            rules=[rate, *managed],
            visibility_config=_visible(f"pricing-{environment.name}"),
        )
        waf.CfnWebACLAssociation(
            self, "Association", resource_arn=balancer.balancer.load_balancer_arn, web_acl_arn=acl.attr_arn
        )
        # AWS demands the beginning of the name.
        name_ = f"aws-waf-logs-pricing-{environment.name}"
        group = log_group(self, "Log", name=name_, key=base.key, environment=environment)
        waf.CfnLoggingConfiguration(
            self,
            "Logging",
            resource_arn=acl.attr_arn,
            log_destination_configs=[group.log_group_arn],
            redacted_fields=[
                waf.CfnLoggingConfiguration.FieldToMatchProperty(single_header={"Name": header})
                for header in ("x-api-key", "authorization")
            ],
            logging_filter={
                "DefaultBehavior": "DROP",
                "Filters": [
                    {
                        "Behavior": "KEEP",
                        "Requirement": "MEETS_ANY",
                        "Conditions": [{"ActionCondition": {"Action": "BLOCK"}}],
                    }
                ],
            },
        )


def _visible(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
    return waf.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=True
    )
