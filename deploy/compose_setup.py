"""What runs once at each start of docker-compose.yml, inside the image of MLflow: databases, buckets, accounts.

`python -m deploy.compose_setup storage` before MLflow starts, `… accounts` once it answers. Both may be repeated: what
is there stays, but for the databases' passwords, which are set to those of the files.
"""

import base64
import configparser
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

SECRETS = Path("/run/secrets")
BUCKETS = ("mlflow", "pricing")
PATIENCE_SECONDS = 60


def make_storage() -> None:
    """Makes databases and buckets that are missing.

    Raises:
        SystemExit: A server does not answer.
    """
    import psycopg2  # noqa: PLC0415  (not where accounts are made)

    from deploy.database_setup import OWNERS, READER, prepare  # noqa: PLC0415

    passwords = {role: _read(SECRETS / f"postgres-{role}")[role]["password"] for role in OWNERS}
    passwords[READER] = secrets.token_hex(24)  # nobody comes as this role here
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


def make_account(name: str, *, server: str) -> None:
    """Makes an account on the MLflow server that may read what is there and nothing more.

    Raises:
        SystemExit: The server refuses.
    """
    administrator, account = (_login(SECRETS / f"mlflow-{one}.ini") for one in ("admin", name))
    headers = {"Authorization": f"Basic {base64.b64encode(':'.join(administrator).encode()).decode()}"}
    users = f"{server}/api/2.0/mlflow/users"
    body = json.dumps(dict(zip(("username", "password"), account, strict=True))).encode()
    calls = {
        "get": urllib.request.Request(f"{users}/get?username={account[0]}", headers=headers),
        "create": urllib.request.Request(f"{users}/create", body, {**headers, "Content-Type": "application/json"}),
    }
    for what, call in calls.items():
        try:
            with urllib.request.urlopen(call, timeout=30):
                return
        except urllib.error.HTTPError as error:
            if what == "create" or error.code != HTTPStatus.NOT_FOUND:
                text = error.read().decode(errors="replace")
                raise SystemExit(f"account {account[0]}: {what}: {error.code} {text}") from error


def _login(path: Path) -> tuple[str, str]:
    values = _read(path)["mlflow"]
    return values["mlflow_tracking_username"], values["mlflow_tracking_password"]


def _read(path: Path) -> configparser.RawConfigParser:
    configuration = configparser.RawConfigParser()
    configuration.read_string(path.read_text(encoding="utf-8"))
    return configuration


if __name__ == "__main__":
    if sys.argv[1:] == ["storage"]:
        make_storage()
    elif sys.argv[1:] == ["accounts"]:
        make_account("serving", server=os.environ["MLFLOW_TRACKING_URI"])
    else:
        raise SystemExit(f"expected storage or accounts, found {sys.argv[1:]}")
