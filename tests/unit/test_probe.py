import pytest
import sqlalchemy

from pricing import probe
from pricing.errors import RegistryError
from pricing.fileio import redact_url


@pytest.mark.parametrize(
    "uri", ["databricks://profile", "databricks", "sqlite:////tmp/x.db", "file:///tmp", "./mlruns"]
)
def test_only_servers_and_databases_that_mlflow_knows_are_asked(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "create_engine", lambda *_, **__: pytest.fail(f"{uri} was opened as a database"))

    probe.probe(uri)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc"])
def test_a_database_that_does_not_answer_is_named_without_its_password(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("connect", {}, OSError("refused"))

    monkeypatch.setattr(probe, "create_engine", dead)

    with pytest.raises(RegistryError, match="cannot be opened") as caught:
        probe.probe(f"{scheme}://me:secret@h/x")
    assert "secret" not in str(caught.value)
    assert f"{scheme}://me:***@h/x" in str(caught.value)


def test_a_server_is_named_without_its_password() -> None:
    with pytest.raises(RegistryError, match="does not answer") as caught:
        probe.probe("http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_a_password_is_left_out_of_an_address_and_a_path_stays() -> None:
    assert redact_url("mysql://me:secret@h:1/x?a=b") == "mysql://me:***@h:1/x?a=b"
    assert redact_url("mlruns/x") == "mlruns/x"
