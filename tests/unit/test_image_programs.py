"""What slims an image's packages and lists them, and what asks the running platform for prices."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import ModuleType

import pytest

from deploy import compose_ask

ROOT = Path(__file__).parents[2]


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "requirements" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(folder: Path, name: str, *lines: str) -> Distribution:
    path = folder / f"{name}-1.0.dist-info"
    path.mkdir()
    (path / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines, ""]))
    return Distribution.at(path)


def test_the_bill_lists_every_package_its_licence_and_what_it_needs(tmp_path: Path) -> None:
    found = [
        package(tmp_path, "Some_Thing", "License-Expression: MIT", "Requires-Dist: other>=1; extra == 'x'"),
        package(tmp_path, "other", "Classifier: License :: OSI Approved :: BSD License", "Requires-Dist: absent"),
        package(tmp_path, "bare"),
    ]

    bill = program("sbom").materials("image", "sha256:1", found=found)

    assert [(one["purl"], one.get("licenses")) for one in bill["components"]] == [
        ("pkg:pypi/bare@1.0", None),
        ("pkg:pypi/other@1.0", [{"license": {"name": "BSD License"}}]),
        ("pkg:pypi/some-thing@1.0", [{"expression": "MIT"}]),
    ]
    assert {one["ref"]: one["dependsOn"] for one in bill["dependencies"]} == {
        "image": ["pkg:pypi/bare@1.0", "pkg:pypi/other@1.0", "pkg:pypi/some-thing@1.0"],
        "pkg:pypi/bare@1.0": [],
        "pkg:pypi/other@1.0": [],
        "pkg:pypi/some-thing@1.0": ["pkg:pypi/other@1.0"],
    }


def test_the_bill_of_this_environment_names_each_package_once() -> None:
    bill = program("sbom").materials("here", "1", found=list(distributions()))

    references = [one["bom-ref"] for one in bill["components"]]
    assert len(set(references)) == len(references) > 100
    assert json.loads(json.dumps(bill))["specVersion"] == "1.6"


def test_slimming_leaves_modules_and_the_services_that_are_called(tmp_path: Path) -> None:
    slim = program("slim")
    kept = [*(f"botocore/data/{name}/service.json" for name in slim.SERVICES), "botocore/data/endpoints.json"]
    kept += ["botocore/client.py", "numpy/linalg.py", "flask/tests/helpers.py"]
    gone = ["botocore/data/ec2/service.json", "numpy/_core/tests/test_one.py"]
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12")

    removed = slim.slim(tmp_path)

    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert removed == 2 * len(gone)


def test_slimming_fails_where_a_service_that_is_called_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "botocore" / "data" / "sts").mkdir(parents=True)

    with pytest.raises(FileNotFoundError, match="'s3'"):
        program("slim").slim(tmp_path)


@contextmanager
def tasks(*answers: tuple[str, str]) -> Iterator[str]:
    """A server that gives these answers, task and version, one after another, and the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            task, version = left.pop(0) if len(left) > 1 else left[0]
            body = json.dumps({"recommended_price": 9.99, "model_version": version, "source": "model"}).encode()
            self.send_response(200 if self.headers["X-API-Key"] == "key" else 401)
            self.send_header("X-Task", task)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key-shop").write_text("key\n")
    return tmp_path


def test_the_demo_ends_well_once_both_tasks_have_answered_by_a_version(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tasks(("serving-1", "4"), ("serving-1", "4"), ("serving-2", "4")) as server:
        code = compose_ask.main(folder, server=server)

    assert code == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["serving-1", "serving-2"]


def test_the_demo_fails_where_a_task_serves_no_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compose_ask, "PATIENCE_SECONDS", 0)

    with tasks(("serving-1", "4")) as server:
        code = compose_ask.main(folder, server=server)

    assert code == 1
    assert "serving-2" in capsys.readouterr().out


def test_the_demo_fails_where_the_key_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "secrets" / "key-shop").write_text("another")

    with tasks(("serving-1", "4")) as server:
        code = compose_ask.main(folder, server=server)

    assert code == 1
    assert "401" in capsys.readouterr().out
