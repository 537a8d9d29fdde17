"""Which configuration, champion and keys the service runs with: used or refused, and said."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from pricing.errors import ConfigError
from pricing.fileio import replace_json
from serving.current_version import BAKED, FollowerStatus, Pointer, write_pointer
from serving.notices import at_start, no_champion
from serving.settings import baked_config
from tests.kit.serving import open_app, point_at, settings_in
from tests.kit.versions import shared_version

KEYS = "shop 0123456789abcdef price; boss fedcba9876543210 price,admin"


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_model_says_which_settings_are_in_force_and_which_win(tmp_path: Path) -> None:
    config = written(tmp_path / "my.yaml", "decision: {guardrails: {max_move: 0.02}}\ndata: {country: DE}\n")
    with open_app(tmp_path / "home", version=shared_version(), environment={"PRICING_CONFIG": config}) as shop:
        said = shop.client.get("/model").get_json()

    assert said["configuration"] == {
        "file": config,
        "replaced": {"decision.guardrails.max_move": {"version": 0.1, "file": 0.02}},
        "ignored": {"data.country": {"version": "US", "file": "DE"}},
        "time_zone": None,
        "strategy": "margin",
        "guardrails": {**said["configuration"]["guardrails"], "max_move": 0.02, "band": [0.7, 1.35]},
    }
    assert said["keys"] == {"needed": False, "known": 0}


def test_the_model_says_so_where_no_file_is_given_and_keys_are_needed(tmp_path: Path) -> None:
    environment = {"PRICING_KEYS": "required", "PRICING_API_KEYS": KEYS}
    with open_app(tmp_path, version=shared_version(), environment=environment) as shop:
        said = shop.client.get("/model", headers={"X-API-Key": "0123456789abcdef"}).get_json()

    assert (said["configuration"]["file"], said["configuration"]["replaced"]) == (None, {})
    assert said["keys"] == {"needed": True, "known": 2}


def test_a_worker_logs_where_version_and_file_differ(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = written(tmp_path / "my.yaml", "decision: {guardrails: {max_move: 0.02}}")

    with open_app(tmp_path / "home", version=shared_version(), environment={"PRICING_CONFIG": config}):
        pass

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [
        f"version 7 and {config} differ, and the file's values count: decision.guardrails.max_move: 0.1 in version 7, "
        "0.02 in the file"
    ]


def test_a_file_that_contradicts_the_version_takes_it_out_of_service_in_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Fits the file's own margin; with that of the version, the floor of the margin lies above the band.
    text = "data: {margin: {default: 0.6}}\ndecision: {guardrails: {min_margin: 0.5, band: [0.7, 1.2]}}\n"
    config = written(tmp_path / "my.yaml", text)

    with open_app(tmp_path / "home", version=shared_version(), environment={"PRICING_CONFIG": config}) as shop:
        said = shop.client.get("/model").get_json()

    assert said["model_version"] == "none"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "my.yaml over version 7: decision.guardrails.min_margin 0.5 contradicts" in errors[0]
    assert "version none goes on" in errors[0]


def test_the_start_says_what_it_runs_with_and_no_key(tmp_path: Path) -> None:
    config = written(tmp_path / "my.yaml", "decision: {guardrails: {max_move: 0.02}}\ndemand: {horizon: 14}\n")
    settings = settings_in(tmp_path / "home", PRICING_CONFIG=config, PRICING_KEYS="required", PRICING_API_KEYS=KEYS)

    configuration, champion, keys, _ = at_start(settings)

    assert configuration.startswith(f"configuration: {config} over ")
    assert configuration.endswith(
        "; over the settings that a version carries, too, go decision.guardrails.max_move; demand.* change nothing "
        "here: a version keeps those that it was trained with"
    )
    assert champion == (
        "champion: none on this machine yet; the follower looks for the champion of 'pricing' in http://127.0.0.1:9"
    )
    assert keys == "keys: required, 2 known: shop (price), boss (admin, price)"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "keys: off on loopback (127.0.0.1)"),
        ({"PRICING_API_KEYS": KEYS}, "keys: off on loopback (127.0.0.1); 2 known: shop (price), boss (admin, price), "
         "not needed"),
        ({"HOST": "0.0.0.0", "PRICING_KEYS": "none"}, "keys: off, although other machines may reach 0.0.0.0"),
        ({"HOST": "0.0.0.0"}, "keys: required, 0 known"),
    ],
)  # fmt: skip
def test_the_start_says_whether_keys_are_needed(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    assert at_start(settings_in(tmp_path, **environment))[2] == said


def test_the_start_names_the_version_that_was_served_last(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_pointer(settings.places.baked, Pointer("3", 1, "3-1"))
    baked = at_start(settings)[1]
    point_at(settings, shared_version(), version="7")

    assert baked.startswith("champion: version 3, baked in, until there is another; ")
    assert at_start(settings)[1].startswith("champion: version 7, served last, until there is another; ")


def test_without_a_champion_model_says_where_one_was_looked_for_and_readiness_what_to_do(tmp_path: Path) -> None:
    config = written(tmp_path / "my.yaml", "serving: {workers: 1}\nregistry: {model_name: shop}")
    registry = f"sqlite:///{tmp_path / 'nowhere.db'}"
    environment = {"PRICING_RUN_ID": "now", "PRICING_CONFIG": config, "MLFLOW_TRACKING_URI": registry}
    with open_app(tmp_path / "home", environment=environment) as shop:
        detail = no_champion(shop.settings)
        following = FollowerStatus("now", "no_champion", attempted=True, detail=detail)
        replace_json(shop.settings.places.status, asdict(following))
        ready, model = (shop.client.get(path) for path in ("/health/ready", "/model"))

    assert ready.status_code == 200
    assert model.get_json()["following"]["detail"] == detail
    assert ready.get_json()["following"]["detail"].startswith("no version is the champion: train one and promote it; ")
    assert str(tmp_path) not in ready.text
    assert detail.startswith(f"no version of the model 'shop' is champion in {registry}, which does not exist: ")
    assert "`make train SALES=…` trains one and `make promote` makes it the champion" in detail


def test_no_word_of_the_start_shows_a_password(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, MLFLOW_TRACKING_URI="http://ops:hush@mlflow:5000")

    assert "hush" not in " ".join([*at_start(settings), no_champion(settings)])


def test_a_baked_configuration_counts_unless_another_one_is_given(tmp_path: Path) -> None:
    place = baked_config(tmp_path)
    place.parent.mkdir(parents=True)
    place.write_text("serving: {workers: 5}")
    other = written(tmp_path / "my.yaml", "serving: {workers: 6}")

    assert settings_in(tmp_path).config.serving.workers == 5
    assert settings_in(tmp_path).file.path == place == tmp_path / "versions" / BAKED / "config.yaml"
    assert settings_in(tmp_path, PRICING_CONFIG=other).config.serving.workers == 6


def test_workers_serve_a_pinned_version_and_no_other(tmp_path: Path) -> None:
    for version, served in (("7", "7"), ("8", "none")):
        home = tmp_path / version
        with open_app(home, version=shared_version(), environment={"PRICING_VERSION": version}) as shop:
            assert shop.price(list_price=5.0).get_json()["model_version"] == served


def test_a_baked_version_that_is_pinned_is_served_before_a_newer_one_on_the_disk(tmp_path: Path) -> None:
    baked = tmp_path / "versions" / BAKED
    shutil.copytree(shared_version(), baked / "3-1")
    write_pointer(baked / "champion.json", Pointer("3", 1, "3-1"))

    with open_app(tmp_path, version=shared_version(), environment={"PRICING_VERSION": "3"}) as shop:
        assert shop.price().get_json()["model_version"] == "3"


def test_a_pin_on_a_version_that_does_not_exist_is_told_and_keeps_the_task_from_being_ready(tmp_path: Path) -> None:
    one = tmp_path / "one.yaml"
    one.write_text("serving: {workers: 1}")
    pinned = {"PRICING_VERSION": "66", "PRICING_RUN_ID": "now", "PRICING_CONFIG": str(one)}
    detail = "version 66, which PRICING_VERSION pins, does not exist; every price comes by rule"
    with open_app(tmp_path, environment={**pinned, "PRICING_NEEDS_MODEL": "true"}) as shop:
        following = FollowerStatus("now", "unknown_version", True, champion="9", detail=detail, pinned="66")
        replace_json(shop.settings.places.status, asdict(following))
        ready, model = (shop.client.get(path) for path in ("/health/ready", "/model"))
        priced = shop.price(list_price=5.0)

    assert ready.status_code == 503
    assert "unknown_version: the version that PRICING_VERSION pins does not exist" in ready.get_json()["detail"]
    told = model.get_json()["following"]
    assert (told["state"], told["pinned"], told["champion"], told["detail"]) == ("unknown_version", "66", "9", detail)
    assert priced.status_code == 200


def test_readiness_says_that_a_version_is_pinned_and_what_the_champion_is(tmp_path: Path) -> None:
    one = tmp_path / "one.yaml"
    one.write_text("serving: {workers: 1}")
    pinned = {"PRICING_VERSION": "7", "PRICING_RUN_ID": "now", "PRICING_CONFIG": str(one)}
    with open_app(tmp_path, version=shared_version(), environment=pinned) as shop:
        following = FollowerStatus("now", "following", True, champion="9", served="7", pinned="7")
        replace_json(shop.settings.places.status, asdict(following))
        ready = shop.client.get("/health/ready").get_json()

    assert (ready["model_version"], ready["following"]["pinned"], ready["following"]["champion"]) == ("7", "7", "9")


def test_the_start_says_that_a_version_is_pinned(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, PRICING_VERSION="7")

    away = at_start(settings)[1]
    point_at(settings, shared_version(), version="7")
    here = at_start(settings)[1]

    said = "champion: not followed; version 7 of 'pricing' is pinned (PRICING_VERSION), "
    assert away == f"{said}which the follower fetches from http://127.0.0.1:9"
    assert here == f"{said}which is on this machine"


@pytest.mark.parametrize(
    "given",
    [
        "postgresql//shop:s3cret@db/pricing",
        "postgresql:/shop:s3cret@db/pricing",
        "'postgresql://shop:s3cret@db/pricing'",
        "host=db password=s3cret",
        "mysql://shop:s3cret@db/pricing",
    ],
)
def test_an_address_that_is_no_database_is_refused_at_the_start_and_never_repeated(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match="PRICING_DATABASE_URL: expected postgresql://") as found:
        settings_in(tmp_path, PRICING_DATABASE_URL=given)

    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize("given", [" ", "s3:/bucket/log", "s3://", "http://store/log"])
def test_an_address_of_the_decision_log_that_is_none_is_refused_at_the_start(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=r"PRICING_DECISIONS_URL: .* expected a folder, or an address"):
        settings_in(tmp_path, PRICING_DECISIONS_URL=given)
