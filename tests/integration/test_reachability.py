import pytest
import sqlalchemy

from pricing.errors import RegistryError
from pricing.runtime import mlflow_runs


@pytest.mark.parametrize(
    "uri", ["databricks://profile", "databricks", "sqlite:////tmp/x.db", "file:///tmp", "./mlruns"]
)
def test_only_servers_and_databases_that_mlflow_knows_are_asked(uri: str) -> None:
    mlflow_runs.check_reachable(uri, connect=lambda *_, **__: pytest.fail(f"{uri} was opened as a database"))


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc"])
def test_a_database_that_does_not_answer_is_named_without_its_password(scheme: str) -> None:
    def dead(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("connect", {}, OSError("refused"))

    with pytest.raises(RegistryError, match="cannot be opened") as caught:
        mlflow_runs.check_reachable(f"{scheme}://me:secret@h/x", connect=dead)
    assert "secret" not in str(caught.value)
    assert f"{scheme}://me:***@h/x" in str(caught.value)


def test_a_server_is_named_without_its_password() -> None:
    with pytest.raises(RegistryError, match="does not answer") as caught:
        mlflow_runs.check_reachable("http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)
