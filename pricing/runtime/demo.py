"""Open service and console on the shop that comes with the package: simulated, trained on before, kept nowhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from pricing.errors import PricingError
from pricing.paths import CODE
from pricing.runtime.cli import job

SHIPPED = CODE / "pricing" / "shipped.zip"  # tools/shipped.py makes it
CONSOLE = 10  # how far the console's port lies above the service's
READY_SECONDS = 60


@job("demo", config=False)
@click.option("--port", envvar="PORT", default=8080, type=click.IntRange(1, 65_535 - CONSOLE), help="of the service")
def main(*, port: int) -> int:
    """Opens service and console on a simulated shop that is trained already, until Ctrl-C; keeps nothing."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pricing-demo-") as folder, ExitStack() as running:
        shutil.unpack_archive(SHIPPED, folder)
        service = running.enter_context(_program("serve", folder, port=port))
        console = running.enter_context(_program("console", folder, port=port + CONSOLE))
        _wait_for(service, port, log=Path(folder, "serve.log"))
        product = json.loads(_get(f"http://127.0.0.1:{port}/products"))["products"][0]["product_id"]
        asked = json.dumps({"product_id": product, "day_of_week": "Friday", "current_stock": 150})
        price = json.loads(_get(f"http://127.0.0.1:{port}/get_price", asked.encode()))["recommended_price"]
        seconds = time.monotonic() - started
        _wait_for(console, port + CONSOLE, log=Path(folder, "console.log"))
        _print(
            "A simulated shop: 60 products, two years of sales that never happened.",
            f"Its first price, {price} for {product}, came after {seconds:.0f} s.",
            f"   curl -s http://127.0.0.1:{port}/get_price -H 'Content-Type: application/json' -d '{asked}'",
            f"The service documents itself on http://127.0.0.1:{port}",
            f"What moves and why, to approve or refuse: http://127.0.0.1:{port + CONSOLE}",
            "Ctrl-C ends both, and nothing is kept.",
        )
        while service.poll() is None and console.poll() is None:
            time.sleep(0.2)
    raise PricingError("service or console has ended")


def _print(*lines: str) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201


@contextmanager
def _program(name: str, folder: str, *, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Runs a program on the shop in a folder, on loopback; it ends with the block."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PRICING_", "HOST"))}
    own = {"PRICING_HOME": folder, "PRICING_CONFIG": f"{folder}/shop.yaml", "PRICING_ACTOR": "you", "PORT": str(port)}
    command = [sys.executable, "-P", "-m", "pricing.runtime.command", name]
    with (
        Path(folder, f"{name}.log").open("wb") as log,
        subprocess.Popen(command, env={**kept, **own, "PYTHONPATH": str(CODE)}, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, *, log: Path) -> None:
    """Waits until a program is ready; raises PricingError where it ends, or is not ready in time."""
    for _ in range(READY_SECONDS * 10):
        with suppress(OSError):
            _get(f"http://127.0.0.1:{port}/health/ready")
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    said = log.read_text(encoding="utf-8").strip()
    raise PricingError(f"the demo did not come up on port {port}; another one is given with PORT=…\n{said[-500:]}")


def _get(url: str, body: bytes | None = None) -> str:
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent, timeout=30) as response:
        return str(response.read().decode())
