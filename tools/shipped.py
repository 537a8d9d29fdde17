"""Make the shop that `pricing demo` opens, pricing/shipped.zip: a version, its prices, and 52 weeks of its sales.

All come of the simulated market. `make shipped` runs it, after each change of a format; it takes minutes. With
--check FILE it makes that file instead, and ends with 1 where a golden price is more than 5 % from the one shipped.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pricing.data.panel import SERIES, load_panel, save_panel

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "pricing" / "shipped.zip"
DAYS = 52 * 7
APART = 0.05
JOBS = (
    ["etl", "--sales", "simulated"],
    ["train", "--sales", "simulated"],
    ["promote", "--reason", "shipped"],
    ["price"],
)


def make(place: Path) -> None:
    """Trains on the simulated market, promotes, prices, and packs what service and console read."""
    with tempfile.TemporaryDirectory() as scratch:
        home, packed = Path(scratch, "home"), Path(scratch, "packed")
        packed.mkdir()
        market = yaml.safe_load((ROOT / "config" / "market.yaml").read_text(encoding="utf-8"))
        settings = packed / "shop.yaml"
        settings.write_text(yaml.safe_dump(market | {"decision": {"approve_beyond": 0.05}}), encoding="utf-8")
        given = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PRICING_"))}
        given |= {"PRICING_HOME": str(home), "PRICING_CONFIG": str(settings), "PYTHONPATH": str(ROOT)}
        given |= {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"}
        for words in JOBS:
            command = [sys.executable, "-P", "-m", "pricing.runtime.command", *words]
            subprocess.run(command, cwd=scratch, env=given, check=True)
        panel = load_panel(home / "panel")
        last = {name: getattr(panel, name)[:, -DAYS:] for name in SERIES}
        save_panel(replace(panel, dates=panel.dates[-DAYS:], **last), packed / "panel")
        shutil.copytree(home / "published", packed / "published")
        shutil.make_archive(str(place.with_suffix("")), "zip", packed)


def golden(archive: Path) -> tuple[int, dict[str, float]]:
    """The format of an archive's version, and its golden prices by their request."""
    with zipfile.ZipFile(archive) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("/version.json"))
        header: dict[str, Any] = json.loads(packed.read(name))
    cases = header["golden"]["cases"]
    return header["format"], {json.dumps(one["request"]): one["decision"]["recommended_price"] for one in cases}


def differences(made: Path, shipped: Path) -> list[str]:
    """What makes two archives another shop: their format, or a golden price more than 5 % apart."""
    (form, prices), (known_form, known) = golden(made), golden(shipped)
    if form != known_form or prices.keys() != known.keys():
        return [f"format {form} with {len(prices)} golden requests; shipped are format {known_form} and {len(known)}"]
    apart = {request: price / known[request] - 1 for request, price in prices.items()}
    return [f"{request}: {change:+.1%}" for request, change in apart.items() if abs(change) > APART]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, metavar="FILE")
    place = parser.parse_args().check or SHIPPED
    make(place)
    print(f"{place}: {place.stat().st_size / 1e6:.2f} MB")
    found = differences(place, SHIPPED)
    print("\n".join(found))
    sys.exit(bool(found))
