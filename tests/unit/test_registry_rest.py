"""Reading the registry without MLflow: what a server may answer, and what is made of it."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from pricing.errors import RegistryError, VersionError
from pricing.registry import files
from pricing.registry.rest import ElsewhereError, ListedVersion, RestRegistry, alias_is_missing, can_read

LISTED = {"version": "7", "creation_timestamp": 1700000000123, "name": "pricing"}
FILES = {"version.json": b"{}", "arrays/x.npy": b"12345", "calendar.json": b"[]"}


@dataclass
class Server:
    """Answers as MLflow's server does, or as a test says."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    listed: Callable[[str], list[dict[str, Any]]] | None = None

    def answer(self, address: str) -> tuple[int, bytes]:
        parts = urlsplit(address)
        self.asked.append(parts.path)
        for end, (status, body) in self.answers.items():
            if parts.path.endswith(end):
                return status, body if isinstance(body, bytes) else json.dumps(body).encode()
        root = "1/models/m-1/artifacts/artifacts/version"
        if parts.path.endswith("mlflow-artifacts/artifacts"):
            folder = parse_qs(parts.query)["path"][0].removeprefix(root).strip("/")
            return 200, json.dumps({"files": (self.listed or self.of)(folder)}).encode()
        name = parts.path.partition(f"mlflow-artifacts/artifacts/{root}/")[2]
        return (200, self.files[name]) if name in self.files else (404, b"{}")

    def of(self, folder: str) -> list[dict[str, Any]]:
        inside = [name.removeprefix(f"{folder}/" if folder else "") for name in self.files if name.startswith(folder)]
        plain = [
            {"path": name, "is_dir": False, "file_size": str(len(self.files[f"{folder}/{name}".strip("/")]))}
            for name in inside
            if "/" not in name
        ]
        return plain + [{"path": name, "is_dir": True} for name in {one.split("/")[0] for one in inside if "/" in one}]


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server(
        answers={
            "/registered-models/alias": (200, {"model_version": LISTED}),
            "/model-versions/get": (200, {"model_version": LISTED}),
            "/get-download-uri": (200, {"artifact_uri": "mlflow-artifacts:/1/models/m-1/artifacts"}),
        }
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            one.headers.append(self.headers)
            status, body = one.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads, http.block_on_close = True, False
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        one.url = f"http://127.0.0.1:{http.server_port}"
        yield one
        http.shutdown()


def registry(server: Server, **environment: str) -> RestRegistry:
    return RestRegistry("pricing", uri=server.url, environment=environment)


def test_an_alias_and_a_number_are_one_call_each(server: Server) -> None:
    reader = registry(server)

    assert reader.at("champion") == reader.version("7") == ListedVersion("7", 1700000000123)
    assert server.asked == ["/api/2.0/mlflow/registered-models/alias", "/api/2.0/mlflow/model-versions/get"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=pricing not found"}),
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias champion not found."}),
    ],
)
def test_a_model_or_an_alias_that_does_not_exist_is_none(server: Server, status: int, error: dict[str, str]) -> None:
    server.answers["/registered-models/alias"] = (status, error)

    assert registry(server).at("champion") is None


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid model name\nmore"}, "Invalid model name"),
        (404, b"<html>no such page</html>", "it answers 404 and no JSON"),
        (403, {"error_code": "PERMISSION_DENIED", "message": ""}, "it answers 403"),
        (200, b"<html>please sign in</html>", "it answers 200 and no JSON"),
        (200, b"[]", "it answers 200 and no JSON"),
        (200, {"model_version": {}}, "it answers no model version"),
        (200, {"else": 1}, "it answers no model version"),
    ],
)
def test_any_other_answer_is_an_error_in_one_line(server: Server, status: int, body: object, said: str) -> None:
    server.answers["/registered-models/alias"] = (status, body)

    with pytest.raises(RegistryError) as error:
        registry(server).at("champion")

    assert str(error.value).startswith(f"registry {server.url}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_is_down_is_an_error_in_one_line() -> None:
    with pytest.raises(RegistryError, match=r"registry http://127\.0\.0\.1:9: ") as error:
        RestRegistry("pricing", uri="http://127.0.0.1:9", environment={}).at("champion")

    assert "\n" not in str(error.value)


def test_credentials_are_sent_as_mlflow_sends_them(server: Server) -> None:
    registry(server, MLFLOW_TRACKING_TOKEN="abc").at("champion")
    registry(server, MLFLOW_TRACKING_USERNAME="ann", MLFLOW_TRACKING_PASSWORD="x").at("champion")
    registry(server).at("champion")

    assert [headers["Authorization"] for headers in server.headers] == ["Bearer abc", "Basic YW5uOng=", None]


def test_a_version_appears_whole(server: Server, tmp_path: Path) -> None:
    folder = registry(server).download("7", tmp_path / "versions" / "7-1")

    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["7-1"]


@pytest.mark.parametrize(
    "uri", ["s3://bucket/1/models/m-1/artifacts", "mlflow-artifacts://other:5000/1/a", "file:///a", ""]
)
def test_files_that_the_server_does_not_hand_out_are_left_to_mlflow(server: Server, tmp_path: Path, uri: str) -> None:
    server.answers["/get-download-uri"] = (200, {"artifact_uri": uri})

    with pytest.raises(ElsewhereError, match="the files of version 7 of pricing lie in"):
        registry(server).download("7", tmp_path / "7-1")


@pytest.mark.parametrize("name", ["..", ".", "a\\b", "", "a b", "x\0y"])
def test_a_name_that_is_no_file_of_a_version_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    server.listed = lambda _: [{"path": name, "is_dir": False, "file_size": 1}]

    with pytest.raises(RegistryError, match="which is no file of a version"):
        registry(server).download("7", tmp_path / "7-1")

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"path": "version.json", "is_dir": False, "file_size": files.MOST_BYTES + 1}, "bytes or more"),
        ({"path": "deeper", "is_dir": True}, "files or more"),  # folders without end
    ],
)
def test_more_than_a_version_has_is_not_downloaded(
    server: Server, tmp_path: Path, listed: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 20)
    server.listed = lambda _: [listed]

    with pytest.raises(VersionError, match=said):
        registry(server).download("7", tmp_path / "7-1")

    assert [*tmp_path.iterdir()] == []


