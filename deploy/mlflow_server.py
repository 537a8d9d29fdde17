"""Start the MLflow server of Dockerfile.mlflow: tables brought up to date, with accounts where a password is given.

It runs in an image that has MLflow and nothing of ours, and so imports nothing of ours. Of variables it reads those of
`mlflow server`, and MLFLOW_AUTH_ADMIN_PASSWORD: where it is given, everybody logs in, `admin` with it, at each start
anew. MLflow itself would take it at its first start alone, and exit where its tables are a release behind.
"""

import configparser
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ADMIN = "admin"
CACHE_SECONDS = 60  # for which a worker takes a password that was right for right
SHORTEST = 12  # characters of a password, as MLflow asks


def accounts(database: str, password: str, *, folder: Path) -> dict[str, str]:
    """Writes MLflow's configuration of accounts and returns the variables that it needs besides.

    Args:
        database: SQLAlchemy URL of the database of the accounts.
        password: The administrator's; the key by which MLflow signs its forms is made of it, so that all workers have
            the same.
        folder: Where the configuration goes, which has no password in it.
    """
    configuration = configparser.RawConfigParser()
    configuration["mlflow"] = {
        "default_permission": "READ",
        "database_uri": database.replace("%", "%%"),  # the reader would take a % for a reference
        "admin_username": ADMIN,
        # Checking a password's hash takes tens of milliseconds, and a download of one model is dozens of requests.
        "auth_cache_ttl_seconds": str(CACHE_SECONDS),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / "accounts.ini"
    with path.open("w", encoding="utf-8") as file:
        configuration.write(file)
    key = hashlib.scrypt(password.encode(), salt=b"forms of the tracking server", n=2**14, r=8, p=1).hex()
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
    }


def set_admin(database: str, password: str) -> None:
    """Makes `admin`, who may do everything, where it is missing, and sets its password."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - MLflow's image alone has it whole

    store = SqlAlchemyStore()
    store.init_db(database)  # type: ignore[no-untyped-call]
    if store.has_user(ADMIN):
        store.update_user(ADMIN, password=password, is_admin=True)
    else:
        store.create_user(ADMIN, password, is_admin=True)


def main(words: Sequence[str]) -> None:
    """Becomes `mlflow server`, with `words` behind its own options.

    Raises:
        SystemExit: The password is too short.
    """
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    password = os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD")
    if password is not None and len(password) < SHORTEST:
        raise SystemExit(f"MLFLOW_AUTH_ADMIN_PASSWORD: expected {SHORTEST} characters or more, found {len(password)}")
    subprocess.run(["mlflow", "db", "upgrade", database], check=True)
    command = ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
    if password is not None:
        set_admin(database, password)
        os.environ.update(accounts(database, password, folder=Path(tempfile.mkdtemp())))
        command += ["--app-name", "basic-auth"]
    os.execvp(command[0], [*command, *words])


if __name__ == "__main__":
    main(sys.argv[1:])
