"""An application for tests: a version from tests/kit/versions.py that is published, a PRICING_HOME, a fixed clock."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from pricing.decision.switches import Control
from pricing.objects import open_store
from pricing.registry.files import LEARNT, read_header
from pricing.registry.published_store import (
    Pointer,
    PublishedVersion,
    control_key,
    parse_pointer,
    pointer_key,
    put_version,
    versions_prefix,
)
from serving.api import Service
from serving.app import close_app, create_app
from serving.settings import Settings, read_settings

MODEL = "pricing"
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

    def answer(self, **changes: Any) -> Any:
        """What a request is answered that differs from REQUEST by so much."""
        return self.price(**changes).get_json()

    def get(self, path: str) -> Any:
        return self.client.get(path).get_json()

    def explain(self, request: Any) -> Any:
        return self.client.post("/explain", json={"request": request}).get_json()

    def send(self, path: str, body: bytes | str) -> TestResponse:
        """Posts a body as it is, said to be JSON."""
        return self.client.post(path, data=body, content_type="application/json")

    def metrics(self) -> str:
        return self.client.get("/metrics").text

    def batch(self, *items: Any, **query: str) -> list[dict[str, Any]]:
        answer = self.client.post("/get_prices", json={"requests": list(items)}, query_string=query)
        assert answer.status_code == 200, answer.text
        return list(answer.get_json()["decisions"])

    def publish(self, folder: Path, *, version: str, **more: Any) -> Pointer:
        """Publishes a version, as the jobs do, and has it served."""
        found = publish(self.settings.published, folder, version=version, **more)
        self.service.follower.look()
        return found

    def control(self, control: Control) -> None:
        """Publishes what persons have set, and has it in force."""
        open_store(self.settings.published).put(control_key(MODEL), control.to_json())
        self.service.follower.look()

    def logged(self) -> list[dict[str, Any]]:
        """The decisions, once the log is closed."""
        self.service.log.close()
        return sent(self.settings.decisions_url)


def sent(where: str) -> list[dict[str, Any]]:
    """The decisions that were sent to a store, in order."""
    store = open_store(where)
    lines = [line for key in store.keys("lines/") for line in (store.get(key) or b"").splitlines()]
    return sorted(map(json.loads, lines), key=lambda one: int(one["sequence"]))


def publish(
    where: str, folder: Path, *, version: str, challenger: tuple[str, Path] | None = None, sequence: int | None = None
) -> Pointer:
    """Puts a version, and maybe a challenger, into a store, and switches the pointer; sequences count up."""
    store = open_store(where)
    champion, tried = _put(where, folder, version), challenger and _put(where, challenger[1], challenger[0])
    before = store.get(pointer_key(MODEL))
    following = 1 if before is None else parse_pointer(before, model=MODEL).sequence + 1
    pointer = Pointer(MODEL, following if sequence is None else sequence, champion, tried)
    store.put(pointer_key(MODEL), pointer.to_json())
    return pointer


def _put(where: str, folder: Path, number: str) -> PublishedVersion:
    """Puts a version; into a folder as plain copies, since waiting for the disk, file by file, takes a second."""
    version = PublishedVersion(number, str(read_header(folder)["checksum"]))
    if "://" in where:
        put_version(open_store(where), version, model=MODEL, folder=folder)
    else:
        place = Path(where) / versions_prefix(MODEL) / version.folder
        leave_out = shutil.ignore_patterns(*LEARNT, *(f"{name}.json" for name in LEARNT))
        shutil.copytree(folder, place, dirs_exist_ok=True, ignore=leave_out, copy_function=shutil.copyfile)
    return version


def settings_in(home: Path, **environment: str) -> Settings:
    return read_settings({"PRICING_HOME": str(home), **environment})


@contextmanager
def open_app(
    home: Path, *, version: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[ServingApp]:
    settings = settings_in(home, **(environment or {}))
    if version is not None:
        publish(settings.published, version, version="7")
    app = create_app(settings, now=lambda: NOW)
    try:
        service: Service = app.extensions["pricing"]
        service.follower.look()
        yield ServingApp(app.test_client(), service, settings)
    finally:
        close_app(app)