def test_a_file_longer_than_it_was_listed_ends_the_download(server: Server, tmp_path: Path) -> None:
    server.listed = lambda _: [{"path": "version.json", "is_dir": False, "file_size": 1}]

    with pytest.raises(RegistryError, match="is longer than it was listed"):
        registry(server).download("7", tmp_path / "7-1")

    assert [*tmp_path.iterdir()] == []


def test_a_file_that_is_gone_ends_the_download(server: Server, tmp_path: Path) -> None:
    server.listed = lambda _: [{"path": name, "is_dir": False, "file_size": 9} for name in ("version.json", "gone.npy")]

    with pytest.raises(RegistryError, match="404"):
        registry(server).download("7", tmp_path / "7-1")

    assert [*tmp_path.iterdir()] == []


def test_files_without_a_header_are_no_version(server: Server, tmp_path: Path) -> None:
    server.files = {"calendar.json": b"[]"}

    with pytest.raises(RegistryError, match=r"version 7 of pricing on .* holds no version.json"):
        registry(server).download("7", tmp_path / "7-1")


@pytest.mark.parametrize(
    ("uri", "environment", "read"),
    [
        ("http://mlflow:5000", {}, True),
        ("https://mlflow", {"MLFLOW_TRACKING_TOKEN": "a", "MLFLOW_TRACKING_AWS_SIGV4": "false"}, True),
        ("https://mlflow", {"MLFLOW_TRACKING_AWS_SIGV4": "true"}, False),
        ("https://mlflow", {"MLFLOW_TRACKING_AUTH": "kubernetes"}, False),
        ("sqlite:////a/mlflow.db", {}, False),
        ("databricks", {}, False),
    ],
)
def test_servers_that_mlflow_alone_can_reach_are_left_to_it(
    uri: str, environment: dict[str, str], read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert can_read(uri, environment) is read

    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\n")
    assert not can_read(uri, environment)


def test_a_bad_name_is_no_missing_alias() -> None:
    assert not alias_is_missing("INVALID_PARAMETER_VALUE", "Invalid alias name: ''")
    assert not alias_is_missing("INTERNAL_ERROR", "Registered model alias champion not found.")


@pytest.mark.parametrize(
    ("environment", "verify"),
    [
        ({}, True),
        ({"MLFLOW_TRACKING_INSECURE_TLS": "true"}, False),
        ({"MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/mlflow.pem"}, "/etc/mlflow.pem"),
    ],
)
def test_mlflows_certificates_go_before_those_of_the_machine(
    environment: dict[str, str], verify: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        sent.append(options["verify"])
        raise requests.ConnectionError("no server")

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/machine.pem")
    monkeypatch.setattr(requests.Session, "send", send)

    with pytest.raises(RegistryError, match="no server"):
        RestRegistry("pricing", uri="https://mlflow", environment=environment).at("champion")

    assert sent == ["/etc/machine.pem" if verify is True else verify]


@pytest.mark.parametrize(("found", "missing"), [({}, True), ({"registered_models": [{"name": "pricing"}]}, False)])
def test_a_model_that_a_server_with_accounts_does_not_know_is_missing_and_not_refused(
    server: Server, found: dict[str, Any], missing: bool
) -> None:
    server.answers["/registered-models/alias"] = (403, b"Permission denied")
    server.answers["/registered-models/search"] = (200, found)
    registry = RestRegistry("pricing", uri=server.url)

    if missing:
        assert registry.at("champion") is None
    else:
        with pytest.raises(RegistryError, match="403"):
            registry.at("champion")
