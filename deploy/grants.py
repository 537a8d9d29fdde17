"""What roles may do, written out action by action: CDK's own grants are wider than these programs need."""

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_efs as efs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
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
    doing = iam.PolicyStatement(actions=list(actions), resources=[bucket.arn_for_objects(f"{prefix}*")])
    for statement in (listing, doing):
        role.add_to_principal_policy(statement)


def use_key(role: iam.IRole, key: kms.IKey, *, by: Sequence[str], scope: Construct, writes: bool = True) -> None:
    """Lets a role use the key by way of AWS services, such as s3, and not by itself."""
    region = Stack.of(scope).region
    role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])],
            resources=[key.key_arn],
            conditions={"StringEquals": {"kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in by]}},
        )
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
