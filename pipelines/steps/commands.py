"""Run other jobs as subprocesses with child MLflow runs that end with the parent, and lock jobs."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pricing.errors import EXIT_INTERRUPTED, EXIT_NOT_PUBLISHED, EXIT_REFUSED, PricingError
from pricing.paths import given_database_url
from pricing.registry.database import session_lock
from pricing.runtime.alerts import UNTOLD
from pricing.runtime.locks import file_lock
from pricing.runtime.mlflow_runs import child_environment

COMMAND = (sys.executable, "-m", "pricing.runtime.command")
DECIDED = (0, EXIT_REFUSED, EXIT_NOT_PUBLISHED)  # exit codes of a job in which gates have decided
_GRACE_SECONDS = 20


class JobError(PricingError):
    """A child job ended with an error; it has `told` so itself (`pricing.runtime.alerts`) unless it was stopped."""

    def __init__(self, words: str, *, told: bool = False) -> None:
        super().__init__(words)
        self.told = told


def run_job(
    name: str,
    options: Sequence[str],
    *,
    run: Run,
    fine: Sequence[int] = (0,),
    keep: Sequence[int] = (),
) -> int:
    """Runs `pricing NAME OPTIONS` below an MLflow run, with inherited folder, stdout and stderr.

    It gets the file descriptors to `keep`, such as a lock's, and ends with this process. Returns its exit code, one of
    those that are `fine`.

    Raises:
        JobError: It ended with another exit code.
    """
    print(f"--- {name}", flush=True)
    safely = [sys.executable, "-P", *COMMAND[1:]]  # imports nothing from the folder that it runs in
    process = subprocess.Popen([*safely, name, *options], env=child_environment(run), pass_fds=keep)
    try:
        code = process.wait()
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if code not in fine:
        told = 0 < code < EXIT_INTERRUPTED and UNTOLD not in child_tags(run, name)
        raise JobError(f"{name} ended with exit code {code}; its message is above", told=told)
    return code


def child_tags(run: Run, job: str) -> dict[str, str]:
    """Returns the tags of the newest child run of a job, such as `version`; empty when there is none."""
    mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}' and tags.job = '{job}'"
    newest = ["attributes.start_time DESC"]
    found = MlflowClient().search_runs([run.info.experiment_id], filter_string=mine, order_by=newest, max_results=1)
    return dict(found[0].data.tags) if found else {}


@contextmanager
def only_one(job: str, *, home: Path, model: str | None = None) -> Iterator[tuple[int, ...]]:
    """Holds the lock of a job, and yields the file descriptors that hold it.

    It is HOME/locks/JOB, and for a job on a registered model, where PRICING_DATABASE_URL is PostgreSQL, a lock there
    too, so that the job runs on one machine only. The kernel and the server release them when the process ends, even by
    kill -9. A child that inherits the descriptors holds them too, so the lock is not free while an orphaned child runs.

    Raises:
        LockError: Another process holds it.
        RegistryError: The database does not answer.
    """
    url = given_database_url()
    shared = session_lock(url, f"{job} of {model}") if url and model else nullcontext(())
    with file_lock(home / "locks" / job, job=job) as descriptor, shared as held:
        yield (descriptor, *held)
