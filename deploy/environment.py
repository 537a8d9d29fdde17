"""What differs between environments: the models of `environments.yaml`, and its only reader."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ROOT = Path(__file__).resolve().parent.parent
FILE = Path(__file__).resolve().parent / "environments.yaml"
# Fargate's sizes: CPU units (1,024 are a vCPU) → least and most memory and its step, MiB. Source: AWS, "Fargate task
# CPU and memory".
FARGATE: dict[int, tuple[int, int, int]] = {
    256: (512, 2_048, 512),
    512: (1_024, 4_096, 1_024),
    1_024: (2_048, 8_192, 1_024),
    2_048: (4_096, 16_384, 1_024),
    4_096: (8_192, 30_720, 1_024),
    8_192: (16_384, 61_440, 4_096),
    16_384: (32_768, 122_880, 8_192),
}
# What runs as a task of its own, by the module that it starts.
JOBS = {
    "etl": "pipelines.etl",
    "train": "pipelines.train",
    "tune": "pipelines.tune",
    "refresh": "pipelines.refresh",
    "retrain": "pipelines.retrain",
    "monitor": "monitoring",
    "nightly": "pipelines.nightly",
    "promote": "pipelines.promote",
    "publish": "pipelines.publish",
}
SHARED_QUALIFIER = "hnb659fds"  # of `cdk bootstrap` without --qualifier
Cidr = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$")]
Domain = Annotated[str, Field(pattern=r"^([a-z0-9-]+\.)+[a-z]{2,}$")]
Cron = Annotated[str, Field(pattern=r"^cron\(\S+ \S+ \S+ \S+ \S+ \S+\)$")]
Share = Annotated[float, Field(gt=0, le=1)]


class DeploymentError(ValueError):
    """An environment that cannot be deployed; says where, what was expected and what was found."""


class Part(BaseModel):
    """Base of every part: frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Size(Part):
    """CPU and memory of a Fargate task.

    Attributes:
        cpu: CPU units; 1,024 are one vCPU.
        memory: MiB.
        disk: GiB of ephemeral storage; Fargate gives 20 without asking.
    """

    cpu: Literal[256, 512, 1024, 2048, 4096, 8192, 16384]
    memory: int
    disk: Annotated[int, Field(ge=21, le=200)] | None = None

    @model_validator(mode="after")
    def _fargate_has_it(self) -> "Size":
        least, most, step = FARGATE[self.cpu]
        if not least <= self.memory <= most or self.memory % step:
            raise ValueError(
                f"memory {self.memory} MiB: with cpu {self.cpu} Fargate has {least} to {most} in steps of {step}"
            )
        return self


class NetworkPart(Part):
    """The network.

    Attributes:
        cidr: Addresses of the VPC.
        nat_gateways: Ways out for jobs that read a shop's own systems or a competitor's API; the service needs none.
        callers: Networks that may call the load balancer.
        people: Networks from which people may open MLflow; empty for nobody.
    """

    cidr: Cidr
    nat_gateways: Annotated[int, Field(ge=0, le=2)] = 0
    callers: Annotated[list[Cidr], Field(min_length=1)]
    people: list[Cidr] = []


