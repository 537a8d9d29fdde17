"""Competitors' prices from a real server that misbehaves in every way that the documentation lists."""

import datetime as dt
import gzip
import json
import logging
import socket
from collections.abc import Iterator, Sequence
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from pricing.config_competitors import CompetitorsConfig
from pricing.errors import ConfigError
from pricing.sources.competitor_api import FetchResult, SourceStatus, fetch_offers
from tests.kit import competitor_server as kit
from tests.kit.competitor_server import KEY, SECRET, FakeClock, PriceServer, competitors, offer, price_server

BY_KEY = {"kind": "key", "variable": "RIVAL_KEY"}


@pytest.fixture
def server() -> Iterator[PriceServer]:
    with price_server() as found:
        yield found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Fetch:
    """Fetches into one folder, as nights do."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder, self.clock = folder, clock

    def __call__(
        self, config: CompetitorsConfig, *, run_id: str = "run-1", environment: dict[str, str] | None = None
    ) -> FetchResult:
        return fetch_offers(
            config,
            state_dir=self.folder,
            run_id=run_id,
            environment=kit.ENVIRONMENT if environment is None else environment,
            clock=self.clock.as_clock(),
        )


@pytest.fixture
def fetch(tmp_path: Path, clock: FakeClock) -> Fetch:
    return Fetch(tmp_path / "state", clock)


def only(result: FetchResult) -> SourceStatus:
    (found,) = result.statuses
    return found


def products(result: FetchResult) -> list[str]:
    return [str(each) for each in result.batch.offers["product_id"]]


def many(number: int) -> list[dict[str, Any]]:
    return [offer(f"P{each}", 10.0 + each) for each in range(number)]


def test_every_page_is_read_by_its_cursor(server: PriceServer, fetch: Fetch) -> None:
    server.offers = many(5)

    result = fetch(competitors(server.url, paging={"size": 2}))

    assert products(result) == ["P0", "P1", "P2", "P3", "P4"]
    assert server.cursors == ["", "2", "4"]
    assert only(result).state == "fresh"
    assert (only(result).pages, only(result).offers, only(result).competitors) == (3, 5, {"Rival": 5})


def test_pages_are_read_by_links_that_may_be_relative(server: PriceServer, fetch: Fetch) -> None:
    first = {"offers": [offer("P0")], "next_cursor": "/v1/offers?cursor=0"}
    server.faults.extend([kit.payload(first)])
    server.offers = [offer("P1")]

    result = fetch(competitors(server.url, paging={"kind": "link"}))

    assert products(result) == ["P0", "P1"]
    assert only(result).state == "fresh"


def numbered(*pages: Sequence[dict[str, Any]]) -> list[kit.Fault | None]:
    return [kit.payload({"offers": list(each)}) for each in pages]


BY_NUMBER = {"kind": "page", "parameter": "page", "size_parameter": None}


def test_numbered_pages_are_read_until_one_is_empty(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend(numbered([offer("P0")], [offer("P1")], []))

    result = fetch(competitors(server.url, paging=BY_NUMBER))

    assert products(result) == ["P0", "P1"]
    assert [each.query["page"] for each in server.seen] == ["1", "2", "3"]
    assert only(result).state == "fresh"


def test_numbered_pages_end_where_the_server_gives_its_last_page_again(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend(numbered([offer("P0")], [offer("P1")], [offer("P1")]))

    result = fetch(competitors(server.url, paging=BY_NUMBER))

    assert products(result) == ["P0", "P1"]
    assert (only(result).state, only(result).repeated_pages) == ("fresh", 1)


def test_a_numbered_page_that_fails_loses_no_other(server: PriceServer, fetch: Fetch) -> None:
    good = numbered([offer("P0")], [offer("P2")], [])
    server.faults.extend([good[0], *[kit.status(500)] * 3, *good[1:]])

    result = fetch(competitors(server.url, paging=BY_NUMBER))

    assert products(result) == ["P0", "P2"]
    assert (only(result).state, only(result).code) == ("partial", "server_error")


def test_a_page_that_came_twice_counts_once(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend(
        [
            kit.payload({"offers": [offer("P0")], "next_cursor": "a"}),
            kit.payload({"offers": [offer("P0")], "next_cursor": "b"}),
            kit.payload({"offers": [offer("P1")]}),
        ]
    )

    result = fetch(competitors(server.url))

    assert products(result) == ["P0", "P1"]
    assert (only(result).state, only(result).repeated_pages) == ("fresh", 1)


def test_pages_in_a_circle_are_left(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.payload({"offers": [offer(f"P{n}")], "next_cursor": "ab"[n % 2]}) for n in range(100)])

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("partial", "page_loop")
    assert len(server.seen) == 3


def test_pages_that_repeat_under_ever_new_cursors_are_left(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.payload({"offers": [offer()], "next_cursor": f"c{n}"}) for n in range(100)])

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("partial", "page_loop")
    assert len(server.seen) == 3
    assert products(result) == ["P1"]


def test_more_pages_than_allowed_are_said(server: PriceServer, fetch: Fetch) -> None:
    server.offers = many(5)

    result = fetch(competitors(server.url, paging={"size": 1, "most_pages": 2}))

    assert (only(result).state, only(result).code, only(result).pages) == ("partial", "too_many_pages", 2)


def test_a_next_page_that_nobody_asks_for_is_said(server: PriceServer, fetch: Fetch) -> None:
    server.faults.append(kit.payload({"offers": [offer()], "next_cursor": "2"}))

    result = fetch(competitors(server.url, paging={"kind": "none"}))

    assert (only(result).state, only(result).code) == ("partial", "more_pages")


@pytest.mark.parametrize("code", [500, 502, 503, 504, 429, 408])
def test_a_failing_server_is_asked_again(server: PriceServer, fetch: Fetch, code: int) -> None:
    server.faults.extend([kit.status(code), kit.status(code)])

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"
    assert len(server.seen) == 3


def test_waits_between_attempts_grow_at_random_and_are_bounded(
    server: PriceServer, fetch: Fetch, clock: FakeClock
) -> None:
    server.faults.extend([kit.status(500)] * 7)

    fetch(competitors(server.url, calls={"attempts": 8, "first_wait": 2, "longest_wait": 16, "rate": 1000}))

    assert len(clock.slept) == 7
    bounds = [2, 4, 8, 16, 16, 16, 16]
    assert all(0 <= slept <= bound for slept, bound in zip(clock.slept, bounds, strict=True))
    assert len(set(clock.slept)) == 7


def test_a_server_that_goes_on_failing_is_failed(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.status(500)] * 3)

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "server_error")
    assert only(result).why == "competitor API rival: it answered 500"
    assert result.batch.offers.empty
    assert len(server.seen) == 3


def test_pages_before_a_failure_are_kept(server: PriceServer, fetch: Fetch) -> None:
    server.offers = many(4)
    server.faults.extend([None, *[kit.status(503)] * 3])

    result = fetch(competitors(server.url, paging={"size": 2}))

    assert products(result) == ["P0", "P1"]
    assert (only(result).state, only(result).code) == ("partial", "server_error")


def test_the_failure_of_one_api_is_not_that_of_another(server: PriceServer, fetch: Fetch) -> None:
    both = competitors(server.url).model_dump()
    both["apis"] = {"broken": {**both["apis"]["rival"], "url": f"{server.url}/nowhere"}, **both["apis"]}
    server.faults.append(kit.status(404))

    result = fetch(CompetitorsConfig.model_validate(both))

    assert [(each.source, each.state) for each in result.statuses] == [("broken", "failed"), ("rival", "fresh")]
    assert products(result) == ["P1"]


@pytest.mark.parametrize("code", [400, 404, 410, 422])
def test_what_will_not_change_is_asked_once(server: PriceServer, fetch: Fetch, code: int) -> None:
    server.faults.append(kit.status(code))

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "client_error")
    assert len(server.seen) == 1


def test_retry_after_in_seconds_is_waited_for(server: PriceServer, fetch: Fetch, clock: FakeClock) -> None:
    server.faults.append(kit.status(429, Retry_After="37"))

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"
    assert len(clock.slept) == 1
    assert 37 <= clock.slept[0] <= 38


def test_retry_after_as_a_date_is_waited_for(server: PriceServer, fetch: Fetch, clock: FakeClock) -> None:
    when = format_datetime(clock.time + dt.timedelta(seconds=50), usegmt=True)
    server.faults.append(kit.status(503, Retry_After=when))

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"
    assert 50 <= clock.slept[0] <= 51


def test_a_retry_after_beyond_patience_leaves_the_server_alone_until_then(
    server: PriceServer, fetch: Fetch, clock: FakeClock
) -> None:
    server.faults.append(kit.status(429, Retry_After="7200"))
    config = competitors(server.url)

    first = fetch(config)
    clock.pass_by(7000)
    second = fetch(config)
    clock.pass_by(300)
    third = fetch(config)

    assert [only(each).code for each in (first, second, third)] == ["rate_limited", "circuit_open", ""]
    assert len(server.seen) == 2
    assert clock.slept == []


def test_a_retry_after_that_cannot_be_read_is_as_none(server: PriceServer, fetch: Fetch, clock: FakeClock) -> None:
    server.faults.append(kit.status(429, Retry_After="soon"))

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"
    assert clock.slept[0] <= 1


def test_calls_keep_to_their_rate(server: PriceServer, fetch: Fetch, clock: FakeClock) -> None:
    server.offers = many(4)

    fetch(competitors(server.url, paging={"size": 1}, calls={"rate": 2}))

    assert clock.slept == pytest.approx([0.5, 0.5, 0.5])


def test_after_failures_in_a_row_nobody_asks_for_a_while_and_the_next_run_knows(
    server: PriceServer, fetch: Fetch, clock: FakeClock
) -> None:
    config = competitors(server.url, calls={"attempts": 5, "breaker_failures": 3, "breaker_minutes": 30})
    server.faults.extend([kit.status(500)] * 3)

    first = fetch(config, run_id="night-1")
    asked = len(server.seen)
    second = fetch(config, run_id="night-2")
    asked_then = len(server.seen)
    clock.pass_by(1801)
    third = fetch(config, run_id="night-3")

    assert (only(first).code, asked) == ("server_error", 3)
    assert (only(second).state, only(second).code, asked_then) == ("failed", "circuit_open", 3)
    assert "it answered 500" in only(second).why
    assert (only(third).state, len(server.seen)) == ("fresh", 4)


def test_a_half_open_circuit_opens_again_at_the_first_failure(
    server: PriceServer, fetch: Fetch, clock: FakeClock
) -> None:
    config = competitors(server.url, calls={"attempts": 5, "breaker_failures": 3})
    server.faults.extend([kit.status(500)] * 4)
    fetch(config)
    clock.pass_by(1801)

    again = fetch(config)

    assert only(again).code == "server_error"
    assert len(server.seen) == 4


def test_a_damaged_memory_of_the_circuit_is_as_none(server: PriceServer, fetch: Fetch) -> None:
    (fetch.folder / "rival").mkdir(parents=True)
    (fetch.folder / "rival" / "breaker.json").write_text('{"open_until": 3')

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"


def test_a_body_that_drips_for_ever_is_cut(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.drip, kit.drip_headers])

    result = fetch(competitors(server.url, calls={"answer_seconds": 1}))  # enough for a good answer on a busy machine

    assert only(result).state == "fresh"
    assert len(server.seen) == 3


def test_an_answer_that_never_ends_in_time_is_a_timeout(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.drip] * 3)

    result = fetch(competitors(server.url, calls={"answer_seconds": 0.1}))

    assert (only(result).state, only(result).code) == ("failed", "timeout")
    assert "calls.answer_seconds" in only(result).why


def test_a_silent_server_is_a_timeout(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.silent] * 3)

    result = fetch(competitors(server.url, calls={"read_seconds": 0.1}))

    assert (only(result).state, only(result).code) == ("failed", "timeout")


def test_nothing_is_asked_after_the_time_for_all_pages(server: PriceServer, fetch: Fetch) -> None:
    server.offers = many(5)

    result = fetch(competitors(server.url, paging={"size": 1}, calls={"rate": 0.1, "run_seconds": 15}))

    assert (only(result).state, only(result).code) == ("partial", "run_too_long")
    assert 0 < only(result).pages < 5


def test_a_truncated_body_is_asked_for_again(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.cut_off, kit.cut_off_gzip])

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"
    assert products(result) == ["P1"]


@pytest.mark.parametrize("fault", [kit.cut_off, kit.cut_off_gzip], ids=["plain", "gzip"])
def test_no_part_of_a_truncated_body_is_used(server: PriceServer, fetch: Fetch, fault: kit.Fault) -> None:
    server.faults.extend([fault] * 3)

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "cut_off")
    assert result.batch.offers.empty


def test_a_connection_that_is_reset_is_tried_again(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.reset, kit.reset])

    result = fetch(competitors(server.url))

    assert only(result).state == "fresh"


def test_a_server_that_is_not_there_is_unreachable(fetch: Fetch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    result = fetch(competitors(f"http://127.0.0.1:{port}/v1/offers"))

    assert (only(result).state, only(result).code) == ("failed", "unreachable")


@pytest.mark.parametrize(
    "content",
    [
        b"<html>maintenance</html>",
        b'{"offers": [',
        b"",
        b'{"offers": [{"price": NaN}]}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
    ids=["html", "cut", "empty", "nan", "no utf-8", "deep"],
)
def test_what_is_no_json_is_asked_for_again_and_then_refused(server: PriceServer, fetch: Fetch, content: bytes) -> None:
    server.faults.extend([kit.body(content)] * 3)

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "invalid_json")
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"items": []}, "offers: Field required"),
        ([], "valid dictionary"),
        ({"offers": {"P1": 10}}, "offers: Input should be a valid list"),
        ({"offers": [], "next_cursor": 7}, "next_cursor"),
        ({"offers": [{**offer(), "price": "10.00"}] * 2}, "2 of 2 offers of a page cannot be read"),
    ],
    ids=["other key", "list", "no list", "cursor", "text for price"],
)
def test_another_schema_is_refused_and_not_asked_for_again(
    server: PriceServer, fetch: Fetch, content: Any, words: str
) -> None:
    server.faults.append(kit.payload(content))

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "wrong_schema")
    assert words in only(result).why
    assert len(server.seen) == 1


def test_one_bad_offer_loses_no_other(server: PriceServer, fetch: Fetch) -> None:
    server.offers = [offer("P1"), offer("P2", observed_at="yesterday"), offer("P3", price=0)]

    result = fetch(competitors(server.url))

    assert products(result) == ["P1"]
    assert only(result).state == "fresh"
    assert only(result).set_aside == {"schema": 1, "price_not_above_zero": 1}
    aside = result.batch.set_aside
    assert aside["product_id"].tolist() == ["P2", "P3"]
    assert aside["found"].iloc[0].startswith("observed_at: Input should be a valid datetime")


@pytest.mark.parametrize(
    "fault", [kit.endless, kit.bomb(50), kit.body(b" " * 2_000_000)], ids=["endless", "bomb", "huge"]
)
def test_an_answer_that_is_too_large_is_refused(server: PriceServer, fetch: Fetch, fault: kit.Fault) -> None:
    server.faults.append(fault)

    result = fetch(competitors(server.url, calls={"largest_mb": 1}))

    assert (only(result).state, only(result).code) == ("failed", "too_large")
    assert len(server.seen) == 1


def test_gzip_is_unpacked(server: PriceServer, fetch: Fetch) -> None:
    packed = gzip.compress(json.dumps({"offers": [offer("P9")]}).encode())
    server.faults.append(kit.body(packed, Content_Encoding="gzip"))

    result = fetch(competitors(server.url))

    assert products(result) == ["P9"]


def test_a_redirect_on_the_same_host_is_followed(server: PriceServer, fetch: Fetch) -> None:
    server.key = KEY
    server.faults.append(kit.status(307, Location="/v1/moved?limit=1000"))

    result = fetch(competitors(server.url, authentication=BY_KEY))

    assert only(result).state == "fresh"
    assert server.paths == ["/v1/offers", "/v1/moved"]


def test_no_credential_follows_a_redirect_to_another_host(server: PriceServer, fetch: Fetch) -> None:
    with price_server() as other:
        server.faults.append(kit.status(302, Location=other.url))

        result = fetch(competitors(server.url, authentication=BY_KEY))

        assert (only(result).state, only(result).code) == ("failed", "redirect")
        assert other.seen == []


def test_no_next_page_is_asked_for_on_another_host(server: PriceServer, fetch: Fetch) -> None:
    with price_server() as other:
        server.faults.append(kit.payload({"offers": [offer()], "next_cursor": other.url}))

        result = fetch(competitors(server.url, authentication=BY_KEY, paging={"kind": "link"}))

        assert (only(result).state, only(result).code) == ("partial", "other_host")
        assert other.seen == []
        assert products(result) == ["P1"]


def test_redirects_in_a_circle_are_left(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([kit.status(302, Location="/v1/offers")] * 50)

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "redirect")
    assert len(server.seen) == 4


def test_a_key_is_sent_in_its_header(server: PriceServer, fetch: Fetch) -> None:
    server.key = KEY

    result = fetch(competitors(server.url, authentication=BY_KEY))

    assert only(result).state == "fresh"
    assert server.seen[0].headers["X-Api-Key"] == KEY


def test_a_key_that_is_refused_is_not_tried_again(server: PriceServer, fetch: Fetch) -> None:
    server.key = "another"

    result = fetch(competitors(server.url, authentication=BY_KEY))

    assert (only(result).state, only(result).code) == ("failed", "credentials_refused")
    assert "RIVAL_KEY" in only(result).why
    assert len(server.seen) == 1


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak"])
def test_a_secret_that_is_missing_or_cannot_be_sent_is_named_by_its_variable(
    server: PriceServer, fetch: Fetch, value: str | None
) -> None:
    environment = {} if value is None else {"RIVAL_KEY": value}

    result = fetch(competitors(server.url, authentication=BY_KEY), environment=environment)

    assert (only(result).state, only(result).code) == ("failed", "not_configured")
    assert "RIVAL_KEY" in only(result).why
    assert "words" not in only(result).why
    assert "break" not in only(result).why
    assert server.seen == []


def oauth(server: PriceServer, **others: Any) -> dict[str, Any]:
    token_url = server.url.replace("/v1/offers", "/token")
    names = {"client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}
    return {"kind": "oauth", "token_url": token_url, **names, **others}


def test_a_token_is_fetched_once_for_all_pages(server: PriceServer, fetch: Fetch) -> None:
    server.tokens, server.offers = [], many(3)

    result = fetch(competitors(server.url, authentication=oauth(server, scope="prices"), paging={"size": 1}))

    assert only(result).state == "fresh"
    assert server.paths == ["/token", "/v1/offers", "/v1/offers", "/v1/offers"]
    assert server.seen[0].body == "grant_type=client_credentials&scope=prices"
    assert server.seen[0].headers["Authorization"].startswith("Basic ")


def test_id_and_secret_go_into_the_form_where_that_is_configured(server: PriceServer, fetch: Fetch) -> None:
    server.tokens = []

    result = fetch(competitors(server.url, authentication=oauth(server, send="body")))

    assert only(result).state == "fresh"
    assert f"client_secret={SECRET}" in server.seen[0].body
    assert "Authorization" not in server.seen[0].headers


def test_a_token_is_fetched_anew_before_it_ends(server: PriceServer, fetch: Fetch) -> None:
    server.tokens, server.token_seconds, server.offers = [], 40, many(3)

    result = fetch(competitors(server.url, authentication=oauth(server), paging={"size": 1}, calls={"rate": 0.1}))

    assert only(result).state == "fresh"
    assert server.paths == ["/token", "/v1/offers", "/v1/offers", "/token", "/v1/offers"]


def test_a_token_that_ended_early_is_fetched_anew_once(server: PriceServer, fetch: Fetch) -> None:
    server.tokens, server.offers = [], many(2)
    server.faults.extend([None, None, kit.status(401)])

    result = fetch(competitors(server.url, authentication=oauth(server), paging={"size": 1}))

    assert only(result).state == "fresh"
    assert server.paths == ["/token", "/v1/offers", "/v1/offers", "/token", "/v1/offers"]


def test_a_token_that_is_refused_twice_is_not_tried_again(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([None, kit.status(401), None, kit.status(401)])

    result = fetch(competitors(server.url, authentication=oauth(server)))

    assert (only(result).state, only(result).code) == ("failed", "credentials_refused")
    assert server.paths == ["/token", "/v1/offers", "/token", "/v1/offers"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (kit.status(400), "credentials_refused"),
        (kit.status(302, Location="/elsewhere"), "credentials_refused"),
        (kit.payload({"access_token": 7}), "token"),
        (kit.payload({"access_token": "good", "token_type": "mac"}), "token"),
        (kit.body(b"no"), "token"),
    ],
)
def test_a_token_service_that_gives_none_is_said(
    server: PriceServer, fetch: Fetch, fault: kit.Fault, code: str
) -> None:
    server.faults.append(fault)

    result = fetch(competitors(server.url, authentication=oauth(server)))

    assert (only(result).state, only(result).code) == ("failed", code)
    assert len(server.seen) == 1


def test_a_token_service_that_fails_for_a_moment_is_asked_again(server: PriceServer, fetch: Fetch) -> None:
    server.faults.append(kit.status(503))

    result = fetch(competitors(server.url, authentication=oauth(server)))

    assert only(result).state == "fresh"


def test_no_secret_is_in_files_logs_or_messages(
    server: PriceServer, fetch: Fetch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the server repeats what it was sent."""
    caplog.set_level(logging.DEBUG)

    def parrot(handler: kit.Handler) -> None:
        said = dict(handler.headers.items())
        handler.answer(400, said)

    def parrot_well(handler: kit.Handler) -> None:
        said = " ".join(handler.headers.values())
        handler.answer(200, {"offers": [offer(item_id="x"), offer(price="bad", item_id=said[:200])]})

    by_token = competitors(server.url, authentication=oauth(server))
    results = []
    for fault in (parrot, parrot_well):
        server.faults.append(fault)
        results.append(fetch(competitors(server.url, authentication=BY_KEY)))
        server.faults.extend([None, fault])
        results.append(fetch(by_token))

    texts = [caplog.text, repr(results), repr(by_token)]
    texts += [str(each.batch.set_aside.to_dict()) for each in results]
    files = [path for path in fetch.folder.rglob("*") if path.is_file()]
    texts += [
        (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode() for path in files
    ]
    assert any(path.suffix == ".gz" for path in files)
    for secret in (KEY, SECRET, "access-token-"):
        assert not [text for text in texts if secret in text], secret


def test_a_page_that_has_not_changed_is_not_sent_again(server: PriceServer, fetch: Fetch) -> None:
    server.etags, server.offers = True, many(3)
    config = competitors(server.url, paging={"size": 2})

    first = fetch(config, run_id="night-1")
    server.offers[2] = offer("P2", 99.0)
    second = fetch(config, run_id="night-2")

    assert (only(first).not_modified, only(second).not_modified) == (0, 1)
    assert products(second) == ["P0", "P1", "P2"]
    assert second.batch.offers["price"].tolist() == [10.0, 11.0, 99.0]
    assert only(second).state == "fresh"


def test_a_damaged_kept_answer_is_asked_for_anew(server: PriceServer, fetch: Fetch) -> None:
    server.etags = True
    config = competitors(server.url)
    fetch(config, run_id="night-1")
    (kept,) = (fetch.folder / "rival" / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])

    result = fetch(config, run_id="night-2")

    assert (only(result).not_modified, products(result)) == (0, ["P1"])


