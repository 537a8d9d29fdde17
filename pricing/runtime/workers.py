"""Map work over partitions: one after another, or on Dask; the results are the same bits either way.

Work gets its own results out, into a store, before it returns: what a killed worker has not finished another one does.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from typing import TYPE_CHECKING, Any

import click
from threadpoolctl import threadpool_limits

from pricing.config_models import ScaleConfig
from pricing.errors import ConfigError, PricingError

if TYPE_CHECKING:
    from distributed import Client


def map_partitions(
    work: Callable[[Any, int], object], shared: object, numbers: Sequence[int], *, scale: ScaleConfig
) -> list[float]:
    """Does `work(shared, number)` for every number; returns the seconds that each took, in their order.

    Raises:
        ConfigError: The scheduler cannot be reached, or Dask is not installed.
        PricingError: The work on a partition, which is named, failed. What others did stays done.
    """
    with _asked(work, shared, numbers, scale) as done, click.progressbar(done, length=len(numbers)) as bar:
        seconds = dict(bar)
    return [seconds[number] for number in numbers]


@contextmanager
def _asked(
    work: Callable[[Any, int], object], shared: object, numbers: Sequence[int], scale: ScaleConfig
) -> Iterator[Iterable[tuple[int, float]]]:
    """Yields (number, seconds) as they are done."""
    if scale.scheduler == "none":
        yield (_timed(work, shared, number) for number in numbers)
        return
    with _client(scale) as client:
        from distributed import KilledWorker, as_completed  # noqa: PLC0415 - see `_client`
        from distributed.client import FutureCancelledError  # noqa: PLC0415

        given = client.submit(copy, shared, pure=False)  # unlike data that are scattered, it outlives its worker
        asked = [client.submit(_timed, work, given, each, pure=False) for each in numbers]
        try:
            yield (future.result() for future in as_completed(asked))
        except (FutureCancelledError, KilledWorker) as error:
            raise PricingError(f"workers died ({error}): give each more memory, or fewer series to hold") from error


@contextmanager
def _client(scale: ScaleConfig) -> Iterator["Client"]:
    """Yields a client of the configured scheduler, or of processes on this machine, and prints its address.

    Raises:
        ConfigError: It cannot be reached, or Dask is not installed.
    """
    with ExitStack() as held:
        try:
            from distributed import Client, LocalCluster  # noqa: PLC0415 - an extra

            where: object = scale.scheduler
            if where == "local":
                where = LocalCluster(n_workers=scale.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0")
                held.callback(_close, where)
            client = held.enter_context(Client(where, timeout="30s"))
        except ModuleNotFoundError as error:
            raise ConfigError("scale.scheduler: Dask is not installed: install the extra scale") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"scale.scheduler: {scale.scheduler} cannot be reached ({error})") from error
        click.echo(f"Dask: {client.scheduler.address}")
        yield client


def _close(cluster: Any) -> None:
    with suppress(TimeoutError):  # of waiting for its processes, where the machine is busy: they are killed by then
        cluster.close()


def _timed(work: Callable[[Any, int], object], shared: object, number: int) -> tuple[int, float]:
    """Works with one thread: how many a sum is split over changes its last bits."""
    started = time.monotonic()
    try:
        with threadpool_limits(1):
            work(shared, number)
    except PricingError as error:  # of a class that can be sent
        raise PricingError(f"part {number}: {error}") from None
    return number, time.monotonic() - started
