"""The console in a real browser, beside the real service: what a pricing manager does, by mouse and by keyboard."""

import datetime as dt
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pricing.decision.request import PriceRequest
from tests.kit.console import BEYOND, KEYS, environment, price_table, put_table, shop_home
from tests.kit.control import table
from tests.kit.servers import ask, free_port, python, running, wait_for
from tests.kit.versions import loaded_version, product_names

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ROOT = Path(__file__).parents[2]
PROXIED = "console:\n  trusted_proxy: 127.0.0.0/8\n"
PRODUCTS = product_names()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]


@dataclass(frozen=True)
class Place:
    """A console and where it keeps things."""

    address: str
    home: Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@contextmanager
def console_of(home: Path, **more: str) -> Iterator[Place]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    given = {**environment(home, **more), "PORT": str(port), "PYTHONPATH": str(ROOT)}
    ready, ends = f"{address}/health/live", [signal.SIGTERM, signal.SIGKILL]  # after SIGINT it may wait 10 s
    command, log = python("pricing.runtime.command", "console"), home / "console.log"
    with running(command, ready=ready, log=log, environment=given, ends=ends):
        yield Place(address, home)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = shop_home(tmp_path_factory.mktemp("console") / "home", price_table(PRODUCTS))
    with console_of(home) as found:
        yield found


@contextmanager
def logged_in(browser: Browser, place: Place, **more: Any) -> Iterator[Page]:
    context = browser.new_context(**more)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda one: faults.append(one.url) if not one.url.startswith(place.address) else None)
    page.goto(place.address)
    page.get_by_label("Your key").fill(KEYS["ann"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{place.address}/")
    yield page
    context.close()
    assert [line for line in faults if "409" not in line] == []


def said(place: Place) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.who, json.loads(entry.body)) for entry in table(place.home).entries()]


def test_a_manager_finds_understands_changes_and_approves_in_five_clicks(browser: Browser, place: Place) -> None:
    with logged_in(browser, place) as page:
        clicks = 0

        def click(role: Any, name: str) -> None:
            nonlocal clicks
            clicks += 1
            page.get_by_role(role, name=name, exact=True).click()

        page.get_by_label("Product", exact=True).fill(PRODUCTS[4])
        click("button", "Show")
        click("link", PRODUCTS[4])
        assert page.get_by_role("heading", name="How the price comes about").is_visible()
        assert page.locator("svg.chart").count() == 3
        page.get_by_label("Another price").fill("5.49")
        page.get_by_label("Why").fill("the rival's offer")
        click("button", "Change the price")
        assert page.get_by_role("heading", name="Are you sure?").is_visible()
        click("button", "Yes, do it")
        assert page.get_by_role("status").inner_text() == "1 product given another price."
        page.goto(f"{place.address}/products/{PRODUCTS[5]}")
        page.get_by_role("button", name=re.compile("Approve")).click()
        assert page.get_by_role("status").inner_text() == "1 product approved."
        clicks += 1

    (by, change), (_, approval) = said(place)[-2:]
    assert clicks <= 5
    assert (by, change["price"], change["reason"]) == ("ann", 5.49, "the rival's offer")
    assert list(approval["prices"]) == [PRODUCTS[5]]


