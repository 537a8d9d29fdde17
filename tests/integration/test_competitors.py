"""Competitors' prices from real servers: paged, slow, failing, hostile."""

import asyncio
import datetime as dt
import gzip
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from etl.competitors import CompetitorSettings, Reading
from etl.http import Limits
from pricing.data.source import read_etl_rows
from tests.kit import price_api as kit
from tests.kit.etl_runs import etl_run
from tests.kit.price_api import PriceApi, price_api

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.UTC)
KEY, SECRET = "a-key+nobody/else-has", "a-secret-nobody-else-has"
ENVIRON = {"RIVAL_KEY": KEY, "RIVAL_ID": "shop", "RIVAL_SECRET": SECRET}
BY_KEY = {"kind": "key", "variable": "RIVAL_KEY"}
QUICK = Limits(seconds=20, silence=5, attempts=3, first_wait=0.001)


def offer(sku: str, **others: Any) -> dict[str, Any]:
    return {"sku": sku, "price": 9.5, **others}


@pytest.fixture
def api() -> Iterator[PriceApi]:
    with price_api([offer("P1")]) as found:
        yield found


def settings(url: str, **others: Any) -> CompetitorSettings:
    return CompetitorSettings.model_validate({"url": url, "fields": {"product_id": "sku", "price": "price"}, **others})


def ask(api: CompetitorSettings, *, limits: Limits = QUICK, environ: Mapping[str, str] = ENVIRON) -> Reading:
    reading = Reading("rival", api, now=NOW)
    asyncio.run(reading.read(environ, limits))
    return reading


def products(reading: Reading) -> list[str]:
    found: list[str] = reading.offers["product_id"].to_pylist()
    return found


def test_pages_are_read_by_cursor(api: PriceApi) -> None:
    pages = [{"data": {"offers": [offer(f"P{n}")]}, "meta": {"next": n + 1 if n < 2 else None}} for n in range(3)]
    api.answers.extendleft(reversed(pages))

    report = ask(
        settings(
            f"{api.url}?limit=1",
            records="data.offers",
            paging={"kind": "cursor", "parameter": "after", "next": "meta.next"},
        ),
    )

    assert (products(report), report.fault) == (["P0", "P1", "P2"], "")
    assert [each.query for each in api.asked] == [{"limit": "1"}, *({"limit": "1", "after": n} for n in "12")]


def test_pages_are_read_by_number_until_one_is_empty(api: PriceApi) -> None:
    api.answers.extendleft(reversed([[offer("P0")], [offer("P1")], []]))

    report = ask(settings(api.url, paging={"kind": "page", "parameter": "p", "first": 0}))

    assert (set(products(report)), report.fault) == ({"P0", "P1"}, "")
    assert [each.query["p"] for each in api.asked] == ["0", "1", "2"]


def test_pages_are_read_by_links_of_header_or_body(api: PriceApi) -> None:
    header = kit.status(200, body=b'[{"sku": "P0", "price": 1}]', Link='</first>; rel="prev", <?page=2>; rel="next"')
    api.answers.appendleft(header)
    with price_api({"offers": [offer("P2")], "links": {"next": "/more"}}, {"offers": [offer("P3")]}) as other:
        in_body = settings(other.url, records="offers", paging={"kind": "link", "next": "links.next"})

        readings = [ask(settings(api.url, paging={"kind": "link"})), ask(in_body)]

    assert [products(one) for one in readings] == [["P0", "P1"], ["P2", "P3"]]
    assert [one.fault for one in readings] == ["", ""]
    assert (api.asked[1].query, other.asked[1].path) == ({"page": "2"}, "/more")


def test_pages_in_a_circle_or_without_end_are_left(api: PriceApi) -> None:
    api.answers[0] = {"offers": [offer("P1")], "next_cursor": "same"}
    by_cursor = settings(api.url, records="offers", paging={"kind": "cursor"})
    by_number = settings(api.url, records="offers", paging={"kind": "page"})
    api.answers.extendleft({"offers": [offer(f"P{n}")], "next_cursor": "same"} for n in range(4))

    readings = [ask(one, limits=replace(QUICK, pages=3)) for one in (by_number, by_cursor)]

    assert all(one.fault for one in readings)
    assert ([one.offers.num_rows for one in readings], len(api.asked)) == ([3, 2], 5)