def test_a_kept_answer_that_was_changed_is_asked_for_anew(server: PriceServer, fetch: Fetch) -> None:
    server.etags = True
    config = competitors(server.url)
    fetch(config, run_id="night-1")
    (kept,) = (fetch.folder / "rival" / "kept").iterdir()
    held = gzip.decompress(kept.read_bytes())
    kept.write_bytes(gzip.compress(held.replace(b"10.0", b"99.0")))

    result = fetch(config, run_id="night-2")

    assert (only(result).not_modified, result.batch.offers["price"].tolist()) == (0, [10.0])


def test_an_unasked_304_is_refused(server: PriceServer, fetch: Fetch) -> None:
    server.faults.append(lambda handler: handler.answer_bytes(304, b""))

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("failed", "client_error")


def test_a_kept_page_whose_cursor_has_ended_does_not_block_the_next_night(server: PriceServer, fetch: Fetch) -> None:
    server.etags, server.offers = True, many(3)
    config = competitors(server.url, paging={"size": 2})
    fetch(config, run_id="night-1")
    server.faults.extend([None, kit.status(400)])

    second = fetch(config, run_id="night-2")
    third = fetch(config, run_id="night-3")

    assert (only(second).state, only(second).code) == ("partial", "client_error")
    assert (only(third).state, only(third).not_modified) == ("fresh", 0)


