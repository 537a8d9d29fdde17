"""An application for tests: a version from tests/kit/versions.py, a PRICING_HOME of its own, a fixed clock."""

import datetime as dt
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from serving.app import close_app, create_app
from serving.current_version import Pointer, write_pointer
from serving.service import Service
from serving.settings import Settings, read_settings

NOW = dt.datetime(2023, 8, 1, 12, tzinfo=dt.UTC)  # a Tuesday, four days after the version's state
REQUEST: dict[str, Any] = {
    "product_id": "P00001",
    "current_stock": 150,
    "day_of_week": "Friday",
    "comp_price": 1.05,
    "is_promo": True,
}


@dataclass(frozen=True)
class ServingApp:
    client: FlaskClient
    service: Service
    settings: Settings

    def price(self, **changes: Any) -> TestResponse:
        asked = {name: value for name, value in {**REQUEST, **changes}.items() if value is not ...}
        return self.client.post("/get_price", json=asked)

    def point_at(self, folder: Path, *, version: str) -> None:
        """Points the workers at a version, as the follower does."""
        point_at(self.settings, folder, version=version)
        self.service.tick()


def as_explained(priced: dict[str, Any], *, decision_id: str) -> dict[str, Any]:
    """The answer of /get_price as /explain shows it: under an id of its own, units and margin rounded."""
    rounded = {name: pytest.approx(priced[name], rel=1e-3, abs=0.005) for name in ("expected_units", "expected_margin")}
    return {**priced, **rounded, "decision_id": decision_id}


def point_at(settings: Settings, folder: Path, *, version: str) -> None:
    name = f"{version}-1"
    shutil.copytree(folder, settings.places.versions / name, dirs_exist_ok=True)
    write_pointer(settings.places.pointer, Pointer(version, 1, name))


def settings_in(home: Path, **environment: str) -> Settings:
    return read_settings({"PRICING_HOME": str(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", **environment})


@contextmanager
def open_app(
    home: Path, *, version: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[ServingApp]:
    settings = settings_in(home, **(environment or {}))
    if version is not None:
        point_at(settings, version, version="7")
    app = create_app(settings, now=lambda: NOW)
    try:
        yield ServingApp(app.test_client(), app.extensions["pricing"], settings)
    finally:
        close_app(app)


def point_at_challenger(settings: Settings, folder: Path, *, version: str) -> None:
    """Points the workers at a challenger, as the follower does."""
    name = f"{version}-1"
    shutil.copytree(folder, settings.places.versions / name, dirs_exist_ok=True)
    write_pointer(settings.places.challenger, Pointer(version, 1, name))
