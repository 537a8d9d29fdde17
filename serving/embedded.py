"""The service's metrics for CloudWatch: lines of its embedded metric format on standard output, if asked for.

One worker of a run speaks for all: the first that takes the lock in the run's folder. Counters are told as what was
added since the line before, by whichever worker; latency and confidence as histograms of what was added, so that
CloudWatch takes means and percentiles over the requests of all tasks, not over the tasks.
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

# The histograms that are told: name → (the metric whose bins they are, the factor of its values).
DISTRIBUTIONS: dict[str, tuple[str, float]] = {
    "LatencyMs": ("pricing_request_seconds", 1000.0),
    "Confidence": ("pricing_confidence", 1.0),
}
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
        task: str = "",
        out: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Initialises it.

        Args:
            folder: The run's own, shared by its workers.
            namespace: Of the metrics in CloudWatch; empty for no lines at all.
            every: Seconds between two lines.
            task: Name of this task, by which its lines are found.
            out: Where lines go; standard output by default.
            clock: Seconds since 1970.
        """
        self._path, self._namespace, self._every = folder / "embedded.lock", namespace, every
        self._task, self._out, self._clock = task, out, clock
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
        values: dict[str, float | dict[str, Any]] = {**self._added(state), **gauges}
        units = dict.fromkeys(REPORTED, "Count") | {"LatencyMs": "Milliseconds"}
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
            "Task": self._task,
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

    def _added(self, state: list[tuple[str, tuple[str, ...], Any]]) -> dict[str, float | dict[str, Any]]:
        """What was added to each count and each histogram since the line before; no histogram where nothing was."""
        found = {
            name: sum(value for other, labels, value in state if other == metric and counts(labels))
            for name, (metric, counts) in REPORTED.items()
        }
        found["DecisionsByRule"] -= found["DecisionsFrozen"]  # a person's word is no failure of the model
        for name, (metric, _) in DISTRIBUTIONS.items():
            parts = [value for other, _, value in state if other == metric]
            for place in range(len(HISTOGRAMS[metric][2]) + 2):
                found[f"{name} {place}"] = sum(part[place] for part in parts)
        added = {name: max(value - self._before.get(name, 0.0), 0.0) for name, value in found.items()}
        self._before = found
        self._store_reported(found)
        values: dict[str, float | dict[str, Any]] = {name: added[name] for name in REPORTED}
        for name, (metric, scale) in DISTRIBUTIONS.items():
            edges = HISTOGRAMS[metric][2]
            *counts, total = (added[f"{name} {place}"] for place in range(len(edges) + 2))
            if sum(counts) > 0:
                values[name] = distribution(edges, counts, total=total, scale=scale)
        return values


def distribution(edges: Sequence[float], counts: Sequence[float], *, total: float, scale: float) -> dict[str, Any]:
    """A histogram as CloudWatch reads it, in the form in which OpenTelemetry's exporter writes one.

    Each bin is told by its middle, the last one by its lower edge: a percentile is exact to half of its bin.

    Args:
        edges: Upper edges of the bins, ascending; the first begins at 0.
        counts: Values in each bin and beyond the last edge; at least one.
        total: Their sum.
        scale: Factor of all values.
    """
    middles = [(low + high) / 2 for low, high in zip((0.0, *edges), edges, strict=False)] + [edges[-1]]
    filled = [(round(scale * middle, 4), count) for middle, count in zip(middles, counts, strict=True) if count > 0]
    values = [value for value, _ in filled]
    return {
        "Values": values,
        "Counts": [count for _, count in filled],
        "Min": values[0],
        "Max": values[-1],
        "Count": sum(counts),
        "Sum": round(scale * total, 4),
    }


def _reported_before(descriptor: int) -> dict[str, float]:
    """What the worker that spoke before had told of each count; nothing where none did."""
    try:
        told = json.loads(os.pread(descriptor, 1 << 16, 0))
        return {str(name): float(value) for name, value in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
