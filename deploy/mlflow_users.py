"""What MLflow's task runs before MLflow: its users, `admin` and one that may only read, with the secrets' passwords.

It runs inside the image of MLflow as `python -c TEXT`, so that it may import nothing of ours. Every start repeats it:
MLflow itself takes the admin's password at its first start alone, and would ignore a new secret.
"""

import os

ADMIN, READER = "admin", "serving"


def prepare(database: str, passwords: dict[str, str]) -> None:
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


if __name__ == "__main__":
    prepare(
        os.environ["MLFLOW_BACKEND_STORE_URI"],
        {user: os.environ[f"PASSWORD_{user.upper()}"] for user in (ADMIN, READER)},
    )
