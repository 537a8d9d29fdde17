"""Map work over partitions: one after another, or on Dask; the results are the same bits either way.

Work gets its own results out, into a store, before it returns: what a killed worker has not finished another one does.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click
from threadpoolctl import threadpool_limits

from pricing.config_models import ScaleConfig
from pricing.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

Result = TypeVar("Result")
_RETRIES = 3  # of a partition whose worker was lost


def map_partitions(
    work: Callable[[Any, int], Result], shared: object, numbers: Sequence[int], *, scale: ScaleConfig
) -> list[tuple[Result, float]]:
    """Returns the result of `work(shared, number)` of every number, in their order, with the seconds that each took.

    Raises:
        ConfigError: The scheduler cannot be reached, or Dask is not installed.
    """
    with _asked(work, shared, numbers, scale) as done, click.progressbar(done, length=len(numbers)) as bar:
        found = dict(bar)
    return [found[number] for number in numbers]


@contextmanager
def _asked(
    work: Callable[[Any, int], Result], shared: object, numbers: Sequence[int], scale: ScaleConfig
) -> Iterator[Iterable[tuple[int, tuple[Result, float]]]]:
    """Yields (number, result and seconds) as they come."""
    if scale.scheduler == "none":
        yield (_timed(work, shared, number) for number in numbers)
        return
    with client_of(scale) as client:
        from distributed import as_completed  # noqa: PLC0415 - see `client_of`

        given = client.scatter(shared, broadcast=True, hash=False)
        asked = [client.submit(_timed, work, given, each, pure=False, retries=_RETRIES) for each in numbers]
        yield (future.result() for future in as_completed(asked))


@contextmanager
def client_of(scale: ScaleConfig) -> Iterator["Client"]:
    """Yields a client of the configured scheduler, or of processes on this machine, and says where Dask shows them.

    Raises:
        ConfigError: It cannot be reached, or Dask is not installed.
    """
    try:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigError("scale.scheduler: Dask is not installed: install pricing[scale]") from error
    try:
        here = scale.scheduler == "local"
        own = LocalCluster(n_workers=scale.workers, threads_per_worker=1, dashboard_address=":0") if here else None
        with own or nullcontext(scale.scheduler) as where, Client(where, timeout="30s") as client:
            click.echo(f"Dask: {client.dashboard_link}")
            yield client
    except (OSError, ValueError) as error:
        raise ConfigError(f"scale.scheduler: {scale.scheduler} cannot be reached ({error})") from error


def _timed(work: Callable[[Any, int], Result], shared: object, number: int) -> tuple[int, tuple[Result, float]]:
    """Works with one thread: how many a sum is split over changes its last bits."""
    started = time.monotonic()
    with threadpool_limits(1):
        return number, (work(shared, number), time.monotonic() - started)
