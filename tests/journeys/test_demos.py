"""The demos of the README on a fresh clone of HEAD: each ends with prices, and leaves a model to serve.

The first one, `make demo`, is a step of its own in `.ci/run`, where it meets a machine without `.venv`.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.journeys.person import on_a_fresh_clone

PRICE = re.compile(r"^ +\S+ +([\d.]+) +([\d.]+)  \S", re.MULTILINE)
MONEY = re.compile(r"^Money +[+-][\d,]+ a week .*?[+-][\d,]+ to [+-][\d,]+", re.MULTILINE)

pytestmark = [pytest.mark.slow, pytest.mark.weekly, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("options", ["DATA=market", "DATA=shop"])
def test_a_demo_ends_with_prices_and_a_model_to_serve(tmp_path: Path, options: str) -> None:
    person = on_a_fresh_clone(tmp_path / "clone")

    printed = person.runs(f"make demo {options}")

    moves = [float(now) - float(before) for before, now in PRICE.findall(printed)]
    assert [move > 0 for move in moves].count(True) == [move < 0 for move in moves].count(True) == 1
    assert len(moves) <= 3
    assert MONEY.search(printed)
    assert (" over holding list prices" in printed) == (options == "DATA=market")  # where what a price earns is known
    serve, ask = (re.search(f"^ +(.*{word} .*)$", printed, re.MULTILINE)[1] for word in ("make serve-demo", "curl"))  # type: ignore[index]
    with person.serving(f"env {serve}") as service:
        service.wait_for()
        assert json.loads(person.runs(ask))["source"] in ("model", "category")


def test_the_shipped_shop_made_again_has_its_format_and_golden_prices(tmp_path: Path) -> None:
    person = on_a_fresh_clone(tmp_path / "clone")

    person.runs(f"make shipped ARGS={shlex.quote(f'--check {tmp_path}/made.zip')}")