class Window(Part):
    """Hours with another number of tasks: from `at` on there are at least `least` and at most `most`."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    at: Cron
    least: Annotated[int, Field(ge=1, le=500)]
    most: Annotated[int, Field(ge=1, le=500)]

    @model_validator(mode="after")
    def _ascend(self) -> "Window":
        if self.least > self.most:
            raise ValueError(f"window {self.name}: least {self.least} lies above most {self.most}")
        return self


class Jump(Part):
    """What is added at once where requests per task exceed `above` times their target: `add` per cent of the tasks."""

    above: Annotated[float, Field(gt=1, le=20)]
    add: Annotated[int, Field(ge=10, le=1_000)]


class ServingPart(Part):
    """The service and how it grows.

    Attributes:
        size: Of a task.
        least: Tasks that always run; two of them lie in two zones.
        most: Tasks, at most.
        saturation: Requests a second that one task of this size answers at most; to be measured.
        target_share: Share of the saturation that tasks are kept at; the rest is for the minute until new ones answer.
        cpu_target: Per cent of CPU that tasks are kept at.
        jumps: What is added after one minute, where target tracking would wait for three; ascending.
        jump_seconds: After a jump, in which only a larger one adds tasks: as long as tasks take to show in a figure.
        grow_seconds: Between two times that target tracking adds tasks.
        shrink_seconds: Between a change and tasks that are taken away.
        windows: Scheduled capacity.
        requests_per_address: Requests in five minutes from one address, above which the firewall blocks it.
        p99_seconds: Slowest percentile above which an alarm goes off, seconds.
        error_share: Share of answers with status 5xx above which an alarm goes off.
    """

    size: Size
    least: Annotated[int, Field(ge=1, le=500)]
    most: Annotated[int, Field(ge=1, le=500)]
    saturation: Annotated[float, Field(gt=0, le=1e6)]
    target_share: Share = 0.5
    cpu_target: Annotated[int, Field(ge=10, le=90)] = 50
    jumps: Annotated[list[Jump], Field(min_length=1, max_length=5)] = [
        Jump(above=1.5, add=100),
        Jump(above=3, add=300),
    ]
    jump_seconds: Annotated[int, Field(ge=10, le=900)] = 180
    grow_seconds: Annotated[int, Field(ge=10, le=600)] = 30
    shrink_seconds: Annotated[int, Field(ge=60, le=3_600)] = 600
    windows: list[Window] = []
    requests_per_address: Annotated[int, Field(ge=10, le=2_000_000_000)]
    p99_seconds: Annotated[float, Field(gt=0, le=60)] = 0.25
    error_share: Share = 0.01

    @property
    def requests_per_minute(self) -> int:
        """Requests a minute that one task is kept at."""
        return round(60 * self.saturation * self.target_share)

    @model_validator(mode="after")
    def _ascend(self) -> "ServingPart":
        if self.least > self.most:
            raise ValueError(f"least {self.least} lies above most {self.most}")
        above = [jump.above for jump in self.jumps]
        if above != sorted(set(above)):
            raise ValueError(
                f"jumps: expected ascending values of above, found {', '.join(f'{one:g}' for one in above)}"
            )
        return self


class TrackingPart(Part):
    """MLflow and the database.

    Attributes:
        size: Of MLflow's task.
        instance: Class of the RDS instance, without `db.`.
        storage: GiB of the database.
        multi_az: Whether a standby waits in another zone.
        backup_days: Days that automatic backups are kept.
    """

    size: Size
    instance: Annotated[str, Field(pattern=r"^[a-z]\w+\.\w+$")]
    storage: Annotated[int, Field(ge=20, le=65_536)] = 20
    multi_az: bool = False
    backup_days: Annotated[int, Field(ge=1, le=35)] = 7


class NightlyPart(Part):
    """When the night's job runs: a cron expression of EventBridge Scheduler, in the shop's time zone."""

    at: Cron
    time_zone: Annotated[str, Field(pattern=r"^\w+(/[\w+-]+)*$")]
    enabled: bool = True


class WatchPart(Part):
    """What is watched, and who is told.

    Attributes:
        log_days: Days that logs are kept.
        emails: Who is told of alarms, beside whatever subscribes to the topic.
        budget_usd: Dollars a month, of which 80 % spent, or all of it forecast, goes to `emails` and the topic.
        rule_share: Share of answers by rule above which an alarm goes off.
        confidence: Mean confidence below which an alarm goes off.
        state_age_days: Age of the model's states above which an alarm goes off.
        silent_hours: Hours without a decision after which an alarm goes off.
        night_hours: Hours without a figure of monitoring after which an alarm goes off; more than a day.
        guide: Where people who are alarmed find docs/operating.md; an alarm's description ends with it.
    """

    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731]
    emails: list[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]] = []
    budget_usd: Annotated[float, Field(gt=0, le=1e7)]
    rule_share: Share = 0.25
    confidence: Share = 0.3
    state_age_days: Annotated[int, Field(ge=1, le=366)] = 28
    silent_hours: Annotated[int, Field(ge=1, le=24)] = 2
    night_hours: Annotated[int, Field(ge=25, le=72)] = 27
    guide: Annotated[str, Field(pattern=r"^\S+$")] = "docs/operating.md"


class ImagesPart(Part):
    """Tag, or `sha256:…` digest, of each image in its repository."""

    serving: str
    mlflow: str
    jobs: str

    @field_validator("*")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if not value or ":" in value.removeprefix("sha256:"):
            raise ValueError(f"{value!r}: expected a tag, or a digest that begins with sha256:")
        return value


class Environment(Part):
    """One environment.

    Attributes:
        name: Its key in the file.
        region: AWS region.
        domain: Name that the certificate is for and that callers use.
        mlflow_domain: Name under which people open MLflow; the certificate must have it, too.
        kept: Whether data outlive the stacks: no deletion without a further step.
        qualifier: Part of the names of what `cdk bootstrap` makes for this environment alone: at most ten letters and
            digits, unlike any other bootstrap's in the account.
        network: The network.
        images: What is deployed.
        serving: The service.
        tracking: MLflow and its database.
        jobs: Size of each job's task.
        sales: What jobs get as --sales; `{data}` is the bucket for data.
        job_secrets: Environment variable of jobs → name of the secret in Secrets Manager that holds its value.
        nightly: The night's job.
        watch: Alarms and budget.
        settings: Configuration of the platform, as in `config/default.yaml`, laid over it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}$")]
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    domain: Domain
    mlflow_domain: Domain
    kept: bool
    qualifier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{2,9}$")]
    network: NetworkPart
    images: ImagesPart
    serving: ServingPart
    tracking: TrackingPart
    jobs: dict[str, Size]
    sales: Annotated[str, Field(min_length=1)]
    job_secrets: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = {}
    nightly: NightlyPart
    watch: WatchPart
    settings: dict[str, Any] = {}

    @field_validator("qualifier")
    @classmethod
    def _is_no_shared_one(cls, qualifier: str) -> str:
        if qualifier == SHARED_QUALIFIER:
            raise ValueError("is CDK's own, whose roles change every stack of the account that is deployed with it")
        return qualifier

    @field_validator("jobs")
    @classmethod
    def _are_the_jobs(cls, jobs: dict[str, Size]) -> dict[str, Size]:
        if jobs.keys() != JOBS.keys():
            raise ValueError(f"expected a size for each of {', '.join(JOBS)}; found {', '.join(jobs) or 'none'}")
        return jobs


