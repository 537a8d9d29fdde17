"""Every command of docs/shop/first_shop.md, on a fresh clone of HEAD: from a till's export to a price."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.journeys.documents import blocks
from tests.journeys.person import ROOT, on_a_fresh_clone

DOCUMENT = "docs/shop/first_shop.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_its_commands_lead_to_a_price_of_each_wine(tmp_path: Path) -> None:
    person = on_a_fresh_clone(tmp_path / "clone")

    for commands, _ in blocks(DOCUMENT):
        for command in commands:
            person.runs(command)

    prices = pd.read_csv(person.home / "prices.csv").set_index("product_id")
    assert prices["name"].to_dict() == {"W000": "W000, red", "W001": "W001, white", "W002": "W002, sparkling"}
    assert (abs(prices["proposed_price"] / prices["current_price"] - 1) <= 0.1).all()  # max_move
    assert (abs(prices["recommended_price"] / prices["current_price"] - 1) <= 0.05).all()  # approve_beyond


def test_the_configuration_that_it_shows_is_the_one_that_its_commands_use() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / DOCUMENT).read_text(encoding="utf-8"), re.M | re.S)

    assert shown == (ROOT / "docs" / "shop" / "first_shop" / "shop.yaml").read_text(encoding="utf-8")
