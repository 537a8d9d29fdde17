from pathlib import Path
from typing import Any

import pytest

from pricing.errors import ConfigError
from serving.authentication import RateLimit
from serving.keys import find, read_keys
from serving.settings import is_loopback
from tests.kit.serving import REQUEST, open_app, settings_in
from tests.kit.versions import shared_version

SHOP_KEY, ADMIN_KEY = "shop-0123456789abcdef", "admin-0123456789abcdef"
KEYS = {
    "PRICING_KEYS": "required",
    "PRICING_API_KEYS": f"shop {SHOP_KEY} price; boss {ADMIN_KEY} price,explain,admin",
}


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/get_price", None, 401),
        ("/get_price", "wrong-0123456789abcdef", 401),
        ("/get_price", SHOP_KEY, 200),
        ("/explain", SHOP_KEY, 403),
        ("/explain", ADMIN_KEY, 200),
        ("/metrics", SHOP_KEY, 403),
        ("/metrics", ADMIN_KEY, 200),
        ("/products/P00001/elasticity", SHOP_KEY, 403),
        ("/health/live", None, 200),
        ("/health/ready", None, 200),
        ("/openapi.json", None, 200),
        ("/docs", None, 200),
    ],
)
@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_a_key_opens_what_its_scopes_say(tmp_path: Path, path: str, key: str | None, status: int, header: str) -> None:
    headers = {} if key is None else {header: f"Bearer {key}" if header == "Authorization" else key}
    with open_app(tmp_path, version=shared_version(), environment=KEYS) as shop:
        if path in ("/get_price", "/explain"):
            body: Any = REQUEST if path == "/get_price" else {"request": REQUEST}
            answer = shop.client.post(path, json=body, headers=headers)
        else:
            answer = shop.client.get(path, headers=headers)

    assert answer.status_code == status
    assert key is None or key not in answer.text
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_that_is_not_needed_is_ignored(tmp_path: Path) -> None:
    with open_app(tmp_path) as shop:
        answer = shop.client.post("/get_price", json=REQUEST, headers={"X-API-Key": "whatever"})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "rule", "needed"),
    [("127.0.0.1", "local", False), ("::1", "local", False), ("localhost", "local", False), ("0.0.0.0", "local", True),
     ("10.1.2.3", "local", True), ("shop.example", "local", True), ("127.0.0.1", "required", True),
     ("0.0.0.0", "none", False)],
)  # fmt: skip
def test_keys_are_needed_unless_the_setting_says_otherwise(tmp_path: Path, host: str, rule: str, needed: bool) -> None:
    assert settings_in(tmp_path, HOST=host, PRICING_KEYS=rule).keys_needed is needed
    assert is_loopback("127.0.0.5")


def test_the_default_is_keys_for_whoever_comes_from_outside(tmp_path: Path) -> None:
    assert not settings_in(tmp_path).keys_needed
    assert settings_in(tmp_path, HOST="0.0.0.0").keys_needed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("shop", "expected `name key scope,scope`, found 1"),
        ("shop short price", "shorter than 16"),
        (f"shop {SHOP_KEY} prices", "unknown scope 'prices'"),
        (f"shop {SHOP_KEY} price; shop {ADMIN_KEY} price", "same name"),
        (f"shop {SHOP_KEY} price; boss {SHOP_KEY} admin", "same key"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_without_showing_them(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        read_keys({"PRICING_API_KEYS": text})

    assert SHOP_KEY not in str(caught.value)


def test_keys_come_from_a_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# the shop\nshop {SHOP_KEY} price\n\nboss {ADMIN_KEY} price,admin\n")

    keys = read_keys({"PRICING_API_KEYS_FILE": str(path)})

    caller = find(keys, sent=ADMIN_KEY)
    assert caller is not None
    assert (caller.name, caller.scopes) == ("boss", frozenset({"price", "admin"}))
    assert find(keys, sent="") is None
    assert SHOP_KEY not in repr(keys)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read_keys({"PRICING_API_KEYS_FILE": str(tmp_path / "nowhere")})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_then_its_rate(tmp_path: Path) -> None:
    clock = Clock()
    limit = RateLimit(tmp_path / "rates", per_second=2, burst=3, clock=clock)

    burst = [limit.take("shop") for _ in range(4)]
    clock.now += 0.5
    later = [limit.take("shop"), limit.take("shop")]

    assert burst == [0.0, 0.0, 0.0, pytest.approx(0.5)]
    assert later == [0.0, pytest.approx(0.5)]


def test_callers_have_buckets_of_their_own_that_workers_share(tmp_path: Path) -> None:
    clock = Clock()
    one, two = (RateLimit(tmp_path / "rates", per_second=1, burst=1, clock=clock) for _ in range(2))

    assert one.take("shop") == 0
    assert two.take("shop") > 0
    assert two.take("boss") == 0


def test_over_the_limit_the_answer_says_when_to_come_back(tmp_path: Path) -> None:
    config = tmp_path / "limits.yaml"
    config.write_text("serving: {rate_limit: 0.01, rate_burst: 2}")
    with open_app(tmp_path, environment={"PRICING_CONFIG": str(config)}) as shop:
        answers = [shop.price() for _ in range(3)]
        health = shop.client.get("/health/live")
        metrics = shop.client.get("/metrics")

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
    assert health.status_code == 200
    assert metrics.status_code == 429
