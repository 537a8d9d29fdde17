"""Prices that the platform gave: those of price files that a person approved."""

import json
from pathlib import Path

import pytest

from pricing.config import load_config
from pricing.registry.given_prices import given_prices
from pricing.registry.published_store import PRICE_FILES


def test_only_approved_prices_of_files_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    monkeypatch.setenv("PRICING_PUBLISHED", str(tmp_path / "published"))
    monkeypatch.setenv("PRICING_DECISIONS_URL", str(tmp_path / "decisions"))
    config = load_config()
    folder = tmp_path / "published" / config.registry.model_name / PRICE_FILES
    folder.mkdir(parents=True)
    for status, product, new in (("approved", "tea", 4.99), ("rejected", "jam", 2.49)):
        row = {"product_id": product, "status": status, "from": "2026-03-02", "new": new}
        (folder / f"{status}.json").write_text(json.dumps({"rows": [row]}))

    found = given_prices(config)

    assert (found.product_ids.tolist(), found.price.tolist()) == (["tea"], [4.99])
    assert found.dates.astype(str).tolist() == ["2026-03-02"]