def test_the_keyboard_alone_is_enough(browser: Browser, place: Place) -> None:
    with logged_in(browser, place) as page:
        page.goto(f"{place.address}/?q={PRODUCTS[8]}")

        def tab_to(name: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                shown = "e => e.getAttribute('aria-label') || e.innerText || e.name || ''"
                if page.evaluate(f"({shown})(document.activeElement)").startswith(name):
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline != "none"
                    return
            raise AssertionError(f"no way to {name!r} by keyboard")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
        tab_to(f"Tick {PRODUCTS[8]}")
        page.keyboard.press("Space")
        tab_to(f"Approve {PRODUCTS[8]}")
        page.keyboard.press("Enter")
        page.get_by_role("status").wait_for()

    assert list(said(place)[-1][1]["prices"]) == [PRODUCTS[8]]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The rules of axe-core, which comes from npm and lies in no lock file."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, and axe-core comes from there")
    packed = subprocess.run(
        ["npm", "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True, check=False
    )
    if packed.returncode:
        pytest.skip(f"axe-core cannot be had from npm: {packed.stderr[-200:]}")
    shutil.unpack_archive(folder / packed.stdout.split()[-1], folder)
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


def test_no_page_breaks_a_rule_of_accessibility(browser: Browser, place: Place, axe: str) -> None:
    product = f"/products/{PRODUCTS[0]}"
    addresses = ("/", product, "/what-if?change=5", "/portfolio", "/price-file", "/login", "/?q=nothing")
    broken = []
    with logged_in(browser, place, bypass_csp=True) as page:
        for address in addresses:
            page.goto(place.address + address)
            page.evaluate(axe)
            for width in (1280, 390):
                page.set_viewport_size({"width": width, "height": 900})
                found = page.evaluate("axe.run()")["violations"]
                broken += [(address, width, one["id"], one["nodes"][0]["html"][:120]) for one in found]
                assert page.evaluate("document.documentElement.scrollWidth") <= width

    assert broken == []


def test_a_price_is_in_force_within_ten_seconds_of_its_approval(browser: Browser, tmp_path: Path) -> None:
    request = {"current_stock": 150, "date": "2023-08-02"}
    pricer = loaded_version().pricer(version="7")
    asked = [{"product_id": product, **request} for product in PRODUCTS]
    home = shop_home(tmp_path / "home")
    (home / "log").mkdir()
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    given = environment(home, PRICING_KEYS="none", PORT=str(port), PYTHONPATH=str(ROOT))

    def price(one: dict[str, Any]) -> dict[str, Any]:
        return dict(ask(f"{address}/get_price", one)[1])

    with running(python("serving"), ready=f"{address}/health/ready", log=home / "serving.log", environment=given):
        wait_for(lambda: price(asked[0]).get("model_version") == "7", "the version is served")
        held = next(one for one in asked if "awaiting_approval" in price(one)["reasons"])
        before = price(held)["recommended_price"]
        frame = price_table(PRODUCTS, change=0.0)
        row = frame["product_id"] == held["product_id"]
        asking, day = [PriceRequest.model_validate(held)], dt.datetime.now(dt.UTC).date()
        proposal = pricer.price(asking, today=day)[0].recommended_price
        frame.loc[row, ["current_price", "proposed_price", "recommended_price"]] = [before, proposal, before]
        put_table(home, frame)
        with console_of(home) as found, logged_in(browser, found) as page:
            page.get_by_role("button", name=f"Approve {held['product_id']}").click()
            started = time.monotonic()
            page.get_by_role("status").wait_for()
            wait_for(lambda: price(held)["recommended_price"] != before, "the approved price is served", seconds=10)
            took, after = time.monotonic() - started, price(held)

    assert abs(proposal / before - 1) > BEYOND
    assert (after["recommended_price"], "awaiting_approval" in after["reasons"]) == (proposal, False)
    assert took <= 10
    (entry,) = table(home).entries()
    assert (entry.who, json.loads(entry.body)["reason"]) == ("ann", "as proposed")


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed: apt-get install haproxy")
def test_who_somebody_is_only_a_trusted_proxy_may_say(tmp_path: Path) -> None:
    home = shop_home(tmp_path / "home", more=PROXIED)
    command = ["haproxy", "-db", "-f", str(ROOT / "deploy" / "compose" / "haproxy.cfg")]

    def asked(port: int) -> int:
        spoofed = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-User": "ann"})
        try:
            with urllib.request.urlopen(spoofed, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    with console_of(home) as found:
        behind = {"SERVING_1": "127.0.0.1:1", "CONSOLE": found.address.removeprefix("http://")}
        for trusted, status in (("", 401), ("127.0.0.0/8", 200)):
            ports = {name: free_port() for name in ("PORT", "CONSOLE_PORT", "FIGURES_PORT")}
            given = {**behind, "TRUSTED_PROXIES": trusted, **{name: str(port) for name, port in ports.items()}}
            ready = f"http://127.0.0.1:{ports['FIGURES_PORT']}/metrics"
            with running(command, ready=ready, log=home / "haproxy.log", environment=given):
                wait_for(lambda: asked(ports["CONSOLE_PORT"]) != 503, "the console is reached")  # noqa: B023
                assert asked(ports["CONSOLE_PORT"]) == status
