"""Take the picture of docs/etl_report.md: `python -m benchmarks.etl_report_images`.

`--keep DIR` leaves the page itself and pictures of all of it, 1280 and 390 pixels wide, there. Needs Playwright and
/usr/bin/chromium.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pipelines.reports.etl_page import render
from tests.kit.messy_shop import messy_report

IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "etl-report.png"
DESKTOP = {"width": 1280, "height": 1180}
PHONE = {"width": 390, "height": 844}
COLOURS = 128
BROWSER = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    """Writes docs/images/etl-report.png."""
    parser = argparse.ArgumentParser("python -m benchmarks.etl_report_images", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the page and pictures of all of it are left")
    parser.add_argument("--page", type=Path, metavar="FILE", help="another page than that shop's; docs/ stays as it is")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER) as browser,
    ):
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        place = options.page or folder / "etl_report.html"
        if options.page is None:
            place.write_text(render(messy_report(Path(scratch))), encoding="utf-8")
        page = browser.new_page(viewport=DESKTOP)
        page.goto(place.resolve().as_uri())
        if options.page is None:
            IMAGE.write_bytes(take(page))
            print(f"{IMAGE.name}: {IMAGE.stat().st_size / 1000:.0f} kB")
        if options.keep:
            for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                page.set_viewport_size(size)
                (folder / f"{place.stem}-{name}.png").write_bytes(take(page, whole=True))


def take(page: Page, *, whole: bool = False) -> bytes:
    """The page as a PNG of few colours."""
    shown = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    file = io.BytesIO()
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
