"""Competitors' prices from real servers: paged, slow, failing, hostile."""

import datetime as dt
import gzip
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from etl.competitors import CollectReport, CompetitorSettings, collect
from etl.http import Limits
from tests.kit import price_api as kit
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


def ask(folder: Path, *, limits: Limits = QUICK, dry_run: bool = False, **apis: CompetitorSettings) -> CollectReport:
    return collect(apis, folder=folder, now=NOW, environ=ENVIRON, dry_run=dry_run, limits=limits)


def products(report: CollectReport) -> list[str]:
    found: list[str] = report.offers["product_id"].to_pylist()
    return found


def written(folder: Path) -> bytes:
    """Names and bytes of all files, and of Parquet files also what they say, which may be packed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"".join(
        str(path).encode() + path.read_bytes() + repr(pq.read_table(path).to_pydict()).encode() for path in files
    )


def test_pages_are_read_by_cursor(api: PriceApi, tmp_path: Path) -> None:
    pages = [{"data": {"offers": [offer(f"P{n}")]}, "meta": {"next": n + 1 if n < 2 else None}} for n in range(3)]
    api.answers.extendleft(reversed(pages))

    report = ask(
        tmp_path,
        rival=settings(
            f"{api.url}?limit=1",
            records="data.offers",
            paging={"kind": "cursor", "parameter": "after", "next": "meta.next"},
        ),
    )

    assert (products(report), report.faults) == (["P0", "P1", "P2"], {})
    assert [each.query for each in api.asked] == [{"limit": "1"}, *({"limit": "1", "after": n} for n in "12")]


@pytest.mark.parametrize("last", [[], [offer("P1")]], ids=["empty", "again"])
def test_pages_are_read_by_number_until_one_is_empty_or_comes_again(api: PriceApi, tmp_path: Path, last: Any) -> None:
    api.answers.extendleft(reversed([[offer("P0")], [offer("P1")], last]))

    report = ask(tmp_path, rival=settings(api.url, paging={"kind": "page", "parameter": "p", "first": 0}))

    assert (set(products(report)), report.faults) == ({"P0", "P1"}, {})
    assert [each.query["p"] for each in api.asked] == ["0", "1", "2"]


def test_pages_are_read_by_links_of_header_or_body(api: PriceApi, tmp_path: Path) -> None:
    header = kit.status(200, body=b'[{"sku": "P0", "price": 1}]', Link='</first>; rel="prev", <?page=2>; rel="next"')
    api.answers.appendleft(header)
    with price_api({"offers": [offer("P2")], "links": {"next": "/more"}}, {"offers": [offer("P3")]}) as other:
        in_body = settings(other.url, records="offers", paging={"kind": "link", "next": "links.next"})

        report = ask(tmp_path, by_header=settings(api.url, paging={"kind": "link"}), by_body=in_body)

    assert (products(report), report.faults) == (["P0", "P1", "P2", "P3"], {})
    assert (api.asked[1].query, other.asked[1].path) == ({"page": "2"}, "/more")


def test_pages_in_a_circle_or_without_end_are_left(api: PriceApi, tmp_path: Path) -> None:
    api.answers[0] = {"offers": [offer("P1")], "next_cursor": "same"}
    by_cursor = settings(api.url, records="offers", paging={"kind": "cursor"})
    by_number = settings(api.url, records="offers", paging={"kind": "page"})
    api.answers.extendleft({"offers": [offer(f"P{n}")], "next_cursor": "same"} for n in range(4))

    report = ask(tmp_path, number=by_number, cursor=by_cursor, limits=replace(QUICK, pages=3))

    assert set(report.faults) == {"number", "cursor"}
    assert (report.counts["number"].kept, report.counts["cursor"].kept, len(api.asked)) == (3, 2, 5)


def test_a_server_that_is_busy_is_asked_again_when_it_wishes(api: PriceApi, tmp_path: Path) -> None:
    api.answers.extendleft([kit.status(503), kit.status(429, Retry_After="1")])
    started = dt.datetime.now(dt.UTC)

    report = ask(tmp_path, rival=settings(api.url))

    assert (products(report), report.faults, len(api.asked)) == (["P1"], {}, 3)
    assert dt.datetime.now(dt.UTC) - started >= dt.timedelta(seconds=1)


def test_a_wish_beyond_the_time_there_is_ends_the_reading_at_once(api: PriceApi, tmp_path: Path) -> None:
    api.answers.appendleft(kit.status(429, Retry_After="7200"))

    report = ask(tmp_path, rival=settings(api.url))

    assert "7,200 s" in report.faults["rival"]
    assert len(api.asked) == 1


@pytest.mark.parametrize("fault", [kit.status(500), kit.cut_off], ids=["500", "cut_off"])
def test_what_goes_on_failing_is_left_after_some_attempts(api: PriceApi, tmp_path: Path, fault: kit.Fault) -> None:
    api.answers[0] = fault

    report = ask(tmp_path, rival=settings(api.url))

    assert (set(report.faults), len(api.asked)) == ({"rival"}, QUICK.attempts)


HOSTILE = {
    "html": b"<html>Sign in</html>",
    "cut": b'[{"sku": "P1"',
    "latin": b'[{"sku": "\xe9", "price": 1}]',
    "deep": b"[" * 100_000,
    "no list": {"offers": 1},
    "null": None,
    "not gzip": kit.status(200, Content_Encoding="gzip"),
    "no page": {"offers": [], "next_cursor": ["a"]},
    "half a letter": {"offers": [], "next_cursor": "\ud800"},
    "elsewhere": {"offers": [], "next_cursor": "x" * 100_000},
    "location": kit.status(302, Location="http://\xff:x/"),
    "teapot": kit.status(418, Retry_After="\xff", ETag="\xff", Set_Cookie="\xff=\xff", Link="<\xff"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", ["cursor", "link"])
def test_what_is_no_page_of_offers_is_a_fault_of_its_source_alone(
    api: PriceApi, tmp_path: Path, answer: Any, kind: str
) -> None:
    with price_api(answer) as hostile:
        paging = {"kind": kind, "next": "next_cursor"}

        report = ask(tmp_path, bad=settings(hostile.url, records="offers", paging=paging), good=settings(api.url))

    assert (products(report), set(report.faults)) == (["P1"], {"bad"})
    assert len(report.faults["bad"]) < 300


def test_hostile_offers_cost_themselves_alone(api: PriceApi, tmp_path: Path) -> None:
    long = "9" * 5000
    texts = ('"\\ud800", "price": 1', f'"P2", "price": {long}', '"P3", "price": NaN', '"P4", "price": -1e999')
    body = ", ".join(f'{{"sku": {text}}}' for text in (*texts, '"P5", "price": 1'))
    api.answers[0] = kit.status(200, body=f"[{body}]".encode(), ETag="\xff")

    report = ask(tmp_path, rival=settings(api.url))

    assert (products(report), report.faults) == (["P5"], {})
    assert report.counts["rival"].set_aside == {"product_id": 1, "price": 3}


@pytest.mark.parametrize("fault", [kit.silent, kit.drip_headers, kit.drip_body], ids=lambda fault: fault.__name__)
def test_a_server_that_hangs_costs_no_more_than_the_time_there_is(
    api: PriceApi, tmp_path: Path, fault: kit.Fault
) -> None:
    with price_api({"offers": [offer("P0")], "next_cursor": "1"}, fault) as slow:
        paged = settings(slow.url, records="offers", paging={"kind": "cursor"})

        report = ask(tmp_path, slow=paged, good=settings(api.url), limits=replace(QUICK, seconds=0.5))

    assert (products(report), set(report.faults)) == (["P0", "P1"], {"slow"})


LARGE = b"[]" + b" " * 5_000_000
BOMB = kit.status(200, body=gzip.compress(LARGE), Content_Encoding="gzip")


@pytest.mark.parametrize("answer", [kit.endless, BOMB, LARGE], ids=["endless", "bomb", "large"])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(api: PriceApi, tmp_path: Path, answer: Any) -> None:
    api.answers[0] = answer

    report = ask(tmp_path, rival=settings(api.url), limits=replace(QUICK, answer_bytes=100_000))

    assert (set(report.faults), len(api.asked)) == ({"rival"}, 1)


def test_many_answers_that_are_too_large_together_are_left(api: PriceApi, tmp_path: Path) -> None:
    api.answers.extendleft([offer(f"P{n}"), "x" * 1000] for n in range(9))

    report = ask(tmp_path, rival=settings(api.url, paging={"kind": "page"}), limits=replace(QUICK, all_bytes=5_000))

    assert (len(products(report)), set(report.faults)) == (4, {"rival"})


@pytest.mark.parametrize(
    ("authentication", "header", "query"),
    [
        (BY_KEY, ("X-Api-Key", KEY), {}),
        ({**BY_KEY, "header": "Authorization", "prefix": "Bearer "}, ("Authorization", f"Bearer {KEY}"), {}),
        ({**BY_KEY, "query": "api_key"}, ("X-Api-Key", None), {"api_key": KEY}),
    ],
)
def test_a_key_goes_in_a_header_or_in_the_address(
    api: PriceApi, tmp_path: Path, authentication: Any, header: tuple[str, str | None], query: dict[str, str]
) -> None:
    ask(tmp_path, rival=settings(api.url, authentication=authentication))

    assert (api.asked[0].headers.get(header[0]), api.asked[0].query) == (header[1], query)


def test_a_token_is_asked_for_with_the_clients_secret_and_anew_when_it_has_ended(api: PriceApi, tmp_path: Path) -> None:
    api.answers.extendleft([kit.status(401), {"offers": [offer("P0")], "next_cursor": "1"}])
    api.answers[-1] = {"offers": [offer("P1")]}
    with price_api({"access_token": "first-token"}, {"access_token": "second-token"}) as login:
        oauth = {"kind": "oauth", "token_url": login.url, "scope": "prices"}
        named = {"client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}
        paged = {"records": "offers", "paging": {"kind": "cursor"}}

        report = ask(tmp_path, rival=settings(api.url, authentication={**oauth, **named}, **paged))

    assert (products(report), report.faults) == (["P0", "P1"], {})
    bearers = [each.headers["Authorization"] for each in api.asked]
    assert bearers == ["Bearer first-token", "Bearer first-token", "Bearer second-token"]
    assert login.asked[0].form == {"grant_type": "client_credentials", "scope": "prices"}
    assert login.asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("answer", [{}, {"access_token": "a\r\nb"}, kit.status(401), b"<html>", []])
def test_no_price_is_asked_for_without_a_token(api: PriceApi, tmp_path: Path, answer: Any) -> None:
    with price_api(answer) as login:
        named = {"client_id_variable": "RIVAL_ID", "client_secret_variable": "RIVAL_SECRET"}

        report = ask(
            tmp_path, rival=settings(api.url, authentication={"kind": "oauth", "token_url": login.url, **named})
        )

    assert (set(report.faults), api.asked, len(login.asked)) == ({"rival"}, [], 1)


@pytest.mark.parametrize("by", ["redirect", "link", "header"])
def test_another_host_is_asked_for_nothing(api: PriceApi, tmp_path: Path, by: str) -> None:
    with price_api([]) as other:
        answers = {
            "redirect": kit.status(302, Location=other.url),
            "link": {"offers": [], "next": other.url},
            "header": kit.status(200, body=b'{"offers": []}', Link=f'<{other.url}>; rel="next"'),
        }
        api.answers[0] = answers[by]
        paging = {"kind": "link", **({"next": "next"} if by == "link" else {})}

        report = ask(tmp_path, rival=settings(api.url, records="offers", paging=paging, authentication=BY_KEY))

    assert (set(report.faults), other.asked, len(api.asked)) == ({"rival"}, [], 1)


@pytest.mark.parametrize("where", [{}, {"query": "api_key"}], ids=["header", "query"])
def test_a_key_that_the_server_repeats_is_in_no_file_message_or_log(
    api: PriceApi, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: dict[str, str]
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

    report = ask(tmp_path, rival=keyed)

    assert (products(report), report.counts["rival"].set_aside) == (["P0"], {"offer_id": 1, "price": 1})
    told = written(tmp_path).decode(errors="replace") + repr(report) + caplog.text
    assert "***" in told
    assert not [form for form in (KEY, escaped, "a-key%2Bnobody") if form in told]


@pytest.mark.parametrize("value", [None, "", "two words", "schlüssel", "a\nb"])
def test_a_secret_that_is_not_there_or_fits_no_header_is_a_fault(
    api: PriceApi, tmp_path: Path, value: str | None
) -> None:
    environ = {} if value is None else {"RIVAL_KEY": value}
    keyed, plain = settings(api.url, authentication=BY_KEY), settings(api.url)

    report = collect(
        {"keyed": keyed, "plain": plain}, folder=tmp_path, now=NOW, environ=environ, dry_run=False, limits=QUICK
    )

    assert (products(report), list(report.faults)) == (["P1"], ["keyed"])
    assert "RIVAL_KEY" in report.faults["keyed"]


def test_a_dry_run_says_what_the_real_one_would_and_writes_nothing(api: PriceApi, tmp_path: Path) -> None:
    api.answers[0] = [offer("P1"), offer("P2", price=0), offer("P3")]
    rival, gone = settings(api.url), settings("http://127.0.0.1:1/offers")

    dry = ask(tmp_path / "dry", rival=rival, gone=gone, dry_run=True)
    real = ask(tmp_path / "real", rival=rival, gone=gone)

    assert (dry.offers, dry.counts, dry.faults) == (real.offers, real.counts, real.faults)
    assert (products(real), set(real.faults)) == (["P1", "P3"], {"gone"})
    assert list(tmp_path.iterdir()) == [tmp_path / "real"]


def test_what_was_seen_is_one_file_per_run_and_source(api: PriceApi, tmp_path: Path) -> None:
    first = ask(tmp_path, rival=settings(api.url), empty=settings(api.url, records="none"))
    collect({"rival": settings(api.url)}, folder=tmp_path, now=NOW + dt.timedelta(days=1), environ={}, dry_run=False)

    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == [f"rival/202603{day}T120000000000Z.parquet" for day in (10, 11)]
    assert pq.read_table(tmp_path / files[0]) == first.offers
