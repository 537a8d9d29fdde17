"""The configuration of competitors' prices: where they are asked for, how they are matched and made one price."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pricing.config_models import Section

Label = Annotated[str, Field(min_length=1, max_length=200)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Days = Annotated[int, Field(ge=0, le=3_660)]
LOCAL = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIAL = re.compile(r"auth|cookie|secret|passw|token|api[-_]?key|signature", re.IGNORECASE)


def _variables(values: Any, *keys: str) -> Any:
    """Refuses what is no name of an environment variable without repeating it: it may be the secret itself."""
    for key in keys:
        name = values.get(key) if isinstance(values, Mapping) else None
        if name is not None and not (isinstance(name, str) and _VARIABLE.fullmatch(name)):
            raise ValueError(
                f"{key} must be the name of an environment variable such as RIVAL_API_KEY, never the secret itself; "
                "if a secret stood there, replace it"
            )
    return values


def _plain_url(url: str, *, allow_http: bool, key: str) -> None:
    """Refuses addresses that would send credentials in the clear, or that hold some."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{key} is not an address such as https://prices.example.com/v1/offers") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError(f"{key} must begin with https:// and name a host")
    if parts.username is not None or any(_CREDENTIAL.search(name) for name, _ in parse_qsl(parts.query)):
        raise ValueError(
            f"{key} must not hold a login or key: give authentication, which names an environment variable"
        )
    if parts.scheme == "http" and host not in LOCAL and not allow_http:
        raise ValueError(
            f"{key} begins with http://, so that key and prices would travel in the clear: give https://, or set "
            "allow_http: true where the network itself is private"
        )


class KeyConfig(Section):
    """A key in a header."""

    kind: Annotated[Literal["key"], Field(description="key: a key in a header of each call.")]
    variable: Annotated[str, Field(description="Environment variable that holds the key.")]
    header: Annotated[str, Field(min_length=1, max_length=100, description="Its header.")] = "X-Api-Key"
    prefix: Annotated[str, Field(max_length=40, description='Stands before the key, such as "Bearer ".')] = ""

    @model_validator(mode="before")
    @classmethod
    def _names_a_variable(cls, values: Any) -> Any:
        return _variables(values, "variable")

    @field_validator("header")
    @classmethod
    def _is_a_header(cls, value: str) -> str:
        if not _HEADER.fullmatch(value):
            raise ValueError("a header's name has no blanks or colons")
        return value


class OauthConfig(Section):
    """A token by OAuth 2.0 client credentials (RFC 6749, 4.4)."""

    kind: Annotated[Literal["oauth"], Field(description="oauth: a token by client credentials.")]
    token_url: Annotated[str, Field(min_length=1, max_length=2_000, description="Where the token is asked for.")]
    client_id_variable: Annotated[str, Field(description="Environment variable that holds the client's id.")]
    client_secret_variable: Annotated[str, Field(description="Environment variable that holds its secret.")]
    scope: Annotated[
        Annotated[str, Field(max_length=1_000)] | None, Field(description="Of the token; null: none is asked for.")
    ] = None
    send: Annotated[
        Literal["basic", "body"], Field(description="Whether id and secret go in a header or in the form.")
    ] = "basic"

    @model_validator(mode="before")
    @classmethod
    def _names_variables(cls, values: Any) -> Any:
        return _variables(values, "client_id_variable", "client_secret_variable")


def _kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


AnyAuthentication = Annotated[
    Annotated[KeyConfig, Tag("key")] | Annotated[OauthConfig, Tag("oauth")], Discriminator(_kind_of)
]


class PagingConfig(Section):
    """How one page leads to the next."""

    kind: Annotated[
        Literal["cursor", "link", "page", "none"],
        Field(description="cursor: the answer names it; link: an address; page: numbers until one is empty."),
    ] = "cursor"
    parameter: Annotated[Label, Field(description="Of the address: the cursor, or the page's number.")] = "cursor"
    size_parameter: Annotated[
        Label | None, Field(description="Of the address: how many offers a page holds; null: it is not asked for.")
    ] = "limit"
    size: Annotated[int, Field(ge=1, le=100_000, description="Offers of a page.")] = 1000
    first: Annotated[int, Field(ge=0, le=1, description="Number of the first page, for kind page.")] = 1
    most_pages: Annotated[int, Field(ge=1, le=100_000, description="Pages of a run at most.")] = 1000


