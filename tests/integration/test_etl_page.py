"""The page of a night's sales in a real browser: it runs without errors, sorts, and fits a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from pipelines.reports.etl_page import render
from tests.kit.messy_shop import HOSTILE, messy_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
BROWSER = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("report")
    (folder / "etl_report.html").write_text(render(messy_report(folder)), encoding="utf-8")
    return (folder / "etl_report.html").as_uri()


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER) as browser,
    ):
        yield browser.new_page()


def opened(page: Page, address: str, *, width: int) -> list[str]:
    """Opens the page; returns what it complained of, asked for, or said in a dialogue."""
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(address)
    return told


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_runs_nothing_of_the_sales(browser_page: Page, address: str, width: int) -> None:
    told = opened(browser_page, address, width=width)

    assert told == []
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width
    assert browser_page.get_by_text(HOSTILE).count() >= 1


def test_what_to_do_is_seen_without_scrolling_on_a_phone(browser_page: Page, address: str) -> None:
    opened(browser_page, address, width=390)

    box = browser_page.locator(".todo").bounding_box()

    assert box is not None
    assert box["y"] + box["height"] <= 844


def test_a_click_on_a_head_sorts_the_products(browser_page: Page, address: str) -> None:
    opened(browser_page, address, width=1280)
    products = browser_page.locator("table.sorts").last

    products.get_by_role("button", name="units", exact=True).click()

    units = [float(cell.get_attribute("data-value") or "nan") for cell in products.locator("td:nth-child(3)").all()]
    assert units == sorted(units, reverse=True)
    products.get_by_role("button", name="units", exact=True).click()
    again = [float(cell.get_attribute("data-value") or "nan") for cell in products.locator("td:nth-child(3)").all()]
    assert again == units[::-1]
