"""The command decisions: which decision was in force at a moment, and who stands behind it."""

import datetime as dt
from pathlib import Path

import pytest

from pipelines import decisions
from pricing.decision_log.read import archive, read_in_force
from tests.kit.control import approve, freeze, put_control
from tests.kit.monitoring_world import redecided, write_log
from tests.unit.decision_log.test_write import NOON, entry

DAY = dt.timedelta(days=1)
FRIDAY = NOON.date()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PRICING_DECISIONS_URL", "PRICING_DATABASE_URL", "PRICING_PUBLISHED", "PRICING_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (NOON - DAY, None),
        (NOON - dt.timedelta(hours=2), "first"),
        (NOON, "second"),
        (NOON + DAY, "for Saturday"),
        (NOON + 50 * DAY, "for Saturday"),
        (NOON + 90 * DAY, None),
    ],
)
def test_the_last_decision_for_the_newest_day_is_in_force(
    home: Path, at: dt.datetime, expected: str | None, archived: bool
) -> None:
    tea = entry(product_id="tea")
    made = [
        redecided(tea, at=NOON - DAY, decision_id="for Saturday", date=FRIDAY + DAY),
        redecided(tea, at=NOON - DAY, decision_id="first"),
        redecided(tea, decision_id="second"),
        redecided(tea, product_id="jam", decision_id="jam"),
    ]
    log = str(home / "decisions")
    write_log(home / "decisions", made, day="2026-03-06")
    if archived:
        archive(log, before=dt.date(2026, 4, 1))

    found = read_in_force(log, product_id="tea", at=at, day=at.date())

    assert (found and found["decision"]["decision_id"]) == expected


def test_a_price_is_explained_by_its_decision_and_by_who_set_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tea = entry(product_id="tea")
    made = [
        redecided(tea, decision_id="free", reasons=["held"]),
        redecided(tea, at=NOON + DAY, date=FRIDAY + DAY, reasons=["frozen"], source="rule", recommended_price=9.75),
        redecided(tea, at=NOON + 2 * DAY, date=FRIDAY + 2 * DAY),
    ]
    write_log(home / "decisions", made, day="2026-03-06")
    put_control(
        home,
        freeze("category", "tea", at=NOON + DAY / 2, by="ann\x1b[2J", until=NOON + 3 * DAY / 2),
        approve({"tea": 23.75}, at=NOON + 3 * DAY / 2, by="bob"),
        freeze("product", "tea", at=NOON + 3 * DAY, by="too late"),
    )

    shown = []
    for at in ("2026-03-06", "2026-03-07T12:00+00:00", "2026-03-08T12:00+00:00"):
        assert decisions.main(["--product", "tea", "--at", at]) == 0
        shown.append(capsys.readouterr().out)

    free, frozen, approved = shown
    assert "23.75" in free
    assert "version 7" in free
    assert {"held:", "cost:"} <= set(free.split())
    assert "9.75" in frozen
    assert r"by: ann\x1b[2J, freeze of category tea" in frozen
    assert "by: bob, approve of tea at 23.75" in approved
    assert not any("too late" in text for text in shown)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("at", ["2026-03-06", "0001-01-01T00:00+14:00"])
def test_without_a_decision_or_a_moment_of_this_century_the_command_fails(at: str) -> None:
    assert decisions.main(["--product", "tea", "--at", at]) == 2
