"""Takes the pictures of docs/walkthrough.md from MLflow's UI: `python -m benchmarks.walkthrough_images --store DIR`.

DIR is what `python -m benchmarks.walkthrough --keep DIR` left. Needs Playwright and /usr/bin/chromium.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.kit.servers import free_port, python, running

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = {"width": 1360, "height": 800}
COLOURS = 96
PATIENCE_MS = 120_000
QUIET_MS = 4_000
BROWSER = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def views(client: MlflowClient) -> Iterator[tuple[str, str, str]]:
    """The pictures: name, address below the server's, and a text that is there once the page is."""
    experiment = client.get_experiment_by_name("pricing")
    if experiment is None:
        raise SystemExit("the store holds no experiment 'pricing'; run benchmarks.walkthrough with --keep first")
    number = experiment.experiment_id
    runs = client.search_runs([number], filter_string="tags.job = 'train'", order_by=["attributes.start_time ASC"])
    ids = [run.info.run_id for run in runs]
    compared = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([number]))}"
    yield "mlflow-runs", f"experiments/{number}/runs", "promote"
    yield "mlflow-run", f"experiments/{number}/runs/{ids[0]}", "Metrics"
    yield "mlflow-compare", f"compare-runs?{compared}", "Comparing"
    yield "mlflow-registry", "models/pricing", "Versions"


def as_looked_at(client: MlflowClient) -> str:
    """A script that sets the page up as a person would: no assistant, what came of each run, the search unfolded."""
    (experiment,) = [found for found in client.search_experiments() if found.name == "pricing"]
    number = experiment.experiment_id
    searches = client.search_runs([number], filter_string="tags.job = 'tune'")
    state = {
        **{"searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False, "startTime": "ALL"},
        **{"lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs", "columnOrder": []},
        **{"columnWidths": {}, "runsPinned": [], "runsHidden": [], "runsVisibilityMap": {}, "groupBy": None},
        **{"runsHiddenMode": "FIRST_10_RUNS", "viewMaximized": False, "runListHidden": False, "groupsExpanded": {}},
        "runsExpanded": {run.info.run_id: True for run in searches},
        "selectedColumns": ["metrics.`wape`", "tags.`reason`", "tags.`verdict`"],
    }
    values = {
        "mlflow.assistant.panelOpen_v1": "false",
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        f'MLflowLocalStorage-1.1-ExperimentPage-["{number}"]-ReactComponentState': json.dumps(state),
    }
    return f"for (const [key, value] of Object.entries({json.dumps(values)})) localStorage.setItem(key, value);"


def take(page: Page, address: str, *, shown: str, below: str | None = None) -> bytes:
    """A page as a small PNG, once a text is on it and nothing more arrives."""
    page.goto(address)
    page.get_by_text(shown).first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(QUIET_MS)
    if below is not None:
        page.get_by_text("Parameters", exact=True).last.click()  # hundreds, folded away
        page.get_by_text(below, exact=True).last.evaluate("element => element.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(QUIET_MS / 4)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


def main() -> None:
    """Writes docs/images/mlflow-*.png."""
    parser = argparse.ArgumentParser("python -m benchmarks.walkthrough_images", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="the folder that was kept")
    options = parser.parse_args()
    uri = f"sqlite:///{options.store.resolve() / 'mlflow.db'}"
    server = f"http://127.0.0.1:{(port := free_port())}"
    command = python("mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1")
    with (
        running(command, ready=f"{server}/health", log=options.store / "ui.log"),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER) as browser,
    ):
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_MS)
        client = MlflowClient(tracking_uri=uri)
        page.add_init_script(as_looked_at(client))
        for name, path, shown in views(client):
            image = take(page, f"{server}/#/{path}", shown=shown, below="Run details" if "compare" in name else None)
            (IMAGES / f"{name}.png").write_bytes(image)
            print(f"{name}.png: {len(image) / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