class CallsConfig(Section):
    """Limits of every call: time, repetition, rate and size."""

    connect_seconds: Annotated[Seconds, Field(description="Until a connection stands.")] = 5.0
    read_seconds: Annotated[Seconds, Field(description="Longest silence of the server within an answer.")] = 20.0
    answer_seconds: Annotated[Seconds, Field(description="For one whole answer, however it drips.")] = 120.0
    run_seconds: Annotated[Seconds, Field(description="For all pages; no call starts after it.")] = 1_800.0
    attempts: Annotated[int, Field(ge=1, le=20, description="Of one call, the first included.")] = 5
    first_wait: Annotated[Seconds, Field(description="Doubles with each attempt; a random part of it is waited.")] = 1.0
    longest_wait: Annotated[Seconds, Field(description="Between two attempts.")] = 60.0
    longest_retry_after: Annotated[
        Seconds, Field(description="Longest Retry-After waited for; a longer one ends the run's calls.")
    ] = 120.0
    rate: Annotated[float, Field(gt=0, le=1_000, description="Calls a second at most.")] = 5.0
    breaker_failures: Annotated[
        int, Field(ge=1, le=1_000, description="Failures in a row after which it is left alone …")
    ] = 8
    breaker_minutes: Annotated[float, Field(gt=0, le=10_080, description="… for so long.")] = 30.0
    largest_mb: Annotated[float, Field(gt=0, le=1_000, description="Of an answer, unpacked.")] = 20.0
    environment_proxy: Annotated[bool, Field(description="Use HTTPS_PROXY of the environment.")] = False
    ca_file: Annotated[
        str | None, Field(description="File of the certificates that are trusted; null: the usual ones.")
    ] = None


class CompetitorApiConfig(Section):
    """One API that is asked for competitors' prices."""

    url: Annotated[str, Field(min_length=1, max_length=2_000, description="Address of the offers, https://.")]
    params: dict[str, str] = Field(
        default_factory=dict, description="Parameters of the address, such as {country: DE}."
    )
    headers: dict[str, Annotated[str, Field(max_length=1_000)]] = Field(
        default_factory=dict, description="Further headers, none of them secret."
    )
    authentication: AnyAuthentication | None = Field(
        default=None, description="Key or client credentials, in environment variables; null: none are needed."
    )
    adapter: Annotated[
        str, Field(min_length=1, description="reference, or module:function, whose code then runs in the job.")
    ] = "reference"
    competitor: Annotated[Label | None, Field(description="Whose prices these are, where offers do not say.")] = None
    observed_at: Annotated[
        Literal["offer", "fetch"], Field(description="fetch: an offer that does not say was observed when fetched.")
    ] = "offer"
    expected: list[Label] = Field(
        default_factory=list, description="Competitors that an answer must hold to count as whole."
    )
    paging: PagingConfig = Field(default=PagingConfig(), description="How the next page is found.")
    calls: CallsConfig = Field(default=CallsConfig(), description="Limits of every call.")
    stale_hours: Annotated[
        float, Field(gt=0, le=87_840, description="Age of the newest observation from which on the API is stale.")
    ] = 48.0
    most_bad: Annotated[float, Field(ge=0, le=1, description="Share of a page's offers that may be unreadable.")] = 0.5
    known: Annotated[
        Literal["seen", "observed"],
        Field(
            description="From when on an offer counts: when it was seen here, or when it was observed there, even "
            "where it came later; rows of earlier days may then change."
        ),
    ] = "seen"
    backfill: Annotated[
        bool, Field(description="The first answer is an archive: it counts as known when it was observed.")
    ] = False
    allow_http: Annotated[bool, Field(description="http:// is allowed, in a network that is private itself.")] = False

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        _plain_url(self.url, allow_http=self.allow_http, key="url")
        if isinstance(self.authentication, OauthConfig):
            _plain_url(self.authentication.token_url, allow_http=self.allow_http, key="authentication.token_url")
        for kind, names in (("headers", self.headers), ("params", self.params)):
            for name in names:
                if _CREDENTIAL.search(name):
                    raise ValueError(
                        f"{kind} must not hold {name}: give authentication, which names an environment variable"
                    )
        for name, value in self.headers.items():
            if not _HEADER.fullmatch(name) or not value.isprintable() or not value.isascii():
                raise ValueError(f"headers: {name!r} or its value holds what no header may")
        return self

    @field_validator("adapter")
    @classmethod
    def _is_named_or_a_path(cls, value: str) -> str:
        module, colon, function = value.partition(":")
        names = [*module.split("."), *([function] if colon else [])]
        if not all(name.isidentifier() for name in names) or (not colon and len(names) > 1):
            raise ValueError("give the name of an adapter, or where its function lies as package.module:function")
        return value