def read_environments(path: Path = FILE) -> dict[str, Environment]:
    """Reads every environment of the file.

    Raises:
        DeploymentError: The file, or an environment in it, cannot be used; names every fault with its place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DeploymentError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not content:
        raise DeploymentError(f"{path}: expected a mapping of environments, found {type(content).__name__}")
    environments = {name: _environment(name, given, path=path) for name, given in content.items()}
    if len({one.qualifier for one in environments.values()}) < len(environments):
        found = ", ".join(f"{name}: {one.qualifier}" for name, one in environments.items())
        raise DeploymentError(f"{path}: expected a qualifier of its own for each environment; found {found}")
    return environments


def environment_named(name: str) -> Environment:
    """The environment of that name.

    Raises:
        DeploymentError: There is none, or the file cannot be used.
    """
    environments = read_environments()
    if name not in environments:
        raise DeploymentError(f"{name}: no such environment; there are {', '.join(environments)}")
    return environments[name]


def _environment(name: str, given: object, *, path: Path) -> Environment:
    if not isinstance(given, dict):
        raise DeploymentError(f"{path}: {name}: expected a mapping, found {type(given).__name__}")
    try:
        return Environment.model_validate({"name": name, **given})
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join([name, *map(str, fault['loc'])])}: {fault['msg']} (found {fault['input']!r})"
            for fault in error.errors()
        )
        raise DeploymentError(f"{path}: {error.error_count()} faults:\n{faults}") from error


def with_images(environment: Environment, words: str) -> Environment:
    """Returns the environment with other images, given as `serving=TAG jobs=sha256:…`.

    Raises:
        DeploymentError: A word names no image, or no tag or digest of one.
    """
    images = dict(environment.images)
    for word in words.split():
        name, equals, reference = word.partition("=")
        if not equals or name not in images:
            raise DeploymentError(f"IMAGES: expected serving=…, mlflow=… or jobs=…, found {word!r}")
        images[name] = reference
    try:
        given = ImagesPart.model_validate(images)
    except ValidationError as error:
        raise DeploymentError(f"IMAGES: {'; '.join(fault['msg'] for fault in error.errors())}") from error
    return environment.model_copy(update={"images": given})