def test_answers_are_kept_as_they_came_with_their_run(server: PriceServer, fetch: Fetch) -> None:
    server.faults.extend([None, kit.payload({"wrong": 1})])
    server.offers = many(2)

    fetch(competitors(server.url, paging={"size": 1}), run_id="run-7")

    (folder,) = (fetch.folder / "rival" / "raw").iterdir()
    assert folder.name == "20260310T120000Z-run-7"
    lines = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert [(line["file"], line["outcome"]) for line in lines] == [
        ("00001.json.gz", "read"),
        ("00002.refused.gz", "wrong_schema"),
    ]
    assert json.loads(gzip.decompress((folder / "00001.json.gz").read_bytes()))["offers"] == [many(1)[0]]
    assert json.loads(gzip.decompress((folder / "00002.refused.gz").read_bytes())) == {"wrong": 1}


def test_a_run_that_is_repeated_writes_over_no_answer(server: PriceServer, fetch: Fetch) -> None:
    config = competitors(server.url)

    fetch(config, run_id="run-7")
    fetch(config, run_id="run-7")

    assert sorted(path.name for path in (fetch.folder / "rival" / "raw").iterdir()) == [
        "20260310T120000Z-run-7",
        "20260310T120000Z-run-7.2",
    ]


def test_answers_are_deleted_when_they_are_old_and_nothing_else_is(
    server: PriceServer, fetch: Fetch, clock: FakeClock
) -> None:
    config = competitors(server.url, others={"raw_days": 2})
    fetch(config, run_id="old")
    clock.pass_by(86_400)
    fetch(config, run_id="newer")
    (fetch.folder / "rival" / "raw" / "notes").mkdir()
    clock.pass_by(1.5 * 86_400)

    fetch(config, run_id="new")

    names = sorted(path.name.partition("-")[2] or path.name for path in (fetch.folder / "rival" / "raw").iterdir())
    assert names == ["new", "newer", "notes"]


