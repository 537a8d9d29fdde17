"""The counts of the service, by prometheus_client, as one registry of each application."""

import datetime as dt
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pricing.decision.request import DetailedDecision
from pricing.decision_log.write import LogWriter
from serving.follower import Follower

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_CHANCES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0)


class Metrics:
    """The counts of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("pricing_requests", "Requests answered.", "route", "status")
        # Looked up for every price.
        given = self._counter("pricing_decisions", "Prices given.", "source", "strategy", "experiment")
        self._given = lru_cache(maxsize=1000)(given.labels)
        self._reasons = lru_cache(maxsize=1000)(self._counter("pricing_reasons", "Reasons named.", "reason").labels)
        limits = self._counter("pricing_guardrails", "Guardrails that bind, or gave way.", "guardrail", "what")
        self._guardrails = lru_cache(maxsize=1000)(limits.labels)
        self.bad_items = self._counter("pricing_bad_items", "Items of a batch that could not be priced as sent.")
        self.arm_failures = self._counter("pricing_challenger_failures", "Requests that an arm's version failed on.")
        self.edge_fallbacks = self._counter("pricing_edge_fallbacks", "Prices by rule since the model's answer failed.")
        self.seconds = self._histogram("pricing_request_seconds", "From turn to answer.", _SECONDS, "route")
        self.confidence = self._histogram("pricing_confidence", "Confidence of the prices given.", _CHANCES)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, edges: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=edges, registry=self.registry)

    def decided(self, detailed: Sequence[DetailedDecision]) -> None:
        """Counts prices that were given."""
        for answer in detailed:
            decision = answer.decision
            experiment = answer.experiment
            # A price that a person froze is no answer by rule, which counts what the model could not answer.
            source = "frozen" if "frozen" in decision.reasons else decision.source
            self._given(source, decision.strategy, experiment.label if experiment else "").inc()
            self.confidence.observe(decision.confidence)
            for reason in decision.reasons:
                self._reasons(reason).inc()
            for what in ("binds", "gave_way"):
                for name in getattr(decision, what):
                    self._guardrails(name, what).inc()

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


class State(Collector):
    """Gauges that are known when the page is asked for."""

    def __init__(self, follower: Follower, log: LogWriter, *, now: Callable[[], dt.datetime]) -> None:
        self._follower = follower
        self._log = log
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Names nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Gives what is served, how following and the decision log fare, and the switches in force."""
        now = self._now()
        current = self._follower.current
        following = self._follower.following
        yield _gauge("pricing_workers", "1 for the version that is served.", 1, version=current.champion.name)
        if current.challenger is not None:
            name = current.challenger.name
            yield _gauge("pricing_challenger_workers", "1 for a version beside the champion.", 1, version=name)
        yield _gauge("pricing_follower", "1 for the state of the last look.", 1, state=following.state)
        yield _gauge("pricing_refused_versions", "Published versions that are refused.", len(following.refused))
        failures = CounterMetricFamily("pricing_follower_failures", "Looks that ended in an unforeseen error.")
        failures.add_metric([], self._follower.failures)
        yield failures
        silence = now.timestamp() - following.answered_at
        yield _gauge("pricing_published_silence_seconds", "Time since all that is published was followed.", silence)
        if current.champion.version is not None:
            age = (now.date() - current.champion.version.demand.state_date).days
            yield _gauge("pricing_state_age_days", "Days since the last day the model has read.", age)

        control = current.control
        running = sum(experiment.runs_on(now.date()) for experiment in control.experiments.every)
        yield _gauge("pricing_experiments", "Experiments under way.", running)
        switches = GaugeMetricFamily("pricing_switches", "Switches in force.", labels=["action"])
        count = Count(switch.action for switch in control.switches.at(now))
        for action in ("freeze", "override"):
            switches.add_metric([action], count[action])
        yield switches
        yield _gauge("pricing_control_unread", "Switches and experiments not understood.", len(control.unread))

        log = self._log.status()
        for name in ("issued", "written", "dropped", "waiting"):
            yield _gauge(f"pricing_log_{name}", f"Decisions (waiting: segments) {name}.", getattr(log, name))
        yield _gauge("pricing_log_failing", "1 while the decision log cannot be written.", log.failure is not None)


def _gauge(name: str, help_text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), float(value))
    return family
