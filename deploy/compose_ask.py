"""Ask for prices through the proxy of docker-compose.yml until both serving tasks have answered: `make demo-compose`.

It needs no package; its argument is the proxy's address and port. The proxy names in each answer, as `X-Task`, the task
that gave it.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.compose_files import ROOT, folder_of

TASKS = {"serving-1", "serving-2"}
PATIENCE_SECONDS = 120


def ask(server: str, *, key: str, product: str) -> tuple[str, dict[str, object]]:
    """Asks for one price; returns the task that answered, and its answer."""
    body = {"product_id": product, "current_stock": 150, "day_of_week": "Friday", "comp_price": None, "is_promo": False}
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    call = urllib.request.Request(f"{server}/get_price", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(call, timeout=30) as response:
        return response.headers["X-Task"], json.load(response)


def main(folder: Path, *, server: str) -> int:
    """Asks until each task has answered by a model version; returns 0, or 1 where that takes too long."""
    key = (folder / "secrets" / "key-shop").read_text(encoding="utf-8").strip()
    seen: dict[str, dict[str, object]] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while set(seen) != TASKS:
        if time.monotonic() > deadline:
            print(f"after {PATIENCE_SECONDS} s only {sorted(seen) or 'none'} of {sorted(TASKS)} serve a version")
            return 1
        try:
            task, answer = ask(server, key=key, product="P00002")
        except urllib.error.URLError as error:
            if getattr(error, "code", None) == 404:  # a task that serves no version yet knows no price of the product
                time.sleep(1)
                continue
            print(f"{server}: {error}")
            return 1
        if task not in seen:
            seen[task] = answer
            print(f"{task}: {answer['recommended_price']} by version {answer['model_version']}, {answer['source']}")
    return 0


if __name__ == "__main__":
    files = folder_of(os.environ, settings=ROOT / ".env")
    sys.exit(main(files, server=f"http://{sys.argv[1]}"))