def test_an_expected_competitor_that_is_missing_makes_the_answer_partial(server: PriceServer, fetch: Fetch) -> None:
    result = fetch(competitors(server.url, expected=["Rival", "Other"]))

    assert (only(result).state, only(result).code) == ("partial", "competitor_missing")
    assert "Other" in only(result).why


def test_prices_that_nobody_observed_lately_are_stale(server: PriceServer, fetch: Fetch, clock: FakeClock) -> None:
    clock.pass_by(3 * 86_400)

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("stale", "stale")
    assert products(result) == ["P1"]


def test_an_answer_without_offers_is_not_taken_for_fresh(server: PriceServer, fetch: Fetch) -> None:
    server.offers = []

    result = fetch(competitors(server.url))

    assert (only(result).state, only(result).code) == ("stale", "empty")


def test_offers_without_a_time_are_of_the_fetch_where_that_is_configured(server: PriceServer, fetch: Fetch) -> None:
    undated = offer()
    del undated["observed_at"]
    server.offers = [undated]

    refused = fetch(competitors(server.url))
    taken = fetch(competitors(server.url, observed_at="fetch"))

    assert only(refused).code == "wrong_schema"
    assert taken.batch.offers["observed_at"].dt.to_pydatetime().tolist() == [kit.NOON]


