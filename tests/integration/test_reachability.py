import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
import sqlalchemy

from pricing.errors import RegistryError
from pricing.runtime import mlflow_runs


@pytest.mark.parametrize(
    "uri", ["databricks://profile", "databricks", "sqlite:////tmp/x.db", "file:///tmp", "./mlruns"]
)
def test_only_servers_and_databases_that_mlflow_knows_are_asked(uri: str) -> None:
    mlflow_runs.check_reachable(uri, connect=lambda *_, **__: pytest.fail(f"{uri} was opened as a database"))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_a_database_or_server_that_does_not_answer_is_named_without_its_password(scheme: str) -> None:
    def dead(*_: object, **__: object) -> None:
        raise sqlalchemy.exc.OperationalError("connect", {}, OSError("refused"))

    with pytest.raises(RegistryError, match="cannot be opened") as caught:
        mlflow_runs.check_reachable(f"{scheme}://me:secret@h/x", connect=dead)
    assert "secret" not in str(caught.value)
    assert f"{scheme}://me:***@h/x" in str(caught.value)
    with pytest.raises(RegistryError, match="does not answer") as caught:
        mlflow_runs.check_reachable("http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


@contextmanager
def dropping_server() -> Iterator[tuple[str, list[float]]]:
    """A server that takes every connection and drops it; yields its address and the times of the connections."""
    asked: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    asked.append(time.monotonic())
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("what", ["last run", "failure", "end"])
def test_a_server_that_is_gone_is_asked_once_when_a_job_has_failed(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(store)
    run_id = mlflow.start_run(run_name="of a server that was there").info.run_id
    if what == "last run":
        mlflow.end_run()
    with dropping_server() as (uri, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        try:
            if what == "last run":
                assert mlflow_runs.last_run() is None
            elif what == "failure":
                mlflow_runs.record_failure(run_id, "it broke")
            else:
                mlflow_runs._end("FAILED")
        finally:
            mlflow.set_tracking_uri(store)
            mlflow.end_run()

    assert len(asked) == 1
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
