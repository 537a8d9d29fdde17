"""The configuration of competitors' prices: what is refused, in which words, and that no secret is repeated."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pricing.config_competitors import CompetitorsConfig
from pricing.config_schema import Words
from pricing.sources.competitor_api import CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "competitor_prices.md").read_text(encoding="utf-8")
URL = "https://prices.example.com/v1/offers"


def api(**settings: Any) -> dict[str, Any]:
    return {"currency": "EUR", "apis": {"rival": {"url": URL, **settings}}}


def said(values: dict[str, Any]) -> str:
    """The error in the words that a user reads."""
    with pytest.raises(ValidationError) as caught:
        CompetitorsConfig.model_validate(values)
    words = Words(CompetitorsConfig, {}, {}, {})
    return "\n".join(words.of(fault) for fault in caught.value.errors())


def test_a_url_and_a_currency_are_enough() -> None:
    found = CompetitorsConfig.model_validate(api())

    assert found.apis["rival"].adapter == "reference"
    assert (found.max_age_days, found.reduce.rule) == (7, "lowest")


@pytest.mark.parametrize("url", ["http://localhost:8080/offers", "http://127.0.0.1/offers", "http://[::1]/offers"])
def test_this_machine_may_be_asked_in_the_clear(url: str) -> None:
    CompetitorsConfig.model_validate(api(url=url))


def test_others_may_be_asked_in_the_clear_only_where_that_is_said() -> None:
    assert "allow_http: true" in said(api(url="http://prices.example.com/offers"))
    CompetitorsConfig.model_validate(api(url="http://prices.example.com/offers", allow_http=True))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.org/a",
        "file:///etc/passwd",
        "prices",
        "https://",
        "https://user:hidden-word@x.org/a",
        "https://x.org/a?api_key=hidden-word",
        "https://x.org:port/",
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    words = said(api(url=url))

    assert words.startswith("apis.rival: url ")
    assert "hidden-word" not in words


@pytest.mark.parametrize(
    "authentication",
    [
        {"kind": "key", "variable": "hidden-word-7"},
        {
            "kind": "oauth",
            "token_url": URL,
            "client_id_variable": "RIVAL_ID",
            "client_secret_variable": "hidden-word-7",
        },
    ],
)
def test_a_secret_in_place_of_a_variable_is_refused_and_not_repeated(authentication: dict[str, Any]) -> None:
    words = said(api(authentication=authentication))

    assert "must be the name of an environment variable" in words
    assert "hidden-word" not in words


@pytest.mark.parametrize(
    "settings", [{"headers": {"Authorization": "hidden-word"}}, {"params": {"apikey": "hidden-word"}}]
)
def test_no_credential_hides_among_headers_and_parameters(settings: dict[str, Any]) -> None:
    words = said(api(**settings))

    assert "give authentication" in words
    assert "hidden-word" not in words


def test_a_token_is_not_fetched_in_the_clear() -> None:
    names = {"client_id_variable": "A", "client_secret_variable": "B"}

    words = said(api(authentication={"kind": "oauth", "token_url": "http://x.org/token", **names}))

    assert "authentication.token_url begins with http://" in words


@pytest.mark.parametrize("adapter", ["a.b", "a:b:c", "os.system('x')", "../a:b", "a:"])
def test_an_adapter_is_a_name_or_a_path_to_a_function(adapter: str) -> None:
    assert "adapter" in said(api(adapter=adapter))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"apis": {}}, "currency: is missing"),
        ({"currency": "Euro"}, "currency: expected a text like EUR, found 'Euro'"),
        ({"currency": "EUR", "rates": {"EUR": 1.0}}, "rates must not hold EUR"),
        ({"currency": "EUR", "rates": {"USD": 0}}, "expected a number above 0"),
        ({"currency": "EUR", "reduce": {"rule": "named"}}, "rule named needs prefer"),
        ({"currency": "EUR", "reduce": {"rule": "cheapest"}}, "expected one of lowest, median, named"),
        ({"currency": "EUR", "implausible": {"lowest": 5, "highest": 4}}, "lowest 5 is not below highest 4"),
        ({"currency": "EUR", "max_age": 3}, "unknown key max_age; the nearest known one is max_age_days"),
        (api(authentication={"kind": "basic"}), "expected one of key, oauth, found 'basic'"),
        (api(paging={"kind": "pages"}), "expected one of cursor, link, page, none"),
        (api(calls={"attempts": 0}), "apis.rival.calls.attempts: expected a whole number of at least 1"),
        ({"currency": "EUR", "apis": {"../x": {"url": URL}}}, "apis: '../x' names a folder"),
        ({"currency": "EUR", "rates": {"usd": 1.1}}, "rates: 'usd' is no currency"),
        (api(headers={"X-A": "a\nb"}), "holds what no header may"),
    ],
)
def test_a_wrong_value_is_said_with_what_is_expected(values: dict[str, Any], words: str) -> None:
    assert words in said(values)


def test_the_configuration_of_the_page_is_one() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    found = CompetitorsConfig.model_validate(yaml.safe_load(block))

    assert list(found.apis) == ["price_watch", "marketplace"]


def test_the_adapter_of_the_page_is_the_one_that_is_tested() -> None:
    tested = (ROOT / "tests" / "kit" / "competitor_adapter.py").read_text(encoding="utf-8")

    assert tested.partition("\n\n")[2] in PAGE


def test_the_page_lists_every_code_as_the_code_means_it() -> None:
    table = PAGE[PAGE.index("| code | means |") :].partition("\n\n")[0]

    assert table.splitlines()[2:] == [f"| `{code}` | {meaning} |" for code, meaning in CODES.items()]


def test_every_code_that_is_given_is_listed() -> None:
    sources = [ROOT / "pricing" / "sources" / f"competitor_{name}.py" for name in ("api", "http")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)

    given = set(re.findall(r"(?:_error|_fault|fail)\(\s*\"(\w+)\"", text)) | {"server_error", "rate_limited"}

    assert given == set(CODES)


def test_the_page_lists_every_reason_to_set_an_offer_aside() -> None:
    sources = [ROOT / "pricing" / "sources" / f"competitor_{name}.py" for name in ("prices", "offers", "matching")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    patterns = (r"_note\([^\"]*\"(\w+)\"", r"^        \"(\w+)\": \(", r"reason=\"(\w+)\"", r"fault=\"(\w+)\"")

    given = {code for pattern in patterns for code in re.findall(pattern, text, re.MULTILINE)}

    assert len(given) > 15
    assert {code for code in given if f"`{code}`" not in PAGE} == set()