def test_another_format_is_read_by_an_adapter_of_a_few_lines(server: PriceServer, fetch: Fetch) -> None:
    listing = {
        "seller": {"name": "Rival"},
        "gtin": "4006381333931",
        "amount_minor": 1999,
        "currency": "EUR",
        "availability": "InStock",
        "checked": 1773122400,
    }
    page = {"data": [listing], "links": {"next": None}}
    server.faults.append(kit.payload(page))

    result = fetch(competitors(server.url, adapter="tests.kit.competitor_adapter:listings", paging={"kind": "link"}))

    (row,) = result.batch.offers.to_dict("records")
    assert only(result).state == "fresh"
    assert (row["competitor"], row["ean"], row["price"], row["in_stock"]) == ("Rival", "4006381333931", 19.99, True)
    assert row["observed_at"].isoformat() == "2026-03-10T06:00:00+00:00"


def test_an_adapter_that_cannot_read_an_answer_says_so(server: PriceServer, fetch: Fetch) -> None:
    result = fetch(competitors(server.url, adapter="tests.kit.competitor_adapter:listings"))

    assert (only(result).state, only(result).code) == ("failed", "wrong_schema")
    assert "KeyError" in only(result).why


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ("referense", "known is reference"),
        ("tests.kit.nowhere:read", "its module cannot be imported"),
        ("tests.kit.competitor_adapter:nothing", "has no function nothing"),
    ],
)
def test_an_adapter_that_does_not_exist_stops_before_anything_is_asked(
    server: PriceServer, fetch: Fetch, adapter: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        fetch(competitors(server.url, adapter=adapter))

    assert server.seen == []