class MatchingConfig(Section):
    """By what an offer is matched to a product."""

    by: Annotated[
        tuple[Literal["product_id", "ean", "mapping"], ...],
        Field(min_length=1, description="Ways that are tried; mapping is by the table competitor_items."),
    ] = (
        "product_id",
        "ean",
        "mapping",
    )


class ReduceConfig(Section):
    """How the prices of several competitors become one."""

    rule: Annotated[
        Literal["lowest", "median", "named"],
        Field(description="median: the middle one, the lower of two; named: the first of prefer that has a price."),
    ] = "lowest"
    prefer: list[Label] = Field(default_factory=list, description="Competitors in order of preference, for named.")
    in_stock_only: Annotated[bool, Field(description="Leaves out what is sold out; unknown stock counts.")] = False
    with_delivery: Annotated[
        bool, Field(description="Adds delivery_cost; an offer that does not say it is then left out.")
    ] = False

    @model_validator(mode="after")
    def _names_are_given(self) -> Self:
        if self.rule == "named" and not self.prefer:
            raise ValueError("rule named needs prefer: the competitors in order of preference")
        return self


class ImplausibleConfig(Section):
    """Which prices are set aside as implausible."""

    factor: Annotated[
        float, Field(gt=1, le=1e6, description="Times, or a fraction of, the same offer's last price.")
    ] = 5.0
    believed_days: Annotated[
        int, Field(ge=1, le=366, description="Days of such prices after which the new level is believed.")
    ] = 14
    own_factor: Annotated[
        float, Field(gt=1, le=1e6, description="Times, or a fraction of, our own price, where it is known.")
    ] = 20.0
    lowest: Annotated[float, Field(ge=0, le=1e9, description="Prices below it stand for none.")] = 0.01
    highest: Annotated[float, Field(gt=0, le=1e9, description="Prices above it stand for none.")] = 999_999.0

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest:g} is not below highest {self.highest:g}")
        return self


class CompetitorsConfig(Section):
    """Competitors' prices: the APIs, and what becomes of their offers."""

    currency: Currency = Field(description="Of comp_price, such as EUR; left out: that of the section sources.")
    rates: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        default_factory=dict,
        description="Worth of one unit of another currency in ours, fixed; other currencies are set aside.",
    )
    apis: dict[str, CompetitorApiConfig] = Field(default_factory=dict, description="APIs by a name of your own.")
    matching: MatchingConfig = Field(default=MatchingConfig(), description="How offers find their product.")
    reduce: ReduceConfig = Field(default=ReduceConfig(), description="How several prices become one.")
    implausible: ImplausibleConfig = Field(default=ImplausibleConfig(), description="Which prices are set aside.")
    max_age_days: Annotated[
        Days,
        Field(
            description="Oldest observation, in days, that makes a row's comp_price. What is learnt from rows, and "
            "what answers use, have limits of their own: data.comp_price_max_age and decision.comp_price_max_age."
        ),
    ] = 7
    raw_days: Annotated[Days, Field(description="Days that answers are kept as they came; 0 keeps all.")] = 90

    @model_validator(mode="after")
    def _names_are_names(self) -> Self:
        for name in self.apis:
            if not _NAME.fullmatch(name):
                raise ValueError(f"apis: {name!r} names a folder: give small letters, digits, - and _, 64 at most")
        for name in self.rates:
            if not _CURRENCY.fullmatch(name):
                raise ValueError(f"rates: {name!r} is no currency; give its code, such as USD")
        if self.currency in self.rates:
            raise ValueError(f"rates must not hold {self.currency}, which is the currency itself")
        return self
