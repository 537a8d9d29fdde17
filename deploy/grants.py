"""What roles may do, written out action by action: CDK's own grants are wider than these programs need."""

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_efs as efs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from constructs import Construct

READ_OBJECTS = ("s3:GetObject",)
WRITE_OBJECTS = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
DELETE_OBJECTS = ("s3:DeleteObject",)


def objects(role: iam.IRole, bucket: s3.IBucket, actions: Sequence[str], *, prefix: str = "") -> None:
    """Lets a role do with the objects under a prefix what the actions say, and list the bucket.

    Without the right to list it, S3 answers 403 where an object is missing, and readers of a folder take that for an
    error.
    """
    listing = iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn])
    role.add_to_principal_policy(listing)
    _do(role, bucket, actions, prefix=prefix)


def put_objects(role: iam.IRole, bucket: s3.IBucket, *, prefix: str) -> None:
    """Lets a role put objects under a prefix: not list, read or delete them."""
    _do(role, bucket, ["s3:PutObject", "s3:AbortMultipartUpload"], prefix=prefix)


def write_log(role: iam.IRole, group: logs.ILogGroup) -> None:
    """Lets a role add streams and lines to a log."""
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            resources=[group.log_group_arn],
        )
    )


def _do(role: iam.IRole, bucket: s3.IBucket, actions: Sequence[str], *, prefix: str) -> None:
    role.add_to_principal_policy(
        iam.PolicyStatement(actions=list(actions), resources=[bucket.arn_for_objects(f"{prefix}*")])
    )


def use_key(role: iam.IRole, key: kms.IKey, *, by: Sequence[str], scope: Construct) -> None:
    """Lets a role use the key by way of AWS services, such as s3, and not by itself.

    Whoever puts an object in several parts must be able to decrypt them, so that writing takes both actions.
    """
    region = Stack.of(scope).region
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["kms:Decrypt", "kms:GenerateDataKey"],
            resources=[key.key_arn],
            conditions={"StringEquals": {"kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in by]}},
        )
    )


def through_gateway(endpoint: ec2.GatewayVpcEndpoint, buckets: Sequence[s3.IBucket], *, scope: Construct) -> None:
    """Lets the VPC reach these buckets of S3 and the layers of images, and no bucket of anybody else.

    What a role may do there is its own policy's; this one keeps a program that was taken over from carrying data away
    to a bucket elsewhere.
    """
    arns = [bucket.bucket_arn for bucket in buckets]
    layers = f"arn:{Stack.of(scope).partition}:s3:::prod-{Stack.of(scope).region}-starport-layer-bucket/*"  # ECR's own
    objects_of = [bucket.arn_for_objects("*") for bucket in buckets]
    for actions, resources in (
        (["s3:ListBucket", "s3:GetBucketLocation"], arns),
        ([*READ_OBJECTS, *WRITE_OBJECTS, *DELETE_OBJECTS], objects_of),
        (list(READ_OBJECTS), [layers]),
    ):
        endpoint.add_to_policy(
            iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=actions, resources=resources)
        )


def publish(role: iam.IRole, topic: sns.ITopic) -> None:
    """Lets a role send alerts."""
    role.add_to_principal_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]))


def put_metrics(role: iam.IRole, *, namespace: str) -> None:
    """Lets a role put figures into one namespace; CloudWatch knows no resource to name."""
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["cloudwatch:PutMetricData"],
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": namespace}},
        )
    )


def use_files(role: iam.IRole, system: efs.IFileSystem, access: efs.IAccessPoint) -> None:
    """Lets a role mount a folder of the file system and write there."""
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
            resources=[system.file_system_arn],
            conditions={"StringEquals": {"elasticfilesystem:AccessPointArn": access.access_point_arn}},
        )
    )
