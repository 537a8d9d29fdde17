"""Dask for sales in partitions: a scheduler that jobs find by name, and as many workers as the environment wants."""

from collections.abc import Callable, Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from deploy.environment import DASK_PORT, Size
from deploy.foundation import Foundation
from deploy.tasks import Task, service_of

SCHEDULER = Size(cpu=1024, memory=4096)
WORKER = Size(cpu=1024, memory=8192)  # partitions are cut for 8 GB a worker
WORKER_PORT = DASK_PORT + 1
NANNY_PORT = DASK_PORT + 2  # of what restarts a worker


def add_workers(scope: Construct, *, base: Foundation, task: Callable[[str, Size, Sequence[str]], Task]) -> None:
    """Adds scheduler and workers; `task` makes a task of jobs from its family, size and command."""
    environment = base.environment_
    group = base.network.jobs
    group.connections.allow_internally(ec2.Port.tcp_range(DASK_PORT, NANNY_PORT), "Dask")
    work = (
        f"dask worker {environment.scheduler} --nthreads 1 --memory-limit 0 "
        f"--worker-port {WORKER_PORT} --nanny-port {NANNY_PORT} --local-directory /tmp --no-dashboard"
    ).split()
    commands = {
        "scheduler": (SCHEDULER, ["dask", "scheduler", "--port", str(DASK_PORT), "--no-dashboard"], 1),
        "worker": (WORKER, work, environment.jobs.workers),
    }
    for name, (size, command, count) in commands.items():
        service_of(
            scope,
            f"Dask{name.capitalize()}",
            task=task(name, size, command),
            base=base,
            desired_count=count,
            security_groups=[group],
            min_healthy_percent=0,
            max_healthy_percent=100,
            cloud_map_options=ecs.CloudMapOptions(name=name) if name == "scheduler" else None,
        )
