import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pricing.errors import ConfigError
from pricing.runtime.api_keys import read_keys
from tests.kit.serving import REQUEST, ServingApp, open_app, settings_in
from tests.kit.versions import shared_version

PRICED = {**REQUEST, "list_price": 5.0}  # enough for a price without a version
SHOP_KEY, ADMIN_KEY, LOOK_KEY = "shop-0123456789abcdef", "admin-0123456789abcdef", "look-0123456789abcdef"
KEYS = {
    "PRICING_KEYS": "required",
    "PRICING_API_KEYS": f"shop {SHOP_KEY} price; boss {ADMIN_KEY} price,explain,admin; eve {LOOK_KEY} explain",
}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApp]:
    with open_app(tmp_path_factory.mktemp("locked"), version=shared_version(), environment=KEYS) as shop:
        yield shop


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
        ("/docs", None, 200),
    ],
)
def test_a_key_opens_what_its_scopes_say_and_is_shown_nowhere(
    locked: ServingApp, path: str, key: str | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}) if key else ({},):
        if path in ("/get_price", "/explain"):
            body: Any = REQUEST if path == "/get_price" else {"request": REQUEST}
            answer = locked.client.post(path, json=body, headers=headers)
        else:
            answer = locked.client.get(path, headers=headers)

        assert answer.status_code == status
        assert key is None or key not in answer.text + caplog.text
        assert status != 401 or answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("host", "rule", "needed"),
    [("::1", "local", False), ("localhost", "local", False), ("0.0.0.0", "local", True), ("x.example", "local", True),
     ("127.0.0.1", "required", True), ("0.0.0.0", "none", False)],
)  # fmt: skip
def test_keys_are_needed_unless_the_setting_says_otherwise(tmp_path: Path, host: str, rule: str, needed: bool) -> None:
    assert settings_in(tmp_path, HOST=host, PRICING_KEYS=rule).keys_needed is needed


@pytest.mark.parametrize(
    "text",
    [
        "shop",
        "shop short price",
        f"shop {SHOP_KEY} prices",
        f"shop {SHOP_KEY} price; shop {ADMIN_KEY} price",
        f"shop {SHOP_KEY} price; boss {SHOP_KEY} admin",
    ],
)
def test_keys_that_cannot_be_used_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys({"PRICING_API_KEYS": text})

    assert SHOP_KEY not in str(caught.value)


def test_keys_come_from_a_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# the shop\nshop {SHOP_KEY} price\n\nboss {ADMIN_KEY} price,admin\n")

    keys = read_keys({"PRICING_API_KEYS_FILE": str(path)})

    assert [(key.name, key.scopes) for key in keys] == [("shop", {"price"}), ("boss", {"price", "admin"})]
    assert SHOP_KEY not in repr(keys)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("path", ["/get_price", "/get_prices", "/simulate"])
def test_what_any_web_page_may_send_is_no_request(shared_shop: ServingApp, path: str, kind: str | None) -> None:
    answer = shared_shop.client.post(path, data=json.dumps(REQUEST), content_type=kind)
    named = shared_shop.client.post(path, data="{}", content_type="Application/JSON; charset=utf-8")

    assert (answer.status_code, named.status_code) == (415, 422)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(({"Host": name}, 200) for name in ("LOCALHOST:8080", "127.0.0.1:9", "[::1]:8080", "[::1]")),
        *(({"Host": name}, 403) for name in ("rebound.example:8080", "127.0.0.1.example", "10.0.0.1", "")),
        *(({name: "for=10.1.2.3"}, 403) for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")),
    ],
)
def test_without_keys_only_local_names_are_answered_and_not_through_a_proxy(
    shared_shop: ServingApp, headers: dict[str, str], status: int
) -> None:
    assert shared_shop.client.post("/get_price", json=REQUEST, headers=headers).status_code == status
    assert shared_shop.client.get("/health/live", headers=headers).status_code == 200


@pytest.mark.parametrize("environment", [KEYS, {"PRICING_KEYS": "none"}])
def test_with_keys_or_where_none_are_wanted_proxies_and_names_are_free(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    headers = {"X-API-Key": SHOP_KEY, "X-Forwarded-For": "10.1.2.3", "Host": "prices.example"}
    with open_app(tmp_path, environment=environment) as shop:
        answer = shop.client.post("/get_price", json=PRICED, headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize(("key", "named"), [(ADMIN_KEY, True), (LOOK_KEY, False)])
def test_ids_are_named_only_to_keys_that_may_read_products(locked: ServingApp, key: str, named: bool) -> None:
    headers, body = {"X-API-Key": key}, {"request": {"product_id": "p00001", "day_of_week": "Friday"}}

    answer = locked.client.post("/explain", json=body, headers=headers)

    assert (answer.status_code, "P00001" in answer.text) == (404, named)
    assert (locked.client.get("/products", headers=headers).status_code == 200) == named
