"""Today is the shop's day, wherever the machine stands."""

import datetime as dt
from pathlib import Path

import pytest

from pricing.config import load_config
from pricing.errors import ConfigError
from serving.app import close_app, create_app
from tests.kit.serving import REQUEST, publish, sent, settings_in
from tests.kit.versions import shared_version


def at(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the present moment be another one."""
    now = dt.datetime.fromisoformat(moment)

    class Moment(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Moment":
            local = now.astimezone(tz)
            return cls.fromtimestamp(local.timestamp(), tz)

    monkeypatch.setattr("pricing.config.dt.datetime", Moment)


@pytest.mark.parametrize(
    ("moment", "day"), [("2023-08-02T03:30:00+00:00", "2023-08-02"), ("2023-08-02T04:30:00+00:00", "2023-08-09")]
)
def test_a_wednesday_without_a_date_is_the_next_one_after_the_shop_s_day(
    moment: str, day: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("time_zone: America/New_York")
    settings = settings_in(tmp_path, PRICING_CONFIG=str(path))
    publish(settings.published, shared_version(), version="7")
    today = dt.datetime.fromisoformat(moment).astimezone(settings.config.zone).date()
    at(moment, monkeypatch)
    app = create_app(settings)
    try:
        app.extensions["pricing"].follower.look()
        client = app.test_client()
        assert client.post("/get_price", json={**REQUEST, "day_of_week": "Wednesday"}).status_code == 200
        shown = client.get("/model").get_json()
    finally:
        close_app(app)

    assert [one["date"] for one in sent(settings.decisions_url)] == [day]
    assert shown["configuration"]["time_zone"] == "America/New_York"
    assert shown["state_age_days"] == (today - dt.date.fromisoformat(shown["state_date"])).days


@pytest.mark.parametrize("name", ["Berlin", "../etc/passwd", ""])
def test_what_is_no_time_zone_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"time_zone: {name!r}")

    with pytest.raises(ConfigError, match="time_zone"):
        load_config(path)
