"""The load generator of the burst benchmark: when requests are due, and that none waits for an earlier answer."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.burst import ms, second, summary
from benchmarks.open_load import LOST, Answer, Load, Segment, Target, arrivals, post, quantile
from tests.kit.servers import free_port

PRICED = b'{"source":"model","model_version":"7"}'


@contextmanager
def server(answer: Callable[[int], bytes | None], *, together: int = 1) -> Iterator[Target]:
    """A server on loopback that answers nothing before `together` requests wait.

    Args:
        answer: The body for the n-th connection's request; None: the connection is closed instead.
        together: Number of requests that must wait.
    """
    started = threading.Event()
    stops: list[Callable[[], object]] = []
    port, waiting = free_port(), 0

    async def serve() -> None:
        enough, stop = asyncio.Condition(), asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            try:
                while b"POST /get_price" in await reader.read(65536):
                    async with enough:
                        waiting += 1
                        number = waiting
                        enough.notify_all()
                        await enough.wait_for(lambda: waiting >= together)  # noqa: B023 - the newest number counts
                    body = answer(number)
                    if body is None:
                        break
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            finally:
                writer.transport.abort()

        async with await asyncio.start_server(talk, "127.0.0.1", port):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))  # which ends what still waits
    thread.start()
    started.wait(10)
    try:
        yield Target("one", "127.0.0.1", port)
    finally:
        stops[0]()
        thread.join()


def answered(due: float, came: float, status: int = 200) -> Answer:
    return Answer(due, due, came, status, "one", "7", "model")


def test_requests_are_due_evenly_where_the_rate_is_constant() -> None:
    assert list(arrivals([Segment(0.5, 10, 10)])) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_where_the_rate_changes_as_many_are_due_as_its_integral() -> None:
    segments = [Segment(2, 50, 50), Segment(4, 50, 250), Segment(1, 250, 0)]

    dues = list(arrivals(segments))

    assert dues == sorted(dues)
    assert len(dues) == 100 + 600 + 125
    for begin, end, number in ((0, 2, 100), (2, 4, 200), (4, 6, 400), (6, 7, 125)):
        assert sum(begin <= due < end for due in dues) == pytest.approx(number, abs=1)


def test_no_request_waits_for_the_answer_of_an_earlier_one() -> None:
    with server(lambda _: PRICED, together=20) as target:
        load = Load([target])
        load.run(arrivals([Segment(0.1, 200, 200)]), [post("/get_price", b"{}")])

    assert [answer.status for answer in load.answers] == [200] * 20
    first = min(load.answers, key=lambda answer: answer.due)
    assert first.came >= 0.095  # when the last one left: its wait for the others counts


def test_an_answer_is_read_and_its_connection_used_again() -> None:
    with server(lambda _: PRICED) as target:
        load = Load([target])
        load.run([0.0], [post("/get_price", b"{}", key="k")])

    (found,) = load.answers
    assert (found.status, found.version, found.source, found.refused) == (200, "7", "model", 0)


def test_a_connection_that_breaks_loses_its_request_alone() -> None:
    with server(lambda number: None if number == 2 else PRICED) as target:
        load = Load([target])
        load.run([0.0, 0.1, 0.2], [post("/get_price", b"{}")])

    assert sorted(answer.status for answer in load.answers) == [LOST, 200, 200]


def test_no_answer_in_time_is_a_lost_one() -> None:
    with server(lambda _: PRICED, together=2) as target:
        load = Load([target], patience=0.05)
        load.run([0.0], [post("/get_price", b"{}")])

    assert [answer.status for answer in load.answers] == [LOST]


def test_a_request_whose_connection_is_refused_goes_to_the_next_target() -> None:
    with server(lambda _: PRICED) as target:
        load = Load([Target("gone", "127.0.0.1", free_port()), target])
        load.run([0.0, 0.01], [post("/get_price", b"{}")])

    assert sorted((answer.target, answer.refused) for answer in load.answers) == [("one", 0), ("one", 1)]


def test_a_load_ends_with_its_script() -> None:
    with server(lambda _: PRICED) as target:
        load = Load([target])

        async def script() -> None:
            while len(load.answers) < 3:
                await asyncio.sleep(0)

        load.run(arrivals([Segment(3600, 100, 100)]), [post("/get_price", b"{}")], script=script)

    assert 3 <= load.dues < 3600


def test_a_script_that_fails_ends_the_load_and_is_told() -> None:
    async def fails() -> None:
        raise RuntimeError("no more")

    load = Load([Target("gone", "127.0.0.1", free_port())])

    with pytest.raises(RuntimeError, match="no more"):
        load.run(arrivals([Segment(3600, 1, 1)]), [post("/get_price", b"{}")], script=fails)


def test_quantiles_are_answers_that_came() -> None:
    answers = [answered(0.0, 0.001 * place) for place in range(1, 101)]

    assert (quantile(answers, 0.5), quantile(answers, 0.99), quantile(answers, 1.0)) == pytest.approx((50, 99, 100))
    assert math.isnan(quantile([], 0.5))
    assert ms([], 0.5) is None


def test_a_span_counts_what_was_due_in_it_by_status() -> None:
    load = Load([])
    load.answers = [
        *(answered(1.0, 1.1), answered(1.5, 1.7), answered(1.6, 1.61, 429), answered(1.7, 1.8, 503)),
        *(answered(1.8, 3.0, LOST), answered(1.9, 2.0, 404), answered(2.0, 2.1), answered(0.9, 1.5)),
    ]

    found = summary(load, 1.0, 2.0)

    counts = [found[name] for name in ("requests", "priced", "refusals", "errors", "lost", "others")]
    assert counts == [6, 2, 1, 1, 1, 1]
    assert (found["p100_ms"], found["refused_p100_ms"]) == (200.0, 10.0)
    assert (found["by_version"], found["by_source"]) == ({"7": 2}, {"model": 2})
    assert second(load, 1) == [6, 2, 100.0, 200.0, 1, 10.0]
