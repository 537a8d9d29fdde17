"""Read what differs between environments: the models of `environments.yaml`."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

FILE = Path(__file__).resolve().parent / "environments.yaml"
SHARED_QUALIFIER = "hnb659fds"  # of `cdk bootstrap` without --qualifier
DASK_PORT = 8786
SHARE = 0.5  # of a task's saturation that it is kept at; the rest is for the minutes until new ones answer
Cidr = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$")]
Image = Annotated[str, Field(pattern=r"^(serving|mlflow|jobs)$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Domain = Annotated[str, Field(pattern=r"^([a-z0-9-]+\.)+[a-z]{2,}$")]


class DeploymentError(ValueError):
    """An environment that cannot be deployed: where, what was expected and what was found."""


class Part(BaseModel):
    """Base of every part: frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Size(Part):
    """CPU units, memory in MiB and, where 20 GiB do not do, ephemeral storage in GiB of a Fargate task.

    ECS itself refuses a memory that Fargate does not have for that CPU, before it changes a running task.
    """

    cpu: Literal[256, 512, 1024, 2048, 4096, 8192, 16384]
    memory: int
    disk: Annotated[int, Field(ge=21, le=200)] | None = None


class NetworkPart(Part):
    """The network."""

    cidr: Cidr  # of the VPC
    internet: bool = False  # the load balancer has public addresses
    nat_gateways: Annotated[int, Field(ge=0, le=2)] = 0  # ways out to a shop's own systems or a competitor's API
    callers: Annotated[list[Cidr], Field(min_length=1)]  # who may call the load balancer: the service and the console
    people: list[Cidr] = []  # from where people may open MLflow


class ServingPart(Part):
    """The service and how it grows."""

    size: Size  # of a task
    floor: Annotated[int, Field(ge=1, le=500)]  # tasks that run whatever the load; two of them lie in two zones
    peak: Annotated[float, Field(gt=0, le=1e6)]  # requests a second of the largest burst
    saturation: Annotated[float, Field(gt=0, le=1e6)]  # that one task answers at most, requests a second; measure it
    # In five minutes from one address, above which the firewall blocks it.
    requests_per_address: Annotated[int, Field(ge=10, le=2_000_000_000)]

    def tasks(self, rate: float) -> int:
        """The number of tasks that answer so many requests a second at their target."""
        return max(self.floor, math.ceil(rate / (SHARE * self.saturation)))

    @property
    def least(self) -> int:
        """Tasks that always run: enough for a tenth of the peak."""
        return self.tasks(self.peak / 10)

    @property
    def most(self) -> int:
        """Tasks at the peak."""
        return self.tasks(self.peak)


class TrackingPart(Part):
    """MLflow's task and the database: instance class, GiB, days that automatic backups are kept."""

    size: Size
    instance: Annotated[str, Field(pattern=r"^t4g\.\w+$|^[mr]\d\w*\.\w+$")]
    storage: Annotated[int, Field(ge=20, le=65_536)] = 20
    multi_az: bool = False
    backup_days: Annotated[int, Field(ge=1, le=35)] = 7


class JobsPart(Part):
    """Sizes of the three kinds of tasks that run jobs: learning, the night, and a person's decisions.

    `workers` are as many tasks of Dask, which run while a job works on partitions; 0 where sales are in none.
    """

    train: Size
    nightly: Size
    promote: Size  # as much memory as learning has: it may refit the champion on the sales of a new version
    workers: Annotated[int, Field(ge=0, le=500)] = 0

    @model_validator(mode="after")
    def _may_compare(self) -> "JobsPart":
        if self.promote.memory < self.train.memory:
            raise ValueError(f"promote has {self.promote.memory} MiB; expected {self.train.memory}, as train has")
        return self


class NightlyPart(Part):
    """When the night's job runs: a cron expression of EventBridge Scheduler, in the shop's time zone.

    `partitions` is how many the night cuts the sales into before, as many as those of the version; 0: none.
    """

    at: Annotated[str, Field(pattern=r"^cron\(\S+ \S+ \S+ \S+ \S+ \S+\)$")]
    time_zone: Annotated[str, Field(pattern=r"^\w+(/[\w+-]+)*$")]
    partitions: Annotated[int, Field(ge=0, le=99_999)] = 0


