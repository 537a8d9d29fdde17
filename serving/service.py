"""The parts of one worker that its routes share: settings, served version, decision log, metrics."""

import datetime as dt
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pricing.decision_log.writer import LogWriter
from serving.champion import Champion
from serving.current_version import NO_VERSION, FollowerState, FollowerStatus
from serving.embedded import Embedded
from serving.log_upload import UploadStatus, read_upload_status
from serving.metrics import Exchange, Metrics
from serving.schemas import Follow
from serving.settings import Settings
from serving.state_files import ExperimentFile, SwitchFile

# States of the follower in which the newest champion may not be what is served.
FAILING: tuple[FollowerState, ...] = ("no_champion", "unreachable", "refused", "failed", "unknown_version")
PATIENCE_SECONDS = 0.1  # how long a request waits for another thread's tick


@dataclass(frozen=True, kw_only=True)
class Service:
    """Everything that the routes share.

    Attributes:
        settings: The service's settings.
        champion: What it serves.
        log: Writes its decisions.
        metrics: What it counts.
        exchange: Shares the counts between the workers.
        now: The clock: the present moment with a time zone.
        experiments: What is tried on which products.
        switches: Prices that a person has frozen or given.
        embedded: Writes metrics for CloudWatch, where configured.
    """

    settings: Settings
    champion: Champion
    log: LogWriter
    metrics: Metrics
    exchange: Exchange
    now: Callable[[], dt.datetime]
    experiments: ExperimentFile
    switches: SwitchFile
    embedded: Embedded
    _first_attempt: threading.Event = field(default_factory=threading.Event)
    _ticking: threading.Lock = field(default_factory=threading.Lock)

    def first_attempt_ended(self) -> bool:
        """Whether the first attempt to load a champion has ended in every worker of this run; stays true."""
        if self._first_attempt.is_set():
            return True
        if not self.champion.first_attempt_ended:
            return False
        self.tick(patience=PATIENCE_SECONDS)
        served = self._served_names()
        expected = self.settings.config.serving.workers if self.settings.follows else 1
        if len(served) >= expected and set(served) == {self.champion.served.name}:
            self._first_attempt.set()
        return self._first_attempt.is_set()

    def lacks_model(self) -> bool:
        """Whether a worker of this run answers by rule for want of a version, where one is needed."""
        if not self.settings.config.serving.needs_model:
            return False
        return self.champion.served.version is None or NO_VERSION in self._served_names()

    def _served_names(self) -> list[str]:
        """What each worker of this run serves."""
        return [labels[0] for name, labels, value in self.counts() if name == "pricing_workers" and value]

    def stopping(self) -> bool:
        """Whether the service is about to stop, and new work should go elsewhere."""
        return os.path.exists(self.settings.stopping_file)  # noqa: PTH110 - asked for each request, and half as long

    def follower_status(self, *, addresses: bool) -> Follow:
        """The follower's status, as responses show it; see `Follow.of`."""
        return Follow.of(self.champion.following, expected=self.settings.follows, addresses=addresses)

    def tick(self, *, patience: float = -1) -> None:
        """Runs the periodic work: checks for a new champion and for changed files, publishes metrics.

        One thread does it at a time: two that loaded versions would undo each other's choice.

        Args:
            patience: Seconds to wait for another thread that is doing it, whose work then counts for this call; without
                limit below 0. No request should wait for a version that is being loaded.
        """
        if not self._ticking.acquire(timeout=patience):
            return
        try:
            self._tick()
        finally:
            self._ticking.release()

    def _tick(self) -> None:
        self.champion.reload()
        self.experiments.reload()
        self.metrics.set("pricing_experiment_faults", to=float(self.experiments.faults))
        self.switches.reload()
        self.metrics.set("pricing_switch_faults", to=float(self.switches.faults))
        status = self.log.status()
        self.metrics.set("pricing_log_issued", to=status.issued)
        self.metrics.set("pricing_log_written", to=status.written)
        self.metrics.set("pricing_log_dropped", to=status.dropped)
        self.metrics.set("pricing_log_failing", to=float(status.failure is not None))
        self.metrics.clear("pricing_workers")
        self.metrics.set("pricing_workers", self.champion.served.name, to=1)
        self.metrics.clear("pricing_challenger_workers")
        if self.champion.challenger is not None:
            self.metrics.set("pricing_challenger_workers", self.champion.challenger.name, to=1)
        self.exchange.publish()
        served = self.champion.served
        gauges = {"LogFailing": float(status.failure is not None)}
        if self.settings.config.serving.embedded_metrics:
            gauges |= version_gauges(served.name, self.champion.following) | self._upload_gauges()
        if served.version is not None:
            gauges["StateAgeDays"] = float((self.now().date() - served.version.demand.state_date).days)
        self.embedded.write_if_due(self.counts, version=served.name, gauges=gauges)

    def upload_status(self) -> UploadStatus | None:
        """How far the decision log is uploaded; None where it is not, or nobody has begun to."""
        return None if self.settings.decisions_url is None else read_upload_status(self.settings.upload_file)

    def _upload_gauges(self) -> dict[str, float]:
        """What an alarm watches of the upload."""
        status = self.upload_status()
        if status is None:
            return {}
        return {
            "UploadLagSeconds": round(max(self.now().timestamp() - status.through, 0.0), 1),
            "UploadFailing": float(status.failure is not None),
            "UploadDropped": float(status.dropped),
        }

    def counts(self) -> list[tuple[str, tuple[str, ...], Any]]:
        """The metrics of all workers of this run."""
        return [*self.metrics.state(), *(self.exchange.others() if self.settings.follows else [])]


def version_gauges(served: str, following: FollowerStatus | None) -> dict[str, float]:
    """Returns what an alarm compares between machines: the version served, and how the follower fares.

    Args:
        served: Name of the version served; a number in the registry's versions, and left out where it is none.
        following: The follower's status; None where no follower runs.
    """
    gauges = {"ServedVersion": float(served)} if served.isdigit() else {}
    if following is not None:
        gauges["FollowerFailing"] = float(following.state in FAILING)
        gauges["RefusedVersions"] = float(len(following.refused))
    return gauges
