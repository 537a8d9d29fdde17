"""Make databases and roles, each with no more rights than its program needs, before MLflow starts.

It runs inside the image of MLflow, and so imports nothing of ours. Every start repeats it: what is there stays, and
passwords are set to those of PASSWORD_MLFLOW and PASSWORD_PRICING, which is how a new secret comes into force. The
server and its master are libpq's PGHOST, PGPORT, PGUSER, PGPASSWORD, PGSSLMODE.
"""

import os
from typing import Any

ROLES = ("mlflow", "pricing")  # each owns the database of its name


def prepare(master: dict[str, Any], passwords: dict[str, str]) -> None:
    """Makes roles and databases that are missing, and sets the passwords of roles.

    `master` is a connection that may make databases, as psycopg takes it; what is missing there libpq knows. The server
    gets a SCRAM verifier of each password, since it writes these statements to its log as they are.
    """
    import psycopg  # noqa: PLC0415 - MLflow's image has it, and not what describes the stacks, which takes ROLES
    from psycopg import sql  # noqa: PLC0415

    with psycopg.connect(dbname="postgres", autocommit=True, **master) as connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for role, password in passwords.items():
            word = "ALTER" if role in roles else "CREATE"
            statement = sql.SQL(word + " ROLE {} WITH LOGIN PASSWORD {}")
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
            connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier.decode())))
        for role in ROLES:
            # To give a database to a role, the master, who is no superuser on RDS, must be a member of it.
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
            if role not in databases:
                statement = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(statement.format(sql.Identifier(role), sql.Identifier(role)))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(role)))


if __name__ == "__main__":
    prepare({}, {role: os.environ[f"PASSWORD_{role.upper()}"] for role in ROLES})