class WatchPart(Part):
    """Alarms, and who gets them."""

    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731]  # that logs are kept
    emails: list[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]] = []  # beside whatever subscribes to the topic
    pagers: list[Annotated[str, Field(pattern=r"^(https://\S+|[^@\s]+@[^@\s]+)$")]] = []  # whom `pager` alarms wake
    budget_usd: Annotated[float, Field(gt=0, le=1e7)]  # a month, of which 80 % spent, or all of it forecast, is mailed
    without: list[str] = []  # alarms of `alarms.yaml` that this environment does without
    guide: Annotated[str, Field(pattern=r"^\S+$")] = "docs/operator/operating.md"  # ends alarms' descriptions


class Environment(Part):
    """One environment."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}$")]  # its key in the file
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    domain: Domain  # that callers use; the certificate must have it and the next two
    mlflow_domain: Domain  # under which people open MLflow
    console_domain: Domain  # under which pricing managers open the console
    kept: bool  # data outlive the stacks: no deletion without a further step
    # Part of the names of what `cdk bootstrap` makes for this environment alone, unlike any other's in the account.
    qualifier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{2,9}$")]
    network: NetworkPart
    # Digests to deploy, which are no part of the file; the others are those that run, as their parameters name them.
    images: Annotated[dict[Image, Digest], Field(validation_alias="IMAGES")]
    serving: ServingPart
    tracking: TrackingPart
    jobs: JobsPart
    sales: Annotated[str, Field(min_length=1)]  # what jobs get as --sales; `{data}` is the bucket for data
    # Environment variable of jobs → name of the secret in Secrets Manager that holds its value.
    job_secrets: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = {}
    nightly: NightlyPart
    watch: WatchPart
    settings: dict[str, Any] = {}  # laid over `config/default.yaml`

    @field_validator("qualifier")
    @classmethod
    def _is_no_shared_one(cls, qualifier: str) -> str:
        if qualifier == SHARED_QUALIFIER:
            raise ValueError("is CDK's own, whose roles change every stack of the account that is deployed with it")
        return qualifier

    @model_validator(mode="after")
    def _may_partition(self) -> "Environment":
        partitions = self.nightly.partitions
        if bool(partitions) != bool(self.jobs.workers):
            raise ValueError(
                f"nightly.partitions is {partitions}, jobs.workers {self.jobs.workers}; expected both, or none"
            )
        if partitions and self.sales == "etl":
            raise ValueError("sales is etl; expected a folder of Parquet, which is what nightly.partitions can stream")
        return self

    @property
    def namespace(self) -> str:
        """The CloudWatch namespace of everything that the platform's programs measure."""
        return f"Pricing/{self.name}"

    def image_parameter(self, image: str) -> str:
        """The name of the parameter of Systems Manager that holds the digest of an image as it runs."""
        return f"/pricing/{self.name}/images/{image}"

    @property
    def private_domain(self) -> str:
        """The zone of names that tasks find each other by."""
        return f"{self.name}.pricing.internal"

    @property
    def scheduler(self) -> str:
        """The address of Dask's scheduler; `none` where there are no workers."""
        return f"tcp://scheduler.{self.private_domain}:{DASK_PORT}" if self.jobs.workers else "none"

    @property
    def model(self) -> str:
        """The name of the registered model."""
        return str(self.settings.get("registry", {}).get("model_name", "pricing"))


def read_environments(path: Path = FILE, *, images: str = "") -> dict[str, Environment]:
    """Reads every environment of the file, with new images where given, as `serving=sha256:… jobs=sha256:…`.

    Raises:
        DeploymentError: The file, an environment in it or a word of `images` cannot be used; names each fault's place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DeploymentError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not content or not all(isinstance(given, dict) for given in content.values()):
        raise DeploymentError(f"{path}: expected a mapping of environments")
    others = dict(word.partition("=")[::2] for word in images.split())
    environments = {name: _environment(name, given, images=others, path=path) for name, given in content.items()}
    qualifiers = {name: environment.qualifier for name, environment in environments.items()}
    if len(set(qualifiers.values())) < len(qualifiers):
        found = ", ".join(f"{name}: {qualifier}" for name, qualifier in qualifiers.items())
        raise DeploymentError(f"{path}: expected a qualifier of its own for each environment; found {found}")
    return environments


def _environment(name: str, given: dict[str, Any], *, images: dict[str, str], path: Path) -> Environment:
    try:
        return Environment.model_validate({"name": name, **given, "IMAGES": images})
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join([name, *map(str, fault['loc'])])}: {fault['msg']} (found {fault['input']!r})"
            for fault in error.errors()
        )
        raise DeploymentError(f"{path}: {error.error_count()} faults:\n{faults}") from error
