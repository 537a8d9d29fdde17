"""`pricing demo`: service and console of the shipped shop, from the first price to the last signal."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.kit.servers import ask, free_port

ROOT = Path(__file__).parents[2]


def test_the_demo_prices_shows_its_simulated_shop_and_leaves_nothing(tmp_path: Path) -> None:
    given = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pricing.runtime.command", "demo", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = [demo.stdout.readline() for _ in range(6)]
        service, console = re.findall(r"http://127.0.0.1:\d+$", "".join(lines), re.MULTILINE)
        model = ask(f"{service}/model")[1]
        with urllib.request.urlopen(console) as page:
            shown = page.read().decode()
        demo.send_signal(signal.SIGTERM)

    assert lines[0].startswith("A simulated shop")
    assert model["data"]["source"] == "simulated"
    assert 'class="simulated"' in shown
    assert demo.returncode == 143
    assert list(tmp_path.iterdir()) == []
