"""Embedded metrics: one worker's lines, valid, off unless asked for."""

import io
import json
import math
import os
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.current_version import FollowerState, FollowerStatus
from serving.embedded import LATENCY_EDGES, Embedded, quantile
from serving.metrics import Metrics
from serving.service import version_gauges
from tests.kit.serving import open_app
from tests.kit.versions import shared_version


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def made(folder: Path, clock: Clock, *, namespace: str = "Pricing") -> tuple[Embedded, io.StringIO]:
    out = io.StringIO()
    return Embedded(folder, namespace=namespace, every=60, out=out, clock=clock), out


def write_if_due(embedded: Embedded, metrics: Metrics) -> None:
    embedded.write_if_due(metrics.state, version="7", gauges={"LogFailing": 0.0})


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_says_what_was_added_since_the_one_before(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    embedded, out = made(tmp_path, clock)
    for count in (3, 5):
        for _ in range(count):
            metrics.count("pricing_requests", "get_price", "200")
            metrics.observe("pricing_request_seconds", 0.002, "get_price")
        metrics.count("pricing_requests", "get_price", "500")
        metrics.count("pricing_reasons", "at_cost")
        clock.now += 61
        write_if_due(embedded, metrics)
        write_if_due(embedded, metrics)  # none is due

    first, second = lines(out)
    assert [(line["Requests"], line["ServerErrors"], line["Clamped"]) for line in (first, second)] == [
        (4.0, 1.0, 1.0),
        (6.0, 1.0, 1.0),
    ]
    assert first["LatencyMs"] == 2.0
    assert (first["Service"], first["ModelVersion"]) == ("serving", "7")


def test_a_frozen_price_counts_as_a_person_s_and_not_as_answered_by_rule(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    embedded, out = made(tmp_path, clock)
    for source, reason, count in (("rule", "frozen", 5), ("rule", "no_model", 2), ("override", "overridden", 1)):
        metrics.count("pricing_decisions", source, "margin", "", by=count)
        metrics.count("pricing_reasons", reason, by=count)
    clock.now += 61

    write_if_due(embedded, metrics)

    (line,) = lines(out)
    assert (line["DecisionsByRule"], line["DecisionsFrozen"], line["DecisionsOverridden"]) == (2.0, 5.0, 1.0)


def test_a_line_keeps_to_the_embedded_metric_format(tmp_path: Path) -> None:
    clock = Clock()
    embedded, out = made(tmp_path, clock)
    clock.now += 61

    write_if_due(embedded, Metrics())

    (line,) = lines(out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == int(clock.now * 1000)
    assert directive["Namespace"] == "Pricing"
    assert all(dimension in line for dimension in directive["Dimensions"][0])
    assert len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert isinstance(line[metric["Name"]], float)
        assert metric["Unit"] in {"Count", "Milliseconds", "None"}


def test_one_worker_of_a_run_speaks_for_all(tmp_path: Path) -> None:
    clock = Clock()
    (one, first), (other, second) = made(tmp_path, clock), made(tmp_path, clock)
    clock.now += 61

    write_if_due(one, Metrics())
    write_if_due(other, Metrics())

    assert (len(lines(first)), len(lines(second))) == (1, 0)


def test_a_worker_that_speaks_after_another_tells_nothing_twice(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    (one, _), (other, out) = made(tmp_path, clock), made(tmp_path, clock)
    metrics.count("pricing_requests", "get_price", "200", by=10)
    metrics.count("pricing_requests", "get_price", "500", by=3)
    clock.now += 61
    write_if_due(one, metrics)

    assert one._lock is not None
    os.close(one._lock)  # as its death would
    fewer = Metrics()  # the last it counted itself was never told to the others
    fewer.count("pricing_requests", "get_price", "200", by=14)
    clock.now += 61
    write_if_due(other, fewer)

    (line,) = lines(out)
    assert (line["Requests"], line["ServerErrors"]) == (1.0, 0.0)


def test_without_a_namespace_there_is_no_line(tmp_path: Path) -> None:
    clock = Clock()
    embedded, out = made(tmp_path, clock, namespace="")
    clock.now += 61

    write_if_due(embedded, Metrics())

    assert out.getvalue() == ""


def test_a_folder_that_cannot_be_written_stops_no_worker(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "file").write_text("")
    embedded, out = made(tmp_path / "file" / "below", clock)
    clock.now += 61

    write_if_due(embedded, Metrics())

    assert out.getvalue() == ""


def test_the_service_writes_lines_where_the_configuration_asks(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "on.yaml"
    path.write_text("serving: {embedded_metrics: Shop, embedded_seconds: 3600}")
    with open_app(tmp_path, version=shared_version(), environment={"PRICING_CONFIG": str(path)}) as shop:
        shop.price()
        shop.service.embedded._next = 0.0
        shop.service.tick()
        written = capsys.readouterr().out

    line = json.loads(written.splitlines()[0])
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Shop"
    assert (line["Decisions"], line["ModelVersion"]) == (1.0, "7")
    assert line["StateAgeDays"] == 4.0
    assert line["ServedVersion"] == 7.0


@pytest.mark.parametrize(
    ("state", "failing"),
    [("starting", 0), ("following", 0), ("no_champion", 1), ("unreachable", 1), ("refused", 1), ("failed", 1)],
)
def test_a_follower_that_may_miss_the_newest_champion_is_told(state: FollowerState, failing: float) -> None:
    told = version_gauges("12", FollowerStatus("run", state=state, refused={"13": "damaged"}))

    assert told == {"ServedVersion": 12.0, "FollowerFailing": failing, "RefusedVersions": 1.0}


def test_the_slowest_percent_since_the_line_before_is_told(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    embedded, out = made(tmp_path, clock)
    for _ in range(1000):
        metrics.observe("pricing_request_seconds", 2.0, "get_price")  # a slow hour, told before
    clock.now += 61
    write_if_due(embedded, metrics)
    for seconds, times in ((0.004, 980), (0.2, 20)):
        for _ in range(times):
            metrics.observe("pricing_request_seconds", seconds, "get_price")
    clock.now += 61
    write_if_due(embedded, metrics)

    slow, fast = lines(out)

    assert slow["LatencyP99Ms"] > 1000
    assert 100 < fast["LatencyP99Ms"] <= 250  # the bin of 0.2 s
    assert {"Name": "LatencyP99Ms", "Unit": "Milliseconds"} in fast["_aws"]["CloudWatchMetrics"][0]["Metrics"]


@given(st.lists(st.floats(0, 2.5), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bin_of_the_value_that_has_its_rank(seconds: list[float], share: float) -> None:
    counts = [0.0] * (len(LATENCY_EDGES) + 1)
    for value in seconds:
        counts[bisect_left(LATENCY_EDGES, value)] += 1

    found = quantile(counts, share)

    exact = sorted(seconds)[max(math.ceil(share * len(seconds) - 1e-9) - 1, 0)]
    assert found <= LATENCY_EDGES[bisect_left(LATENCY_EDGES, exact)] + 1e-9
    assert found >= (0.0, *LATENCY_EDGES)[bisect_left(LATENCY_EDGES, exact)] - 1e-9


def test_a_version_without_a_number_is_told_as_none() -> None:
    assert version_gauges("none", None) == {}
