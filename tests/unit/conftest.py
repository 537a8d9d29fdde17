"""Applications with a published version: a test's own, and one for tests that leave it as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.serving import ServingApp, open_app
from tests.kit.versions import shared_version


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ServingApp]:
    with open_app(tmp_path, version=shared_version()) as app:
        yield app


@pytest.fixture(scope="session")
def shared_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApp]:
    with open_app(tmp_path_factory.mktemp("shared"), version=shared_version()) as app:
        yield app
