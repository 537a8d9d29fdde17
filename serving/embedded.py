"""The service's metrics for CloudWatch: lines of its embedded metric format on standard output, if asked for.

One worker of a run speaks for all: the first that takes the lock in the run's folder. Counters are told as what was
added since the line before, by whichever worker.
"""

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from pricing.decision.reasons import BINDS
from serving.metrics import HISTOGRAMS

State = Iterable[tuple[str, tuple[str, ...], Any]]

LATENCY_EDGES: tuple[float, ...] = HISTOGRAMS["pricing_request_seconds"][2]  # seconds
# The counts that are told: name → (the metric it is summed from, which labels count).
REPORTED: dict[str, tuple[str, Callable[[tuple[str, ...]], bool]]] = {
    "Requests": ("pricing_requests", lambda labels: True),
    "ServerErrors": ("pricing_requests", lambda labels: labels[1].startswith("5")),
    "Refused": ("pricing_requests", lambda labels: labels[1].startswith("4")),
    "Decisions": ("pricing_decisions", lambda labels: True),
    "DecisionsByRule": ("pricing_decisions", lambda labels: labels[0] == "rule"),
    "DecisionsByCategory": ("pricing_decisions", lambda labels: labels[0] == "category"),
    "DecisionsFrozen": ("pricing_reasons", lambda labels: labels[0] == "frozen"),
    "DecisionsOverridden": ("pricing_decisions", lambda labels: labels[0] == "override"),
    "LowConfidence": ("pricing_reasons", lambda labels: labels[0] == "low_confidence"),
    "Clamped": ("pricing_reasons", lambda labels: labels[0] in BINDS.values()),
    "EdgeFallbacks": ("pricing_edge_fallbacks", lambda labels: True),
    "ChallengerFailures": ("pricing_challenger_failures", lambda labels: True),
    "DecisionsDropped": ("pricing_log_dropped", lambda labels: True),
}


class Embedded:
    """Writes a line every so often."""

    def __init__(
        self,
        folder: Path,
        *,
        namespace: str,
        every: float,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Initialises it.

        Args:
            folder: The run's own, shared by its workers.
            namespace: Of the metrics in CloudWatch; empty for no lines at all.
            every: Seconds between two lines.
            out: Where lines go; standard output by default.
            clock: Seconds since 1970.
        """
        self._path, self._namespace, self._every = folder / "embedded.lock", namespace, every
        self._out, self._clock = out, clock
        self._turn = threading.Lock()  # the watch and whoever asks for the metrics page
        self._lock: int | None = None
        self._next = clock() + every
        self._before: dict[str, float] = {}

    def write_if_due(self, state: Callable[[], State], *, version: str, gauges: dict[str, float]) -> None:
        """Writes a line when one is due and this worker is the one that speaks.

        Args:
            state: The counts of all workers; asked only then.
            version: What is served.
            gauges: Further values as they stand.
        """
        if not self._namespace:
            return
        with self._turn:
            now = self._clock()
            if now >= self._next and self._is_reporter():
                self._next = now + self._every
                self._write(now, list(state()), version=version, gauges=gauges)

    def _write(
        self, now: float, state: list[tuple[str, tuple[str, ...], Any]], *, version: str, gauges: dict[str, float]
    ) -> None:
        values = {**self._added(state), **gauges}
        units = dict.fromkeys(REPORTED, "Count") | dict.fromkeys(("LatencyMs", "LatencyP99Ms"), "Milliseconds")
        line = {
            "_aws": {
                "Timestamp": int(now * 1000),
                "CloudWatchMetrics": [
                    {
                        "Namespace": self._namespace,
                        "Dimensions": [["Service"]],
                        "Metrics": [{"Name": name, "Unit": units.get(name, "None")} for name in values],
                    }
                ],
            },
            "Service": "serving",
            "ModelVersion": version,
            **values,
        }
        print(json.dumps(line), file=self._out or sys.stdout, flush=True)

    def _is_reporter(self) -> bool:
        if self._lock is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError:
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            self._lock = descriptor
            self._before = _reported_before(descriptor)
        return True

    def _store_reported(self, told: dict[str, float]) -> None:
        """Keeps what was told, for the worker that speaks after this one."""
        if self._lock is not None:
            text = json.dumps(told).encode()
            with suppress(OSError):
                os.pwrite(self._lock, text, 0)
                os.ftruncate(self._lock, len(text))

    def _added(self, state: list[tuple[str, tuple[str, ...], Any]]) -> dict[str, float]:
        """What was added to each count since the line before, mean confidence, mean and p99 of latency."""
        found = {
            name: sum(value for other, labels, value in state if other == metric and counts(labels))
            for name, (metric, counts) in REPORTED.items()
        }
        found["DecisionsByRule"] -= found["DecisionsFrozen"]  # a person's word is no failure of the model
        for name, metric in (("LatencyMs", "pricing_request_seconds"), ("Confidence", "pricing_confidence")):
            bins = [value for other, _, value in state if other == metric]
            found[f"{name} sum"] = sum(part[-1] for part in bins)
            found[f"{name} count"] = sum(sum(part[:-1]) for part in bins)
        found |= _latency_bins(state)
        added = {name: max(value - self._before.get(name, 0.0), 0.0) for name, value in found.items()}
        self._before = found
        self._store_reported(found)
        counts = [added.pop(f"latency bin {place}") for place in range(len(LATENCY_EDGES) + 1)]
        if sum(counts) > 0:
            added["LatencyP99Ms"] = round(1000 * quantile(counts, 0.99), 4)
        for name, scale in (("LatencyMs", 1000.0), ("Confidence", 1.0)):
            total, count = added.pop(f"{name} sum"), added.pop(f"{name} count")
            if count > 0:
                added[name] = round(scale * total / count, 4)
        return added


def _latency_bins(state: State) -> dict[str, float]:
    """The requests in each bin of the latency's histogram, of all routes together."""
    bins = [value for metric, _, value in state if metric == "pricing_request_seconds"]
    return {f"latency bin {place}": sum(part[place] for part in bins) for place in range(len(LATENCY_EDGES) + 1)}


def quantile(counts: Sequence[float], share: float) -> float:
    """Returns a quantile of the latency, in seconds, interpolated in its bin as Prometheus' histogram_quantile does.

    Args:
        counts: Requests in each bin, the last one beyond all edges; at least one. A quantile there is the last edge.
        share: Such as 0.99.
    """
    rank, below = share * sum(counts), 0.0
    for low, high, count in zip((0.0, *LATENCY_EDGES), LATENCY_EDGES, counts, strict=False):
        if count > 0 and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return LATENCY_EDGES[-1]


def _reported_before(descriptor: int) -> dict[str, float]:
    """What the worker that spoke before had told of each count; nothing where none did."""
    try:
        told = json.loads(os.pread(descriptor, 1 << 16, 0))
        return {str(name): float(value) for name, value in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
