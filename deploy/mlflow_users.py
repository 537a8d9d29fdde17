"""Make MLflow's user `admin` before MLflow starts, and set its password.

It runs inside the image of MLflow, on AWS as `python -c TEXT`, so that it may import nothing of ours. Every start
repeats it: MLflow itself takes the password at its first start alone, and would ignore a new one. Variables:

- MLFLOW_BACKEND_STORE_URI: the database that has the users.
- PASSWORD_ADMIN: the password; or PASSWORD_ADMIN_FILE, a file that holds it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

ADMIN = "admin"


def prepare(database: str, password: str) -> None:
    """Makes `admin`, who may do everything, where it is missing, and sets its password.

    Args:
        database: SQLAlchemy URL of the database that has the users.
        password: Its password.
    """
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - MLflow's image alone has it whole

    store = SqlAlchemyStore()
    store.init_db(database)  # type: ignore[no-untyped-call]
    if store.has_user(ADMIN):
        store.update_user(ADMIN, password=password, is_admin=True)
    else:
        store.create_user(ADMIN, password, is_admin=True)


def read_password(environment: Mapping[str, str]) -> str:
    """The password, from the variable or from the file that one names.

    Raises:
        SystemExit: It is given by neither, or the file cannot be read.
    """
    path = environment.get("PASSWORD_ADMIN_FILE")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else environment["PASSWORD_ADMIN"]
    except OSError as error:
        raise SystemExit(f"PASSWORD_ADMIN_FILE: {path} cannot be read ({error.strerror})") from error
    except KeyError as error:
        raise SystemExit(
            "PASSWORD_ADMIN: expected MLflow's password of admin, or its file in PASSWORD_ADMIN_FILE"
        ) from error


if __name__ == "__main__":
    prepare(os.environ["MLFLOW_BACKEND_STORE_URI"], read_password(os.environ))
