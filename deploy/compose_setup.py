"""What runs once at each start of docker-compose.yml, inside the image of MLflow: databases, roles and buckets.

It may be repeated: what is there stays, but for the roles' passwords, which are set to those of the files.
"""

import configparser
import time
from pathlib import Path
from typing import Any

SECRETS = Path("/run/secrets")
BUCKETS = ("mlflow", "pricing")
PATIENCE_SECONDS = 60


def make_storage() -> None:
    """Makes databases, roles and buckets that are missing.

    Raises:
        SystemExit: A server does not answer, or refuses.
    """
    import psycopg2  # noqa: PLC0415  (MLflow's image has it)

    from deploy.database_setup import ROLES, prepare  # noqa: PLC0415

    passwords = {role: _password(role) for role in ROLES}
    master = {"host": "postgres", "user": "postgres", "password": (SECRETS / "postgres").read_text().strip()}
    try:
        prepare(master, passwords)
    except psycopg2.OperationalError as error:
        raise SystemExit(f"postgres: {error}") from error
    for bucket in BUCKETS:
        make_bucket(bucket)


def make_bucket(name: str) -> None:
    """Makes a bucket where it is missing; the object store takes objects shortly after it answers.

    Raises:
        SystemExit: It does not take one within a minute.
    """
    import boto3  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    client: Any = boto3.client("s3")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            known = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
            if name not in known:
                client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key=".made", Body=b"")
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"bucket {name}: {error}") from error
            time.sleep(0.5)
        else:
            return


def _password(role: str) -> str:
    configuration = configparser.RawConfigParser()
    configuration.read_string((SECRETS / f"postgres-{role}").read_text(encoding="utf-8"))
    return configuration[role]["password"]


if __name__ == "__main__":
    make_storage()