def test_a_server_that_is_busy_is_asked_again_when_it_wishes(api: PriceApi) -> None:
    api.answers.extendleft([kit.status(503), kit.status(429, Retry_After="1")])
    started = dt.datetime.now(dt.UTC)

    report = ask(settings(api.url))

    assert (products(report), report.fault, len(api.asked)) == (["P1"], "", 3)
    assert dt.datetime.now(dt.UTC) - started >= dt.timedelta(seconds=1)


def test_what_goes_on_failing_is_left_after_some_attempts(api: PriceApi) -> None:
    api.answers[0] = kit.cut_off

    report = ask(settings(api.url))

    assert (bool(report.fault), len(api.asked)) == (True, QUICK.attempts)


HOSTILE = {
    "html": b"<html>Sign in</html>",
    "cut": b'[{"sku": "P1"',
    "latin": b'[{"sku": "\xe9", "price": 1}]',
    "deep": b"[" * 100_000,
    "no list": {"offers": 1},
    "not gzip": kit.status(200, Content_Encoding="gzip"),
    "no page": {"offers": [], "next_cursor": ["a"]},
    "half a letter": {"offers": [], "next_cursor": "\ud800"},
    "location": kit.status(302, Location="http://\xff:x/"),
    "teapot": kit.status(418, Retry_After="\xff", ETag="\xff", Set_Cookie="\xff=\xff", Link="<\xff"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_page_of_offers_is_a_fault_of_its_source(answer: Any) -> None:
    with price_api(answer) as hostile:
        report = ask(settings(hostile.url, records="offers", paging={"kind": "cursor", "next": "next_cursor"}))

    assert products(report) == []
    assert 0 < len(report.fault) < 300


@pytest.mark.parametrize("fault", [kit.silent, kit.drip_body], ids=lambda fault: fault.__name__)
def test_a_server_that_hangs_costs_no_more_than_the_time_there_is(api: PriceApi, fault: kit.Fault) -> None:
    with price_api({"offers": [offer("P0")], "next_cursor": "1"}, fault) as slow:
        paged = settings(slow.url, records="offers", paging={"kind": "cursor"})

        report = ask(paged, limits=replace(QUICK, seconds=0.5))

    assert (products(report), bool(report.fault)) == (["P0"], True)


LARGE = b"[]" + b" " * 5_000_000
BOMB = kit.status(200, body=gzip.compress(LARGE), Content_Encoding="gzip")


@pytest.mark.parametrize("answer", [kit.endless, BOMB], ids=["endless", "bomb"])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(api: PriceApi, answer: Any) -> None:
    api.answers[0] = answer

    report = ask(settings(api.url), limits=replace(QUICK, answer_bytes=100_000))

    assert (bool(report.fault), len(api.asked)) == (True, 1)


@pytest.mark.parametrize(
    ("authentication", "header", "query"),
    [
        ({"header": "Authorization", "prefix": "Bearer "}, f"Bearer {KEY}", {}),
        ({"query": "api_key"}, None, {"api_key": KEY}),
    ],
)
def test_a_key_goes_in_a_header_or_in_the_address(
    api: PriceApi, authentication: dict[str, str], header: str | None, query: dict[str, str]
) -> None:
    ask(settings(api.url, authentication=BY_KEY | authentication))

    assert (api.asked[0].headers.get("Authorization"), api.asked[0].query) == (header, query)


def test_a_token_is_asked_for_with_the_clients_secret_and_anew_when_it_has_ended(api: PriceApi) -> None:
    api.answers.extendleft([kit.status(401), {"offers": [offer("P0")], "next_cursor": "1"}])
    api.answers[-1] = {"offers": [offer("P1")]}
    with price_api({"access_token": "first-token"}, {"access_token": "second-token"}) as login:
        oauth = {"kind": "oauth", "token_url": login.url, "scope": "prices"}
        named = {"client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}
        paged = {"records": "offers", "paging": {"kind": "cursor"}}

        report = ask(settings(api.url, authentication={**oauth, **named}, **paged))

    assert (products(report), report.fault) == (["P0", "P1"], "")
    bearers = [each.headers["Authorization"] for each in api.asked]
    assert bearers == ["Bearer first-token", "Bearer first-token", "Bearer second-token"]
    assert login.asked[0].form == {"grant_type": "client_credentials", "scope": "prices"}
    assert login.asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("answer", [{}, {"access_token": "a\r\nb"}, kit.status(401)])
def test_no_price_is_asked_for_without_a_token(api: PriceApi, answer: Any) -> None:
    with price_api(answer) as login:
        named = {"client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}

        report = ask(settings(api.url, authentication={"kind": "oauth", "token_url": login.url, **named}))

    assert (bool(report.fault), api.asked, len(login.asked)) == (True, [], 1)


@pytest.mark.parametrize("by", ["redirect", "link", "header"])
def test_another_host_is_asked_for_nothing(api: PriceApi, by: str) -> None:
    with price_api([]) as other:
        answers = {
            "redirect": kit.status(302, Location=other.url),
            "link": {"offers": [], "next": other.url},
            "header": kit.status(200, body=b'{"offers": []}', Link=f'<{other.url}>; rel="next"'),
        }
        api.answers[0] = answers[by]
        paging = {"kind": "link", **({"next": "next"} if by == "link" else {})}

        report = ask(settings(api.url, records="offers", paging=paging, authentication=BY_KEY))

    assert (bool(report.fault), other.asked, len(api.asked)) == (True, [], 1)


@pytest.mark.parametrize("where", [{}, {"query": "api_key"}], ids=["header", "query"])
def test_a_key_that_the_server_repeats_is_in_no_offer_message_or_log(
    api: PriceApi, caplog: pytest.LogCaptureFixture, where: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG)
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    echo = f'[{{"sku": "P0", "price": 1}}, {{"sku": "x{escaped}", "price": 1}}, {{"sku": "P1", "price": "{KEY}"}}]'
    pages = [
        kit.status(200, body=echo.encode(), Link=f"<{api.url}?api_key={KEY}&page=2>; rel=next", X_Key=KEY),
        kit.status(503, body=KEY.encode(), X_Key=KEY),
        kit.status(200, body=b"[]", Link=f"<http://{SECRET}.example.com/{KEY}>; rel=next"),
    ]
    api.answers.extendleft(reversed(pages))
    keyed = settings(api.url, paging={"kind": "link"}, authentication={**BY_KEY, **where})

    report = ask(keyed)

    assert (products(report), report.counts().aside) == (["P0"], {"offer_id": 1, "price": 1})
    told = f"{report.offers.to_pydict()} {report.counts()} {report.fault} {caplog.text}"
    assert "***" in told
    assert not [form for form in (KEY, escaped, "a-key%2Bnobody") if form in told]


@pytest.mark.parametrize("value", [None, "schlüssel", "a\nb"])
def test_a_secret_that_is_not_there_or_fits_no_header_is_a_fault(api: PriceApi, value: str | None) -> None:
    environ = {} if value is None else {"RIVAL_KEY": value}

    report = ask(settings(api.url, authentication=BY_KEY), environ=environ)

    assert products(report) == []
    assert "RIVAL_KEY" in report.fault


def test_a_night_keeps_what_was_seen_and_a_dry_run_says_the_same(
    api: PriceApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    lines = {"order_lines": {"location": str(tmp_path / "*.csv")}}
    for day in (7, 9):
        (tmp_path / f"{day}.csv").write_text(f"time,product_id,quantity,unit_price\n2026-03-0{day},P1,1,5\n")
    texts = ('"P1", "price": 4', f'"{KEY}", "price": 1', '"\\ud800", "price": 1', f'"P2", "price": {"9" * 5000}')
    body = ", ".join(f'{{"sku": {text}}}' for text in texts)
    echoed = kit.status(200, body=f"[{body}]".encode(), ETag="\xff")
    api.answers[0] = echoed
    fields = {"product_id": "sku", "price": "price"}
    apis = {
        "rival": {"url": api.url, "fields": fields, "authentication": BY_KEY},
        "gone": {
            "url": "http://127.0.0.1:1/offers",
            "fields": fields,
            "authentication": {**BY_KEY, "variable": "NONE"},
        },
    }
    given: dict[str, Any] = {"environ": ENVIRON, "apis": apis}

    etl_run({"order_lines": {"location": str(tmp_path / "7.csv")}}, now=NOW - dt.timedelta(days=2), **given)
    dry = etl_run(lines, now=NOW, dry_run=True, **given)
    api.answers[0] = echoed
    real = etl_run(lines, now=NOW, **given)

    assert dry.model_copy(update={"kept": True}) == real
    assert set(real.faults) == {"gone"}
    assert real.tables["apis.rival"].aside == {"offer_id": 1, "product_id": 1, "price": 1}
    assert read_etl_rows()["comp_price"].tolist()[-1] == 4
    kept = sorted((tmp_path / "home" / "etl" / "competitors").rglob("*.parquet"))
    assert [path.name[:8] for path in kept] == ["20260308", "20260310"]
    home = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not [path for path in home if KEY.encode() in path.read_bytes()]
    assert not [path for path in kept if KEY in str(pq.read_table(path).to_pydict())]
