"""Start the MLflow server of Dockerfile.mlflow: with accounts where an administrator's password is given, else open.

It runs in an image that has MLflow and nothing of ours, and so imports nothing of ours. Variables of its own:

- MLFLOW_ADMIN_PASSWORD_FILE: a file with the password of the account `admin` (or MLflow's own
  MLFLOW_AUTH_ADMIN_PASSWORD). By itself it counts at the first start alone; `mlflow_users`, run before, sets it anew.
- MLFLOW_ACCOUNTS_URI: the database of the accounts; absent: that of MLFLOW_BACKEND_STORE_URI.
- MLFLOW_DEFAULT_PERMISSION: what an account may do with experiments and models of others (READ).

Everything else is `mlflow server`'s: MLFLOW_BACKEND_STORE_URI, MLFLOW_ARTIFACTS_DESTINATION,
MLFLOW_SERVER_ALLOWED_HOSTS, MLFLOW_HOST, MLFLOW_PORT, MLFLOW_WORKERS.
"""

import configparser
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ADMIN = "admin"  # as `mlflow_users` makes it, which is not in the image
CACHE_SECONDS = 60  # for which a worker takes a password that was right for right
SHORTEST = 12  # characters of a password, as MLflow asks


def password(environment: Mapping[str, str]) -> str | None:
    """The administrator's password; None where the server is to be open.

    Raises:
        SystemExit: The file is named and cannot be read, or the password is too short.
    """
    name = "MLFLOW_ADMIN_PASSWORD_FILE"
    path = environment.get(name)
    found = environment.get("MLFLOW_AUTH_ADMIN_PASSWORD")
    if path:
        try:
            found = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SystemExit(f"{name}: {path} cannot be read ({error.strerror})") from error
    elif found is None:
        return None
    if len(found) < SHORTEST:
        raise SystemExit(f"{name}: expected {SHORTEST} characters or more, found {len(found)}")
    return found


def accounts(environment: Mapping[str, str], secret: str, *, folder: Path) -> dict[str, str]:
    """Writes MLflow's configuration of accounts and returns the variables that it needs besides.

    Args:
        environment: The variables.
        secret: The administrator's password; the key by which MLflow signs its forms is made of it, so that all
            workers, and all servers beside one another, have the same.
        folder: Where the configuration goes, which has no password in it.
    """
    configuration = configparser.RawConfigParser()
    database = environment.get("MLFLOW_ACCOUNTS_URI") or environment["MLFLOW_BACKEND_STORE_URI"]
    configuration["mlflow"] = {
        "default_permission": environment.get("MLFLOW_DEFAULT_PERMISSION") or "READ",
        "database_uri": database.replace("%", "%%"),  # the reader would take a % for a reference
        "admin_username": ADMIN,
        # Checking a password's hash takes tens of milliseconds, and a download of one model is dozens of requests.
        "auth_cache_ttl_seconds": str(CACHE_SECONDS),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / "accounts.ini"
    with path.open("w", encoding="utf-8") as file:
        configuration.write(file)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(path),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": hashlib.scrypt(
            secret.encode(), salt=b"forms of the tracking server", n=2**14, r=8, p=1
        ).hex(),
    }


def main(words: Sequence[str]) -> None:
    """Becomes `mlflow server`, with `words` behind its own options."""
    command = ["mlflow", "server", "--host", os.environ.get("MLFLOW_HOST") or "0.0.0.0"]
    command += ["--port", os.environ.get("MLFLOW_PORT") or "5000"]
    command += ["--workers", os.environ.get("MLFLOW_WORKERS") or "2"]
    secret = password(os.environ)
    if secret is not None:
        os.environ.update(accounts(os.environ, secret, folder=Path(tempfile.mkdtemp())))
        command += ["--app-name", "basic-auth"]
    os.execvp(command[0], [*command, *words])


if __name__ == "__main__":
    main(sys.argv[1:])
