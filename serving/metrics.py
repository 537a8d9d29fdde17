"""What the service counts, and how the counts of its workers become one Prometheus page."""

import json
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pricing.decision.request import Decision
from pricing.fileio import replace_json
from pricing.paths import process_alive

Key = tuple[str, tuple[str, ...]]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS = {
    "pricing_requests": (
        "Requests answered; status 499: the caller went away before its body had come; route unread, status 429: more "
        "came than were answered within serving.queue_seconds.",
        ("route", "status"),
    ),
    "pricing_decisions": ("Prices given.", ("source", "strategy", "experiment")),
    "pricing_reasons": ("Reasons named in answers, binding guardrails among them.", ("reason",)),
    "pricing_bad_items": ("Items of a batch that could not be priced as they were sent.", ()),
    "pricing_challenger_failures": ("Requests that the challenger failed to price.", ()),
    "pricing_edge_fallbacks": ("Prices given by rule because the model's answer failed.", ()),
}
GAUGES = {
    "pricing_log_issued": ("Decisions handed to the decision log by living workers.", ()),
    "pricing_log_written": ("Decisions of living workers that are on the disk.", ()),
    "pricing_log_dropped": ("Decisions that the disk did not take in time.", ()),
    "pricing_log_failing": ("Workers whose decision log cannot be written now.", ()),
    "pricing_workers": ("Workers that serve a version.", ("version",)),
    "pricing_challenger_workers": ("Workers that try a challenger.", ("version",)),
    "pricing_switch_faults": ("Times that living workers found a list of switches they could not read.", ()),
    "pricing_experiment_faults": ("Times that living workers found a file of experiments they could not read.", ()),
}
HISTOGRAMS = {
    "pricing_request_seconds": (
        "Time from a request's arrival, its wait for a thread included, to its answer.",
        ("route",),
        (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    ),
    "pricing_confidence": (
        "Confidence of the prices given.",
        (),
        (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0),
    ),
}


class Metrics:
    """The counts of one worker. Every method is safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Key, float] = defaultdict(float)
        self._bins: dict[Key, list[float]] = {}

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._sums[name, labels] += by

    def decisions(self, decisions: Iterable[tuple[Decision, str]]) -> None:
        """Counts prices that were given, each with its experiment and arm."""
        edges = HISTOGRAMS["pricing_confidence"][2]
        with self._lock:
            bins = self._bins.setdefault(("pricing_confidence", ()), [0.0] * (len(edges) + 2))
            for decision, experiment in decisions:
                self._sums["pricing_decisions", (decision.source, decision.strategy, experiment)] += 1
                bins[bisect_left(edges, decision.confidence)] += 1
                bins[-1] += decision.confidence
                for reason in decision.reasons:
                    self._sums["pricing_reasons", (reason,)] += 1

    def set(self, name: str, *labels: str, to: float) -> None:
        """Sets a gauge; the page shows the sum over the workers."""
        with self._lock:
            self._sums[name, labels] = to

    def clear(self, name: str) -> None:
        """Takes a gauge's values away, whatever their labels."""
        with self._lock:
            for key in [key for key in self._sums if key[0] == name]:
                del self._sums[key]

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Adds a value to a histogram."""
        edges = HISTOGRAMS[name][2]
        with self._lock:
            bins = self._bins.get((name, labels))
            if bins is None:
                bins = self._bins[name, labels] = [0.0] * (len(edges) + 2)
            bins[bisect_left(edges, value)] += 1
            bins[-1] += value

    def state(self) -> list[tuple[str, tuple[str, ...], Any]]:
        """Everything counted so far: sums as numbers, histograms as bins with their total behind them."""
        with self._lock:
            sums = [(name, labels, value) for (name, labels), value in self._sums.items()]
            return sums + [(name, labels, list(bins)) for (name, labels), bins in self._bins.items()]


class Exchange:
    """Lets the workers of one run know each other's counts through small files, half a second old at most.

    The files lie in memory where the system has room for files there. A worker that dies leaves its file, so that
    counters never fall.
    """

    def __init__(self, metrics: Metrics, *, folder: Path, worker: str) -> None:
        self._metrics = metrics
        self._folder = folder
        self._own = folder / f"metrics-{worker}.json"
        self._published: object = None

    def publish(self) -> None:
        """Writes this worker's counts if they have changed; a disk that refuses is no reason to stop."""
        state = self._metrics.state()
        if state == self._published:
            return
        try:
            replace_json(self._own, state, durable=False)
        except OSError:
            return
        self._published = state

    def others(self) -> list[tuple[str, tuple[str, ...], Any]]:
        """The counts of the other workers, dead ones among them (their gauges left out)."""
        found: list[tuple[str, tuple[str, ...], Any]] = []
        for path in self._folder.glob("metrics-*.json"):
            if path != self._own:
                try:
                    rows = json.loads(path.read_bytes())
                except (OSError, ValueError):
                    continue
                alive = _lives(path)
                found += [(name, tuple(labels), value) for name, labels, value in rows if alive or name not in GAUGES]
        return found


def page(states: Iterable[tuple[str, tuple[str, ...], Any]], *, extra: Iterable[Metric] = ()) -> bytes:
    """The Prometheus page of the added-up states."""
    sums: dict[Key, float] = defaultdict(float)
    bins: dict[Key, list[float]] = {}
    for name, labels, value in states:
        if isinstance(value, list):
            before = bins.get((name, labels), [0.0] * len(value))
            bins[name, labels] = [a + b for a, b in zip(before, value, strict=True)]
        else:
            sums[name, labels] += value
    registry = CollectorRegistry()
    registry.register(_Fixed([*_simple_families(sums), *_histograms(bins), *extra]))
    return generate_latest(registry)


def gauge(name: str, help_text: str, value: float, **labels: str) -> Metric:
    """A gauge that is known only when the page is asked for."""
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _simple_families(sums: dict[Key, float]) -> Iterable[Metric]:
    for declared, kind in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
        for name, (help_text, label_names) in declared.items():
            family = kind(name, help_text, labels=label_names)
            found = {labels: value for (other, labels), value in sums.items() if other == name}
            if not label_names:
                found.setdefault((), 0.0)
            for labels, value in sorted(found.items()):
                family.add_metric(labels, value)
            yield family


def _histograms(bins: dict[Key, list[float]]) -> Iterable[Metric]:
    for name, (help_text, label_names, edges) in HISTOGRAMS.items():
        family = HistogramMetricFamily(name, help_text, labels=label_names)
        for (other, labels), values in sorted(bins.items()):
            if other == name:
                running, buckets = 0.0, []
                for edge, count in zip([*map(str, edges), "+Inf"], values[:-1], strict=True):
                    running += count
                    buckets.append((edge, running))
                family.add_metric(labels, buckets, sum_value=values[-1])
        yield family


def _lives(path: Path) -> bool:
    """Whether the process that its worker's name carries is there; the name is start-PID-random."""
    return process_alive(int(path.stem.split("-")[-2]))
