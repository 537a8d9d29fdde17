"""Starts another job by command, as a child run of this one's, and takes it along when this one is stopped."""

import contextlib
import datetime as dt
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pricing.errors import LockError, PricingError
from pricing.paths import ROOT
from pricing.runtime.mlflow_runs import child_environment

_GRACE_SECONDS = 20


class JobError(PricingError):
    """A job that another one started ended with an error."""


def start_job(
    module: str,
    options: Sequence[str],
    *,
    run: Run,
    extra: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Starts `python -m MODULE OPTIONS` at the root; its output goes where ours goes.

    Args:
        module: Such as "pipelines.train".
        options: Its command line.
        run: The run of which its own becomes a child.
        extra: Environment variables for it alone, such as an address with a password.
        keep: File descriptors that it inherits, such as a lock's.
    """
    command = [sys.executable, "-m", module, *options]
    return subprocess.Popen(command, cwd=ROOT, env={**child_environment(run), **(extra or {})}, pass_fds=keep)


def run_job(
    module: str,
    options: Sequence[str],
    *,
    run: Run,
    fine: Sequence[int] = (0,),
    keep: Sequence[int] = (),
) -> int:
    """Runs a job to its end and returns its exit code.

    Args:
        module: Such as "pipelines.train".
        options: Its command line.
        run: The run of which its own becomes a child.
        fine: Exit codes that are no error.
        keep: File descriptors that it inherits.

    Raises:
        JobError: It ended with another exit code.
    """
    print(f"--- {module.rpartition('.')[2]}", flush=True)
    process = start_job(module, options, run=run, keep=keep)
    try:
        code = process.wait()
    finally:
        stop([process])
    if code not in fine:
        raise JobError(f"{module} ended with exit code {code}; its message is above")
    return code


def child_tags(run: Run, job: str) -> dict[str, str]:
    """The tags of the newest child run of a job that this run started; empty when it started none.

    So a job learns what another one made: the tag `version`, `reason`, ….
    """
    mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}' and tags.job = '{job}'"
    newest = ["attributes.start_time DESC"]
    found = MlflowClient().search_runs([run.info.experiment_id], filter_string=mine, order_by=newest, max_results=1)
    return dict(found[0].data.tags) if found else {}


def stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Asks jobs that still run to end, waits for them, and kills the one that does not listen."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def only_one(job: str, *, home: Path) -> Iterator[int]:
    """Holds the lock HOME/locks/JOB meanwhile and yields its file descriptor.

    The kernel releases it when the process ends, even by kill -9; a job started with the descriptor holds it too, so
    that what an earlier holder left running is waited for.

    Raises:
        LockError: Another process holds it; names its process and since when.
    """
    path = home / "locks" / job
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise LockError(
                f"{job} is running already: {holder}, or a job that it started, holds {path}; wait for it to end"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} since {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC\n")
        file.flush()
        try:
            yield file.fileno()
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)
