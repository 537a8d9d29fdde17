"""Make MLflow's users before MLflow starts: `admin`, and `serving` with the permission that everybody has.

It runs inside the image of MLflow, on AWS as `python -c TEXT`, so that it may import nothing of ours. Every start
repeats it: MLflow itself takes the admin's password at its first start alone, and would ignore a new one. So the
passwords of the secrets hold, and one that was changed in MLflow's pages holds until the next start. Variables:

- MLFLOW_BACKEND_STORE_URI: the database that has the users.
- PASSWORD_ADMIN, PASSWORD_SERVING: the passwords; or, with _FILE behind the name, files that hold them.
"""

import os
from collections.abc import Mapping
from pathlib import Path

ADMIN, READER = "admin", "serving"


def prepare(database: str, passwords: Mapping[str, str]) -> None:
    """Makes users that are missing, and sets passwords and rights of those that are there.

    Args:
        database: SQLAlchemy URL of the database that has the users.
        passwords: Of `admin`, who may do everything, and of `serving`, which has the permission that everybody has.
    """
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415 - MLflow's image alone has it whole

    store = SqlAlchemyStore()
    store.init_db(database)  # type: ignore[no-untyped-call]
    for user, password in passwords.items():
        if store.has_user(user):
            store.update_user(user, password=password, is_admin=user == ADMIN)
        else:
            store.create_user(user, password, is_admin=user == ADMIN)


def read_passwords(environment: Mapping[str, str]) -> dict[str, str]:
    """The password of each user, from a variable or from the file that one names.

    Raises:
        SystemExit: One is given by neither, or its file cannot be read.
    """
    passwords = {}
    for user in (ADMIN, READER):
        name = f"PASSWORD_{user.upper()}"
        path = environment.get(f"{name}_FILE")
        try:
            passwords[user] = Path(path).read_text(encoding="utf-8").strip() if path else environment[name]
        except OSError as error:
            raise SystemExit(f"{name}_FILE: {path} cannot be read ({error.strerror})") from error
        except KeyError as error:
            raise SystemExit(f"{name}: expected MLflow's password of {user}, or its file in {name}_FILE") from error
    return passwords


if __name__ == "__main__":
    prepare(os.environ["MLFLOW_BACKEND_STORE_URI"], read_passwords(os.environ))
