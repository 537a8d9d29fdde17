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
from serving.embedded import Embedded, distribution
from serving.metrics import HISTOGRAMS, Metrics
from serving.service import version_gauges
from tests.kit.serving import open_app
from tests.kit.versions import shared_version


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def made(folder: Path, clock: Clock, *, namespace: str = "Pricing") -> tuple[Embedded, io.StringIO]:
    out = io.StringIO()
    return Embedded(folder, namespace=namespace, every=60, task="serving-1", out=out, clock=clock), out


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
    assert (first["LatencyMs"]["Count"], first["LatencyMs"]["Sum"]) == (3.0, 6.0)
    assert (second["LatencyMs"]["Count"], second["LatencyMs"]["Sum"]) == (5.0, 10.0)
    assert (first["Service"], first["Task"], first["ModelVersion"]) == ("serving", "serving-1", "7")


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
    [
        ("starting", 0),
        ("following", 0),
        ("no_champion", 1),
        ("unreachable", 1),
        ("refused", 1),
        ("failed", 1),
        ("unknown_version", 1),
    ],
)
def test_a_follower_that_may_miss_the_newest_champion_is_told(state: FollowerState, failing: float) -> None:
    told = version_gauges("12", FollowerStatus("run", state=state, refused={"13": "damaged"}))

    assert told == {"ServedVersion": 12.0, "FollowerFailing": failing, "RefusedVersions": 1.0}


def test_latencies_since_the_line_before_are_told_as_a_histogram(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    embedded, out = made(tmp_path, clock)
    for _ in range(1000):
        metrics.observe("pricing_request_seconds", 2.0, "get_price")  # a slow hour, told before
    clock.now += 61
    write_if_due(embedded, metrics)
    for seconds, times, route in ((0.004, 980, "get_price"), (0.2, 15, "get_price"), (0.2, 5, "explain")):
        for _ in range(times):
            metrics.observe("pricing_request_seconds", seconds, route)
    clock.now += 61
    write_if_due(embedded, metrics)

    _, line = lines(out)

    told = line["LatencyMs"]
    assert dict(zip(told["Values"], told["Counts"], strict=True)) == {3.75: 980.0, 175.0: 20.0}
    assert (told["Min"], told["Max"], told["Count"]) == (3.75, 175.0, 1000.0)
    assert told["Sum"] == pytest.approx(1000 * (980 * 0.004 + 20 * 0.2))
    assert {"Name": "LatencyMs", "Unit": "Milliseconds"} in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]


def test_confidence_is_told_per_decision_so_that_an_idle_task_weighs_little(tmp_path: Path) -> None:
    clock, metrics = Clock(), Metrics()
    embedded, out = made(tmp_path, clock)
    for confidence, times in ((0.9, 30), (0.4, 10)):
        for _ in range(times):
            metrics.observe("pricing_confidence", confidence)
    clock.now += 61

    write_if_due(embedded, metrics)

    (line,) = lines(out)
    told = line["Confidence"]
    assert (told["Count"], told["Sum"]) == (40.0, pytest.approx(31.0))
    mean = sum(v * n for v, n in zip(told["Values"], told["Counts"], strict=True)) / 40
    assert mean == pytest.approx(31 / 40, abs=0.05)


def test_no_histogram_is_told_where_nothing_was_added(tmp_path: Path) -> None:
    clock = Clock()
    embedded, out = made(tmp_path, clock)
    clock.now += 61

    write_if_due(embedded, Metrics())

    (line,) = lines(out)
    assert not {"LatencyMs", "Confidence"} & {*line}


@given(st.lists(st.floats(0, 2.5), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_of_the_values_told_lies_in_the_bin_of_the_true_one(seconds: list[float], share: float) -> None:
    edges = HISTOGRAMS["pricing_request_seconds"][2]
    counts = [0.0] * (len(edges) + 1)
    for value in seconds:
        counts[bisect_left(edges, value)] += 1

    told = distribution(edges, counts, total=sum(seconds), scale=1000.0)

    rank = max(math.ceil(share * len(seconds) - 1e-9), 1)
    exact, running = sorted(seconds)[rank - 1], 0.0
    for value, count in zip(told["Values"], told["Counts"], strict=True):  # noqa: B007 - the last one is meant
        running += count
        if running >= rank:
            break
    assert bisect_left(edges, value / 1000) == bisect_left(edges, exact)


@pytest.mark.parametrize("metric", ["pricing_request_seconds", "pricing_confidence"])
def test_a_histogram_has_no_more_values_than_cloudwatch_takes(metric: str) -> None:
    edges = HISTOGRAMS[metric][2]

    told = distribution(edges, [1.0] * (len(edges) + 1), total=1.0, scale=1.0)

    assert told["Values"] == sorted({*told["Values"]})
    assert len(told["Values"]) == len(told["Counts"]) <= 100


def test_a_version_without_a_number_is_told_as_none() -> None:
    assert version_gauges("none", None) == {}
